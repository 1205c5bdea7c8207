"""Othello on 6 by 6 squares: small enough that perfect play is known. All else as in `othello.py`.

A pass is a ply, legal only where there is no other move and the opponent has one; the game ends when neither can move,
and then more discs win.
"""

from __future__ import annotations

import numpy as np

from az.engine.game import Game, State
from az.engine.games import _othello as othello
from az.engine.jit import Rules

rules = Rules(np.int64)

N = 6


@rules.start
def start(state):
    othello.begin(state, N)


@rules.apply
def apply(state, action):
    othello.play(state, action, N)


@rules.legal
def legal(state, mask):
    othello.write_legal(state, mask, N)


@rules.outcome
def outcome(state):
    return othello.result(state, N)


@rules.encode
def encode(state, planes):
    othello.write_planes(state, planes, N)


def render(state: State) -> str:
    return othello.draw(state, N)


def moves(state: State) -> dict[str, tuple[int, ...]]:
    mask = np.zeros(N * N + 1, np.bool_)
    legal(state, mask)
    return othello.move_texts(mask, N)


def parse_position(text: str) -> State:
    """Squares row by row as X, O and -, a space, the side to move."""
    return othello.parse(text, N, "othello6")


def position_text(state: State) -> str:
    return "".join(othello.signs(state, N, "-")) + " " + "XO"[state[0]]


GAME = Game(
    name="othello6",
    version=1,
    dtype=rules.dtype,
    state_size=3,
    num_actions=N * N + 1,
    planes_shape=(2, N, N),
    max_plies=2 * N * N,  # fewer than N * N discs are put down, and no two passes follow one another
    start=start,
    apply=apply,
    legal=legal,
    outcome=outcome,
    encode=encode,
    render=render,
    moves=moves,
    parse_position=parse_position,
    position_text=position_text,
    symmetries=othello.symmetries(N),
)
