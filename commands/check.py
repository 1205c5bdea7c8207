"""`az check`: whether a game obeys the laws of the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from az.engine.game import known_game
from az.engine.game_trial import check_apart


def check_command(game: str, games: int, seed: int, progress: Callable[[str], None]) -> tuple[dict[str, Any], str]:
    """(what is broken, the words for people), after that many random games."""
    trial = check_apart(known_game(game), games, seed, lambda stage: progress(f"{stage} …"))
    good = f"{game} obeys every law in {games} random games. Read one, since no law knows who should have won:\n\n"
    text = "\n".join(trial.broken) if trial.broken else good + trial.playthrough
    return {"game": game, "games": games, "broken": trial.broken}, text
