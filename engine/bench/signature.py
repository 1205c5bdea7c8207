"""One number that changes only when the search's behavior does: fixed searches of every kind, judged by hashing.

Meant for a change that should make the search faster and nothing else: the number must stay as it is.
"""

from __future__ import annotations

import hashlib

import numpy as np

from az.engine.game import ONGOING, load_game
from az.engine.inference.evaluator import HashEvaluator
from az.engine.rng import below, stream
from az.engine.search.many import search_many
from az.engine.search.params import SearchParams

GAMES = ("tictactoe", "connect4", "othello6", "othello", "checkers")
POSITIONS = 12  # of each game
KINDS = {
    "puct": SearchParams(simulations=96, prove=0),
    "noise": SearchParams(simulations=64, noise_fraction=0.25, root_temperature=1.2, fpu_reduction=0.0, prove=0),
    "gumbel": SearchParams(simulations=48, algorithm="gumbel", gumbel_scale=1.0, c_scale=0.25, prove=0),
    "leaves": SearchParams(simulations=96, leaves=8, prove=0),
    "unsolved": SearchParams(simulations=64, solve=False),
    "proven": SearchParams(simulations=64),
}


def signature() -> int:
    """A non-negative integer below 2^48."""
    digest = hashlib.sha256()
    for name in GAMES:
        game = load_game(name)
        states = np.stack([_position(name, i) for i in range(POSITIONS)])
        for kind, params in KINDS.items():
            for result in search_many(game, HashEvaluator(game), states, params, range(POSITIONS)):
                digest.update(f"{name} {kind} {result.best} {result.root_proven} {result.pv}".encode())
                digest.update(result.actions.tobytes() + result.visits.tobytes() + result.proven.tobytes())
    return int.from_bytes(digest.digest()[:6], "big")


def _position(name: str, number: int) -> np.ndarray:
    """A position after some random plies that is not over."""
    game, words = load_game(name), stream("signature", name, number)
    state = game.new_state()
    for _ in range(int(below(words, max(2, game.max_plies // 3)))):
        legal = np.flatnonzero(game.mask(state))
        after = game.play(state, (int(legal[below(words, len(legal))]),))
        if game.outcome(after) != ONGOING:
            break
        state = after
    return state
