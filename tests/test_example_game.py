"""`examples/breakthrough5`: a game in a package of its own works in every command, and nothing of az names it."""

from __future__ import annotations

import json
import os
from functools import cache

import pytest
from command_line import ROOT, start_az
from rich.color import ColorSystem
from test_contrast import EYES, LEAST, ratio, signs

from az.engine.game import ONGOING, load_game
from az.engine.terminal.board import Look, draw

FOLDER = ROOT / "examples" / "breakthrough5"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The environment of a process that finds the package as if it were installed; this process finds it too."""
    info = tmp_path / "az_breakthrough5-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: az-breakthrough5\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[az.games]\nbreakthrough5 = breakthrough5:GAME\n")
    for folder in (str(tmp_path), str(FOLDER)):
        monkeypatch.syspath_prepend(folder)
    return {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(FOLDER)])}


@cache
def count(player: int, men: frozenset[int], others: frozenset[int], depth: int) -> int:
    """Move sequences, written a second time and otherwise: squares with row 0 at White's side, no turned boards."""
    if depth == 0:
        return 1
    up, last, first = (1, 4, 0) if player == 0 else (-1, 0, 4)
    if not men or any(square // 5 == first for square in others):
        return 0
    assert not any(square // 5 == last for square in men)
    found = 0
    for square in men:
        for side in (-1, 0, 1):
            target = square + 5 * up + side
            if abs(target % 5 - square % 5) <= 1 and target not in men and (side or target not in others):
                found += count(1 - player, others - {target}, men - {square} | {target}, depth - 1)
    return found


def test_it_keeps_every_law_and_its_moves_are_counted_right(installed):
    answer = start_az("check", "breakthrough5", "--games", "10", env=installed)
    assert answer.code == 0, answer
    assert "obeys every law" in answer.out
    expected = count(0, frozenset(range(10)), frozenset(range(15, 25)), 5)
    assert start_az("perft", "breakthrough5", "5", env=installed).out.strip() == str(expected)


def test_it_is_played_in_the_terminal_and_in_the_arena(installed):
    answer = start_az("play", "breakthrough5", "--model", "random", stdin="a2-a3\nquit\n", env=installed)
    assert answer.code == 0, answer
    assert "White (W) to move> a2-a3" in answer.out
    board = answer.out.split("a2-a3", 1)[1]
    assert "3 [W]" in board  # the last move is marked
    assert "a  b  c  d  e" in board
    assert "Black (B) (engine) plays" in board
    words = ("arena", "random", "rollouts:30", "--game", "breakthrough5", "--games", "20", "--json")
    values = json.loads(start_az(*words, env=installed).out)
    assert values["games"] == 20
    assert values["score"] < 0.3


@pytest.mark.usefixtures("installed")
def test_its_board_is_drawn_in_colors_that_stand_out():
    game = load_game("breakthrough5")
    before, seen = game.new_state(), set()
    while game.outcome(before) == ONGOING:
        state = game.play(before, list(game.moves(before).values())[-1])
        drawn = draw(game, state, Look(80, True, True), before)
        assert ("[▲]" if before[0] == 0 else "[▼]") in drawn.plain
        seen |= signs(drawn)
        before = state
    assert {"▲", "▼", "·"} <= {sign for sign, _, _ in seen}
    assert len({ground for _, _, ground in seen}) == 3  # two for the squares, one for the last move
    for sign, color, ground in seen:
        ink, paper = (one.downgrade(ColorSystem.TRUECOLOR) for one in (color, ground))
        assert min(ratio(ink, paper, eyes) for eyes in EYES.values()) >= LEAST, (sign, color, ground)


@pytest.mark.usefixtures("installed")
def test_the_player_at_the_board_sees_their_own_men_below():
    game = load_game("breakthrough5")
    look = Look(80, False, True)
    white, black = (draw(game, game.new_state(), look, flipped=flipped).plain.splitlines() for flipped in (False, True))
    assert [white[0][:5], white[4][:5]] == [" 5  B", " 1  W"]
    assert [black[0][:5], black[4][:5]] == [" 1  W", " 5  B"]
    assert black[-1].split() == ["e", "d", "c", "b", "a"]


@pytest.mark.parametrize("text", ["", "W", "BBBBB/BBBBB/-----/WWWWW/WWWWW", "BBBBB/BBBB/------/WWWWW/WWWWW W"])
def test_a_wrong_position_is_a_sentence(installed, text):
    answer = start_az("perft", "breakthrough5", "1", "--position", text, env=installed)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert "write five rows" in answer.err


@pytest.mark.slow
def test_it_is_trained(installed, tmp_path):
    words = ("train", "breakthrough5", "--steps", "20", "--set", "arena.games=0")
    answer = start_az(*words, cwd=tmp_path, env=installed)
    assert answer.code == 0, answer
    assert list((tmp_path / "runs" / "breakthrough5-1" / "models").glob("*.onnx"))
