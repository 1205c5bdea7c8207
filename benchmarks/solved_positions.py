"""Make solved connect-four positions with a perfect solver that is not ours, for `az score`.

    pip install bitbully==0.0.79    # in an environment of its own: AGPL; only its answers come into az
    python benchmarks/solved_positions.py connect4.csv --count 200 --values 200 --seed 21

Lines are random, or keep the result on a share of their first 12 moves, so that positions of weak and of strong play
come in. Kept are positions that are not lost and in which some move gives the result away; no two are the same or
mirrored. For the value alone come --values more of each phase, whatever their result, without their moves. The solver
(with its book of 12 plies) gave the scores of all 900 positions of tests/oracles/connect4_scored.csv.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

PHASES = {"begin": (0, 12), "middle": (13, 24), "end": (25, 36)}
BOOK = 12  # plies that the solver answers at once
CARE = (0.0, 0.5, 0.8, 0.95)  # shares of moves that keep the result


def sign(score: int) -> int:
    return (score > 0) - (score < 0)


def line(rng: random.Random, solver: Any, length: int, care: float) -> tuple[Any, str] | None:
    """A board after so many moves and the moves; None where the game ended."""
    from bitbully import Board  # pyright: ignore[reportMissingImports]

    board, moves = Board(), ""
    while len(moves) < length:
        columns = list(board.legal_moves())
        if len(moves) < BOOK and rng.random() < care:
            scores = solver.score_all_moves(board)
            columns = [c for c in scores if sign(scores[c]) == max(map(sign, scores.values()))]
        column = rng.choice(columns)
        board.play(column)
        moves += str(column + 1)
        if board.is_game_over():
            return None
    return board, moves


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=250, help="positions of each phase")
    parser.add_argument("--values", type=int, default=0, help="further positions of each phase, for the value alone")
    parser.add_argument("--seed", type=int, default=21)
    options = parser.parse_args()
    from bitbully import BitBully  # pyright: ignore[reportMissingImports]

    solver, rng, lines = BitBully("12-ply-dist"), random.Random(options.seed), ["phase;position;value;moves"]
    for phase, (low, high) in PHASES.items():
        seen: set[int] = set()
        while len(seen) < options.count:
            made = line(rng, solver, rng.randint(low, high), rng.choice(CARE))
            if made is None or (key := min(made[0].uid(), made[0].mirror().uid())) in seen:
                continue
            scores = solver.score_all_moves(made[0])
            best = max(map(sign, scores.values()))
            if best < 0 or min(map(sign, scores.values())) == best:
                continue
            seen.add(key)
            moves = " ".join(f"{column + 1}:{scores[column]}" for column in sorted(scores))
            lines.append(f"{phase};{made[1]};{best};{moves}")
    for phase, (low, high) in PHASES.items():
        of_value: set[int] = set()
        while len(of_value) < options.values:
            made = line(rng, solver, rng.randint(low, high), rng.choice(CARE))
            if made is None or (key := min(made[0].uid(), made[0].mirror().uid())) in of_value:
                continue
            of_value.add(key)
            lines.append(f"{phase};{made[1]};{max(map(sign, solver.score_all_moves(made[0]).values()))};")
    options.out.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
