"""Several batches of games in flight in one process: the same games, and no thread left behind."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from az.engine.errors import Refused
from az.engine.game import load_game
from az.engine.inference.evaluator import HashEvaluator
from az.engine.selfplay.batch import SelfplayConfig
from az.engine.selfplay.threads import GameThreads

GAME = load_game("tictactoe")
CONFIG = SelfplayConfig(simulations=12, fast_simulations=12, slots=5)
GAMES = 40


def numbered(evaluator, count=GAMES):
    left = iter(range(count))

    def next_game():
        k = next(left, None)
        return None if k is None else (k, evaluator)

    return next_game


def played(count, **changes):
    batches = GameThreads(GAME, replace(CONFIG, **changes), 3, count)
    games = sorted(batches.play(numbered(HashEvaluator(GAME))), key=lambda game: game.k)
    return games, batches


def content(games):
    return [
        (g.k, g.model_id, g.plies, g.outcome_first, g.outcomes,
         [(r.state.tobytes(), r.actions.tobytes(), r.policy.tobytes(), r.root_value, r.ply) for r in g.rows])
        for g in games
    ]  # fmt: skip


@pytest.mark.parametrize("count", [2, 3, 7])
def test_lanes_change_no_game(count):
    one, alone = played(1)
    several, batches = played(count)
    assert [game.k for game in several] == list(range(GAMES))
    assert content(several) == content(one)
    assert batches.simulations == alone.simulations > 0
    assert batches.walks() == alone.walks()


def test_a_model_that_fails_in_a_lane_ends_the_play_with_its_words():
    class Broken(HashEvaluator):
        def evaluate(self, planes, logits, values):  # noqa: ARG002
            raise Refused("the device has gone")

    before = threading.active_count()
    with pytest.raises(Refused, match="the device has gone"):
        list(GameThreads(GAME, CONFIG, 3, 3).play(numbered(Broken(GAME))))
    assert threading.active_count() == before


def test_whoever_stops_listening_leaves_no_thread():
    before = threading.active_count()
    games = GameThreads(GAME, CONFIG, 3, 3).play(numbered(HashEvaluator(GAME), 10**9))
    first = next(games)
    assert first.rows
    games.close()
    assert threading.active_count() == before


def test_a_game_stopped_in_a_lane_is_told_once():
    class Spoiled(HashEvaluator):
        asked = 0

        def evaluate(self, planes, logits, values):
            super().evaluate(planes, logits, values)
            self.asked += 1
            if self.asked == 9:
                values[0] = np.nan

    batches = GameThreads(GAME, CONFIG, 3, 2)
    games = list(batches.play(numbered(Spoiled(GAME))))
    assert sorted(game.k for game in games) == list(range(GAMES))  # it was played once more
    assert [fault.cause for fault in batches.take_faults()] == ["network-output-not-finite"]
    assert batches.take_faults() == []
