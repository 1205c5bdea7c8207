"""Perft of OpenSpiel's checkers from Python: positions a second of a plain recursive walk from the start.

A node is a position made by `State.child` (a copy with one action played) and asked whether it is over; those that are
not the last of their line are asked for their legal actions too. An action is one hop: OpenSpiel plays a multiple jump
as several actions, so the numbers at a depth are not those of perft by whole moves.
"""

from __future__ import annotations

import argparse
import time

import pyspiel
from report import median, show


def walk(state: pyspiel.State, depth: int) -> int:
    """Positions below this one, down to `depth` actions."""
    nodes = 0
    for action in state.legal_actions():
        child = state.child(action)
        nodes += 1
        if not child.is_terminal() and depth > 1:
            nodes += walk(child, depth - 1)
    return nodes


def main() -> None:
    """Walk, a few times over."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=7, help="actions from the start position")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    start = pyspiel.load_game("checkers").new_initial_state()
    nodes, runs = walk(start, min(arguments.depth, 4)), []  # once without the clock
    for _ in range(arguments.repeats):
        before = time.perf_counter()
        nodes = walk(start, arguments.depth)
        runs.append(round(nodes / (time.perf_counter() - before), 1))
    figures = {"depth": arguments.depth, "nodes": nodes, "nodes_per_s": median(runs), "runs": runs}
    show("OpenSpiel checkers from Python", ("open-spiel",), **figures)


if __name__ == "__main__":
    main()
