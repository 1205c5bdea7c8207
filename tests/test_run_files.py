"""What stays whole: log and curves after steps are undone, checkpoints that are replaced, folders that are no run."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import run_az
from make_models import make_run, small_network
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from az.engine.arena.background_match import ScoreJob, ScoreProcess
from az.engine.errors import WrongRequest
from az.engine.system import files
from az.engine.system.disk_errors import sentence
from az.train.config import ArenaConfig, RunConfig, to_toml
from az.train.health.early_warnings import EarlyWarnings
from az.train.health.metrics import HealthMetrics
from az.train.run.folder import RunFolder
from az.train.run.health_memory import remember, restore
from az.train.run.log import RunLog
from az.train.run.scores import Scores
from az.train.run.tensorboard import EventFile, _records, as_markdown

CONFIG = RunConfig(game="tictactoe")


def test_lines_of_undone_steps_are_taken_out(tmp_path):
    log = RunLog(tmp_path / "log.jsonl", -1)
    for step in (1, 20, 40):
        log.write("step", {"step": step})
    log.write("score", {"step": 20, "score": 0.5})  # of a model of that step, measured later
    log.close()
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(b'no line of az\n{"kind":"st')
    log = RunLog(tmp_path / "log.jsonl", 20)
    log.write("step", {"step": 40})
    log.close()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert lines.pop(3) == "no line of az"
    assert [json.loads(line)["step"] for line in lines] == [1, 20, 20, 40]


def test_curves_never_go_back(tmp_path):
    first = EventFile(tmp_path, 1, -1)
    for step in (20, 40, 60):
        first.scalars({"loss/total": step}, step, float(step))
    first.close()
    file = next(tmp_path.glob("events*"))
    file.write_bytes(file.read_bytes()[:-7])  # torn by a kill
    second = EventFile(tmp_path, 2, 20, restarted=70.0)
    second.scalars({"loss/total": 41}, 40, 71.0)
    second.close()
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    assert [(point.step, point.value) for point in shown.Scalars("loss/total")] == [(20, 20.0), (40, 41.0)]


def test_an_open_tensorboard_follows_a_rewind(tmp_path):
    """It keeps the file open and reads on where it was; a file that takes its place it would never see."""
    events = EventFile(tmp_path, 1, -1)
    for step in (20, 40, 60):
        events.scalars({"x": step}, step, float(step))
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    events.cut(30, wall_time=61.0)
    events.scalars({"x": 41}, 40, 62.0)
    for board in (shown, EventAccumulator(str(tmp_path))):
        board.Reload()
        assert [(point.step, point.value) for point in board.Scalars("x")] == [(20, 20.0), (40, 41.0)]
    events.close()
    EventFile(tmp_path, 2, 40).close()  # the next session takes out what was undone
    steps = [event.step for path in sorted(tmp_path.glob("events*")) for event, _ in _records(path)]
    assert steps == [0, 20, 31, 40, 0]


def test_event_file_that_goes_on_has_the_same_bytes(tmp_path):
    for name, stops in (("a", []), ("b", [1, 2])):
        (tmp_path / name).mkdir()
        events = EventFile(tmp_path / name, 1, -1)
        for step in range(4):
            if step in stops:
                events.scalars({"x": 9.0}, step, 0.0)
                events.close()
                events = EventFile(tmp_path / name, 1, step - 1)
            events.scalars({"x": float(step)}, step, 0.0)
        events.close()
    one, two = (next((tmp_path / name).glob("events*")).read_bytes() for name in "ab")
    assert one == two


def test_tensorboard_shows_the_configuration_as_text(tmp_path):
    plain = to_toml(RunConfig(game="tictactoe", az_version="0"))
    longer = plain.replace("steps = 0", "steps = 9")
    assert plain != longer
    for session, last, text in ((1, -1, plain), (1, 2, plain), (1, 2, longer), (2, 5, longer)):
        EventFile(tmp_path, session, last, configuration=text).close()
    shown = EventAccumulator(str(tmp_path))
    shown.Reload()
    assert "configuration/text_summary" in shown.PluginTagToContent("text")
    told = [(event.step, event.tensor_proto.string_val[0]) for event in shown.Tensors("configuration/text_summary")]
    assert told == [(step, as_markdown(text).encode()) for step, text in ((0, plain), (2, longer), (5, longer))]


def test_the_configuration_of_a_killed_run_is_written_once(tmp_path):
    for name, cuts in (("a", []), ("b", [300, 301, 4000, None])):
        (tmp_path / name).mkdir()
        text = to_toml(RunConfig(game="tictactoe", az_version="0"))
        EventFile(tmp_path / name, 1, -1, configuration=text).close()
        for cut in cuts:  # torn by a kill, or whole
            file = next((tmp_path / name).glob("events*"))
            file.write_bytes(file.read_bytes()[:cut])
            EventFile(tmp_path / name, 1, 0, configuration=text).close()
    one, two = (next((tmp_path / name).glob("events*")).read_bytes() for name in "ab")
    assert one == two


def test_at_every_moment_one_of_the_two_names_is_a_whole_folder(tmp_path, monkeypatch):
    final, new = tmp_path / "final", tmp_path / "final.new"

    def fill(place: Path, text: str) -> Path:
        place.mkdir()
        for name in ("one", "two"):
            (place / name).write_text(text)
        return place

    def whole(place: Path, text: str) -> bool:
        return (
            place.is_dir() and [(place / n).read_text() for n in ("one", "two") if (place / n).exists()] == [text] * 2
        )

    real = {name: getattr(os, name) for name in ("rename", "unlink", "rmdir")}
    seen = []
    fill(final, "old")
    for name, call in real.items():

        def watched(*arguments, call=call, **named):
            call(*arguments, **named)
            seen.append(whole(new, "new") or whole(final, "old") or whole(final, "new"))

        monkeypatch.setattr(files.os, name, watched)
    files.publish_folder(fill(tmp_path / "tmp", "new"), final)
    assert len(seen) >= 5
    assert all(seen)
    assert whole(final, "new")
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_piece_that_cannot_be_written_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    file, real = files.AppendFile(tmp_path / "log"), os.write
    file.append(b"whole\n")

    def full(handle, data):
        if len(data) < 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[:5])

    monkeypatch.setattr(files.os, "write", full)
    with pytest.raises(OSError, match="No space left") as caught:
        file.append(b"too long")
    assert caught.value.filename == str(tmp_path / "log")
    assert (tmp_path / "log").read_bytes() == b"whole\n"


@pytest.mark.parametrize("name", ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "EBADF"])
def test_a_file_system_without_fsync_of_folders_is_good_enough(tmp_path, monkeypatch, name):
    real = os.fsync

    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(getattr(errno, name), "as some network mounts answer")
        real(handle)

    monkeypatch.setattr(files.os, "fsync", fsync)
    files.write_atomic(tmp_path / "a", b"whole")
    (tmp_path / "tmp").mkdir()
    files.publish_folder(tmp_path / "tmp", tmp_path / "b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


@pytest.mark.parametrize("name", ["EIO", "ENOSPC"])
def test_a_folder_that_cannot_be_written_is_told_of(tmp_path, monkeypatch, name):
    def fsync(handle):
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(getattr(errno, name), "faulty")

    monkeypatch.setattr(files.os, "fsync", fsync)
    with pytest.raises(OSError, match="faulty") as caught:
        files.write_atomic(tmp_path / "a", b"whole")
    assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize(
    ("number", "way"),
    [("ENOSPC", "room"), ("EDQUOT", "quota"), ("EIO", "faulty"), ("EMFILE", "ulimit"), ("EROFS", "writable"),
     ("EACCES", "permissions")],
)  # fmt: skip
def test_the_system_refuses_in_one_sentence_that_names_the_file(number, way):
    error = OSError(getattr(errno, number), os.strerror(getattr(errno, number)), "runs/a/log.jsonl")
    text = sentence(error, "go on with `az resume a`")
    assert text.startswith("runs/a/log.jsonl: ")
    assert way in text
    assert text.endswith(", then go on with `az resume a`.")
    assert "\n" not in text


def test_a_folder_in_which_no_run_began_is_taken_and_one_with_files_is_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path("runs/a")
    (path / "records").mkdir(parents=True)
    (path / "lock").touch()
    (path / ".config.toml.tmp-12").write_text("game =")
    with pytest.raises(WrongRequest, match=r"no run 'a'.*stopped before it began"):
        RunFolder.open(path)
    RunFolder.create(path, CONFIG).unlock()
    assert not list(path.glob(".config*"))
    with pytest.raises(WrongRequest, match="is there already"):
        RunFolder.create(path, CONFIG)
    (path / "config.toml").unlink()
    (path / "records" / "0000-000000-000.npz").write_bytes(b"mine")
    with pytest.raises(WrongRequest, match="holds files and is no run"):
        RunFolder.create(path, CONFIG)


def test_records_without_a_checkpoint_are_neither_deleted_nor_begun_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = make_run(tmp_path / "runs" / "a")
    shutil.rmtree(run / "checkpoints")
    (run / "records" / "0000-000000-000.npz").write_bytes(b"games of a day")
    before = sorted((run / "records").iterdir())
    answer = run_az("resume", "a", "--steps", 10**6)
    assert answer.code == 1
    assert "no whole checkpoint" in answer.err
    assert sorted((run / "records").iterdir()) == before


class Played:
    """Services that play no match."""

    def __init__(self, **result: Any) -> None:
        self.given: dict[str, Any] = result or {"score": 0.5}
        self.result: dict[str, Any] | None = None

    def start_score(self, *_: object) -> bool:
        self.result = self.given
        return True

    def close(self) -> None:
        self.result = None

    def finished_score(self, wait: Callable[[], bool]) -> dict[str, Any] | None:  # noqa: ARG002
        found, self.result = self.result, None
        return found


def test_scores_are_spread_over_the_run_and_stand_at_the_step_of_their_model(tmp_path):
    config = replace(CONFIG, arena=ArenaConfig(games=2, per_run=4))
    scores = Scores(Played(), config, 0.0, print)  # pyright: ignore[reportArgumentType]
    due = [progress for progress in range(101) if scores.due(progress / 100)]
    assert due == [25, 50, 75]  # and one at the end
    (tmp_path / "000001.json").write_text('{"step": 30}')
    log, events = RunLog(tmp_path / "log.jsonl", -1), EventFile(tmp_path, 1, -1)
    scores.start(tmp_path / "000001.onnx", done=29)  # made by steps that were undone
    assert scores.take(lambda: False, 1.0, log, events, print) is None
    scores.start(tmp_path / "000001.onnx", done=70)
    assert scores.take(lambda: False, 1.0, log, events, lambda _: None) == 0.5
    assert json.loads((tmp_path / "log.jsonl").read_text())["step"] == 30


@pytest.mark.parametrize(("first", "lines"), [(29, 0), (30, 1), (40, 1)])
def test_a_match_of_a_model_that_was_undone_has_no_score(tmp_path, first, lines):
    config = replace(CONFIG, arena=ArenaConfig(games=2))
    scores = Scores(Played(), config, 0.0, print)  # pyright: ignore[reportArgumentType]
    log, events = RunLog(tmp_path / "log.jsonl", -1), EventFile(tmp_path, 1, -1)
    (tmp_path / "000001.json").write_text('{"step": 30}')
    scores.start(tmp_path / "000001.onnx", done=45)
    scores.undo(first)
    scores.take(lambda: False, 1.0, log, events, lambda _: None)
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == lines


def test_a_match_that_fails_is_named_once_and_the_run_goes_on(tmp_path):
    said = []
    config = replace(CONFIG, arena=ArenaConfig(games=2))
    scores = Scores(Played(error="no such opponent."), config, 0.0, said.append)  # pyright: ignore[reportArgumentType]
    log, events = RunLog(tmp_path / "log.jsonl", -1), EventFile(tmp_path, 1, -1)
    (tmp_path / "000001.json").write_text('{"step": 30}')
    scores.start(tmp_path / "000001.onnx", done=45)
    for _ in range(2):
        assert scores.take(lambda: False, 1.0, log, events, print) is None
    line = {"kind": "score_error", "step": 30, "elapsed": 1.0, "error": "no such opponent."}
    assert [json.loads(text) for text in (tmp_path / "log.jsonl").read_text().splitlines()] == [line]
    assert said == ["no score of the model of step 30: no such opponent."]


def test_the_process_of_a_match_says_why_it_has_none(tmp_path):
    process = ScoreProcess()
    process.start(ScoreJob("tictactoe", tmp_path / "no.onnx", "random", 2, 4, 0))
    failed = process.finished(lambda: True)
    assert failed is not None
    assert "no.onnx" in failed["error"]
    process.start(ScoreJob("tictactoe", tmp_path / "no.onnx", "random", 2, 4, 0))
    assert process._process is not None
    process._process.kill()
    assert process.finished(lambda: True) == {"error": "its process ended by SIGKILL"}


def test_only_a_deterministic_session_goes_on_counting():
    """A cause that was met three times ends a session; it must not end every later one at its first."""
    network = small_network("tictactoe")

    def watched():
        return EarlyWarnings(), HealthMetrics(network, torch.optim.Adam(network.parameters())), Counter(), Counter()

    warned_of, metrics, met, refused = watched()
    met["bad-row"], refused["000"] = 3, 3
    metrics.grad_norms.append(2.5)
    for step in range(3):
        warned_of.look(step, {"max_logit": 50.0})
    kept = remember(warned_of, metrics, met, refused)
    for seamless in (True, False):
        warned_of, metrics, met, refused = watched()
        restore(kept, warned_of, metrics, met, refused, seamless)
        assert (met["bad-row"], refused["000"]) == ((3, 3) if seamless else (0, 0))
        assert list(metrics.grad_norms) == [2.5]
        warnings = warned_of.look(3, {"max_logit": 50.0})
        assert [warning.since for warning in warnings] == ([] if seamless else [0])
