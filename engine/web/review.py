"""A whole game looked at: the win chance after every move, what each wrong move cost, and a summary.

A move's cost is what the win chance of its player fell by, from the search of the position before it to that of the
position after it: 0.10 is ten points of a hundred. The search's own choice costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from az.engine.game import DRAW, LOSS, ONGOING
from az.engine.search.whole_moves import WholeResult, ranked, whole_results
from az.engine.web.position import Line
from az.engine.web.thinking import Searcher, told

Json = dict[str, Any]
MARKS = ((0.20, "blunder"), (0.10, "mistake"), (0.05, "inaccuracy"))  # the least cost of each
TOGETHER = 4  # positions that are searched at once


def review(searcher: Searcher, line: Line, simulations: int) -> Iterator[Json | None]:
    """Rows as they are known, {"rows": […], "of": positions}, and at last {"summary": {…}, "done": True}.

    A row: ply (the position after so many moves), value (in [-1, 1], of player 0), best, moves (the search's best
    five), and, where a move was played from there: played, cost (0 to 1), mark (None, or a name of MARKS).
    """
    count = len(line.states)
    answers = list[WholeResult | None]()
    rows = list[Json]()
    for begin in range(0, count, TOGETHER):
        states = line.states[begin : begin + TOGETHER]
        open_ = [state for state in states if line.game.outcome(state) == ONGOING]
        found = searcher.search(open_, simulations) if open_ else []
        whole = iter(whole_results(line.game, open_, found, searcher.search))
        answers += [next(whole) if line.game.outcome(state) == ONGOING else None for state in states]
        known = len(rows)
        last = len(answers) - (0 if len(answers) == count else 1)  # a cost needs the position after the move
        rows += [_row(line, answers, ply) for ply in range(known, last)]
        yield {"rows": rows[known:], "of": count}
    yield {"rows": [], "of": count, "summary": _summary(line, rows), "done": True}


def _value(line: Line, answers: list[WholeResult | None], ply: int) -> float:
    """Of a position, in the view of player 0."""
    state, answer = line.states[ply], answers[ply]
    outcome = int(line.game.outcome(state))
    value = answer.value if answer is not None else float(outcome if outcome in (LOSS, DRAW) else 1)
    return value if state[0] == 0 else -value


def _row(line: Line, answers: list[WholeResult | None], ply: int) -> Json:
    answer, value = answers[ply], _value(line, answers, ply)
    row: Json = {"ply": ply, "value": value, "toMove": int(line.states[ply][0])}
    if answer is None:
        return row
    found = told(answer, answer.simulations)
    row |= {"best": answer.best.text, "line": list(answer.pv[:8]), "moves": found["moves"][:5]}
    if ply < len(line.texts):
        sign = 1 if line.states[ply][0] == 0 else -1
        same = line.texts[ply] == answer.best.text
        cost = 0.0 if same else max(0.0, sign * (value - _value(line, answers, ply + 1)) / 2)
        mark = next((name for least, name in MARKS if cost >= least), None)
        share = next((move.share for move in ranked(answer) if move.text == line.texts[ply]), 0.0)
        row |= {"played": line.texts[ply], "cost": cost, "mark": mark, "share": share}
    return row


def _summary(line: Line, rows: list[Json]) -> Json:
    """Of each player: moves, how many were the search's own, what they cost on average, and the marks."""
    players = list[Json]()
    for player in (0, 1):
        own = [row for row in rows if row["toMove"] == player and "played" in row]
        marks = {name: sum(row["mark"] == name for row in own) for _, name in MARKS}
        agreed = sum(row["played"] == row["best"] for row in own)
        cost = sum(row["cost"] for row in own) / len(own) if own else None
        players.append({"moves": len(own), "agreed": agreed, "cost": cost, **marks})
    worst = max((row for row in rows if row.get("cost")), key=lambda row: row["cost"], default=None)
    return {"players": players, "worst": None if worst is None else worst["ply"], "plies": len(line.texts)}
