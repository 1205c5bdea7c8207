"""The replay window: rows come out as they went in, from the last rows only, and can be traced."""

from pathlib import Path
from time import perf_counter

import numpy as np
import pytest

from az.engine.errors import WrongRequest
from az.engine.game import ONGOING, load_game
from az.engine.records.format import Records
from az.train.config import ReplayConfig
from az.train.replay import Replay, gather_rows, window_rows

GAME = load_game("tictactoe")


def random_records(count: int, seed: int, name: str = "a.rec") -> Records:
    """`count` rows from random games; every figure of a row can be told from every other row's."""
    rng = np.random.default_rng(seed)
    states, actions, probs, sizes, games, plies = [], [], [], [], [], []
    game = 0
    while len(states) < count:
        state, ply = GAME.new_state(), 0
        while GAME.outcome(state) == ONGOING and len(states) < count:
            legal = np.flatnonzero(GAME.mask(state))
            share = rng.random(len(legal)).astype(np.float32)
            share[rng.integers(len(legal))] = 0 if len(legal) > 1 else 1
            states.append(state.copy())
            actions.append(legal)
            probs.append(share / share.sum())
            sizes.append(len(legal))
            games.append(game)
            plies.append(ply)
            GAME.apply(state, int(rng.choice(legal)))
            ply += 1
        game += 1
    return Records(
        np.array(states),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate(actions).astype(np.int32),
        np.concatenate(probs).astype(np.float32),
        rng.integers(-1, 2, count).astype(np.float32),
        rng.uniform(-1, 1, count).astype(np.float32),
        np.array(games),
        np.array(plies, np.int32),
        np.arange(count, dtype=np.int32) % 2,
        {"models": [f"early-{seed}", f"late-{seed}"], "seed": seed},
        Path(name),
    )


def assert_row_is(replay: Replay, row: int, records: Records, at: int) -> None:
    batch = replay.gather(np.array([row]), np.array([0]))
    span = slice(records.policy_offsets[at], records.policy_offsets[at + 1])
    policy = np.zeros(9, np.float32)
    policy[records.policy_actions[span]] = records.policy_probs[span]
    assert np.array_equal(batch.planes[0], GAME.planes(records.states[at]))
    assert np.array_equal(batch.policy[0], policy)
    assert np.array_equal(batch.mask[0], GAME.mask(records.states[at]))
    assert batch.value[0] == records.outcomes[at]
    found = replay.origin(row)
    assert (found["file"], found["row_in_file"]) == (str(records.path), at)
    assert (found["game"], found["ply"]) == (records.games[at], records.plies[at])
    assert (found["model"], found["seed"]) == (records.header["models"][at % 2], records.header["seed"])


def test_every_live_row_comes_out_as_it_went_in_through_growth_and_compaction():
    replay = Replay(GAME, capacity=100)
    added = []
    for number in range(25):
        records = random_records(7 + 5 * (number % 4), number, f"{number}.rec")
        replay.add(records)
        added += [(records, at) for at in range(len(records.outcomes))]
        assert replay.total_rows == len(added)
        assert len(replay) == min(100, len(added))
        for row in range(replay.first_row, replay.total_rows):
            assert_row_is(replay, row, *added[row])
    assert len(replay._planes.data) <= 250  # the dead are reclaimed: 25 files had 362 rows
    assert len(replay._files) <= 15


def test_a_file_larger_than_the_capacity_leaves_its_last_rows():
    replay, records = Replay(GAME, capacity=10, first_row=1000), random_records(37, 1)
    replay.add(records)
    assert (replay.first_row, replay.total_rows) == (1027, 1037)
    assert_row_is(replay, 1027, records, 27)
    with pytest.raises(WrongRequest, match="row 1026 is not in the window: it holds rows 1027 to 1036"):
        replay.origin(1026)


def test_sampling_is_uniform_over_the_window_and_only_there():
    replay = Replay(GAME, capacity=1000)
    replay.add(random_records(300, 5))
    batch = replay.sample(40_000, np.random.default_rng(0), window=40)
    counts = np.bincount(batch.rows - 260, minlength=40)
    assert batch.rows.min() == 260
    assert batch.rows.max() == 299
    chi2 = ((counts - 1000) ** 2 / 1000).sum()  # 39 degrees of freedom: 72.1 is the 99.9 % quantile
    assert chi2 < 72.1


def test_the_same_generator_draws_the_same_batch_and_gather_repeats_it():
    replay = Replay(GAME, capacity=1000)
    replay.add(random_records(200, 5))
    first = replay.sample(64, np.random.default_rng(3), 200, q_mix=0.25, symmetries=True)
    again = replay.sample(64, np.random.default_rng(3), 200, q_mix=0.25, symmetries=True)
    repeated = replay.gather(first.rows, first.symmetry, 0.25)
    for name in ("planes", "policy", "mask", "value"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
        assert np.array_equal(getattr(first, name), getattr(repeated, name))


def test_a_turned_row_is_the_row_of_the_turned_position():
    replay, records = Replay(GAME, capacity=1000), random_records(60, 9)
    replay.add(records)
    batch = replay.sample(2000, np.random.default_rng(1), 60, symmetries=True)
    assert set(batch.symmetry) == set(range(1 + len(GAME.symmetries)))
    for n in range(200):
        state, chosen = records.states[batch.rows[n]], batch.symmetry[n]
        image = state.copy()
        plain = replay.gather(batch.rows[n : n + 1], np.array([0])).policy[0]
        policy = plain.copy()
        if chosen:
            symmetry = GAME.symmetries[chosen - 1]
            image[1 + symmetry.squares] = state[1:]
            policy[symmetry.actions] = plain
        assert np.array_equal(batch.planes[n], GAME.planes(image))
        assert np.array_equal(batch.mask[n], GAME.mask(image))
        assert np.array_equal(batch.policy[n], policy)
        assert not batch.policy[n][~batch.mask[n]].any()


def test_the_value_target_mixes_result_and_root_value():
    replay, records = Replay(GAME, capacity=100), random_records(50, 2)
    replay.add(records)
    batch = replay.sample(30, np.random.default_rng(0), 50, q_mix=0.25)
    z, q = records.outcomes[batch.rows].astype(np.float64), records.root_values[batch.rows].astype(np.float64)
    assert np.allclose(batch.value, 0.75 * z + 0.25 * q, atol=1e-7)


def test_a_missing_root_value_does_no_harm_when_it_is_not_used():
    replay, records = Replay(GAME, capacity=100), random_records(50, 2)
    records.root_values[:] = np.nan
    replay.add(records)
    batch = replay.sample(30, np.random.default_rng(0), 50)
    assert np.array_equal(batch.value, records.outcomes[batch.rows])


def test_wrong_requests():
    replay = Replay(GAME, capacity=100)
    with pytest.raises(WrongRequest, match="no rows"):
        replay.sample(8, np.random.default_rng(0), 10)
    replay.add(random_records(20, 0))
    with pytest.raises(WrongRequest, match="row 20 is not"):
        replay.gather(np.array([3, 20]), np.array([0, 0]))
    with pytest.raises(WrongRequest, match="an index from 0 to 7"):
        replay.gather(np.array([3]), np.array([8]))


def test_window_rule():
    plain = ReplayConfig()
    assert [window_rows(plain, n) for n in (0, 5, 999_999, 5_000_000)] == [0, 5, 999_999, 1_000_000]
    growing = ReplayConfig(window=50_000, window_start=10_000, window_exponent=0.65)
    assert window_rows(growing, 9_000) == 9_000
    assert window_rows(growing, 10_000) == 10_000
    assert window_rows(growing, 40_000) == int(10_000 * 4**0.65)
    assert window_rows(growing, 10**9) == 50_000
    sizes = [window_rows(growing, n) for n in range(0, 200_000, 500)]
    assert sizes == sorted(sizes)


def test_a_batch_of_checkers_size_takes_under_two_milliseconds():
    rng, rows, n = np.random.default_rng(0), 5000, 1024
    chosen = np.zeros(n, np.int64)
    ends = np.arange(1, rows + 1) * 8
    made = (np.empty((n, 3, 4, 8), np.float32), np.zeros((n, 256), np.float32), np.zeros((n, 256), np.bool_))
    arguments = (
        rng.integers(0, rows, n), chosen, 0.0, 0, rng.random((rows, 3, 4, 8), np.float32), ends - 8, ends,
        rng.integers(0, 256, rows * 8).astype(np.int32), rng.random(rows * 8, np.float32),
        rng.random(rows, np.float32), rng.random(rows, np.float32),
        np.arange(256).reshape(1, 256), np.arange(32).reshape(1, 32), *made, np.empty(n, np.float32),
    )  # fmt: skip

    def seconds():
        begin = perf_counter()
        gather_rows(*arguments)
        return perf_counter() - begin

    assert min(seconds() for _ in range(50)) < 0.002
