"""Players: whatever chooses moves in a match or at the board."""

from az.engine.players.basic import ModelPlayer, Player, RandomPlayer
from az.engine.players.kinds import KINDS, Kind, is_model, make_player

__all__ = ["KINDS", "Kind", "ModelPlayer", "Player", "RandomPlayer", "is_model", "make_player"]
