"""Players that think for minutes: where their slices part changes nothing, and they are stopped in mid-move."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
import pytest

from az.engine.game import load_game
from az.engine.players import make_player, minimax, rollouts, slices
from az.engine.players.basic import StoppablePlayer
from az.engine.players.opponent import whole_move
from az.engine.rng import key_of

WAIT = 240  # seconds: the first move of a machine compiles
ENDLESS = ("rollouts:9000000", "minimax:40")  # minutes and years a move
START = "W" + "b" * 12 + "e" * 8 + "w" * 12


@pytest.mark.parametrize(
    ("game", "text", "player"),
    [
        ("connect4", "445", "rollouts:300"),
        ("checkers", "W:W31,K14:B9,10,17,18,26,25", "rollouts:100"),
        ("tictactoe", "51", "minimax:6"),
        ("connect4", "445", "minimax:4"),
    ],
)
def test_where_the_slices_part_changes_nothing(monkeypatch, game, text, player):
    rules = load_game(game)
    states = rules.parse_position(text)[None].repeat(6, 0)
    keys = np.array([key_of(3, number) for number in range(6)], np.int64)
    whole = make_player(player, rules).choose(states, keys)
    for first in (1, 7):
        monkeypatch.setattr(slices, "SLICE", 0)  # so that they never grow
        monkeypatch.setattr(rollouts, "FIRST_SLICE", first)
        monkeypatch.setattr(minimax, "FIRST_SLICE", first)
        assert list(make_player(player, rules).choose(states, keys)) == list(whole)


def test_slices_grow_and_end():
    asked = list[int]()
    slices.in_slices(lambda amount: bool(asked.append(amount)) or len(asked) == 4, 3, slices.never)
    assert asked == [3, 6, 12, 24]
    slices.in_slices(lambda amount: bool(asked.append(amount)), 5, lambda: True)
    assert asked[4:] == [5]


@pytest.mark.parametrize("game", ["connect4", "checkers"])
@pytest.mark.parametrize("player", ENDLESS)
def test_a_stopped_player_has_a_legal_move(game, player):
    """In checkers a move of several hops too."""
    rules = load_game(game)
    state = rules.parse_position("445" if game == "connect4" else "W:W31:B26,17,18")
    made = make_player(player, rules)
    assert isinstance(made, StoppablePlayer)
    assert whole_move(made, state, 1, stop=lambda: True) in rules.moves(state).values()


def test_minimax_that_is_stopped_still_wins_at_once():
    game = load_game("connect4")
    state = game.parse_position("7172731")  # 4 wins
    assert whole_move(make_player("minimax:40", game), state, 1, stop=lambda: True) == (3,)


@contextmanager
def started(*args: str) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str]]]:
    """A process of `az`, its stdin and its stdout."""
    with subprocess.Popen(
        [sys.executable, "-m", "az.cli", *args],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process, process.stdin, process.stdout
        finally:
            process.kill()


def say(stdin: IO[str], *lines: str) -> None:
    stdin.write("".join(f"{line}\n" for line in lines))
    stdin.flush()


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("player", ENDLESS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_move_of_a_player(player, number):
    with started("gtp", "connect4", "--model", player) as (process, stdin, stdout):
        say(stdin, "name", "genmove b")
        assert stdout.readline() == "= az\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, err) == (128 + number, "az: stopped.\n")
    assert not re.search(r"= \d", out)


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_ctrl_c_ends_the_move_of_a_player_at_the_board():
    with started("play", "connect4", "--model", ENDLESS[0]) as (process, stdin, stdout):
        say(stdin, "4")
        while "[X]" not in stdout.readline():  # the person's stone: the player thinks
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, err) == (0, "")
    assert out.endswith("Goodbye.\n")


def test_hub_stops_the_move_of_a_player():
    with started("hub", "--model", ENDLESS[0]) as (process, stdin, _):
        say(stdin, "hub", "init", f"pos pos={START}", "level infinite", "go think", "stop", "quit")
        out, err = process.communicate(timeout=WAIT)
    assert (process.returncode, err) == (0, "")
    assert re.search(r"^done move=\d+-\d+$", out, re.MULTILINE)


@pytest.mark.parametrize("player", ENDLESS)
def test_a_player_keeps_to_the_seconds_it_is_given(player):
    with started("gtp", "connect4", "--model", player, "--seconds", "0.5") as (process, stdin, _):
        say(stdin, "genmove b", "quit")
        out, _ = process.communicate(timeout=WAIT)
    assert process.returncode == 0
    assert re.match("= [1-7]\n", out)
