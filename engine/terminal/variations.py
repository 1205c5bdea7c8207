"""Variations of a file at the board: what stands under a move, stepping into one and back to the game."""

from __future__ import annotations

from collections.abc import Iterable

from az.engine.game import Game, State
from az.engine.notation import Move
from az.engine.terminal.session import Line, Played, Session, printable

MARKED = {1: "!", 2: "?", 3: "!!", 4: "??", 5: "!?", 6: "?!"}  # by the number that a file gives
MOST_SHOWN = 5  # variations of a move
SHOWN_MOVES = 8  # of each


def marks(nags: Iterable[int]) -> str:
    """The marks of a move as people write them."""
    return "".join(MARKED.get(nag, "") for nag in nags)


def played_line(game: Game, state: State, moves: Iterable[Move]) -> list[Played]:
    """Moves of a file, from that position on."""
    found = list[Played]()
    for move in moves:
        lines = tuple(tuple(line) for line in move.variations)
        told = (*move.variation_comments, *[""] * len(lines))[: len(lines)]
        beside = (tuple(move.comments), tuple(move.nags), move.clock, move.value, lines, told)
        found.append(Played(state, move.text, move.actions, *beside))
        state = game.play(state, move.actions)
    return found


def file_move(move: Played) -> Move:
    """A move as a file holds it, with all that stands beside it."""
    lines, told = [list(line) for line in move.variations], list(move.variation_comments)
    return Move(move.text, move.actions, list(move.comments), list(move.nags), move.clock, move.value, lines, told)


def told_variations(move: Played) -> list[str]:
    """A line for each variation of a move: `variation 1: 22-18 8-11? …`."""
    lines = list[str]()
    for number, (line, comment) in enumerate(zip(move.variations, move.variation_comments, strict=True), 1):
        if number > MOST_SHOWN:
            lines.append(f"… and {len(move.variations) - MOST_SHOWN:,} variations more.")
            break
        words = [f"({printable(comment, 60)})"] if comment else []
        words += [f"{one.text}{marks(one.nags)}" for one in line[:SHOWN_MOVES]]
        words += ["…"] if len(line) > SHOWN_MOVES else []
        lines.append(f"variation {number}: {' '.join(words)}")
    return lines


def step_in(session: Session, number: int) -> None:
    """Show the first move of variation `number`, counted from 1, of the last move shown; the game is kept."""
    here = session.history[-1]
    line = played_line(session.game, here.before, here.variations[number - 1])
    session.outer.append(Line(session.history[:], session.future[:], session.told, session.judged, session.resigned))
    session.history[-1:], session.future[:] = line[:1], line[1:]
    session.state = session.game.play(here.before, line[0].actions)
    session.held, session.told, session.resigned = True, "*", None
    session.judged = {ply: row for ply, row in session.judged.items() if ply < len(session.history) - 1}


def step_out(session: Session) -> None:
    """Back to the line that the variation stands in, at the move that it replaces."""
    line = session.outer.pop()
    session.history, session.future, session.told = line.history, line.future, line.told
    session.judged, session.resigned, session.held = line.judged, line.resigned, True
    session.state = session.game.play(session.history[-1].before, session.history[-1].actions)
