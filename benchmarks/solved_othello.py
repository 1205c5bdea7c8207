"""Make solved positions of Othello with an exact solver of its own, for `az score`.

    python benchmarks/solved_othello.py othello6 engine/score/data/othello6.csv --empties 20 16 12
    python benchmarks/solved_othello.py othello engine/score/data/othello.csv --empties 18 14 10
    python benchmarks/solved_othello.py othello --check       # the solver against tests/oracles, every score

Lines are random, or play on a share of their moves the one that leaves the opponent the fewest, so that positions of
weak and of strong play come in. Kept are positions that are not lost and in which some move gives the result away; no
two are images of one another, and none is an image of a position of the oracles. With at most EXACT empty squares a
move's score is the final difference in discs, with more of them only its sign.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from othello_solver import Solver, images, mobility

from az.engine.game import ONGOING, Game, State, import_game
from az.engine.score.positions import SolvedPosition, write_positions

ORACLES = Path(__file__).resolve().parent.parent / "tests" / "oracles"
CARE = (0.0, 0.5, 0.8, 0.95)  # shares of moves that leave the opponent few moves
EXACT = 12  # empty squares
LOW = (1 << 64) - 1  # a bitboard as a number without a sign


def sides(state: State) -> tuple[int, int]:
    """Discs of the side to move and of the other, eight bits a row."""
    player = int(state[0])
    return int(state[1 + player]) & LOW, int(state[2 - player]) & LOW


def empties(state: State, n: int) -> int:
    own, other = sides(state)
    return n * n - (own | other).bit_count()


def key_of(state: State, n: int) -> tuple[int, int]:
    """The same for every image of a position under the eight symmetries of the square, and with colors exchanged."""
    return min(zip(*(images(side, n) for side in sides(state)), strict=True))


def scores_of(solver: Solver, game: Game, state: State, bound: int) -> dict[int, int]:
    """Of every move what the side to move gets, as far as it lies within -bound and bound."""
    found: dict[int, int] = {}
    for action in map(int, np.flatnonzero(game.mask(state))):
        after = game.play(state, (action,))
        found[action] = -solver.score(*sides(after), bound)
    return found


def line(rng: random.Random, game: Game, n: int, left: int, care: float) -> State | None:
    """A position of a game with so many empty squares, where a choice is to be made; None where there is none."""
    state = game.new_state()
    while game.outcome(state) == ONGOING:
        actions = [int(action) for action in np.flatnonzero(game.mask(state))]
        if empties(state, n) == left:
            if len(actions) > 1:
                return state
            if actions != [n * n]:
                return None
        rng.shuffle(actions)
        if rng.random() < care:
            actions.sort(key=lambda action: mobility(*sides(game.play(state, (action,))), n))
        state = game.play(state, (actions[0],))
    return None


def sign(score: float) -> int:
    return (score > 0) - (score < 0)


def judged(solver: Solver, game: Game, state: State, left: int) -> SolvedPosition | None:
    """The position with its moves' scores; None where it is lost or no move gives the result away."""
    if solver.score(*sides(state), 1) < 0:
        return None
    scores = scores_of(solver, game, state, 64 if left <= EXACT else 1)
    best = sign(max(scores.values()))
    if sign(min(scores.values())) == best:
        return None
    return SolvedPosition(f"{left}-empty", state, best, {action: float(score) for action, score in scores.items()})


def make(game: Game, phases: list[int], count: int, seed: int) -> list[SolvedPosition]:
    n = game.planes_shape[1]
    rng, solver, found = random.Random(seed), Solver(n), list[SolvedPosition]()
    seen = {key_of(state, n) for state, _ in oracle(game)}
    for left in phases:
        begun, tried, before = time.process_time(), 0, len(found)
        while len(found) - before < count:
            state = line(rng, game, n, left, rng.choice(CARE))
            if state is None or key_of(state, n) in seen:
                continue
            tried += 1
            seen.add(key_of(state, n))
            one = judged(solver, game, state, left)
            found += [one] if one else []
        print(f"{left} empty: {count} of {tried} positions, {time.process_time() - begun:.0f} s", flush=True)
    return found


def oracle(game: Game) -> Iterator[tuple[State, dict[int, int]]]:
    """Positions of the oracle and the scores of their moves."""
    with (ORACLES / f"{game.name}_scored.csv").open() as file:
        for row in csv.DictReader(file, delimiter=";"):
            if "moves" in row:
                state = game.new_state()
                for move in row["moves"].replace("pass", "").split():
                    state = forced_passes(game, game.play(state, game.parse_move(state, move)))
            else:
                state = game.parse_position(row["board_X_black_O_white_then_side"])
            texts = dict(text.split(":") for text in row["scores"].split())
            yield state, {game.parse_move(state, move)[0]: int(score) for move, score in texts.items()}


def forced_passes(game: Game, state: State) -> State:
    """After the passes that a list of moves may leave out."""
    while list(moves := game.moves(state)) == ["pass"]:
        state = game.play(state, moves["pass"])
    return state


def check(game: Game) -> None:
    """Compare with every score of the oracle."""
    n = game.planes_shape[1]
    solver, begun = Solver(n, award=game.name == "othello"), time.process_time()  # as that file counts
    positions = exact = moves = signs = same = 0
    for state, known in oracle(game):
        found = scores_of(solver, game, state, 64)
        positions += 1
        exact += found == known
        moves += len(known)
        same += sum(found.get(action) == score for action, score in known.items())
        signs += sum(sign(found[action]) == sign(score) for action, score in known.items())
    print(
        f"{game.name}: every score in {exact} of {positions} positions; of {moves} moves {same} have the same score,"
        f" {signs} the same sign ({time.process_time() - begun:.0f} s)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("game", choices=("othello6", "othello"))
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--check", action="store_true", help="compare the solver with the oracle")
    parser.add_argument("--empties", type=int, nargs="+", default=[16, 12])
    parser.add_argument("--count", type=int, default=200, help="positions of each phase")
    parser.add_argument("--seed", type=int, default=22)
    options = parser.parse_args()
    game = import_game(options.game)
    if options.check:
        check(game)
    if options.out:
        write_positions(options.out, game, make(game, options.empties, options.count, options.seed))


if __name__ == "__main__":
    main()
