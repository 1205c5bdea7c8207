"""`az play`: from a person's request to the first prompt."""

from __future__ import annotations

import math
import os
import sys

from rich.console import Console

from az.engine.errors import WrongRequest
from az.engine.evaluator import Evaluator, UniformEvaluator
from az.engine.game import Game, load_game
from az.engine.jit import python_first
from az.engine.models import LateEvaluator, default_model
from az.engine.search.params import SearchParams, leaves_for
from az.engine.terminal.play import Engine, play

DEFAULT_SIMULATIONS = 400


def play_command(game: str, model: str | None, sims: int | None, seconds: float | None, human: int) -> int:
    """Play in this terminal until the person leaves; returns the exit code."""
    if sims is not None and seconds is not None:
        raise WrongRequest("--sims and --seconds exclude each other: give one of them.")
    if sims is not None and not 0 <= sims <= 10_000_000:
        raise WrongRequest(f"--sims is {sims}: it must lie between 0 and 10000000.")
    if seconds is not None and not (0 < seconds <= 86_400 and math.isfinite(seconds)):
        raise WrongRequest(f"--seconds is {seconds}: it must lie above 0 and up to 86400.")
    loaded = load_game(game)
    evaluator = _evaluator(loaded, model)
    if sys.stdin.isatty() and sys.stdout.isatty():
        python_first()  # the board comes first: what is slow to load is loaded while the person looks at it
    elif isinstance(evaluator, LateEvaluator):
        evaluator.load()
    simulations = (DEFAULT_SIMULATIONS if sims is None else sims) if seconds is None else None
    params = SearchParams(leaves=leaves_for(DEFAULT_SIMULATIONS if simulations is None else simulations))
    engine = Engine(loaded, evaluator, params, simulations, seconds)
    code = play(loaded, evaluator, params, human=human, engine=engine)
    if engine.loading:  # a thread that compiles cannot be stopped, and Python would trip over it on its way out
        sys.stdout.flush()
        os._exit(code)
    return code


def _evaluator(game: Game, model: str | None) -> Evaluator:
    """The model asked for, else the shipped one, else search without knowledge (and a line that says so)."""
    if model is not None:
        return LateEvaluator(model, game)
    shipped = default_model(game.name)
    if shipped is not None:
        return LateEvaluator(str(shipped), game)
    Console(stderr=True, highlight=False).print(
        f"No model of {game.name} ships with az: the search plays without a network. Train one: az train {game.name}."
    )
    return UniformEvaluator(game)
