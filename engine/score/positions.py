"""Positions whose outcome, and that of every move, is known: what a network's moves are judged by.

A file has a header line and one position a line, `phase;position;value;moves`. position: as `position_text` writes it.
value: the outcome under best play for the player to move, 1, 0 or -1; empty where it is not known. moves: for every
move that is decided `text:score`, larger is better for the player to move (any scale; what counts is which are as good
as the best); empty where nothing is known of the moves.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from az.engine.errors import Refused, WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.system.safe_read import MB, read_regular

HEADER = "phase;position;value;moves"
MOST_BYTES = 64 * MB
FOLDER = Path(__file__).parent / "data"  # one file a game that has some, made by benchmarks/solved_*.py


@dataclass(frozen=True)
class SolvedPosition:
    """One position, not over. scores: of the moves that are decided, by the action that begins them."""

    phase: str
    state: State
    value: int | None  # 1, 0, -1 for the player to move
    scores: dict[int, float]

    @property
    def best(self) -> float:
        """The best score of a move."""
        return max(self.scores.values())


def read_positions(path: Path, game: Game) -> list[SolvedPosition]:
    """Read a file of solved positions. Raises Refused, naming the line and what is wrong with it."""
    try:
        text = read_regular(path, MOST_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise Refused(f"the positions '{path}' cannot be read: {reason}.") from None
    lines = text.splitlines()
    if not lines or lines[0] != HEADER:
        raise Refused(f"{path}: the first line is not '{HEADER}'.")
    return [_position(f"{path}, line {number}", line, game) for number, line in enumerate(lines[1:], 2)]


def _position(where: str, line: str, game: Game) -> SolvedPosition:
    parts = line.split(";")
    if len(parts) != 4:
        raise Refused(f"{where}: {len(parts)} fields, expected {HEADER.count(';') + 1}.")
    phase, position, value, moves = parts
    try:
        state = game.parse_position(position)
    except WrongRequest as error:
        raise Refused(f"{where}: {error}") from None
    if game.outcome(state) != ONGOING:
        raise Refused(f"{where}: the game is over there.")
    if value not in ("", "1", "0", "-1"):
        raise Refused(f"{where}: the value is '{value}', expected 1, 0, -1 or nothing.")
    return SolvedPosition(phase, state, int(value) if value else None, _scores(where, moves.split(), game, state))


def _scores(where: str, moves: Iterable[str], game: Game, state: State) -> dict[int, float]:
    legal, scores = game.moves(state), dict[int, float]()
    for move in moves:
        text, _, number = move.rpartition(":")
        if text not in legal:
            raise Refused(f"{where}: '{text}' is not a legal move there.")
        try:
            score = float(number)
        except ValueError:
            raise Refused(f"{where}: '{number}' is not the score of a move.") from None
        first = legal[text][0]
        scores[first] = max(scores.get(first, -float("inf")), score)  # hops that begin alike: the better one
    return scores


def write_positions(path: Path, game: Game, positions: Iterable[SolvedPosition]) -> None:
    """Write a file of positions, for games whose moves are one action each."""
    lines = [HEADER]
    for one in positions:
        texts = {actions[0]: text for text, actions in game.moves(one.state).items()}
        moves = " ".join(f"{texts[action]}:{score:g}" for action, score in sorted(one.scores.items()))
        value = "" if one.value is None else str(one.value)
        lines.append(f"{one.phase};{game.position_text(one.state)};{value};{moves}")
    path.write_text("\n".join(lines) + "\n")


def shipped(game: Game) -> list[SolvedPosition]:
    """The positions that az has of this game; none for most games."""
    path = FOLDER / f"{game.name}.csv"
    return read_positions(path, game) if path.is_file() else []
