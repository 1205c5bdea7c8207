"""What can be typed at the board besides moves."""

from __future__ import annotations

import math
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from az.engine.errors import AzError, WrongRequest
from az.engine.game import DRAW, LOSS, WIN, Game, State
from az.engine.search.params import UNKNOWN
from az.engine.search.whole_moves import Hops, WholeMove
from az.engine.system.safe_read import MB, read_regular
from az.engine.terminal.board import player_name
from az.engine.terminal.session import Session, printable

HINTS = 5  # moves that a hint shows
MOST_SAVED = MB  # bytes of a saved game
MOST_NAMES = 10_000  # numbered names that `save` tries


@dataclass(frozen=True)
class Command:
    """A word, what it does in a few words, and the doing."""

    word: str
    says: str
    run: Callable[[Session, str], None]


def find_command(word: str) -> Command | None:
    """The command of that name, in any case, or None."""
    word = word.lower()
    return COMMANDS.get(ALIASES.get(word, word))


def show_help(session: Session, _rest: str) -> None:
    session.say(f"A move: {session.game.board.move_help if session.game.board else 'as `moves` lists them'}.")
    for command in COMMANDS.values():
        session.say(f"  {command.word:<8}{command.says}")


def show_moves(session: Session, _rest: str) -> None:
    session.say("Legal: " + " ".join(session.game.moves(session.state)) if not session.over else "The game is over.")


def show_hint(session: Session, _rest: str) -> None:
    """The best whole moves, what the search gave them and what it expects of them."""
    if session.over:
        session.say("The game is over: there is nothing to find.")
        return
    result, seconds = session.think(advice=True)
    ranked = sorted(result.moves, key=lambda move: (move is not result.best, -move.share, -move.prior))[:HINTS]
    width = max(len(move.text) for move in ranked)
    if math.isnan(result.value):  # a player without a network knows its move alone
        session.say(f"  {result.best.text}")
        return
    for move in ranked:
        session.say(f"  {move.text:<{width}}  {100 * move.share:3.0f} %  {_expectation(move)}")
    session.say(f"share of visits; win chance; {result.simulations} simulations, {seconds:.1f} s", "dim")
    if len(result.pv) > 1:
        session.say("expects " + " ".join(result.pv[:8]), "dim")


def _expectation(move: WholeMove) -> str:
    words = {WIN: "wins (proven)", LOSS: "loses (proven)", DRAW: "draws (proven)"}
    if move.proven != UNKNOWN:
        return words[move.proven]
    return f"win {50 * (min(1.0, max(-1.0, move.value)) + 1):.0f} %"


def undo(session: Session, _rest: str) -> None:
    """Back to the person's last decision: their move and what the engine answered."""
    own = [i for i, move in enumerate(session.history) if session.human in (None, int(move.before[0]))]
    if session.resigned is not None:
        session.resigned = None
        session.say("The resignation is taken back.")
    elif not own:
        session.say("You have not moved yet: there is nothing to take back.")
        return
    else:
        taken = session.history[own[-1] :]
        del session.history[own[-1] :]
        session.state = taken[0].before
        session.say("Taken back: " + " ".join(move.text for move in taken))
    session.turn(show=True)


def level(session: Session, rest: str) -> None:
    """Another strength from the next move on."""
    if not (rest == "full" or (rest.isascii() and rest.isdigit() and len(rest) < 4)):
        session.say(f"It {session.engine.effort}; type level and a number, or level full.")
        return
    try:
        session.engine.at_level(None if rest == "full" else int(rest), secrets.randbits(32))
    except WrongRequest as error:
        session.say(str(error), "yellow")
        return
    session.say(f"From now on it {session.engine.effort}.")


def new(session: Session, _rest: str) -> None:
    session.reset()
    session.say("A new game.")
    session.turn(show=True)


def swap(session: Session, _rest: str) -> None:
    if session.human is None:
        session.say("You play both sides already.")
        return
    session.human = 1 - session.human
    session.say(f"You are {session.name(session.human)} now.")
    session.turn(show=True)


def resign(session: Session, _rest: str) -> None:
    if session.over:
        session.say("The game is over already.")
        return
    session.resigned = session.mover if session.human is None else session.human
    session.show_ending()


def leave(session: Session, _rest: str) -> None:
    session.leaving = True


def save(session: Session, rest: str) -> None:
    """Write the game as text; an existing file is never overwritten, the next free name is taken and named."""
    wanted = Path(rest or session.folder / f"{session.game.name}-{datetime.now():%Y%m%d-%H%M}.txt")
    try:
        wanted = wanted.expanduser()
        path = write_new(wanted, game_text(session))
    except (OSError, ValueError, RuntimeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        session.say(f"The game could not be saved as '{wanted}': {reason}.", "yellow")
        return
    note = "" if path == wanted else f"; '{wanted}' exists already and was left alone"
    session.say(f"Saved as '{path}'{note}.")


def load(session: Session, rest: str) -> None:
    """Go on with a game that `save` kept; where the file is not one, the game at the board stays as it is."""
    if not rest:
        session.say("Name the file: load FILE.")
        return
    try:
        start, moves = read_game(session.game, Path(rest).expanduser())
    except (AzError, OSError, ValueError, RuntimeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        session.say(f"'{printable(rest)}' could not be loaded: {printable(reason, 200)}", "yellow")
        return
    session.start = start
    session.reset()
    for text, actions in moves:
        session.push(text, actions)
    session.say(f"Loaded {len(moves)} moves.")
    session.turn(show=True)


def read_game(game: Game, path: Path) -> tuple[State, list[tuple[str, Hops]]]:
    """(start, moves) of what `game_text` wrote. Raises WrongRequest, OSError or ValueError."""
    lines = read_regular(path, MOST_SAVED).decode().splitlines()
    heads = {name: rest.strip() for name, colon, rest in (line.partition(":") for line in lines) if colon}
    if not {"game", "start", "moves"} <= heads.keys():
        raise WrongRequest("it is no game that az saved.")
    if heads["game"] != game.name:
        raise WrongRequest(f"it is a game of {heads['game']}, and this is {game.name}.")
    state = start = game.parse_position(heads["start"])
    moves: list[tuple[str, Hops]] = []
    for line in lines[lines.index("moves:") + 1 :]:
        if not line.startswith(" "):
            break
        for text in line.partition(".")[2].split():
            actions = game.parse_move(state, text)
            moves.append((text, actions))
            state = game.play(state, actions)
    return start, moves


def game_text(session: Session) -> str:
    """The game for people: who played, the moves numbered in pairs, the result and the last position."""
    game = session.game
    names = [player_name(game, player) for player in (0, 1)]
    who = ["person" if session.human in (None, player) else session.engine.name for player in (0, 1)]
    lines = [f"game: {game.name}", f"date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC"]
    lines += [f"{name}: {plays}" for name, plays in zip(names, who, strict=True)]
    lines += [f"start: {game.position_text(session.start)}".rstrip()]
    moves = [move.text for move in session.history]
    lines += ["moves:"]
    lines += [f"{i // 2 + 1:>3}. {' '.join(moves[i : i + 2])}" for i in range(0, len(moves), 2)]
    lines += [f"result: {session.ending() if session.over else 'unfinished'}"]
    lines += [f"position: {game.position_text(session.state)}".rstrip()]
    return "\n".join(lines) + "\n"


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


_ALL = (
    Command("hint", "what the engine would play", show_hint),
    Command("moves", "list the legal moves", show_moves),
    Command("undo", "take your last move back", undo),
    Command("new", "begin another game", new),
    Command("swap", "change sides", swap),
    Command("level", "level N: how strong the engine plays, or level full", level),
    Command("resign", "give the game up", resign),
    Command("save", "save [FILE]: keep the moves", save),
    Command("load", "load FILE: go on with a saved game", load),
    Command("board", "show the board again", lambda session, _rest: session.show()),
    Command("help", "this list", show_help),
    Command("quit", "leave (Ctrl-D does too)", leave),
)
COMMANDS = {command.word: command for command in _ALL}
ALIASES = {"?": "help", "h": "help", "exit": "quit", "q": "quit", "bye": "quit", "u": "undo"}
