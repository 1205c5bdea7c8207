"""Varied and reproducible openings: a few random moves that leave the game open."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice

import numpy as np

from az.engine.game import ONGOING, Game, State
from az.engine.players.minimax import look_ahead
from az.engine.rng import below, stream

Opening = tuple[int, ...]  # actions from the start position

USUAL_LENGTH, GREATEST_LENGTH = 4, 8  # whole moves; openings grow longer only when the short ones are used up
TRIES_PER_LENGTH = 64
LOOK_AHEAD = 3  # actions; an opening must not be decided within them
SOLVED = 10  # plies; a game as short as that is looked through to its end: most openings of tic-tac-toe are lost


def openings(game: Game, pairs: int, seed: int) -> list[Opening]:
    """The first `pairs` openings of a seed (see `opening_stream`)."""
    return list(islice(opening_stream(game, seed), pairs))


def opening_stream(game: Game, seed: int) -> Iterator[Opening]:
    """Openings without end; the i-th depends on game, seed and i alone, however many are taken.

    Each is 0 to 4 whole moves (a multiple jump is one), is not over, not decided for either side within 3 actions (in a
    game of at most 10 plies: not decided at all), and reaches a position that no earlier one reached. When these run
    short the length grows, up to 8 moves and never past half of the game; when nothing new is found even so, the
    earlier openings come again in their order.
    """
    usable: list[Opening] = []
    known: set[str] = set()  # positions that were taken or found wanting
    usual = min(USUAL_LENGTH, game.max_plies // 2)
    greatest = min(GREATEST_LENGTH, game.max_plies // 2)
    for i in count():
        words = stream(seed, "opening", i)
        found = None
        for attempt in range(TRIES_PER_LENGTH * (1 + greatest - usual)):
            length = int(below(words, usual + attempt // TRIES_PER_LENGTH + 1))
            actions, state = _draw(game, length, words)
            text = game.position_text(state)
            if text not in known:
                known.add(text)
                if _is_open(game, state):
                    found = actions
                    usable.append(found)
                    break
        yield found if found is not None else usable[i % len(usable)] if usable else ()


def _draw(game: Game, length: int, words: np.ndarray) -> tuple[Opening, State]:
    """One random line of `length` whole moves (fewer if the game ends) and where it leads."""
    state, actions = game.new_state(), []
    for _ in range(length):
        mover = state[0]
        while state[0] == mover and game.outcome(state) == ONGOING:  # to the end of a multiple jump
            legal = np.flatnonzero(game.mask(state))
            action = int(legal[below(words, len(legal))])
            game.apply(state, action)
            actions.append(action)
    return tuple(actions), state


def _is_open(game: Game, state: State) -> bool:
    if game.outcome(state) != ONGOING:
        return False
    depth = game.max_plies if game.max_plies <= SOLVED else LOOK_AHEAD
    return not look_ahead(game, state[None], np.zeros(1, np.int64), depth)[1][0]
