"""Laws of the search that hold for any game: an immediate win is played, an immediate loss is not walked into.

They test the sign convention without knowing the game.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from az.engine.game import ONGOING, Game, State
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.search.many import search_many
from az.engine.search.params import SearchParams

POSITIONS = 24  # of each kind and game are enough
MOST_MOVES = 20  # a search without a network must try every reply to every move before it sees one that wins


def result_for_mover(game: Game, state: State, action: int) -> int | None:
    """What the action gives the player who plays it: LOSS, DRAW, WIN; None while the game goes on."""
    after = game.play(state, (action,))
    outcome = int(game.outcome(after))
    if outcome == ONGOING:
        return None
    return outcome if after[0] == state[0] else -outcome


def loses_at_once(game: Game, state: State, action: int) -> bool:
    """The action ends in a loss, or lets the opponent win with the next action."""
    result = result_for_mover(game, state, action)
    if result is not None:
        return result == -1
    after = game.play(state, (action,))
    if after[0] == state[0]:
        return False
    return any(result_for_mover(game, after, int(reply)) == 1 for reply in np.flatnonzero(game.mask(after)))


def random_states(game: Game, rng: random.Random) -> Iterator[State]:
    """The unfinished positions of one random game."""
    state = game.new_state()
    while game.outcome(state) == ONGOING:
        yield state.copy()
        game.apply(state, rng.choice(np.flatnonzero(game.mask(state)).tolist()))


def sharp_positions(game: Game, games: int, seed: int) -> tuple[list[State], list[State]]:
    """(positions with a win in one, positions where some moves lose at once and some do not) of random games."""
    rng = random.Random(seed)
    wins: list[State] = []
    threats: list[State] = []
    for _ in range(games):
        for state in random_states(game, rng):
            legal = np.flatnonzero(game.mask(state)).tolist()
            if any(result_for_mover(game, state, action) == 1 for action in legal):
                wins.append(state)
                continue
            if len(legal) > MOST_MOVES or len(threats) >= POSITIONS:
                continue
            losing = sum(loses_at_once(game, state, action) for action in legal)
            if 0 < losing < len(legal):
                threats.append(state)
    return wins[:POSITIONS], threats[:POSITIONS]


def check_search(game: Game, games: int, seed: int, leaves: int = 1, judged_by: Game | None = None) -> list[str]:
    """The laws that search with a uniform prior breaks on random positions; empty where it obeys.

    judged_by: the game whose rules say what a win is (the tests let the search play by rules that lie).
    """
    judge = judged_by or game
    wins, threats = sharp_positions(judge, games, seed)
    broken = []
    evaluator = UniformEvaluator(game)
    moves, replies = (max((int(game.mask(state).sum()) for state in states), default=0) for states in (wins, threats))
    for algorithm in ("puct", "gumbel"):
        params = SearchParams(
            simulations=max(40 * max(4, min(game.num_actions, 10)), 5 * moves, 3 * replies * replies),
            algorithm=algorithm,
            gumbel_considered=max(64, game.num_actions),  # a win in one may be any of them
            leaves=leaves,
        )
        for kind, states in (("win", wins), ("threat", threats)):
            if not states:
                continue
            for state, found in zip(
                states, search_many(game, evaluator, np.stack(states), params, range(99)), strict=True
            ):
                if kind == "win" and result_for_mover(judge, state, found.best) != 1:
                    broken.append(
                        f"{game.name}: {algorithm} search misses a win in one in '{game.position_text(state)}'."
                    )
                if kind == "threat" and loses_at_once(judge, state, found.best):
                    broken.append(f"{game.name}: {algorithm} search loses at once in '{game.position_text(state)}'.")
    return broken
