"""What can be typed at the board besides moves."""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from az.engine.errors import WrongRequest
from az.engine.game import DRAW, LOSS, WIN
from az.engine.search.params import UNKNOWN
from az.engine.search.whole_moves import WholeMove, ranked
from az.engine.terminal.files import load, save
from az.engine.terminal.replay import (
    arrive,
    back,
    engine_goes_on,
    forward,
    go_to_move,
    main_line,
    replay,
    review,
    variation,
)
from az.engine.terminal.session import Session

HINTS = 5  # moves that a hint shows


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
    for command in (command for command in COMMANDS.values() if command.says):
        session.say(f"  {command.word:<10}{command.says}")


def show_moves(session: Session, _rest: str) -> None:
    session.say("Legal: " + " ".join(session.game.moves(session.state)) if not session.over else "The game is over.")


def show_hint(session: Session, _rest: str) -> None:
    """The best whole moves, what the search gave them and what it expects of them."""
    if session.over:
        session.say("The game is over: there is nothing to find.")
        return
    result, seconds = session.think(advice=True)
    best = ranked(result)[:HINTS]
    width = max(len(move.text) for move in best)
    if math.isnan(result.value):  # a player without a network knows its move alone
        session.say(f"  {result.best.text}")
        return
    for move in best:
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
        session.play_on()
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
    session.play_on()
    session.resigned = session.mover if session.human is None else session.human
    session.show_ending()


def leave(session: Session, _rest: str) -> None:
    session.leaving = True


def take(session: Session, rest: str) -> None:
    """Load a game and show where it stands."""
    if load(session, rest):
        arrive(session)


_ALL = (
    Command("hint", "what the engine would play", show_hint),
    Command("moves", "list the legal moves", show_moves),
    Command("undo", "take your last move back", undo),
    Command("new", "begin another game", new),
    Command("swap", "change sides", swap),
    Command("level", "level N: how strong the engine plays, or level full", level),
    Command("resign", "give the game up", resign),
    Command("save", "save [FILE]: keep the moves; FILE.pdn and FILE.ggf in these formats", save),
    Command("load", "load FILE [N]: a saved game, PDN, GGF or a list of moves; its game N", take),
    Command("replay", "to the start of the game, to step through it", replay),
    Command("next", "next [N]: moves on (Enter does too); back [N]: moves back", forward),
    Command("back", "", back),
    Command("goto", "goto N: the position after move N, or goto end", go_to_move),
    Command(
        "variation", "variation N: into one that the file has of the move shown; main: back to the game", variation
    ),
    Command("main", "", main_line),
    Command("go", "the engine plays on from here", engine_goes_on),
    Command("review", "review [SIMS]: which moves were mistakes", review),
    Command("board", "show the board again", lambda session, _rest: session.show()),
    Command("help", "this list", show_help),
    Command("quit", "leave (Ctrl-D does too)", leave),
)
COMMANDS = {command.word: command for command in _ALL}
ALIASES = {
    "?": "help",
    "h": "help",
    "exit": "quit",
    "q": "quit",
    "bye": "quit",
    "u": "undo",
    "n": "next",
    "b": "back",
    "v": "variation",
}
