"""A run as one file, out and in; a configuration from a file."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path

import pytest
from command_line import run_az
from make_models import make_run, write_model
from test_runs import LINES, write_log
from test_wrong_requests import check_sentence

from az.commands import run_files
from az.commands.train import _begin_with
from az.engine.errors import WrongRequest
from az.engine.records.container import sealed
from az.engine.runs import archive
from az.train.config import to_toml
from az.train.presets import preset

QUICK = ("replay.min_rows=8", "learner.batch=8", "selfplay.simulations=4", "selfplay.fast_simulations=4")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the run a and its file a.zip."""
    monkeypatch.chdir(tmp_path)
    write_log(make_run(Path("runs/a")), LINES, '{"kind":"st')
    answer = run_az("export-run", "a", "a.zip")
    assert (answer.code, answer.err) == (0, "")
    return tmp_path


def test_a_run_goes_out_and_comes_in(place):
    run = place / "runs/a"
    first = (place / "a.zip").read_bytes()
    assert run_az("export-run", "a@0", "b.zip").code == 0
    assert (place / "b.zip").read_bytes() == first
    check_sentence(run_az("import-run", "a.zip"), 2, "choose another name with --name")
    answer = run_az("import-run", "a.zip", "--name", "c")
    assert (answer.code, answer.err) == (0, "")
    made = place / "runs/c"
    for name in ("config.toml", "models/000000.onnx", "models/000000.json"):
        assert (made / name).read_bytes() == (run / name).read_bytes()
    assert not list((place / "runs").glob(".*"))
    listed = {one["name"]: one for one in json.loads(run_az("runs", "list", "--json").out)["runs"]}
    assert listed["c"]["state"] == "ended"
    assert listed["c"]["model"] == 0
    assert run_az("arena", "c", "random", "--games", "2", "--sims", "2", "--json").code == 0
    check_sentence(run_az("resume", "c"), 2, "to train on, export it with --checkpoint where it was trained")
    check_sentence(run_az("train", "tictactoe", "--from", "c"), 2, "was imported without a checkpoint")
    assert run_az("export-run", "c", "again.zip").code == 0


def test_a_run_is_begun_from_one_that_came_with_its_checkpoint(place):
    assert run_az("export-run", "a", "b.zip", "--checkpoint").code == 0
    answer = run_az("import-run", "b.zip", "--name", "c")
    assert answer.out.splitlines()[-1] == "Train on from it: az train tictactoe --from c"
    old = max((place / "runs/a/checkpoints").glob("step-*"))
    new = place / "runs/c/checkpoints" / old.name
    assert {path.name: path.read_bytes() for path in old.iterdir()} == {p.name: p.read_bytes() for p in new.iterdir()}
    check_sentence(run_az("resume", "c"), 2, "begin a new run from it with `az train GAME --from c`")
    check_sentence(run_az("train", "connect4", "--from", "c", "--steps", "1"), 1, "is of tictactoe")
    more = [part for text in QUICK for part in ("--set", text)]
    begun = run_az("train", "tictactoe", "--from", "c", "--run", "d", "--deterministic", "--steps", "1", *more)
    assert begun.code == 0, begun.err
    assert (place / "runs/d/checkpoints/step-000000001").is_dir()
    shutil.rmtree(old.parent)
    check_sentence(run_az("export-run", "a", "e.zip", "--checkpoint"), 2, "has no checkpoint")


def test_a_checkpoint_that_does_not_fit_is_refused(place):
    assert run_az("export-run", "a", "b.zip", "--checkpoint").code == 0
    parts = parts_of(place / "b.zip")
    weights, state = "checkpoint.weights.safetensors", "checkpoint.state.json"
    refused(place, packed(resealed(parts, **{weights: b"evil"})), "is not the one of its manifest")
    without = {name: data for name, data in parts.items() if name != "checkpoint.manifest.json"}
    refused(place, packed(resealed(without)), "checkpoint.manifest.json cannot be read")
    wrong = {"game": "connect4"}, {"step": -1}
    for changed, says in zip(wrong, ("its checkpoint is of connect4", "does not say its step"), strict=True):
        told = json.dumps(json.loads(parts[state]) | changed).encode()
        manifest = json.loads(parts["checkpoint.manifest.json"])
        manifest["files"]["state.json"] = hashlib.sha256(told).hexdigest()
        both = {state: told, "checkpoint.manifest.json": json.dumps(manifest).encode()}
        refused(place, packed(resealed(parts, **both)), says)


def test_the_file_is_what_a_model_hub_takes(place):
    with zipfile.ZipFile(place / "a.zip") as container:
        assert container.testzip() is None
        names = container.namelist()
        card = container.read("README.md").decode()
        score = json.loads(container.read("score.json"))
    assert {"README.md", "config.toml", "model.onnx", "model.json", "score.json", "manifest.json"} <= set(names)
    head, text = card.split("---\n")[1:3]
    assert 'library_name: az\npipeline_tag: reinforcement-learning\ntags:\n- "alphazero"' in head
    assert '- "tictactoe"' in head
    assert "| solved positions given away |" in text
    assert "| learner.batch | 8 |" in text
    assert score["measured"][0]["scale"] == "solved"


def test_what_cannot_be_written(place):
    check_sentence(run_az("export-run", "a", "a.zip"), 2, "--force")
    assert run_az("export-run", "a", "a.zip", "--force").code == 0
    check_sentence(run_az("export-run", "a", "no/a.zip"), 2, "there is no folder 'no'")
    check_sentence(run_az("export-run", "a@7", "c.zip"), 2, "has no model '7'")
    check_sentence(run_az("export-run", "x", "c.zip"), 2, "there is no run 'x'")
    (place / "runs/a/models/000000.onnx").write_bytes(b"no model")
    check_sentence(run_az("export-run", "a", "c.zip"), 1, "is refused")
    assert not (place / "c.zip").exists()


def parts_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as container:
        return {name: container.read(name) for name in container.namelist()}


def packed(parts: dict[str, bytes], whole: bool = True) -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as container:
        for name, data in parts.items():
            container.writestr(name, data)
    return sealed(kept.getvalue()) if whole else kept.getvalue()


def resealed(parts: dict[str, bytes], **changes: bytes | str) -> dict[str, bytes]:
    """The parts with some changed, under a manifest that fits them again."""
    manifest = json.loads(parts["manifest.json"])
    parts = {name: data for name, data in parts.items() if name != "manifest.json"}
    for name, value in changes.items():
        if isinstance(value, bytes):
            parts[name] = value
        else:
            manifest[name] = value
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in parts.items()}
    return {"manifest.json": json.dumps(manifest).encode(), **parts}


def refused(place: Path, data: bytes, says: str) -> None:
    (place / "bad.zip").write_bytes(data)
    before = sorted(place.rglob("*"))
    check_sentence(run_az("import-run", "bad.zip", "--name", "new"), 1, says)
    assert sorted(place.rglob("*")) == before


def test_hostile_files_are_refused_and_leave_nothing(place):
    parts = parts_of(place / "a.zip")
    whole = (place / "a.zip").read_bytes()
    refused(place, b"", "is damaged")
    refused(place, b"PK" * 300, "was changed after it was written")
    for cut in (10, 200, len(whole) - 5):
        refused(place, whole[:cut], "")
    at = len(whole) // 2
    refused(place, whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "checksum")
    for name in ("../evil", "/etc/evil", "models/../../evil", "evil.py", "model.onnx\\evil", "C:evil", "x/"):
        refused(place, packed({**parts, name: b"x"}), "az puts no such file into one")
    refused(
        place, packed({name: data for name, data in parts.items() if name != "model.onnx"}), "model.onnx is missing"
    )
    refused(place, packed({**parts, "README.md": b"other"}), "checksum does not match")
    refused(place, packed({**parts, "manifest.json": b"[" * 10_000}), "is no run that az has exported")
    refused(place, packed(resealed(parts, name="../x")), "its name is '../x'")
    refused(place, packed(resealed(parts, model="../x")), "its model is '../x'")
    refused(place, packed(resealed(parts, format="az-records")), "format is az-records")
    refused(place, packed(resealed(parts, game="connect4")), "its configuration is of tictactoe")
    refused(place, packed(resealed(parts, **{"config.toml": b"evil = 1"})), "there is no key 'evil'")
    refused(place, packed(resealed(parts, **{"model.json": b"{}"})), "is the card of another model")
    refused(place, packed(resealed(parts, **{"score.json": b"[]"})), "is not an object")
    other = write_model(place / "other.onnx", "connect4").read_bytes()
    refused(place, packed(resealed(parts, **{"model.onnx": other})), "plays connect4")
    refused(place, packed(resealed(parts, **{"model.onnx": b"evil"})), "is refused")


def test_bombs_are_refused_before_they_are_unpacked(place):
    parts = parts_of(place / "a.zip")
    bomb = packed({**parts, "README.md": bytes(300 << 20)})
    assert len(bomb) < 1 << 20
    refused(place, bomb, "README.md has 314,572,800 bytes")
    lying = bytearray(packed({**parts, "README.md": bytes(8 << 20)}, whole=False))
    size = (8 << 20).to_bytes(4, "little")
    at = lying.rfind(size)  # in the directory, which then says less than there is
    assert at > 0
    lying[at : at + 4] = (100).to_bytes(4, "little")
    refused(place, sealed(bytes(lying)), "is no run that az has exported")
    many = packed({**parts, **{f"x{i}": b"" for i in range(100)}})
    refused(place, many, "its directory is not that of an exported run")


def test_a_pipe_and_a_missing_file(place):
    check_sentence(run_az("import-run", "none.zip"), 2, "none.zip")
    os.mkfifo(place / "pipe")
    check_sentence(run_az("import-run", "pipe"), 2, "not a regular file")
    check_sentence(run_az("import-run", "a.zip", "--name", "../x"), 2, "is no name for a run")


def test_too_large_is_refused_on_writing_too(place, monkeypatch):
    monkeypatch.setitem(archive.MOST, "model.onnx", 10)
    check_sentence(run_az("export-run", "a", "c.zip"), 1, "at most 10 fit")
    assert not (place / "c.zip").exists()


def test_a_configuration_from_a_file(tmp_path):
    file = tmp_path / "c.toml"
    config = preset("connect4", "quick")
    file.write_text(to_toml(config))
    assert _begin_with(None, None, str(file)) == config
    file.write_text('game = "tictactoe"\nseed = 5\n[learner]\nbatch = 64\n')
    found = _begin_with("tictactoe", None, str(file))
    assert (found.seed, found.learner.batch, found.preset) == (5, 64, "quick")
    assert found.selfplay == preset("tictactoe", "quick").selfplay  # keys left out are the preset's
    assert _begin_with(None, "seed", str(file)).preset == "seed"
    for text, says in (
        ("learner.bach = 1", "there is no key 'learner.bach': did you mean learner.batch"),
        ("game = 'tictactoe'\n[learner]\nbatch = 'x'", "a whole number"),
        ("seed = 1", "names no game"),
        ("game = 'connect4'", "is of connect4, not of tictactoe"),
        ("game = ", "is not TOML"),
        ("x = 1", "there is no key 'x'"),
    ):
        file.write_text(text)
        with pytest.raises(WrongRequest, match=r"c\.toml") as caught:
            _begin_with("tictactoe" if "game" in text and "[" not in text else None, None, str(file))
        assert says in str(caught.value)


def test_training_with_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_sentence(run_az("train"), 2, "missing argument 'game'")
    check_sentence(run_az("train", "--config", "none.toml"), 2, "cannot be read")
    (tmp_path / "c.toml").write_text(
        'game = "tictactoe"\nsteps = 900\ndeterministic = true\n[net]\nblocks = 1\nchannels = 8\n'
        "[replay]\nmin_rows = 8\n[learner]\nbatch = 8\n[selfplay]\nsimulations = 4\nfast_simulations = 4\n"
    )
    check_sentence(run_az("train", "--config", "c.toml", "--minutes", "1"), 2, "cannot be limited by --minutes")
    assert not (tmp_path / "runs").exists()
    answer = run_az("train", "--config", "c.toml", "--steps", "2", "--run", "r", "--set", "learner.batch=4")
    assert answer.code == 0, answer.err
    told = (tmp_path / "runs/r/config.toml").read_text()
    assert "\nsteps = 2 " in told
    assert "\nbatch = 4 " in told
    assert "\nchannels = 8 " in told


def test_a_run_that_came_meanwhile_stays(place, monkeypatch):
    begun = place / "runs/late/config.toml"

    def slowly(*given):
        begun.parent.mkdir()
        begun.write_text("another's")
        return check(*given)

    check = run_files._check
    monkeypatch.setattr(run_files, "_check", slowly)
    with pytest.raises(WrongRequest, match="is there already"):
        run_files.import_run(place / "a.zip", "late")
    assert begun.read_text() == "another's"
    assert sorted(path.name for path in (place / "runs").iterdir()) == ["a", "late"]


def test_any_other_file_is_not_called_damaged(place):
    (place / "README.md").write_text("# words\n" * 99)
    check_sentence(run_az("import-run", "README.md"), 1, "is no run that az has exported")
