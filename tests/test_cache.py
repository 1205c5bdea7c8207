"""The evaluation cache: bounded, and exact: with it and without it the same games come out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from az.engine.game import load_game
from az.engine.inference.evaluator import HashEvaluator
from az.engine.records.format import pack
from az.engine.rng import stream
from az.engine.search.batch import BatchSearch
from az.engine.search.cache import BYTES, make_cache, row_key
from az.engine.search.params import SearchParams
from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig


class Counting(HashEvaluator):
    """Counts the rows that it is asked for."""

    rows = 0

    def evaluate(self, planes, logits, values):
        self.rows += len(planes)
        super().evaluate(planes, logits, values)


def games_of(game, config, evaluator, count=12):
    jobs = iter([(k, evaluator) for k in range(count)])
    finished = SelfplayBatch(game, config, 3, 5).play(lambda: next(jobs, None))
    return pack(game, sorted(finished, key=lambda g: g.k), 3, config.header())


@pytest.mark.parametrize("name", ["tictactoe", "connect4", "checkers"])
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_same_games_with_and_without(name, algorithm):
    game = load_game(name)
    config = SelfplayConfig(
        simulations=12, fast_simulations=6, full_fraction=0.5, algorithm=algorithm, reuse_tree=True, solve=True
    )
    count = 3 if name == "checkers" else 12
    with_cache, without = Counting(game), Counting(game)
    cached = games_of(game, replace(config, cache=True), with_cache, count)
    plain = games_of(game, replace(config, cache=False), without, count)
    assert cached == plain
    assert with_cache.rows < without.rows


@pytest.mark.nojit
def test_second_search_of_a_position_asks_nothing():
    game = load_game("tictactoe")
    search = BatchSearch(game, SearchParams(simulations=30), 1)
    search.cache = make_cache(game)
    evaluator = Counting(game)
    results, asked = [], -1
    for _ in range(2):
        search.place(0, game.new_state(), stream(1))
        search.begin_as_asked(0)
        search.run(evaluator, np.zeros(1, np.int64))
        results.append(search.result(0))
        asked, evaluator.rows = evaluator.rows, 0
    assert asked == 0
    np.testing.assert_array_equal(results[0].visits, results[1].visits)
    assert results[0].value == results[1].value
    assert search.cache.asked[1] > 0


@pytest.mark.nojit
def test_key_sees_every_plane_and_every_mask_entry():
    rng = np.random.default_rng(0)
    words, mask = rng.integers(0, 2**32, 96).astype(np.uint32), rng.random(256) < 0.1

    def key(words, mask):
        out = np.zeros(2, np.int64)
        row_key(words, mask, out)
        return tuple(out)

    seen = {key(words, mask)}
    for i in range(96):
        for bit in (0, 22, 31):
            other = words.copy()
            other[i] ^= np.uint32(1 << bit)
            seen.add(key(other, mask))
    for i in range(256):
        other = mask.copy()
        other[i] = not other[i]
        seen.add(key(words, other))
    assert len(seen) == 1 + 96 * 3 + 256
    for half in (0, 1):  # each half alone tells them apart too
        assert len({k[half] for k in seen}) == len(seen)


def test_memory_is_bounded():
    for name in ("connect4", "checkers"):
        cache = make_cache(load_game(name))
        assert sum(array.nbytes for array in cache) <= BYTES
        assert len(cache.values) >= 1 << 15
