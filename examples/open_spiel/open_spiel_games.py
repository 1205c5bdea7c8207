"""Games of OpenSpiel in az: a line each here, and a line each in pyproject.toml."""

from az.engine.adapters.open_spiel_game import game_from

TIC_TAC_TOE = game_from("tic_tac_toe", "spiel_tic_tac_toe")
CONNECT_FOUR = game_from("connect_four", "spiel_connect_four")
HEX5 = game_from("hex(board_size=5)", "spiel_hex5")
HEX7 = game_from("hex(board_size=7)", "spiel_hex7")
