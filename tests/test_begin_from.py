"""`az train GAME --from`: a new run with the weights of another one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from run_tools import digests, run_az, settings

from az.train import checkpoint

SHORT = ["--deterministic", "--steps", "6", *settings(net__channels=4)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run `old` of six steps."""
    folder = tmp_path_factory.mktemp("from")
    done = run_az(folder, "train", "tictactoe", "--run", "old", *SHORT)
    assert done.returncode == 0, done.stderr
    return folder


def weights(run: Path, step: int) -> dict[str, torch.Tensor]:
    return checkpoint.load(run / "checkpoints" / f"step-{step:09d}").weights


def test_a_run_begins_with_the_weights_of_another(place: Path):
    given = settings()[1::2]
    more = [part for text in given if not text.startswith("net.") for part in ("--set", text)]
    more += ["--deterministic", "--steps", "6", "--seed", "3"]
    for name in ("new", "again"):
        done = run_az(place, "train", "tictactoe", "--run", name, "--from", "old", *more, "--set", "keep_checkpoints=9")
        assert done.returncode == 0, done.stderr
    old, new = weights(place / "runs/old", 6), weights(place / "runs/new", 0)
    assert old.keys() == new.keys()
    assert all(torch.equal(old[name], new[name]) for name in old)
    assert not all(torch.equal(old[name], tensor) for name, tensor in weights(place / "runs/new", 6).items())
    assert "channels = 4 " in (place / "runs/new/config.toml").read_text()
    first, second = (digests(place / "runs" / name) for name in ("new", "again"))
    assert first == second


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["tictactoe", "--from", "nowhere"], "'nowhere' is no checkpoint"),
        (["connect4", "--from", "old"], "is of tictactoe version 1, not of connect4"),
        (["tictactoe", "--from", "old", "--set", "net.channels=3"], "--from makes a network only larger"),
        (["tictactoe", "--from", "old", "--set", "net.block=squeeze_excite"], "--from brings its own network"),
        (["tictactoe", "--from", "old", "--set", "learner.optimizer=sgd"], "does not fit this optimizer"),
    ],
)
def test_what_does_not_fit_is_one_sentence_and_no_folder(place: Path, words: list[str], told: str):
    done = run_az(place, "train", *words, "--run", "wrong", "--steps", "1")
    assert done.returncode in (1, 2)
    assert len(done.stderr.strip().splitlines()) == 1
    assert told in done.stderr
    assert not (place / "runs" / "wrong").exists()
