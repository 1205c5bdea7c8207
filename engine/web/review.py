"""A review of a whole game for a page: the judgments of `engine/analysis/review.py` as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from az.engine.analysis.review import Judged, review_game, side_of, worst_of
from az.engine.web.position import Line
from az.engine.web.thinking import Searcher, told

Json = dict[str, Any]


def review(searcher: Searcher, line: Line, simulations: int) -> Iterator[Json | None]:
    """Rows as they are known, {"rows": […], "of": positions}, and at last {"summary": {…}, "done": True}.

    A row: ply (the position after so many moves), value (in [-1, 1], of player 0), best, moves (the search's best
    five), and, where a move was played from there: played, cost (0 to 1), mark (None, or a name of MARKS).
    """
    rows, count = list[Judged](), len(line.states)
    for some in review_game(line.game, line.states, line.texts, searcher.search, simulations):
        rows += some
        yield {"rows": [_row(row) for row in some], "of": count}
    yield {"rows": [], "of": count, "summary": _summary(line, rows), "done": True}


def _row(judged: Judged) -> Json:
    row: Json = {"ply": judged.ply, "value": judged.value, "toMove": judged.to_move}
    answer = judged.answer
    if answer is None:
        return row
    found = told(answer, answer.simulations)
    row |= {"best": answer.best.text, "line": list(answer.pv[:8]), "moves": found["moves"][:5]}
    if judged.played is not None:
        row |= {"played": judged.played, "cost": judged.cost, "mark": judged.mark, "share": judged.share}
    return row


def _summary(line: Line, rows: list[Judged]) -> Json:
    """Of each player: moves, how many were the search's own, what they cost on average, and the marks."""
    sides = [side_of(rows, player) for player in (0, 1)]
    worst = worst_of(rows)
    return {
        "players": [
            {"moves": side.moves, "agreed": side.agreed, "cost": side.cost, **side.marks} for side in sides
        ],
        "worst": None if worst is None else worst.ply,
        "plies": len(line.texts),
    }  # fmt: skip
