"""A model of az moves first at connect four, against a perfect player that varies its replies: how many games it wins.

    python3 -m venv solver && solver/bin/pip install bitbully==0.0.79    # an environment of its own: AGPL
    .venv/bin/python benchmarks/perfect_play.py connect4 --solver solver/bin/python --games 100 --sims 800

The player who begins wins with perfect play, so every game that az does not win was given away. The perfect player
draws its reply among those with the best result for it; where all lose, among those that lose within --slack plies of
the latest. Games are played until so many different ones are there; where az gives the win away, the move is told.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from typing import Any

FIRST, MOST_PLIES = 0, 42


def worker() -> None:
    """In the solver's environment: a line with the moves so far in, a line with the scores of all columns out."""
    from bitbully import BitBully, Board  # pyright: ignore[reportMissingImports]

    solver = BitBully("12-ply-dist")
    for line in sys.stdin:
        board = Board()
        for column in line.strip():
            board.play(int(column) - 1)
        scores = solver.score_all_moves(board)
        print(json.dumps({str(int(column) + 1): int(score) for column, score in scores.items()}), flush=True)


class Solver:
    """The perfect player's process."""

    def __init__(self, python: str) -> None:
        self.process = subprocess.Popen(
            [python, __file__, "--worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def scores(self, moves: str) -> dict[str, int]:
        """Of every column after these moves: larger is better for the player to move, 0 a draw."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(moves + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def sign(score: int) -> int:
    return (score > 0) - (score < 0)


def reply(scores: dict[str, int], slack: int, dice: random.Random) -> str:
    """One of the perfect moves; among losses, one of those that hold out nearly the longest."""
    best = max(scores.values())
    if best < 0:  # a score of -k is a loss; the nearer to 0, the later
        return dice.choice([column for column, score in scores.items() if score >= best - slack // 2])
    return dice.choice([column for column, score in scores.items() if sign(score) == sign(best)])


def play_one(player: Any, solver: Solver, slack: int, dice: random.Random) -> tuple[str, int, int | None]:
    """(the moves, 1 won 0 drawn -1 lost for az, the ply at which az gave the win away)"""
    import numpy as np

    from az.engine.game import ONGOING

    game, moves, slip = player.game, "", None
    state = game.new_state()
    while (outcome := game.outcome(state)) == ONGOING:
        if len(moves) % 2 == FIRST:
            column = str(int(player.choose(state[None], np.array([0]))[0]) + 1)
            if slip is None:
                known = solver.scores(moves)
                slip = len(moves) + 1 if sign(known[column]) < sign(max(known.values())) else None
        else:
            column = reply(solver.scores(moves), slack, dice)
        state = game.play(state, game.parse_move(state, column))
        moves += column
    result = int(outcome) * (1 if len(moves) % 2 == FIRST else -1)
    return moves, result, slip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="connect4")
    parser.add_argument("--solver", help="the Python of an environment with bitbully")
    parser.add_argument("--games", type=int, default=100, help="different games")
    parser.add_argument("--sims", type=int, default=800)
    parser.add_argument("--slack", type=int, default=6, help="plies")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker()
        return
    if not options.solver:
        parser.error("--solver PYTHON is needed: an environment with bitbully")
    from az.engine.game import load_game
    from az.engine.players import make_player

    player, solver = make_player(options.model, load_game("connect4"), options.sims), Solver(options.solver)
    dice, seen, tally, slips = random.Random(options.seed), set[str](), {1: 0, 0: 0, -1: 0}, list[str]()
    tries = 0
    while len(seen) < options.games and tries < 20 * options.games:
        tries += 1
        moves, result, slip = play_one(player, solver, options.slack, dice)
        if moves in seen:
            continue
        seen.add(moves)
        tally[result] += 1
        if slip is not None:
            slips.append(f"{moves[: slip - 1]} then {moves[slip - 1]}")
    print(f"{player.name} at {options.sims} simulations, first: {tally[1]} won, {tally[0]} drawn, {tally[-1]} lost"
          f" of {len(seen)} different games ({tries} played)")  # fmt: skip
    for line, count in sorted({one: slips.count(one) for one in slips}.items(), key=lambda pair: -pair[1])[:10]:
        print(f"  {count} times the win was given away: after {line}")


if __name__ == "__main__":
    main()
