"""A disk that fails once: what it holds is not put aside for that, and what it left is removed."""

from __future__ import annotations

import errno
import multiprocessing
import os
from pathlib import Path
from typing import Any

import pytest

from az.engine.errors import Refused, WrongRequest
from az.engine.game import load_game
from az.engine.inference import model_file
from az.engine.records import format as records
from az.engine.system.disk_errors import is_passing, sentence
from az.train import checkpoint
from az.train.run.worker_pool import WorkerPool

OF_THE_DISK = ["EIO", "ENOSPC", "EMFILE", "ENFILE", "ENOMEM", "ESTALE", "EROFS", "EDQUOT"]
OF_THE_FILE = ["ENOENT", "EISDIR", "EACCES", "ELOOP", "ENAMETOOLONG", "EINVAL", "EFBIG"]


def fault(name: str, path: Path | str = "") -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), str(path))


@pytest.mark.parametrize("name", OF_THE_DISK + OF_THE_FILE)
def test_a_fault_of_the_disk_is_told_from_one_of_the_file(name):
    assert is_passing(fault(name)) == (name in OF_THE_DISK)


@pytest.mark.parametrize("name", ["EIO", "ENOSPC", "EMFILE"])
def test_a_record_that_could_not_be_read_is_not_refused(tmp_path, monkeypatch, name):
    def failing(path: Path, _: int) -> bytes:
        raise fault(name, path)

    monkeypatch.setattr(records, "read_regular", failing)
    with pytest.raises(OSError, match=os.strerror(getattr(errno, name))) as caught:
        records.read_records(tmp_path / "a.npz", load_game("tictactoe"))
    assert not isinstance(caught.value, Refused)
    assert os.strerror(getattr(errno, name)) in sentence(caught.value)


@pytest.mark.parametrize("name", [*OF_THE_DISK, "EACCES", "EISDIR"])
def test_a_model_that_could_not_be_read_is_told_with_the_reason(tmp_path, monkeypatch, name):
    def failing(path: Path, _: int) -> bytes:
        raise fault(name, path)

    monkeypatch.setattr(model_file, "read_regular", failing)
    with pytest.raises((OSError, WrongRequest)) as caught:
        model_file.ModelFile(tmp_path / "a.onnx")
    told = sentence(caught.value) if isinstance(caught.value, OSError) else str(caught.value)
    assert os.strerror(getattr(errno, name)) in told
    assert "a.onnx" in told


def old_checkpoints(run: Path) -> list[Path]:
    made = [run / "checkpoints" / f"step-{step:09d}" for step in (1, 2, 3)]
    for folder in made:
        folder.mkdir(parents=True)
        for name in ("manifest.json", "state.json", "weights.safetensors"):
            (folder / name).write_text("x")
    return made


@pytest.mark.parametrize("at", range(4))
def test_a_checkpoint_whose_removal_failed_once_leaves_nothing(tmp_path, monkeypatch, at):
    made, calls, real = old_checkpoints(tmp_path), iter(range(1000)), (os.unlink, os.rmdir)

    def once(call):
        def wrapped(*arguments, **named):
            if next(calls) == at:
                raise fault("EIO")
            return call(*arguments, **named)

        return wrapped

    monkeypatch.setattr(os, "unlink", once(real[0]))
    monkeypatch.setattr(os, "rmdir", once(real[1]))
    checkpoint.prune(tmp_path, 2)
    assert next(calls) > at
    assert sorted((tmp_path / "checkpoints").iterdir()) == made[1:]


def test_a_checkpoint_that_cannot_be_removed_is_told_by_its_own_name(tmp_path, monkeypatch):
    made = old_checkpoints(tmp_path)

    def failing(*_, **__):
        raise fault("EROFS")

    monkeypatch.setattr(os, "unlink", failing)
    with pytest.raises(OSError, match="Read-only") as caught:
        checkpoint.prune(tmp_path, 2)
    assert caught.value.filename == str(made[0])
    monkeypatch.undo()
    checkpoint.prune(tmp_path, 2)  # as the next resume does
    assert sorted((tmp_path / "checkpoints").iterdir()) == made[1:]


def test_a_worker_that_cannot_write_is_told_as_if_the_run_could_not():
    pool: Any = object.__new__(WorkerPool)
    mine, workers = multiprocessing.Pipe()
    pool._pipes = [mine]
    workers.send(("disk", errno.ENOSPC, os.strerror(errno.ENOSPC), "runs/a/records/0001-000021-001.npz"))
    with pytest.raises(OSError, match="No space left") as caught:
        pool.listen(5, lambda *_: None, lambda _: None)
    told = sentence(caught.value, "go on with `az resume a`")
    assert told.startswith("runs/a/records/0001-000021-001.npz: ")
    assert told.endswith("then go on with `az resume a`.")
