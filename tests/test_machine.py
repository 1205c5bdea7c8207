"""A request that this machine cannot bear is refused in a sentence with the range, before anything is made."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from command_line import run_az

from az.engine.errors import WrongRequest
from az.engine.game import game_names, load_game
from az.engine.search.batch import BatchSearch
from az.engine.search.params import SearchParams
from az.engine.settings import BIG
from az.engine.system import cores
from az.engine.system.cores import most_workers, usable_cores, usable_memory
from az.train.config import SECTIONS, RunConfig, check, with_settings
from az.train.machine import check_machine
from az.train.presets import PRESETS, preset


def test_the_smaller_of_machine_and_container_is_the_memory(tmp_path, monkeypatch):
    whole = usable_memory()
    monkeypatch.setattr(cores, "MEMORY", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text("1000000\n")
    assert usable_memory() == 1_000_000
    (tmp_path / "memory.max").write_text("max\n")
    assert usable_memory() >= whole > 1_000_000


@pytest.mark.parametrize("game", game_names())
@pytest.mark.parametrize("name", list(PRESETS))
def test_the_presets_fit_a_small_machine(game, name, tmp_path, monkeypatch):
    """2 GiB; 8 for the large batches of `gpu` and `seed` on more squares than Othello has."""
    rules = load_game(game)
    large = name in ("gpu", "seed") and rules.planes_shape[1] * rules.planes_shape[2] > 64
    monkeypatch.setattr(cores, "MEMORY", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text(str((8 if large else 2) << 30))
    check_machine(preset(game, name), rules)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("workers=1000000", "workers is 1000000: it must lie between 0 and 4096."),
        ("workers=4096", "workers is 4096: on this machine it must lie between 0 and {most} (4 for each of its"),
        ("games_per_turn=1000000000000", "games_per_turn is 1000000000000: it must lie between 1 and 10000."),
        ("learner.batch=1000000", "learner.batch is 1000000: it must lie between 2 and 65536."),
        ("steps_per_turn=1000000000000", "steps_per_turn is 1000000000000: it must lie between 0 and 1000000."),
        ("arena.games=1000000", "arena.games is 1000000: it must lie between 0 and 10000."),
        ("selfplay.slots=100000", "selfplay.slots is 100000: it must lie between 1 and 65536."),
        ("selfplay.leaves=1000", "selfplay.leaves is 1000: it must lie between 1 and 256."),
        ("net.channels=100000", "net.channels is 100000: it must lie between 1 and 1024."),
    ],
)
def test_az_train_refuses_in_one_sentence(tmp_path, monkeypatch, setting, sentence):
    monkeypatch.chdir(tmp_path)
    if setting == "workers=4096" and most_workers() >= 4096:
        pytest.skip("this machine has the cores")
    answer = run_az("train", "tictactoe", "--deterministic", "--set", setting)
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith("az: " + sentence.format(most=most_workers()))
    assert answer.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("setting", "low"),
    [("selfplay.slots=65536", 1), ("learner.batch=65536", 2), ("replay.window=1000000000", 1)],
)
def test_what_the_memory_does_not_hold_is_refused_and_what_it_does_is_not(setting, low, tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "MEMORY", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text(str(3 << 30))
    game, config = load_game("othello"), preset("othello", "seed")
    name, _, _ = setting.partition("=")
    with pytest.raises(WrongRequest, match=rf"^{name} is \d+: it would take about .* GB, and this machine has 3.2 GB"):
        check_machine(with_settings(config, [setting]), game)
    with pytest.raises(WrongRequest) as refusal:
        check_machine(with_settings(config, [setting]), game)
    most = int(str(refusal.value).rstrip(".").rpartition(" ")[2])
    assert most > low
    check_machine(with_settings(config, [f"{name}={most}"]), game)
    with pytest.raises(WrongRequest):
        check_machine(with_settings(config, [f"{name}={most + 1}"]), game)


def test_every_number_has_an_end():
    """BIG stands for `no bound was thought of`: no setting of a run is left with it."""
    for owner in (RunConfig, *SECTIONS.values()):
        for item in fields(owner):
            if "high" in item.metadata and type(item.default) in (int, float) and item.name != "seed":
                assert item.metadata["high"] < BIG, item.name
                assert item.metadata["low"] <= item.default <= item.metadata["high"], item.name


def test_more_threads_than_the_cores_bear_are_refused():
    too_many = 4 * usable_cores() + 1
    answer = run_az("selfplay", "tictactoe", "--games", 2, "--out", "o", "--threads", too_many)
    assert (answer.code, answer.err) == (2, f"az: --threads is {too_many}: it must lie between 1 and {too_many - 1}.\n")


def test_trees_that_memory_does_not_hold_are_not_begun(tmp_path, monkeypatch):
    monkeypatch.setattr(cores, "MEMORY", tmp_path / "memory.max")
    (tmp_path / "memory.max").write_text(str(1 << 30))
    with pytest.raises(MemoryError):
        BatchSearch(load_game("tictactoe"), SearchParams(simulations=1_000_000), 64)


def test_a_configuration_of_a_larger_machine_is_read_and_can_be_changed():
    config = replace(preset("tictactoe", "quick"), workers=4096)
    check(config)
    check_machine(with_settings(config, ["workers=1"]), load_game("tictactoe"))
