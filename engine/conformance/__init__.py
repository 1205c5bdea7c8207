"""The laws of the game contract, and the process in which a game is tried against them."""
