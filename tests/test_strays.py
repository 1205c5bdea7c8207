"""Names in a run that az did not give, and names and links in it that would lead out of it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from command_line import Answer, run_az
from make_models import make_run, small_config
from reseal import reseal_checkpoint, rewrite_records
from test_records import SEARCH, TICTACTOE, play_games

from az.engine.inference.model_resolver import newest_model
from az.engine.records.format import write_records
from az.train.run import names as run_names

RECORD = "0001-000000-000.npz"


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A run with two checkpoints, a model and a record file, that has had its steps: it goes on without self-play."""
    place = tmp_path_factory.mktemp("place")
    run = make_run(place / "runs" / "run", config=small_config(steps=1))
    write_records(run / "records" / RECORD, TICTACTOE, play_games(TICTACTOE, 3), 3, SEARCH)
    return place


@pytest.fixture
def run(stock, tmp_path, monkeypatch):
    shutil.copytree(stock, tmp_path / "place")
    (tmp_path / "place" / "victim.txt").write_text("precious\n")
    monkeypatch.chdir(tmp_path / "place")
    return Path("runs/run")


def set_counters(run: Path, **values: object) -> None:
    """The counters of every checkpoint changed, and its checksums corrected."""
    for folder in (run / "checkpoints").iterdir():
        state = json.loads((folder / "state.json").read_bytes())
        state["extra"] |= values
        (folder / "state.json").write_text(json.dumps(state))
        reseal_checkpoint(folder)


def deterministic_ends_at(run: Path, turns: int) -> None:
    """Records of later turns would be made again."""
    set_counters(run, turns=turns)


def sentences(answer: Answer) -> list[str]:
    """What was said of an error; the progress of loading and compiling stands on stderr too."""
    return [line for line in answer.err.splitlines() if not line.startswith(("loading", "compiling"))]


STRAYS = {
    "records": ["1abc.npz", "12.npz", "notes.txt", "0001-000000-000 (copy).npz", "0001-000000-000.npz.bak"],
    "models": ["000012 copy.json", "000012.bak.json", "12.json", "best.onnx", "²²²²²².onnx", "٠٠٠٠٠١.onnx"],
    "checkpoints": ["step-000000002 copy", "step-2", "step-٠٠٠٠٠٠٠٠٩", "old"],
    "health": ["incident-0001 copy", "incident-x", "incident-00001.bak"],
}


def test_names_that_az_does_not_give_are_left_alone_and_mentioned_once(run):
    deterministic_ends_at(run, 1)
    for folder, names in STRAYS.items():
        for name in names:
            (run / folder / name).write_bytes(b"mine")
    shutil.copytree(run / "checkpoints" / "step-000000002", run / "checkpoints" / "step-000000003.bak")
    for name in ("records/0001-000009-000.npz", "models/000009.json", "models/\x1b[31m\U0004b45b"):
        (run / name).mkdir()  # folders in the place of files are none of az's either
    answer = run_az("resume", "run")
    assert (answer.code, sentences(answer)) == (0, [])
    told = " ".join(answer.out.split())
    assert told.count("left alone, for az gives no such names") == 1
    assert "records/0001-000000-000 (copy).npz" in told
    assert all(c.isprintable() or c == "\n" for c in answer.out)
    for folder, names in STRAYS.items():
        assert all((run / folder / name).read_bytes() == b"mine" for name in names)
    assert (run / "checkpoints" / "step-000000003.bak" / "state.json").is_file()
    assert newest_model(run / "models") == run / "models" / "000001.onnx"  # published at the end
    assert run_az("doctor", "runs/run", "--no-replay").code == 0
    assert [number for number, _ in run_names.incident_folders(run / "health")] == []


@pytest.mark.parametrize("name", ["../../../victim.txt", "{victim}", "../config.toml", "..", "", "x/../../victim.txt"])
def test_a_checkpoint_that_names_other_files_to_delete(run, name):
    set_counters(run, gone=[name.format(victim=Path("victim.txt").resolve()), RECORD])
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.name != "lock"}
    answer = run_az("resume", "run")
    assert (answer.code, len(sentences(answer))) == (1, 1)
    assert "extra.gone" in answer.err or "gone" in answer.err
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file() and path.name != "lock"}


def test_a_record_that_a_checkpoint_rightly_lists_is_deleted(run):
    set_counters(run, gone=[RECORD], turns=1)
    assert run_az("resume", "run").code == 0
    assert not (run / "records" / RECORD).exists()


@pytest.mark.parametrize("name", ["lock", "log.jsonl", "config.toml", "events.out.tfevents.0002.az"])
def test_a_file_that_leads_out_of_the_run_is_not_written(run, name):
    place = run / name
    if name == "config.toml":
        shutil.copy(place, "victim.txt")
    before = Path("victim.txt").read_bytes()
    place.unlink(missing_ok=True)
    place.symlink_to(Path("victim.txt").resolve())
    answer = run_az("resume", "run")
    assert (answer.code, len(sentences(answer))) == (1, 1)
    assert f"'runs/run/{name}' is a link" in answer.err
    assert Path("victim.txt").read_bytes() == before


@pytest.mark.parametrize("name", ["records", "models", "checkpoints", "health", "quarantine"])
def test_a_folder_that_leads_out_of_the_run_is_not_used(run, name):
    outside = Path("outside")
    if (run / name).exists():
        shutil.move(run / name, outside)
    else:
        outside.mkdir()
    (run / name).symlink_to(outside.resolve())
    before = sorted(outside.rglob("*"))
    answer = run_az("resume", "run")
    assert (answer.code, len(sentences(answer))) == (1, 1)
    assert f"'runs/run/{name}' is a link" in answer.err
    assert sorted(outside.rglob("*")) == before


def test_a_run_that_is_itself_a_link_goes_on(run):
    deterministic_ends_at(run, 1)
    Path("elsewhere").mkdir()
    shutil.move(run, "elsewhere/run")
    run.symlink_to(Path("elsewhere/run").resolve())
    assert run_az("resume", "run").code == 0


@pytest.mark.parametrize("name", ["log.jsonl", "lock", "events.out.tfevents.0002.az"])
def test_a_pipe_in_the_place_of_a_file_is_never_waited_for(run, name):
    (run / name).unlink(missing_ok=True)
    os.mkfifo(run / name)
    answer = run_az("resume", "run")
    assert (answer.code, len(sentences(answer))) == (1, 1)
    assert f"'runs/run/{name}' is no file" in answer.err


def test_record_files_of_every_bad_kind_are_put_aside_and_the_run_goes_on(run):
    deterministic_ends_at(run, 9)
    good, names = run / "records" / RECORD, [f"0001-00000{number}-000.npz" for number in range(1, 6)]
    for name in names[:2]:
        shutil.copy(good, run / "records" / name)
    rewrite_records(run / "records" / names[0], lambda header, _: header.pop("seed") and None)
    rewrite_records(run / "records" / names[1], lambda header, _: header.update(games=[[2**63 - 1, 5, 1, 0]]))
    os.mkfifo(run / "records" / names[2])
    (run / "records" / names[3]).symlink_to("/dev/zero")
    (run / "records" / names[4]).symlink_to(Path("victim.txt").resolve())
    answer = run_az("resume", "run")
    assert (answer.code, sentences(answer)) == (0, [])
    assert sorted(path.name for path in (run / "quarantine").glob("*.npz")) == names
    assert sorted(path.name for path in (run / "records").iterdir()) == [RECORD]
    assert Path("victim.txt").read_text() == "precious\n"


@pytest.mark.parametrize("name", ["log.jsonl", "events.out.tfevents.0001.az"])
def test_a_log_that_is_far_too_large_is_neither_read_nor_lost(run, name):
    """A hole of 64 GB behind good lines: no run writes so much, and reading it would take minutes."""
    with (run / name).open("wb") as file:
        file.write(b'{"kind":"step"}\n')
        file.truncate(1 << 36)
    answer = run_az("resume", "run")
    assert (answer.code, len(sentences(answer))) == (1, 1)
    assert f"{name}' has more than" in answer.err
    assert (run / name).stat().st_size == 1 << 36
    assert run_az("doctor", "runs/run").code == 0
