"""Checkpoints: resuming is bit for bit, every damaged byte is seen, a crash leaves the old one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from az.engine.errors import Refused
from az.engine.game import load_game
from az.engine.system import files
from az.train import checkpoint
from az.train.config import LearnerConfig, NetConfig, RunConfig
from az.train.learner import Learner
from az.train.model import Network
from az.train.replay import Batch

torch.set_num_threads(1)
GAME = load_game("tictactoe")
RUN = RunConfig(game="tictactoe")


def learner(seed: int, optimizer: str = "adam", average: float = 0.9, channels: int = 8) -> Learner:
    torch.manual_seed(seed)
    config = LearnerConfig(batch=8, learning_rate=0.01, optimizer=optimizer, average=average)
    return Learner(Network(GAME.planes_shape, 9, NetConfig(channels, 1, bn_momentum=0.1)), config)


def steps(one: Learner, rng: np.random.Generator, count: int) -> list:
    found = []
    for _ in range(count):
        planes = rng.random((8, *GAME.planes_shape), np.float32) + torch.rand(1).numpy()
        policy = rng.dirichlet(np.ones(9), 8).astype(np.float32)
        value, rows = rng.uniform(-1, 1, 8).astype(np.float32), np.arange(8)
        found.append(one.step(Batch(planes, policy, np.ones((8, 9), bool), value, rows, rows * 0)))
    return found


def save(run: Path, one: Learner, rng: np.random.Generator) -> Path:
    extra = {"rows": checkpoint.numpy_state(rng), "games": 12}
    return checkpoint.save(run, one.steps, one.model, one.optimizer, one.average, extra, game=GAME, config=RUN)


@pytest.mark.parametrize(("optimizer", "average"), [("adam", 0.9), ("adam", 0.0), ("sgd", 0.9)])
def test_three_steps_a_checkpoint_and_three_more_are_six_steps(tmp_path, optimizer, average):
    straight, rng = learner(1, optimizer, average), np.random.default_rng(7)
    torch.manual_seed(5)
    expected = steps(straight, rng, 6)

    first, rng = learner(1, optimizer, average), np.random.default_rng(7)
    torch.manual_seed(5)
    begun = steps(first, rng, 3)
    save(tmp_path, first, rng)

    second = learner(99, optimizer, average)
    found, reasons = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.step, reasons, found.extra["games"]) == (3, [], 12)
    found.restore(second.model, second.optimizer, second.average)
    second.steps = found.step
    assert begun + steps(second, checkpoint.numpy_from_state(found.extra["rows"]), 3) == expected
    for one, two in ((straight.model, second.model), (straight.published(), second.published())):
        other = two.state_dict()
        assert all(torch.equal(tensor, other[name]) for name, tensor in one.state_dict().items())


def test_it_names_its_game_and_carries_its_configuration(tmp_path):
    found = checkpoint.load(save(tmp_path, learner(0), np.random.default_rng(0)))
    found.check_game(GAME)
    assert (found.config.game, found.config.net) == ("tictactoe", RUN.net)
    with pytest.raises(Refused, match="of tictactoe version 1, not of tictactoe version 2"):
        found.check_game(type(GAME)(**{**GAME.__dict__, "version": 2}))


def refused(folder: Path) -> str:
    """The sentence with which the checkpoint was refused; empty when it was not."""
    try:
        checkpoint.load(folder)
    except Refused as error:
        return str(error)
    return ""


def test_a_flipped_bit_anywhere_is_refused_and_the_file_is_named(tmp_path):
    one, rng = learner(0), np.random.default_rng(0)
    steps(one, rng, 1)
    folder, dice = save(tmp_path, one, rng), np.random.default_rng(3)
    names = sorted(path.name for path in folder.iterdir())
    assert len(names) == 6
    for name in names:
        good = (folder / name).read_bytes()
        for place in dice.integers(0, len(good), 20):
            bad = bytearray(good)
            bad[place] ^= 1 << int(dice.integers(8))
            (folder / name).write_bytes(bad)
            refusal = refused(folder)
            if name == "manifest.json":  # a changed checksum names the other file; white space does no harm
                assert refusal or json.loads(bad) == json.loads(good)
            else:
                assert name in refusal
        (folder / name).write_bytes(good[:-1])
        with pytest.raises(Refused, match=name):
            checkpoint.load(folder)
        (folder / name).unlink()
        with pytest.raises(Refused, match=name):
            checkpoint.load(folder)
        (folder / name).write_bytes(good)
    checkpoint.load(folder)


def test_latest_passes_over_broken_ones_and_says_why(tmp_path):
    one, rng = learner(0), np.random.default_rng(0)
    assert checkpoint.latest(tmp_path) == (None, [])
    steps(one, rng, 1)
    save(tmp_path, one, rng)
    steps(one, rng, 1)
    newest = save(tmp_path, one, rng)
    (newest / "weights.safetensors").write_bytes(b"half")
    found, reasons = checkpoint.latest(tmp_path)
    assert found is not None
    assert found.step == 1
    assert len(reasons) == 1
    assert "weights.safetensors' is damaged" in reasons[0]
    assert save(tmp_path, one, rng) == newest  # a run that comes by again replaces the broken one
    assert checkpoint.load(newest).step == 2


@pytest.mark.parametrize("broken", ["publish_folder", "write_atomic"])
def test_a_crash_while_saving_leaves_the_old_checkpoint_and_no_rubbish(tmp_path, monkeypatch, broken):
    one, rng = learner(0), np.random.default_rng(0)
    steps(one, rng, 1)
    save(tmp_path, one, rng)
    steps(one, rng, 1)

    def full(*_):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoint, broken, full)
    with pytest.raises(OSError, match="no space"):
        save(tmp_path, one, rng)
    found, reasons = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.step, reasons) == (1, [])
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_prune_keeps_the_newest_and_removes_what_a_kill_left(tmp_path):
    one, rng = learner(0, channels=2), np.random.default_rng(0)
    for _ in range(4):
        steps(one, rng, 1)
        save(tmp_path, one, rng)
    (tmp_path / "checkpoints" / ".step-000000005.tmp-1").mkdir()
    assert len(checkpoint.prune(tmp_path, 2)) == 3
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["step-000000003", "step-000000004"]


def test_a_checkpoint_of_another_network_is_refused_by_tensor(tmp_path):
    found = checkpoint.load(save(tmp_path, learner(0), np.random.default_rng(0)))
    other = learner(0, channels=4)
    with pytest.raises(Refused, match=r"tensor 'blocks.0.conv1.weight' differs"):
        found.restore(other.model, other.optimizer)


def test_write_atomic_replaces_whole_files_only(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file"
    files.write_atomic(path, b"old")
    files.write_atomic(path, b"new")
    assert path.read_bytes() == b"new"
    assert files.sha256(path) == "11507a0e2f5e69d5dfa40a62a1bd7b6ee57e6bcd85c67c9b8431b36fff21c437"

    def cut(*_):
        raise OSError("power cut")

    monkeypatch.setattr(files.os, "replace", cut)
    with pytest.raises(OSError, match="power cut"):
        files.write_atomic(path, b"half")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_publish_folder_replaces_a_folder_whole(tmp_path):
    for text in ("one", "two"):
        (tmp_path / "tmp" / "inner").mkdir(parents=True)
        (tmp_path / "tmp" / "inner" / text).write_text(text)
        files.publish_folder(tmp_path / "tmp", tmp_path / "final")
        assert [p.name for p in (tmp_path / "final" / "inner").iterdir()] == [text]
    assert [p.name for p in tmp_path.iterdir()] == ["final"]


def test_checkpoints_of_undone_steps_are_withdrawn_and_the_new_one_stays(tmp_path):
    for step in (990, 995, 997, 1000):
        (tmp_path / "checkpoints" / f"step-{step:09d}").mkdir(parents=True)
    checkpoint.withdraw(tmp_path, 995, but=997)
    assert [path.name for path in checkpoint.folders(tmp_path)] == [f"step-{step:09d}" for step in (990, 995, 997)]
