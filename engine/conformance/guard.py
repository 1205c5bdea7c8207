"""A game whose functions say what failed in them, and where: around rules that are not checked yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from traceback import extract_tb
from typing import Any

from az.engine.board import Board
from az.engine.errors import WrongRequest
from az.engine.game import Game

OnCall = Callable[[str | None], None]
GUARDED = (
    "start", "apply", "legal", "outcome", "encode", "render", "moves", "parse_position", "position_text",
    "normalize_move",
)  # fmt: skip
GUARDED_OF_BOARD = ("cells", "move_cells", "winning", "counts", "ending")


class FaultError(Exception):
    """A function of a game raised an error that is not a WrongRequest."""

    def __init__(self, name: str, error: BaseException, function: Any) -> None:
        super().__init__(f"{name} raised {told(error)}{place_of(error, function)}")
        self.error = error


def told(error: BaseException) -> str:
    """The kind of an error and what it says."""
    return f"{type(error).__name__}: {error}".rstrip(": ")


def place_of(error: BaseException, function: Any) -> str:
    """`, bt.py line 33`: the last line of the function's own file that was reached."""
    code = getattr(getattr(function, "function", function), "__code__", None)
    frames = [frame for frame in extract_tb(error.__traceback__) if code and frame.filename == code.co_filename]
    return f", {Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else ""


def guarded(game: Game, on_call: OnCall | None = None) -> Game:
    """The same game; what its functions raise comes as FaultError. on_call: told each call, and None after it."""
    board = game.board
    if isinstance(board, Board):
        functions = {name: function for name in GUARDED_OF_BOARD if callable(function := getattr(board, name))}
        board = replace(board, **{name: _guard(name, function, on_call) for name, function in functions.items()})
    return replace(game, board=board, **{name: _guard(name, getattr(game, name), on_call) for name in GUARDED})


def _guard(name: str, function: Callable[..., Any], on_call: OnCall | None) -> Callable[..., Any]:
    def call(*arguments: Any) -> Any:
        if on_call is not None:
            on_call(name)
        try:
            return function(*arguments)
        except WrongRequest as error:
            if name in ("parse_position", "normalize_move"):
                raise
            raise FaultError(name, error, function) from error
        except (Exception, SystemExit) as error:
            raise FaultError(name, error, function) from error
        finally:
            if on_call is not None:
                on_call(None)

    return call
