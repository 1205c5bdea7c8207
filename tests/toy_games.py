"""Small games for the tests of the search: their trees can be written down, and one of them lies about who won.

state: [player to move, plies played, the actions played so far, one a word].
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from az.engine.errors import WrongRequest
from az.engine.game import ONGOING, Game, State, load_game
from az.engine.jit import Rules

ACTIONS = 3
AGAIN = 2  # the action after which the same player moves again


def text_of(state: State) -> str:
    return "".join(str(action) for action in state[2 : 2 + state[1]])


def history_game(name: str, plies: int, rules: Rules, **facts: Any) -> Game:
    """A game of so many plies whose state is its history; the rules decide who moves and who wins."""

    def moves(state: State) -> dict[str, tuple[int, ...]]:
        mask = np.zeros(ACTIONS, np.bool_)
        facts["legal"](state, mask)
        return {str(action): (int(action),) for action in np.flatnonzero(mask)}

    def parse_position(text: str) -> State:
        state = np.zeros(2 + plies, np.int64)
        for sign in text:
            if sign not in moves(state):
                raise WrongRequest(f"{name}: '{sign}' is not legal.")
            facts["apply"](state, int(sign))
        return state

    return Game(
        name=name, version=1, dtype=rules.dtype, state_size=2 + plies, num_actions=ACTIONS,
        planes_shape=(1, 1, plies), max_plies=plies, render=text_of, moves=moves, parse_position=parse_position,
        position_text=text_of, **facts,
    )  # fmt: skip


AGAIN_PLIES = 6
again_rules = Rules(np.int64)


@again_rules.start
def _start(state):
    state[:] = 0


@again_rules.apply
def _apply(state, action):
    state[2 + state[1]] = action
    state[1] += 1
    if action != AGAIN:
        state[0] = 1 - state[0]


@again_rules.legal
def _legal(state, mask):
    for action in range(3):
        mask[action] = state[1] < 6


@again_rules.outcome
def _outcome(state):
    if state[1] < 6:
        return ONGOING
    total = 0
    for ply in range(6):
        total = total * 5 + (ply + 2) * (state[2 + ply] + 1) * (state[2 + ply] + ply + 1)
    first = (total % 7) % 3 - 1  # what player 0 gets
    return first if state[0] == 0 else -first


@again_rules.encode
def _encode(state, planes):
    for ply in range(6):
        planes[0, 0, ply] = (state[2 + ply] + 1) / 3.0 if ply < state[1] else 0.0


AGAIN_GAME = history_game(
    "again", AGAIN_PLIES, again_rules, start=_start, apply=_apply, legal=_legal, outcome=_outcome, encode=_encode
)

liar_rules = Rules(np.int64)


@liar_rules.outcome
def _opposite(state):
    """Tic-tac-toe's result with the wrong sign: who has just completed a line has lost, says this."""
    stone = 2 - state[0]
    for line in range(8):
        if line < 3:
            first, step = 3 * line, 1
        elif line < 6:
            first, step = line - 3, 3
        else:
            first, step = (0, 4) if line == 6 else (2, 2)
        if state[1 + first] == stone and state[1 + first + step] == stone and state[1 + first + 2 * step] == stone:
            return 1
    for square in range(9):
        if state[1 + square] == 0:
            return ONGOING
    return 0


LIAR = replace(load_game("tictactoe"), name="liar", outcome=_opposite)


class TableEvaluator:
    """Answers by the first actions of a history: table[text] = (probabilities, value for player 0)."""

    name = model_id = "table"

    def __init__(self, game: Game, table: dict[str, tuple[tuple[float, ...], float]]) -> None:
        self.game = game
        self.table = table

    def evaluate(self, planes: np.ndarray, logits: np.ndarray, values: np.ndarray) -> None:
        for row, plane in enumerate(planes):
            history = [round(float(x) * 3) - 1 for x in plane[0, 0] if x > 0]
            text = "".join(str(action) for action in history)
            while text not in self.table:
                text = text[:-1]
            chances, value = self.table[text]
            logits[row] = np.log(np.array(chances))
            mover = sum(action != AGAIN for action in history) % 2
            values[row] = value if mover == 0 else -value
