"""Games at the board to files and back, in the formats of `engine/notation/`."""

from __future__ import annotations

import os
import re
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from az.engine.errors import WrongRequest
from az.engine.game import State
from az.engine.notation import GameText, Move, read_game_file, write_games
from az.engine.notation.game_text import result_of
from az.engine.notation.pdn_tokens import OWN_HEADERS
from az.engine.notation.saved import ENDING
from az.engine.terminal.board import player_name
from az.engine.terminal.session import Session, printable
from az.engine.terminal.variations import file_move, played_line

MOST_NAMES = 10_000  # numbered names that `save` tries
FORMS = {".pdn": "pdn", ".ggf": "ggf"}  # of a file's name; any other: az's own form


@dataclass(frozen=True)
class Loaded:
    """A game of a file."""

    game: GameText
    number: int  # counted from 1
    of: int  # games of the file


def save(session: Session, rest: str) -> None:
    """Write the game as text; an existing file is never overwritten, the next free name is taken and named."""
    wanted = Path(rest or session.folder / f"{session.game.name}-{datetime.now():%Y%m%d-%H%M}.txt")
    try:
        wanted = wanted.expanduser()
        path = write_new(wanted, game_text(session, FORMS.get(wanted.suffix.lower(), "saved")))
    except (WrongRequest, OSError, ValueError, RuntimeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        reason = printable(reason.rstrip("."), 200)
        session.say(f"The game could not be saved as '{printable(str(wanted), 200)}': {reason}.", "yellow")
        return
    note = "" if path == wanted else f"; '{wanted}' exists already and was left alone"
    session.say(f"Saved as '{path}'{note}.")


def game_text(session: Session, form: str = "saved") -> str:
    """The whole game: who played, the moves, the result; az's own form has the last position too."""
    game, moves = session.game, [*session.history, *session.future]
    last = game.play(moves[-1].before, moves[-1].actions) if moves else session.state
    names = [player_name(game, player) for player in (0, 1)]
    who = ["person" if session.human in (None, player) else session.engine.name for player in (0, 1)]
    result = result_of(game, last)
    if session.resigned is not None:
        result = ("0-1", "1-0")[session.resigned]
    elif result == "*" and (form == "pdn" or session.told != "1/2-1/2"):
        result = session.told
    headers = {"date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", **dict(zip(names, who, strict=True))}
    if form == "pdn":
        headers = {"Date": f"{datetime.now(UTC):%Y.%m.%d}", **dict(zip(names, who, strict=True))}
        headers = _pdn_headers(session.headers or headers)
    elif form == "ggf":
        headers = {"PC": "az", "PB": who[0], "PW": who[1]}
    elif result == result_of(game, last) != "*" and not session.future:
        headers[ENDING] = session.ending()
    start = game.position_text(session.start)
    usual = start == game.position_text(game.new_state())
    kept = [Move(move.text, move.actions) for move in moves]
    if form == "pdn":
        kept = [file_move(move) for move in moves]
    found = GameText(game.name, kept, None if usual else start, headers, result=result)
    found.comments = session.comments if form == "pdn" else []
    return write_games([found], form)


def _pdn_headers(headers: dict[str, str]) -> dict[str, str]:
    """With names that PDN can hold: a saved game may have others, such as First player."""
    named = {re.sub("[^A-Za-z0-9_]", "", name): value for name, value in headers.items()}
    return {name: value for name, value in named.items() if name[:1].isalpha() and name.lower() not in OWN_HEADERS}


def write_new(wanted: Path, text: str) -> Path:
    """Write a file that was not there, whole or not at all; returns the name that was free."""
    if wanted.is_dir():
        raise IsADirectoryError(0, "it is a folder; name a file")
    handle, beside = tempfile.mkstemp(dir=wanted.parent, prefix=".az-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644) if hasattr(os, "fchmod") else None
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        for number in range(1, MOST_NAMES):
            path = wanted if number == 1 else wanted.with_name(f"{wanted.stem}-{number}{wanted.suffix}")
            try:
                os.link(beside, path)  # unlike a rename, a link never replaces what is there
            except FileExistsError:
                continue
            return path
    finally:
        os.unlink(beside)
    raise FileExistsError(0, "too many files have that name")


def chosen_game(games: list[GameText], number: int) -> GameText:
    """Game `number` of a file, counted from 1. Raises WrongRequest."""
    if not 1 <= number <= len(games):
        have = "one game" if len(games) == 1 else f"{len(games):,} games, 1 to {len(games):,}"
        raise WrongRequest(f"there is no game {number}: the file holds {have}.")
    return games[number - 1]


def load(session: Session, rest: str) -> bool:
    """Take a game of a file to the board; where there is none, the game at the board stays as it is, and False."""
    if not rest:
        session.say("Name the file: load FILE, or load FILE N for its game number N.")
        return False
    try:
        path, number = _file_and_number(rest)
        games = read_game_file(path.expanduser(), session.game)
        found = chosen_game(games, number)
        start = found.start_state(session.game)
    except (WrongRequest, OSError, ValueError, RuntimeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        session.say(f"'{printable(rest)}' could not be loaded: {printable(reason, 300)}", "yellow")
        return False
    adopt(session, found, start)
    tell_loaded(session, found, number, len(games))
    return True


def _file_and_number(rest: str) -> tuple[Path, int]:
    """`FILE` or `FILE N`; a file whose own name ends like that comes first. Raises OSError: a name that is too long."""
    name, _, last = rest.rpartition(" ")
    if name and last.isascii() and last.isdigit() and len(last) < 8 and not Path(rest).expanduser().exists():
        return Path(name.strip()), int(last)
    return Path(rest), 1


def adopt(session: Session, found: GameText, start: State) -> None:
    """Put a game on the board, at its end; the engine waits until the person plays on. start: before its moves."""
    game = session.game
    session.start = start
    session.reset()
    session.history += played_line(game, session.state, found.moves)
    if session.history:
        session.state = game.play(session.history[-1].before, session.history[-1].actions)
    session.held, session.headers, session.comments = True, dict(found.headers), list(found.comments)
    session.told = found.result


def tell_loaded(session: Session, found: GameText, number: int = 1, of: int = 1) -> None:
    """What was loaded, in a few lines."""
    which = "" if of == 1 else f" (game {number:,} of {of:,})"
    session.say(f"Loaded {len(found.moves)} moves{which}.", "bold")
    tags = [f"{printable(name, 20)} {printable(value, 60)}" for name, value in list(found.headers.items())[:8]]
    result = result_of(session.game, session.state)
    if found.result not in ("*", result) or (result == "*" and found.result == "1/2-1/2"):
        tags.append(f"result {found.result}")
    if tags:
        session.say(", ".join(tags), "dim")
    for note in found.notes[:3]:
        session.say(f"Note: {printable(note, 200)}", "yellow")
    if len(found.notes) > 3:
        session.say(f"… and {len(found.notes) - 3:,} notes more.", "yellow")
    for comment in found.comments[:3]:
        session.say(printable(comment, 300), "dim")
    if count := sum(len(move.variations) for move in found.moves):
        many = "one variation: it stands" if count == 1 else f"{count:,} variations: they stand"
        session.say(f"The file has {many} under the move, and variation N steps into one.", "dim")
