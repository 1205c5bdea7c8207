"""`az play`: from a person's request to the first prompt."""

from __future__ import annotations

import math
import os
import secrets
import sys
from pathlib import Path

from az.engine.errors import WrongRequest
from az.engine.game import Game, load_game
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.inference.model_resolver import LateEvaluator, default_model, resolve_model
from az.engine.jit import python_first
from az.engine.players import is_model
from az.engine.players.opponent import FIRST_GAMES, PlayerEngine
from az.engine.search.params import SearchParams, leaves_for
from az.engine.terminal.console import console
from az.engine.terminal.files import Loaded, chosen_game
from az.engine.terminal.play import Engine, play

DEFAULT_GAME = "connect4"
DEFAULT_SIMULATIONS = 400


def play_command(
    game: str | None,
    model: str | None,
    sims: int | None,
    seconds: float | None,
    human: int,
    position: str | None = None,
    level: int | None = None,
    file: Path | None = None,
    number: int | None = None,
) -> int:
    """Play in this terminal until the person leaves; returns the exit code. file, number: a game to begin with."""
    check_effort(sims, seconds, level)
    check_load(file, number, position)
    if sims is not None and not 0 <= sims <= 10_000_000:
        raise WrongRequest(f"--sims is {sims}: it must lie between 0 and 10000000.")
    if seconds is not None and not (0 < seconds <= 86_400 and math.isfinite(seconds)):
        raise WrongRequest(f"--seconds is {seconds}: it must lie above 0 and up to 86400.")
    at_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if at_terminal:
        python_first()  # the board comes first: what is slow to load is loaded while the person looks at it
    loaded, begun = begun_game(game, model, file, 1 if number is None else number)
    start = None if position is None else loaded.parse_position(position)
    params = SearchParams(leaves=leaves_for(DEFAULT_SIMULATIONS if sims is None else sims))
    evaluator = _model(loaded, model)
    if evaluator is None:
        player = PlayerEngine(loaded, *_player(loaded, model, sims, seconds))
        if level is not None:
            player.at_level(level, 0)
        if model is not None:
            player.make()  # a mistake in its name is told now
        return play(loaded, UniformEvaluator(loaded), params, human=human, start=start, loaded=begun, engine=player)
    if not at_terminal:
        evaluator.load()
    simulations = (DEFAULT_SIMULATIONS if sims is None else sims) if seconds is None else None
    engine = Engine(loaded, evaluator, params, simulations, seconds)
    if level is not None:
        engine.at_level(level, secrets.randbits(32))  # a person wants another game each time
    code = play(loaded, evaluator, params, human=human, start=start, loaded=begun, engine=engine)
    if engine.loading:  # a thread that compiles cannot be stopped, and Python would trip over it on its way out
        sys.stdout.flush()
        os._exit(code)
    return code


def check_effort(sims: int | None, seconds: float | None, level: int | None) -> None:
    """Raises WrongRequest for options that contradict each other."""
    if level is not None and (sims is not None or seconds is not None):
        raise WrongRequest("--level says how long the engine thinks: leave --sims and --seconds out.")
    if sims is not None and seconds is not None:
        raise WrongRequest("--sims and --seconds exclude each other: give one of them.")


def check_load(file: Path | None, number: int | None, position: str | None) -> None:
    """Raises WrongRequest for options that contradict each other."""
    if file is not None and position is not None:
        raise WrongRequest("--load and --position exclude each other: give one of them.")
    if file is None and number is not None:
        raise WrongRequest("--number says which game of a file: give --load FILE too.")


def begun_game(game: str | None, model: str | None, file: Path | None, number: int) -> tuple[Game, Loaded | None]:
    """The game asked for, else that of the file, else the model's, else connect four; and the game to begin with."""
    if file is None:
        return _game(game, model), None
    from az.engine.notation import read_game_file

    asked = _game(game, model) if game is not None or (model is not None and is_model(model)) else None
    games = read_game_file(file.expanduser(), asked)
    found = chosen_game(games, number)
    return asked or load_game(found.game), Loaded(found, number, len(games))


def _game(game: str | None, model: str | None) -> Game:
    """The game asked for, else the model's own, else connect four."""
    if game is None and model is not None and is_model(model):
        from az.engine.inference.model_file import ModelFile

        return ModelFile(resolve_model(model)).game(None)
    return load_game(DEFAULT_GAME if game is None else game)


def _model(game: Game, model: str | None) -> LateEvaluator | None:
    """The model asked for, else the shipped one, else None: a player without a network."""
    if model is not None:
        return LateEvaluator(model, game) if is_model(model) else None
    shipped = default_model(game.name)
    return None if shipped is None else LateEvaluator(str(shipped), game)


def _player(game: Game, model: str | None, sims: int | None, seconds: float | None) -> tuple[str, float | None]:
    """(the player's text, its seconds a move) where no model plays."""
    if model is not None:
        if sims is not None or seconds is not None:
            option = "--sims" if seconds is None else "--seconds"
            raise WrongRequest(f"{option} is for models, and {model} says itself how hard it thinks: leave it out.")
        return model, None
    screen = console(stderr=True)
    screen.print(
        f"No model of {game.name} ships with az, so plain tree search with random games plays."
        f" Train one: az train {game.name}.",
        soft_wrap=not screen.is_terminal,  # one line for a program; a person's window must not break words
    )
    games = FIRST_GAMES if seconds is not None else DEFAULT_SIMULATIONS if sims is None else max(1, sims)
    return f"rollouts:{games}", seconds
