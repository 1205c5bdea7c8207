"""az's games in other libraries, and their games in az: `pettingzoo_env`, `open_spiel_game`. Extra `adapters`."""
