"""`az web` and `az play --web`: the local server with its pages."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from az.engine.errors import WrongRequest
from az.engine.inference.model_file import ModelFile
from az.engine.inference.model_resolver import resolve_model
from az.engine.jit import python_first
from az.engine.players import is_model, make_player

if TYPE_CHECKING:
    from az.engine.web.engines import Engines
    from az.engine.web.position import Line
    from az.engine.web.runs_api import RunsApi

DEFAULT_GAME = "connect4"
DEFAULT_SIMULATIONS = 400


def web_command(
    game: str | None,
    model: str | None,
    *,
    sims: int | None = None,
    seconds: float | None = None,
    level: int | None = None,
    human: int = 0,
    position: str | None = None,
    file: Path | None = None,
    number: int | None = None,
    port: int | None = None,
    browser: bool = True,
) -> int:
    """Serve the board until Ctrl-C; returns the exit code. Raises WrongRequest or Refused.

    file, number: a game that the board begins with.
    """
    if sims is not None and not 0 <= sims <= 100_000:
        raise WrongRequest(f"--sims is {sims}: it must lie between 0 and 100000 on the board of a browser.")
    if seconds is not None and not (0 < seconds <= 600 and math.isfinite(seconds)):
        raise WrongRequest(f"--seconds is {seconds}: it must lie above 0 and up to 600 on the board of a browser.")
    if port is not None and not 1 <= port <= 65_535:
        raise WrongRequest(f"--port is {port}: it must lie between 1 and 65535.")
    from az.engine.web.board_api import Begin, BoardApi
    from az.engine.web.engines import Engines
    from az.engine.web.server import make_app
    from az.engine.web.start import serve, threads_left

    python_first()  # the board comes first: what is slow to load is loaded while the person looks at it
    engines = Engines([] if model is None else [model])
    line = None if file is None else _line(game, model, file, 1 if number is None else number)
    loaded = engines.game(line.game.name if line else game or _game_of(model))
    if model is not None and not is_model(model):
        make_player(model, loaded)  # a mistake in its name is told now
    elif model is not None:
        ModelFile(resolve_model(model)).game(loaded)
    start = None if position is None else loaded.position_text(loaded.parse_position(position))
    moves = list[str]()
    if line is not None:
        start, moves = line.text_of_start(), line.texts
    strength = "full" if level is None else str(level)
    sides = (strength, "person") if human == 1 else ("person", strength)
    begin = Begin(loaded.name, model, sides, DEFAULT_SIMULATIONS if sims is None else sims, seconds, start, moves)
    runs = _runs(engines)
    routes = [*BoardApi(engines, begin).routes(), *runs.routes()]
    try:
        code = serve(lambda found: make_app(found, routes), port, browser=browser)
    finally:
        runs.close()
    # A thread that compiles or searches cannot be stopped: Python would wait for it, or trip over it.
    if engines.busy() or threads_left():
        sys.stdout.flush()
        os._exit(code)
    return code


def _runs(engines: Engines) -> RunsApi:
    """The pages about runs. The thresholds of health metrics stand where training has them."""
    from az.engine.web.runs_api import RunsApi
    from az.train.health.causes import CAUSES
    from az.train.health.early_warnings import METRICS

    metrics = [{"name": one.name, "warn": one.warn, "limit": one.limit, "words": one.words} for one in METRICS]
    return RunsApi(engines, metrics, {name: cause.words for name, cause in CAUSES.items()})


def _line(game: str | None, model: str | None, file: Path, number: int) -> Line:
    """A game of a file, as `az play --load` chooses it."""
    from az.commands.play import begun_game
    from az.engine.web.position import follow

    loaded, begun = begun_game(game, model, file, number)
    assert begun is not None
    return follow(loaded, begun.game.start, begun.game.texts())


def _game_of(model: str | None) -> str:
    """The model's own game, else the usual one."""
    if model is None or not is_model(model):
        return DEFAULT_GAME
    return ModelFile(resolve_model(model)).game(None).name
