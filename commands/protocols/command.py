"""`az hub`, `az nboard` and `az gtp`: other programs drive az over stdin and stdout."""

from __future__ import annotations

import math
import sys

from az.engine.errors import WrongRequest
from az.engine.game import Game, load_game
from az.engine.inference.model_resolver import resolve_model
from az.engine.players import is_model
from az.engine.protocols.brain import Brain, Limit
from az.engine.protocols.gtp import Gtp
from az.engine.protocols.hub import Hub
from az.engine.protocols.nboard import NBoard

DEFAULT_SIMULATIONS = 400
SPEAKERS = {"hub": Hub, "nboard": NBoard, "gtp": Gtp}


def protocol_command(
    protocol: str, game: str | None, model: str | None, sims: int | None, seconds: float | None, level: int
) -> int:
    """Speak the protocol until the other program ends it; returns the exit code.

    game: its name; None: the model's. sims, seconds: for a move where the protocol says nothing.
    """
    if sims is not None and seconds is not None:
        raise WrongRequest("--sims and --seconds exclude each other: give one of them.")
    if sims is not None and not 0 <= sims <= 1_000_000:
        raise WrongRequest(f"--sims is {sims}: it must lie between 0 and 1000000.")
    if seconds is not None and not (0 < seconds <= 3600 and math.isfinite(seconds)):
        raise WrongRequest(f"--seconds is {seconds}: it must lie above 0 and up to 3600.")
    brain = Brain(_game(protocol, game, model), model)
    brain.set_level(level)
    limit = Limit(None, seconds) if seconds is not None else Limit(DEFAULT_SIMULATIONS if sims is None else sims)
    return SPEAKERS[protocol](brain, sys.stdin.buffer, sys.stdout, limit).run()


def _game(protocol: str, game: str | None, model: str | None) -> Game:
    if game is None and model is not None and is_model(model):
        from az.engine.inference.model_file import ModelFile

        return ModelFile(resolve_model(model)).game(None)
    if game is None:
        game = {"hub": "checkers", "nboard": "othello"}.get(protocol)
    if game is None:
        raise WrongRequest("name the game, such as az gtp connect4, or a model with --model.")
    return load_game(game)
