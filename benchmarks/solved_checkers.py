"""Make solved positions of English checkers with a database of endings and proofs of its own, for `az score`.

    python benchmarks/solved_checkers.py engine/score/data/checkers.csv
    python benchmarks/solved_checkers.py --check              # database and proofs against tests/oracles

Lines are random, or play a good move on a share of their plies, so that positions of weak and of strong play come in.
`3-pieces` and `4-pieces` are positions of the database, with the outcome of every move. `wins` are positions with more
pieces in which some move is proven to win and another one proven not to; moves that are neither are left out. Kept are
positions that are not lost and in which some move gives the result away; no two are the same with colors exchanged, and
none is a position of the oracles. The draws by counting moves and positions are not considered.
"""

from __future__ import annotations

import argparse
import csv
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from checkers_endgames import DRAW, LOSS, UNKNOWN, WIN, database, turned
from checkers_search import Position, Searcher

from az.engine.game import State, import_game
from az.engine.score.positions import HEADER

ORACLES = Path(__file__).resolve().parent.parent / "tests" / "oracles"
GAME = import_game("checkers")
CARE = (0.0, 0.5, 0.8, 0.95)  # shares of good moves
SIGHT = 3  # plies of a good move
LONGEST = 200  # plies of a line
TRIES = 4  # positions of a line that are looked at for each phase
DEPTHS, LIMIT = (3, 5, 7, 9, 11), 20_000  # of the proofs of one move: plies, positions each
ENDINGS = {3: "3-pieces", 4: "4-pieces"}


class Known(NamedTuple):
    """A position and what its moves lead to, for the side to move."""

    phase: str
    state: State
    value: int
    moves: dict[str, int]


def seen_by(state: State) -> Position:
    """Pieces of the side to move, of the other, kings, as the side to move sees the board."""
    player = int(state[0])
    boards = int(state[1 + player]), int(state[2 - player]), int(state[3])
    own, other, kings = (turned(board) for board in boards) if player == 0 else boards
    return int(own), int(other), int(kings)


def afters(state: State) -> dict[str, Position]:
    """After each move, by az's rules, as the other side sees it."""
    return {text: seen_by(GAME.play(state, hops)) for text, hops in GAME.moves(state).items()}


def pieces(state: State) -> int:
    own, other, _ = seen_by(state)
    return (own | other).bit_count()


def worth_asking(state: State, moves: dict[str, int], best: int) -> bool:
    """Whether some first hop gives the result away, whatever follows it."""
    hops: dict[int, int] = {}
    for text, actions in GAME.moves(state).items():
        if text in moves:
            hops[actions[0]] = max(hops.get(actions[0], LOSS), moves[text])
    return best > LOSS and min(hops.values()) < best


def ending(searcher: Searcher, state: State) -> Known | None:
    """A position of the database; None where it asks nothing."""
    moves = {text: -searcher.value(after) for text, after in afters(state).items()}
    best = max(moves.values())
    return Known(ENDINGS[pieces(state)], state, best, moves) if worth_asking(state, moves, best) else None


def outcome_of(searcher: Searcher, after: Position, depth: int, limit: int) -> int:
    """Of the move that leads there: WIN, DRAW where it does not win, LOSS, or UNKNOWN."""
    if searcher.refuted(after, depth, limit):
        return WIN
    if not searcher.proves(after, DRAW, depth, limit):
        return UNKNOWN
    return LOSS if searcher.proves(after, WIN, depth, limit) else DRAW


def outcomes(searcher: Searcher, positions: dict[str, Position], depths: tuple[int, ...], limit: int) -> dict[str, int]:
    """Of every move that is decided, looking deeper until all are."""
    found: dict[str, int] = {}
    for depth in depths:
        for text, after in positions.items():
            if text not in found and (value := outcome_of(searcher, after, depth, limit)) != UNKNOWN:
                found[text] = value
    return found


def win(searcher: Searcher, state: State) -> Known | None:
    """A position with a proven win and a move that is proven not to win; None where there are no such moves."""
    moves = outcomes(searcher, afters(state), DEPTHS, LIMIT)
    if WIN not in moves.values() or not worth_asking(state, moves, WIN):
        return None
    return Known("wins", state, WIN, moves)


def state_of(player: int, position: Position) -> State:
    """A position for az; the player is to move."""
    boards = tuple(map(turned, position)) if player == 0 else position
    own, other, kings = (int(board) for board in boards)
    sides = {
        letter: ",".join(f"{'K' * (kings >> i & 1)}{i + 1}" for i in range(32) if board >> i & 1)
        for letter, board in zip("BW" if player == 0 else "WB", (own, other), strict=True)
    }
    return GAME.parse_position(f"{'BW'[player]}:W{sides['W']}:B{sides['B']}")


def line(rng: random.Random, searcher: Searcher, most: int) -> list[State]:
    """The positions of one game that have so few pieces and a choice."""
    care, player, position, found = rng.choice(CARE), 0, seen_by(GAME.new_state()), list[State]()
    for _ in range(LONGEST):
        options = searcher.afters(position)
        count = (position[0] | position[1]).bit_count()
        if not options or count < min(ENDINGS):
            break
        if count <= most and len(options) > 1:
            found.append(state_of(player, position))
        good = rng.random() < care
        position = options[searcher.good(rng, options, SIGHT)] if good else rng.choice(options)
        player = 1 - player
    return found


def make(searcher: Searcher, count: int, most: int, seed: int) -> list[Known]:
    """So many positions of every phase, at most one of each phase from a line."""
    rng, seen = random.Random(seed), {seen_by(state) for state in oracle_positions()}
    found: dict[str, list[Known]] = {"wins": [], "4-pieces": [], "3-pieces": []}
    begun, lines = time.process_time(), 0
    while any(len(phase) < count for phase in found.values()):
        positions, lines = line(rng, searcher, most), lines + 1
        for phase, known in found.items():
            choice = [
                one for one in positions if ENDINGS.get(pieces(one), "wins") == phase and seen_by(one) not in seen
            ]
            judge = win if phase == "wins" else ending
            for state in rng.sample(choice, min(TRIES, len(choice)) if len(known) < count else 0):
                if one := judge(searcher, state):
                    known.append(one)
                    seen.add(seen_by(state))
                    break
    counts = ", ".join(f"{phase} {len(known)}" for phase, known in found.items())
    print(f"{counts} of {lines} lines, {time.process_time() - begun:.0f} s")
    return [one for known in found.values() for one in known]


def rows(name: str) -> Iterator[dict[str, str]]:
    with (ORACLES / name).open() as file:
        yield from csv.DictReader(file, delimiter=";")


def oracle_positions() -> Iterator[State]:
    for name in ("checkers_4pieces.csv", "checkers_wins.csv", "checkers_perft.csv"):
        yield from (GAME.parse_position(row["fen"]) for row in rows(name))


def check(searcher: Searcher) -> None:
    """Compare with every value and every decided move of the oracles."""
    same = total = 0
    for row in rows("checkers_4pieces.csv"):
        value = searcher.value(seen_by(GAME.parse_position(row["fen"])))
        same += value == {"win": WIN, "draw": DRAW, "loss": LOSS}[row["value_for_side_to_move"]]
        total += 1
    print(f"database: {same} of {total} values are the oracle's")
    wins = refuted = open_ = wrong = 0
    for row in rows("checkers_wins.csv"):
        positions = afters(GAME.parse_position(row["fen"]))
        winning, undecided = set(row["winning_moves"].split()), set(row["undecided_moves"].split())
        found = outcomes(searcher, positions, (*DEPTHS, 13), 10 * LIMIT)
        for text in set(positions) - undecided:
            value = found.get(text, UNKNOWN)
            wins += value == WIN and text in winning
            refuted += value < WIN and text not in winning
            open_ += value == UNKNOWN
            wrong += value != UNKNOWN and (value == WIN) != (text in winning)
    print(f"moves: {wins} wins and {refuted} others as in the oracle, {wrong} not, {open_} not decided here")


def written(known: Known) -> str:
    """A line of the file."""
    moves = " ".join(f"{text}:{value}" for text, value in known.moves.items())
    return f"{known.phase};{GAME.position_text(known.state)};{known.value};{moves}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--check", action="store_true", help="compare with the oracles")
    parser.add_argument("--table", type=Path, help="a .npy file that keeps the database")
    parser.add_argument("--count", type=int, default=200, help="positions of each phase")
    parser.add_argument("--pieces", type=int, default=8, help="the most pieces of the phase wins")
    parser.add_argument("--seed", type=int, default=23)
    options = parser.parse_args()
    searcher = Searcher(database(options.table))
    if options.check:
        check(searcher)
    if options.out:
        found = make(searcher, options.count, options.pieces, options.seed)
        options.out.write_text("\n".join([HEADER, *map(written, found)]) + "\n")


if __name__ == "__main__":
    main()
