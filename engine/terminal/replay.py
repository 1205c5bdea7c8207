"""Stepping through the game at the board, and its review: which moves were mistakes, and what was better."""

from __future__ import annotations

import time
from collections.abc import Sequence

from az.engine.analysis.review import MARKS, Judged, review_game, side_of
from az.engine.errors import AzError
from az.engine.terminal.board import player_name
from az.engine.terminal.session import Session, printable
from az.engine.terminal.variations import marks, step_in, step_out, told_variations

REVIEWED = 200  # simulations a position
MOST_REVIEWED = 100_000
SIGNS = {"blunder": "??", "mistake": "?", "inaccuracy": "?!"}
SHOWN_LINE = 6  # moves of a better line; one in a window less wide than WIDE columns
WIDE = 72


def replay(session: Session, _rest: str) -> None:
    """To the start of the game, to step through it."""
    if not session.plies:
        session.say("There are no moves to step through: load FILE takes a game to the board.")
        return
    go_to(session, 0)


def forward(session: Session, rest: str) -> None:
    """So many moves on."""
    _step(session, rest, 1)


def back(session: Session, rest: str) -> None:
    """So many moves back; they are kept."""
    _step(session, rest, -1)


def _step(session: Session, rest: str, sign: int) -> None:
    count = _number(rest or "1")
    if count is None:
        session.say("Say how many moves, such as next 5.", "yellow")
        return
    here = len(session.history)
    wanted = min(session.plies, max(0, here + sign * count))
    if wanted == here:
        session.say("That is the end of the game." if sign > 0 else "That is the start of the game.")
        return
    go_to(session, wanted)


def go_to_move(session: Session, rest: str) -> None:
    """To the position after a move, by its number; 0 is the start."""
    number = session.plies if rest == "end" else _number(rest)
    if number is None or number > session.plies:
        session.say(f"Say which move, 0 to {session.plies}: goto 7.", "yellow")
        return
    go_to(session, number)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 8 else None


def go_to(session: Session, ply: int) -> None:
    """Show the position after so many moves; the engine waits."""
    session.resigned = None
    session.seek(ply)
    arrive(session)


def arrive(session: Session) -> None:
    """The board, the move that led here, and what can be done."""
    session.show()
    if session.history:
        session.say(_last_move(session), "bold cyan")
        for comment in session.history[-1].comments:
            session.say(printable(comment, 300), "dim")
        for line in told_variations(session.history[-1]):
            session.say(line, "cyan")
    if session.future:
        if len(session.history) == 0:
            session.say(
                "Enter or next: the first move. back, goto N, review; a move of yours goes on from here.", "dim"
            )
        return
    if session.over:
        session.say(session.ending(), "bold green")
        session.say("replay steps through it, review looks for mistakes; undo, new, quit.", "dim")
    else:
        session.say(f"{session.name(session.mover)} to move: type a move, or go for the engine's.", "dim")
        session.say("replay steps through the game, review looks for mistakes.", "dim")


def _last_move(session: Session) -> str:
    move, number = session.history[-1], len(session.history)
    words = f"{number}. {session.name(int(move.before[0]))} {move.text}{marks(move.nags)}"
    judged = session.judged.get(number - 1)
    if judged is None or judged.mark is None or judged.answer is None:
        return words
    return f"{words} {SIGNS[judged.mark]} {judged.mark}, better {judged.answer.best.text}"


def variation(session: Session, rest: str) -> None:
    """Into a variation of the move shown, by its number."""
    count = len(session.history[-1].variations) if session.history else 0
    number = _number(rest or "1")
    if not count:
        session.say("The move shown has no variations.")
    elif number is None or not 1 <= number <= count:
        session.say(f"Say which variation, 1 to {count}: variation 1.", "yellow")
    else:
        told = session.history[-1].variation_comments[number - 1]
        step_in(session, number)
        if told:
            session.say(printable(told, 300), "dim")
        arrive(session)
        session.say("main goes back to the game.", "dim")


def main_line(session: Session, _rest: str) -> None:
    """From a variation back to the line that it stands in."""
    if not session.outer:
        session.say("This is the game itself, not a variation.")
        return
    step_out(session)
    arrive(session)


def engine_goes_on(session: Session, _rest: str) -> None:
    """The engine plays the side to move, and the person the other one."""
    if session.over:
        session.say("The game is over already.")
        return
    session.play_on()
    if session.human == session.mover:
        session.human = 1 - session.mover
        session.say(f"You are {session.name(session.human)} now.")
    elif session.human is None:
        session.human = 1 - session.mover
    session.turn(show=False)


def review(session: Session, rest: str) -> None:
    """Search every position of the game and list the moves that cost something."""
    simulations = _number(rest) if rest else REVIEWED
    if simulations is None or not 1 <= simulations <= MOST_REVIEWED:
        session.say(f"Say how many simulations a position gets, 1 to {MOST_REVIEWED:,}: review 400.", "yellow")
        return
    if not session.plies:
        session.say("There are no moves to review.")
        return
    rows, begun = list[Judged](), time.perf_counter()
    states, texts = session.line()
    words = f"searching {len(states)} positions …"
    try:
        with session.busy(words) as tell:
            search = session.engine.searcher()
            for some in review_game(session.game, states, texts, search, simulations):
                rows += some
                tell(f"searched {len(rows)} of {len(states)} positions …")
    except KeyboardInterrupt:
        session.say(f"Stopped after {len(rows)} of {len(states)} positions.", "yellow")
    except AzError as error:
        session.say(str(error), "yellow")
        return
    session.judged = {row.ply: row for row in rows}
    if rows:
        _tell_review(session, rows, f"{simulations} simulations a position, {time.perf_counter() - begun:.1f} s")


def _tell_review(session: Session, rows: Sequence[Judged], how: str) -> None:
    marked = [row for row in rows if row.mark is not None]
    played = [*session.history, *session.future]
    for row in marked:
        session.say(_marked_line(session, row), "red" if row.mark == "blunder" else "yellow")
        for line in told_variations(played[row.ply]):
            session.say(f"     {line}", "dim")
    if not marked:
        session.say("No move cost 5 points of win chance or more.")
    for player in (0, 1):
        side = side_of(rows, player)
        if side.cost is None:
            continue
        counts = ", ".join(_counted(side.marks[name], name) for _, name in MARKS)
        name = player_name(session.game, player)
        session.say(
            f"{name}: {_counted(side.moves, 'move')}, {side.agreed} as the engine; {counts};"
            f" {100 * side.cost:.1f} points a move"
        )
    session.say(f"{how}. A cost is in points of win chance.", "dim")
    if marked:
        session.say(f"goto {marked[0].ply} shows the position before the first of them.", "dim")


def _counted(count: int, name: str) -> str:
    many = {"inaccuracy": "inaccuracies"}.get(name, f"{name}s")
    return f"{count} {name if count == 1 else many}"


def _marked_line(session: Session, row: Judged) -> str:
    answer, name = row.answer, player_name(session.game, row.to_move)
    shown = SHOWN_LINE if session.look().width >= WIDE else 1
    better = "" if answer is None else f"; better {' '.join(answer.pv[:shown])}"
    sign = "" if row.mark is None else f"{SIGNS[row.mark]} {row.mark} "
    return f"{row.ply + 1:>3}. {name} {row.played} {sign}-{100 * row.cost:.0f}{better}"
