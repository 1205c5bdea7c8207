"""`az perft`: how many sequences of so many plies there are."""

from __future__ import annotations

from az.engine.conformance.perft import perft
from az.engine.errors import WrongRequest
from az.engine.game import load_game


def perft_command(game: str, depth: int, position: str | None, hops: bool) -> int:
    """The count. Raises WrongRequest for a depth out of range or a position that the game does not know."""
    loaded = load_game(game)
    if not 0 <= depth <= 100:
        raise WrongRequest(f"depth is {depth}: it must lie between 0 and 100.")
    state = loaded.new_state() if position is None else loaded.parse_position(position)
    return int(perft(loaded, state, depth, hops))
