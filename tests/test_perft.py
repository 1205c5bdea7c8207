"""Move generators against counts made by other programs (tests/oracles)."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from az.engine.conformance.perft import perft
from az.engine.game import load_game

ORACLES = Path(__file__).resolve().parent / "oracles"
ROWS = {"connect4 7×6": "connect4", "othello 6×6": "othello6", "othello 8×8": "othello"}


def start_counts() -> dict[tuple[str, bool], list[int]]:
    """(game, hops) -> counts at depth 1, 2, …, read from the table of perft.md."""
    found = {}
    for line in (ORACLES / "perft.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        counts = [int(cell) for cell in cells[1:] if cell.isdigit()]
        name, _, how = cells[0].partition(",")
        name = name.removesuffix(" (a pass is a ply)")
        name = ROWS.get(name, name)
        if line.startswith("|") and name in ("tictactoe", "connect4", "othello", "othello6", "checkers"):
            found[name, how.strip() == "hops"] = counts
    return found


COUNTS = start_counts()
CHECKERS = list(
    csv.DictReader((ORACLES / "checkers_perft.csv").read_text(encoding="utf-8").splitlines(), delimiter=";")
)


def check_start(name: str, depth: int, hops: bool, first: int = 1) -> None:
    game = load_game(name)
    known = COUNTS[name, hops and name == "checkers"]
    counts = [perft(game, game.new_state(), d, hops) for d in range(first, depth + 1)]
    assert counts == known[first - 1 : depth]


@pytest.mark.parametrize("hops", [False, True])
@pytest.mark.parametrize(
    ("name", "depth"), [("tictactoe", 9), ("connect4", 8), ("othello", 8), ("othello6", 9), ("checkers", 8)]
)
def test_start(name, depth, hops):
    check_start(name, depth, hops)


@pytest.mark.nojit
@pytest.mark.parametrize("hops", [False, True])
@pytest.mark.parametrize(
    ("name", "depth"), [("tictactoe", 4), ("connect4", 4), ("othello", 4), ("othello6", 4), ("checkers", 4)]
)
def test_start_shallow(name, depth, hops):
    check_start(name, depth, hops)


@pytest.mark.slow
@pytest.mark.parametrize("hops", [False, True])
@pytest.mark.parametrize(
    ("name", "depth"), [("connect4", 9), ("othello", 9), ("othello6", 10), ("checkers", 9), ("checkers", 10)]
)
def test_start_deep(name, depth, hops):
    check_start(name, depth, hops, first=depth)


@pytest.mark.parametrize("row", CHECKERS, ids=[row["fen"] for row in CHECKERS])
def test_checkers_positions(row):
    game = load_game("checkers")
    state = game.parse_position(row["fen"])
    for column, hops in (("perft_d1..6", False), ("hop_perft_d1..6", True)):
        known = [int(count) for count in row[column].split()]
        assert [perft(game, state, depth, hops) for depth in range(1, len(known) + 1)] == known


@pytest.mark.nojit
def test_checkers_positions_shallow():
    game = load_game("checkers")
    for row in CHECKERS:
        state = game.parse_position(row["fen"])
        assert perft(game, state, 2) == int(row["perft_d1..6"].split()[1])
        assert perft(game, state, 2, hops=True) == int(row["hop_perft_d1..6"].split()[1])


@pytest.mark.nojit
def test_depth_zero_is_the_position_itself():
    game = load_game("tictactoe")
    assert perft(game, game.new_state(), 0) == 1


@pytest.mark.nojit
def test_a_game_that_is_over_adds_nothing():
    game = load_game("connect4")
    assert perft(game, game.parse_position("4455667"), 1) == 0


@pytest.mark.nojit
def test_a_long_multiple_jump_makes_the_stack_grow():
    """More hops within the moves than levels for them: the count starts again with more."""
    from az.engine.conformance import perft as module

    game = load_game("checkers")
    state = game.parse_position("W:WK1,K29:BK6,K14,K15,K7,K23,K22,K8,K16,K24")
    known = perft(game, state, 2)
    levels = module.EXTRA_LEVELS
    try:
        module.EXTRA_LEVELS = 1
        assert perft(game, state, 2) == known
    finally:
        module.EXTRA_LEVELS = levels
