"""Game k depends on (model, parameters, seed, k) alone: not on threads, games in flight, neighbours or memory."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from test_batch import CountingEvaluator

from az.engine.errors import WrongRequest
from az.engine.game import load_game
from az.engine.inference.evaluator import HashEvaluator, UniformEvaluator
from az.engine.records.format import pack, read_records
from az.engine.records.row_checks import check_records
from az.engine.rng import stream
from az.engine.search import batch as batch_module
from az.engine.search.policy import sample_index
from az.engine.search.tree import make_trees
from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig
from az.engine.selfplay.to_files import selfplay_to_files

TICTACTOE, CONNECT4, CHECKERS = load_game("tictactoe"), load_game("connect4"), load_game("checkers")
SEED = 5

BASE = SelfplayConfig(simulations=12, fast_simulations=5, full_fraction=0.4, temperature_plies=10, opening_plies=3)
KINDS = {
    "puct": BASE,
    "puct kept": replace(BASE, reuse_tree=True, solve=True),
    "gumbel": replace(BASE, algorithm="gumbel", gumbel_considered=4),
    "leaves": replace(BASE, leaves=3, reuse_tree=True),
}


class LinearEvaluator(HashEvaluator):
    """As arbitrary as its parent, and many times as fast."""

    def evaluate(self, planes, logits, values):
        for row in range(len(planes)):
            mixed = planes[row].astype(np.float64).ravel() @ self.weights
            logits[row] = mixed[:-1] / 4.0
            values[row] = np.tanh(mixed[-1] / 8.0)


def play(game, config, numbers, slots, evaluators=None, seed=SEED):
    """{k: its bytes} of the games with these numbers, in the order in which they are asked for."""
    evaluators = evaluators or {}
    default = LinearEvaluator(game)
    jobs = iter([(k, evaluators.get(k, default)) for k in numbers])
    batch = SelfplayBatch(game, config, seed, slots)
    return {finished.k: pack(game, [finished], seed, {}) for finished in batch.play(lambda: next(jobs, None))}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("game", [CONNECT4, CHECKERS], ids=lambda game: game.name)
def test_a_game_does_not_depend_on_its_neighbours(game, kind):
    games, config = (6, KINDS[kind]) if game is CONNECT4 else (3, replace(KINDS[kind], simulations=4))
    alone = play(game, config, range(games), 1)
    assert len(set(alone.values())) == games
    assert play(game, config, range(games), 64) == alone
    shuffled = play(game, config, [games - 1, 40, 1, 0], 3)
    assert all(shuffled[k] == alone[k] for k in (games - 1, 1, 0))


@pytest.mark.nojit
@pytest.mark.parametrize("kind", KINDS)
def test_a_small_game_does_not_depend_on_its_neighbours(kind):
    alone = play(TICTACTOE, KINDS[kind], range(4), 1)
    together = play(TICTACTOE, KINDS[kind], [3, 9, 1, 0, 2], 3)
    assert all(together[k] == alone[k] for k in range(4))
    assert play(TICTACTOE, KINDS[kind], range(1), 1, seed=SEED + 1)[0] != alone[0]


@pytest.mark.parametrize("kind", KINDS)
def test_growing_trees_change_nothing(kind, monkeypatch):
    expected = play(CONNECT4, KINDS[kind], range(5), 3)
    made = []

    def tiny(num_trees, nodes, edges):
        made.append(nodes)
        return make_trees(num_trees, *((3, 9) if len(made) <= 2 else (nodes, edges)))

    monkeypatch.setattr(batch_module, "make_trees", tiny)
    assert play(CONNECT4, KINDS[kind], range(5), 3) == expected
    assert len(made) > 3


def test_games_keep_the_model_they_began_with():
    """A second model for games 3 and later: those begin while games of the first are under way."""
    first, second = HashEvaluator(CONNECT4), HashEvaluator(CONNECT4)
    second.weights = second.weights[:, ::-1].copy()
    second.model_id = "other"
    mixed = play(CONNECT4, BASE, range(7), 3, {k: first if k < 3 else second for k in range(7)})
    only_first = play(CONNECT4, BASE, range(7), 2, dict.fromkeys(range(7), first))
    only_second = play(CONNECT4, BASE, range(7), 5, dict.fromkeys(range(7), second))
    for k in range(7):
        assert mixed[k] == (only_first if k < 3 else only_second)[k]
    assert only_first[5] != only_second[5]


@pytest.mark.nojit
def test_one_evaluation_a_step_for_all_games():
    counting = CountingEvaluator(TICTACTOE)
    play(TICTACTOE, BASE, range(4), 4, dict.fromkeys(range(4), counting))
    assert counting.rows[0] == 4


# files


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("game", [CONNECT4, CHECKERS], ids=lambda game: game.name)
def test_threads_and_slots_change_no_byte(tmp_path, monkeypatch, game):
    monkeypatch.setattr("az.engine.selfplay.to_files.GAMES_A_FILE", 3)
    number = 4
    found = []
    for threads, slots in ((1, 1), (1, 64), (2, 3)):
        out = tmp_path / f"{threads}-{slots}"
        config = replace(KINDS["puct kept"], simulations=4, fast_simulations=2, slots=slots)
        progress = selfplay_to_files(LinearEvaluator(game), config, number, SEED, out, threads)
        found.append(files_of(out))
        assert progress.games == number
    assert sorted(found[0]) == [
        "games-000000000-000000002.npz", "games-000000003-000000003.npz",
    ]  # fmt: skip
    assert found[0] == found[1] == found[2]
    records = [read_records(path, game) for path in sorted(out.iterdir())]
    assert all(check_records(game, r) == [] for r in records)
    assert [g[0] for r in records for g in r.header["games"]] == list(range(number))
    assert progress.rows == sum(map(len, records))
    assert progress.plies == sum(g[1] for r in records for g in r.header["games"])
    assert records[0].header["search"]["reuse_tree"] is True
    assert "slots" not in records[0].header["search"]
    with pytest.raises(WrongRequest, match="new folder"):
        selfplay_to_files(HashEvaluator(game), config, 1, SEED, out, 1)


def test_games_too_long_for_one_file_go_into_smaller_ones(tmp_path, monkeypatch):
    monkeypatch.setattr("az.engine.selfplay.to_files.fits_a_file", lambda _, games: len(games) <= 2)
    progress = selfplay_to_files(HashEvaluator(TICTACTOE), replace(BASE, slots=2), 5, SEED, tmp_path / "out", 1)
    assert [path.name for path in progress.files] == [
        "games-000000000-000000001.npz", "games-000000002-000000002.npz", "games-000000003-000000004.npz",
    ]  # fmt: skip
    assert [len(read_records(path, TICTACTOE).header["games"]) for path in progress.files] == [2, 1, 2]


def test_a_network_plays_the_same_games_on_any_threads(tmp_path):
    onnx_evaluator = pytest.importorskip("az.engine.inference.onnx_evaluator")
    pytest.importorskip("torch")
    from test_evaluator import model_bytes

    path = tmp_path / "model.onnx"
    path.write_bytes(model_bytes(CONNECT4))
    found = []
    for threads, slots in ((1, 1), (1, 5), (2, 3)):
        out = tmp_path / f"{threads}-{slots}"
        config = replace(KINDS["puct kept"], slots=slots)
        selfplay_to_files(onnx_evaluator.OnnxEvaluator(path), config, 5, SEED, out, threads)
        found.append(files_of(out))
    assert found[0] == found[1] == found[2]


def test_a_fault_in_a_thread_is_not_swallowed(tmp_path):
    class Broken(UniformEvaluator):
        def evaluate(self, planes, logits, values):  # noqa: ARG002
            raise RuntimeError("no answer")

    with pytest.raises(RuntimeError, match="no answer"):
        selfplay_to_files(Broken(TICTACTOE), BASE, 4, SEED, tmp_path / "out", 2)


# what a game records


def finished_games(config, game=CONNECT4, number=12):
    evaluator = HashEvaluator(game)
    jobs = iter([(k, evaluator) for k in range(number)])
    return list(SelfplayBatch(game, config, SEED, 6).play(lambda: next(jobs, None)))


def test_the_playout_cap_records_a_share_of_the_moves():
    games = finished_games(replace(BASE, full_fraction=0.3, opening_plies=0), number=40)
    share = sum(len(g.rows) for g in games) / sum(g.plies for g in games)
    assert share == pytest.approx(0.3, abs=0.06)
    for g in games:
        assert [row.ply for row in g.rows] == sorted({row.ply for row in g.rows})
        assert all(row.ply < g.plies for row in g.rows)


@pytest.mark.nojit
def test_openings_are_random_and_not_recorded():
    games = finished_games(replace(BASE, opening_plies=6, full_fraction=1.0, simulations=1), TICTACTOE, 60)
    first = [g.rows[0].ply for g in games]
    assert set(first) >= {0, 1, 2, 3, 4}
    assert max(first) <= 6
    for g in games:
        assert len(g.rows) == g.plies - g.rows[0].ply
        assert (g.rows[0].state[1:] > 0).sum() == g.rows[0].ply


@pytest.mark.nojit
def test_targets_are_the_visits_of_the_search():
    """12 new walks and no tree kept: each share is a number of twelfths; the best of them is played at T = 0."""
    config = SelfplayConfig(simulations=12, noise_fraction=0.25, temperature=0.0)
    for g in finished_games(config, TICTACTOE, 4):
        for row, after in zip(g.rows, [*g.rows[1:], None], strict=True):
            assert row.policy * 12 == pytest.approx(np.round(row.policy * 12), abs=1e-5)
            assert row.policy.sum() == pytest.approx(1)
            assert abs(row.root_value) <= 1
            if after is not None:
                played = int(np.flatnonzero(after.state[1:] != row.state[1:])[0])
                assert row.policy[row.actions.tolist().index(played)] == row.policy.max()


# temperature


def chosen(policy, temperature, draws=4000, seed=1):
    words = stream("temperature", seed)
    policy = np.array(policy, np.float64)
    counts = np.zeros(len(policy))
    for _ in range(draws):
        counts[sample_index(policy, len(policy), temperature, words)] += 1
    return counts


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0, 20.0])
def test_moves_are_drawn_with_the_right_frequencies(temperature):
    """policy^(1/T), normalised; chi-square with 3 degrees of freedom exceeds 18 once in 2300 times."""
    policy = np.array([0.4, 0.3, 0.2, 0.0, 0.1])
    weights = policy ** (1 / temperature)
    expected = 4000 * weights / weights.sum()
    counts = chosen(policy, temperature)
    assert counts[3] == 0
    legal = policy > 0
    assert (((counts - expected) ** 2)[legal] / expected[legal]).sum() < 18


@pytest.mark.nojit
@pytest.mark.parametrize("temperature", [0.05, 0.01, 1e-3, 1e-12])
def test_low_temperatures_are_the_best_move_and_never_overflow(temperature):
    """799 visits against 1: at 0.05 the share is 799^20 : 1, which no float32 and no count could hold (leela #283)."""
    for best in range(3):
        policy = np.full(3, 1 / 800)
        policy[best] = 798 / 800
        assert chosen(policy, temperature, 50)[best] == 50
    tie = chosen([0.5, 0.5, 0.0], temperature, 200)
    assert tie[2] == 0
    assert 60 < tie[0] < 140


@pytest.mark.nojit
def test_a_temperature_of_a_twentieth_still_counts_close_visits():
    """401 against 399 visits: (401/399)^20 = 1.105, so 52.5 % of the draws."""
    counts = chosen([401 / 800, 399 / 800], 0.05, 4000)
    share = 401**20 / (401**20 + 399**20)
    assert counts[0] / 4000 == pytest.approx(share, abs=4 * np.sqrt(0.25 / 4000))


@pytest.mark.nojit
def test_a_move_without_visits_is_never_drawn():
    rng = random.Random(0)
    for _ in range(30):
        policy = np.array([rng.random() if i % 3 else 0.0 for i in range(9)])
        assert chosen(policy / policy.sum(), rng.choice([0.3, 1.0, 5.0]), 20)[::3].sum() == 0
