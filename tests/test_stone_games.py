"""Gomoku and Hex: counts by OpenSpiel, rows of five and chains found a second way, the swap rule, texts."""

from __future__ import annotations

import csv
import io
import random
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from az.engine.conformance.laws import check_game
from az.engine.conformance.perft import perft
from az.engine.errors import WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, Game, State, game_names, load_game
from az.engine.games import _gomoku, _hex
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.search.params import SearchParams
from az.engine.terminal.board import Look, draw
from az.engine.terminal.play import play

ORACLE = Path(__file__).resolve().parent / "oracles" / "stones_perft.csv"
ROWS = list(csv.DictReader(ORACLE.read_text(encoding="utf-8").splitlines(), delimiter=";"))
HEX = load_game("hex")
GOMOKU, GOMOKU9 = load_game("gomoku"), load_game("gomoku9")
NEIGHBOURS = ((0, 1), (1, 0), (1, -1))


@cache
def game_of(kind: str, size: int) -> Game:
    shipped = {("hex", 11): HEX, ("gomoku", 9): GOMOKU9, ("gomoku", 15): GOMOKU}
    make = _hex.make_game if kind == "hex" else _gomoku.make_game
    return shipped.get((kind, size)) or make(f"{kind}-of-{size}", size)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['game']}-{row['size']}-{len(row['moves'].split())}")
def test_counts_are_those_of_openspiel(row: dict[str, str]) -> None:
    game = game_of(row["game"], int(row["size"]))
    state = game.parse_position(row["moves"])
    known = [int(count) for count in row["perft_d1.."].split()]
    assert [perft(game, state, depth) for depth in range(1, len(known) + 1)] == known


@pytest.mark.nojit
def test_counts_are_those_of_openspiel_without_the_compiler() -> None:
    for row in ROWS:
        known = [int(count) for count in row["perft_d1.."].split() if int(count) < 150]
        game = game_of(row["game"], int(row["size"]))
        state = game.parse_position(row["moves"])
        assert [perft(game, state, depth) for depth in range(1, len(known) + 1)] == known


@pytest.mark.nojit
@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_small_hex_obeys_the_laws(size: int) -> None:
    assert check_game(game_of("hex", size), 5, size) == []


@pytest.mark.nojit
def test_small_gomoku_obeys_the_laws() -> None:
    assert check_game(game_of("gomoku", 5), 5, 1) == []


def random_games(game: Game, count: int, seed: int) -> list[list[State]]:
    """The positions of so many random games, the last one of each over."""
    rng, found = random.Random(seed), list[list[State]]()
    for _ in range(count):
        states = [game.new_state()]
        while moves := game.moves(states[-1]):
            states.append(game.play(states[-1], moves[rng.choice(sorted(moves))]))
        found.append(states)
    return found


def joined(grid: list[list[str]], sign: str) -> bool:
    """Whether X reaches from the first row to the last, or O from the first column to the last, by sets that merge."""
    n = len(grid)
    parent = {(row, column): (row, column) for row in range(n) for column in range(n)}

    def root(cell: tuple[int, int]) -> tuple[int, int]:
        while parent[cell] != cell:
            cell = parent[cell]
        return cell

    for row, column in parent:
        for down, right in NEIGHBOURS:
            near = row + down, column + right
            if near in parent and grid[row][column] == grid[near[0]][near[1]] == sign:
                parent[root((row, column))] = root(near)
    first, last = ([(0, k) for k in range(n)], [(n - 1, k) for k in range(n)])
    if sign == "O":
        first, last = ([(column, row) for row, column in cells] for cells in (first, last))
    one, other = ({root(cell) for cell in cells if grid[cell[0]][cell[1]] == sign} for cells in (first, last))
    return bool(one & other)


@pytest.mark.nojit
@pytest.mark.parametrize("size", [2, 3, 5, 7, 10, 11])
def test_hex_ends_with_the_first_connection(size: int) -> None:
    game = game_of("hex", size)
    board = game.board
    assert board is not None
    for states in random_games(game, 6, size):
        for state in states[-3:]:
            grid = board.cells(state)
            wins = [joined(grid, sign) for sign in "XO"]
            last = "XO"[1 - int(state[0])]
            assert sum(wins) == (state is states[-1])
            assert game.outcome(state) == (LOSS if joined(grid, last) else ONGOING)
            chain = board.winning(grid)
            assert bool(chain) == any(wins)
            only = [[sign if (row, column) in chain else "-" for column, sign in enumerate(line)]
                    for row, line in enumerate(grid)]  # fmt: skip
            assert not chain or (joined(only, last) and len(chain) >= size)


def five_in(line: str, sign: str) -> bool:
    return sign * 5 in line


def lines_of(rows: list[str]) -> list[str]:
    """Every row, column and diagonal of a square of signs."""
    n = len(rows)
    columns = ["".join(row[k] for row in rows) for k in range(n)]
    falling = ["".join(rows[r][r - k] for r in range(n) if 0 <= r - k < n) for k in range(-n, n)]
    rising = ["".join(rows[r][k - r] for r in range(n) if 0 <= k - r < n) for k in range(2 * n)]
    return [*rows, *columns, *falling, *rising]


@pytest.mark.nojit
@pytest.mark.parametrize("size", [5, 9, 15])
def test_gomoku_ends_with_the_first_five(size: int) -> None:
    game = game_of("gomoku", size)
    assert game.board is not None
    outcomes = set[int]()
    for states in random_games(game, 12 if size < 15 else 3, size):
        for before, state in pairwise(states[-3:]):
            assert not any(five_in(line, sign) for line in lines_of(signs(game, before)) for sign in "XO")
            won = any(five_in(line, "XO"[1 - int(state[0])]) for line in lines_of(signs(game, state)))
            full = "-" not in "".join(signs(game, state))
            assert game.outcome(state) == (LOSS if won else DRAW if full else ONGOING)
            assert bool(game.board.winning(game.board.cells(state))) == won
        outcomes.add(int(game.outcome(states[-1])))
    assert LOSS in outcomes
    assert size > 5 or DRAW in outcomes


def signs(game: Game, state: State) -> list[str]:
    assert game.board is not None
    return ["".join(row) for row in game.board.cells(state)]


@pytest.mark.nojit
def test_six_in_a_row_win_in_free_style() -> None:
    state = GOMOKU9.parse_position("9/9/XXX1XX3/9/OOO1OO3/9/9/9/9 X")
    assert GOMOKU9.outcome(GOMOKU9.play(state, GOMOKU9.parse_move(state, "D7"))) == LOSS


@pytest.mark.nojit
def test_gomoku_lines_do_not_run_round_the_edge() -> None:
    state = GOMOKU9.parse_position("9/7XX/XX7/9/OOOO5/9/9/9/9 X")
    assert GOMOKU9.outcome(GOMOKU9.play(state, GOMOKU9.parse_move(state, "c7"))) == ONGOING


@pytest.mark.nojit
def test_gomoku_squares_are_named_from_below_with_i() -> None:
    assert next(iter(GOMOKU.moves(GOMOKU.new_state()))) == "a15"
    assert GOMOKU.render(GOMOKU.parse_position("i8")).split("\n")[7] == " 8 . . . . . . . . X . . . . . ."


@pytest.mark.nojit
def test_swap_reflects_the_stone_and_turns_it_blue() -> None:
    state = HEX.parse_position("b1")
    assert HEX.parse_move(state, "Swap") == (121,)
    after = HEX.play(state, (121,))
    assert HEX.position_text(after) == "11/O10/11/11/11/11/11/11/11/11/11 X"
    assert HEX.outcome(after) == ONGOING
    middle = HEX.parse_position("f6 swap")
    assert HEX.position_text(middle) == "11/11/11/11/11/5O5/11/11/11/11/11 X"
    assert np.array_equal(after, HEX.parse_position(HEX.position_text(after)))


@pytest.mark.nojit
def test_swap_is_there_once() -> None:
    assert "swap" not in HEX.moves(HEX.new_state())
    assert "swap" in HEX.moves(HEX.parse_position("k11"))
    assert "swap" in HEX.moves(HEX.parse_position("X10/11/11/11/11/11/11/11/11/11/11 O"))
    for text in ("k11 swap", "k11 a1", "k11 swap a1", "k11 a1 b1"):
        assert "swap" not in HEX.moves(HEX.parse_position(text))
    with pytest.raises(WrongRequest, match="'swap' is not a legal move here"):
        HEX.parse_move(HEX.parse_position("k11 swap"), "swap")


@pytest.mark.nojit
def test_with_swap_the_second_player_wins_small_hex() -> None:
    """Whatever the first stone, one of the two answers to it wins: known since Nash's argument; searched here."""

    def wins(game: Game, state: State, known: dict[bytes, bool]) -> bool:
        """Whether the player to move wins."""
        key = state.tobytes()
        if key not in known:
            moves = game.moves(state).values()
            known[key] = any(not wins(game, game.play(state, move), known) for move in moves)
        return known[key]

    for size in (2, 3):
        game, known = game_of("hex", size), dict[bytes, bool]()
        assert not wins(game, game.new_state(), known)
        swaps = {text for text, move in game.moves(game.new_state()).items()
                 if not wins(game, game.play(game.play(game.new_state(), move), (size * size,)), known)}  # fmt: skip
        assert ("b2" in swaps, "a1" in swaps) == ((False, False) if size == 2 else (True, False))


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("hex", "11/11 X", "cannot be read: write 11 rows of 11"),
        ("hex", "/".join(["99999999999999999999"] * 11) + " X", "cannot be read"),
        ("hex", "/".join(["11"] * 11), "cannot be read"),
        ("hex", "/".join(["11"] * 11) + " O", "Red, X, has the first move"),
        ("hex", "/".join(["X10"] * 11) + " X", "has connected its edges already"),
        ("hex", "a1 a1", r"move 2 \('a1'\) is not legal there"),
        ("hex", "a1 swap swap", r"move 3 \('swap'\) is not legal there"),
        ("gomoku9", "XXXXX4/9/9/9/9/9/9/9/9 X", "has five in a row already"),
        ("gomoku9", "a1 b1 a2 b2 a3 b3 a4 b4 a5 b5", "cannot be played, because the game is over"),
        ("gomoku", "p1", r"move 1 \('p1'\) is not legal"),
        ("gomoku", "9/9/9/9/9/9/9/9/9 X", "write 15 rows of 15"),
    ],
)
def test_wrong_positions_are_one_sentence(name: str, text: str, says: str) -> None:
    with pytest.raises(WrongRequest, match=says) as error:
        load_game(name).parse_position(text)
    assert "\n" not in str(error.value)


@pytest.mark.nojit
def test_finished_positions_can_be_read() -> None:
    assert HEX.outcome(HEX.parse_position("/".join(["X10"] * 11) + " O")) == LOSS
    assert GOMOKU9.outcome(GOMOKU9.parse_position("XXXXX4/9/9/9/9/9/9/9/9 O")) == LOSS
    assert GOMOKU9.moves(GOMOKU9.parse_position("a1 b1 a2 b2 a3 b3 a4 b4 a5")) == {}


def test_hex_is_drawn_as_a_rhombus_with_both_edges_named() -> None:
    state = HEX.parse_position("b1 swap f6")
    rows = draw(HEX, state, Look(80, color=False, unicode=False)).plain.split("\n")
    assert rows[0] == "    a  b  c  d  e  f  g  h  i  j  k"
    assert rows[2] == "  2  O  .  .  .  .  .  .  .  .  .  .  2"
    assert rows[11] == " " * 15 + "11  " + "  ".join("." * 11) + "  11"
    assert rows[13] == "   Red (X) connects top and bottom, Blue (O) left and right"
    assert [row.index(" . ") - old.index(" . ") for old, row in pairwise(rows[7:12])] == [1, 2, 1, 2]


def test_labels_have_the_color_of_who_connects_the_edges() -> None:
    board = HEX.board
    assert board is not None
    drawn = draw(HEX, HEX.new_state(), Look(80, color=True, unicode=True))
    styles = {drawn.plain[span.start : span.end].strip(): str(span.style) for span in drawn.spans}
    assert styles["11"].endswith(board.colors.players[1])
    assert any(text.startswith("a  b") and style.endswith(board.colors.players[0]) for text, style in styles.items())


@pytest.mark.parametrize(
    ("change", "says"),
    [({"edges": (0, 0)}, "edges is (0, 0)"), ({"edges": 3}, "edges is 3"), ({"flips": True}, "slanted and flips")],
)
def test_a_wrong_rhombus_is_told(change: dict[str, Any], says: str) -> None:
    assert HEX.board is not None
    [told] = check_game(replace(HEX, board=replace(HEX.board, **change)), 1, 1)
    assert says in told


def test_a_person_swaps_at_the_board() -> None:
    stdin, out = io.StringIO("b1\nswap\nf6\nswap\nquit\n"), io.StringIO()
    console = Console(file=out, width=80, highlight=False, markup=False, emoji=False, color_system=None)
    assert play(HEX, UniformEvaluator(HEX), SearchParams(), console=console, stdin=stdin, human=None) == 0
    assert out.getvalue().count("You play both sides already.") == 1  # the second swap: the word of every game


def test_every_game_that_ships_describes_its_board() -> None:
    own = {"tictactoe", "connect4", "othello6", "othello", "checkers", "gomoku", "gomoku9", "hex"}
    assert own <= set(game_names())
    assert all(load_game(name).board is not None for name in own)
