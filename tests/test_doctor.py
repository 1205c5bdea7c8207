"""`az doctor`: real incidents of a small run, looked at, run again, drawn; and requests that cannot be met."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from html import unescape
from pathlib import Path

import pytest
import torch
from command_line import run_az
from finished_run import GAME, RECORDS, FinishedRun, flushes_denormals

from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.train import learner as learner_module
from az.train.replay import Batch


def poison_value(replay, drawn: Batch) -> None:
    """One outcome in memory becomes 1e30."""
    column = replay._rows["outcome"]
    column.data[column.head + int(drawn.rows[3]) - replay.first_row] = 1e30


def overconfident_loss(logits, value, policy, mask, target, masked):  # noqa: ARG001
    """A policy loss written by hand: it takes the logarithm of a softmax that has become 0."""
    log_probs = torch.log(torch.softmax(logits * 3000, 1))
    return -(policy * log_probs).sum(1).mean(), (value - target).square().mean(), log_probs


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return FinishedRun(tmp_path_factory.mktemp("doctor") / "a")


@pytest.mark.parametrize("flushed", [False, True])
def test_the_run_of_these_tests_leaves_denormals_as_they_were(tmp_path, flushed):
    before = flushes_denormals()
    torch.set_flush_denormal(flushed)
    try:
        with pytest.MonkeyPatch.context() as patch:
            FinishedRun(tmp_path / "a").incident(patch, poison=poison_value)
        assert flushes_denormals() == flushed
    finally:
        torch.set_flush_denormal(before)


@pytest.fixture(scope="module")
def poisoned(finished):
    with pytest.MonkeyPatch.context() as patch:
        return finished.incident(patch, poison=poison_value)


@pytest.fixture(scope="module")
def wrong_loss(finished):
    with pytest.MonkeyPatch.context() as patch:
        return finished.incident(patch, loss=overconfident_loss)


@pytest.fixture
def moved(finished, poisoned, tmp_path):
    """A copy of the run, to be damaged; the copy's incident."""
    shutil.copytree(finished.path, tmp_path / "copy")
    return tmp_path / "copy" / "health" / poisoned.name


def facts_of(*words: object) -> dict:
    answer = run_az("doctor", *words, "--json")
    assert answer.code == 0, answer.err
    assert "NaN" not in re.sub(r'"[^"]*"', "", answer.out)
    return json.loads(answer.out)


def parsed(page: Path) -> ET.Element:
    """The page, which is XML as well: whatever was in the incident is escaped."""
    return ET.fromstring(page.read_text("utf-8").partition("\n")[2])


def rewritten(folder: Path, change) -> None:
    value = json.loads((folder / "incident.json").read_bytes())
    change(value)
    (folder / "incident.json").write_text(json.dumps(value))


# -- an incident -------------------------------------------------------------------------------------------------


def test_a_row_that_went_bad_in_memory_is_found_again_and_the_step_fails_again(poisoned):
    facts = facts_of(poisoned)
    assert (facts["kind"], facts["cause"], facts["plane"]) == ("incident", "value-out-of-range", "data")
    assert facts["replay_now"]["verdict"] == "bit-exact", facts["replay_now"]
    row = next(row for row in facts["origins"] if row["batch_row"] == 3)
    assert row["game_again"]["same_state"]
    assert row["game_again"]["same_policy"]
    assert row["game_again"]["same_value"]
    assert row["file_says"].endswith(": sound")
    assert len(row["differs"]) == 1
    mixed = 0.75 * row["should"]["outcome"] + 0.25 * row["should"]["root_value"]
    told = re.fullmatch(r"value is (\S+) in the batch, should be (\S+)", row["differs"][0])
    assert told is not None
    held, should = told.groups()
    assert float(held) == pytest.approx(7.5e29)
    assert float(should) == pytest.approx(mixed, rel=1e-4)
    assert sum(row["should"]["policy"].values()) <= 1.001
    assert row["board"].count("\n") >= 2


def test_the_words_begin_with_the_answer_and_end_with_the_page(poisoned):
    answer = run_az("doctor", poisoned)
    lines = answer.out.splitlines()
    assert lines[0] == "Step 1: a value target outside [-1, +1] (data: value-out-of-range)."
    assert "  repair: Leave these rows out; mend what wrote them." in lines
    assert "bit-exact" in answer.out
    assert "max_logit" in answer.out
    assert lines[-1].endswith("page.html")
    assert all("Traceback" not in line for line in lines)


def test_a_fault_of_the_code_is_the_same_under_that_code_and_does_not_come_back_without_it(wrong_loss, monkeypatch):
    facts = facts_of(wrong_loss)
    assert facts["replay_now"]["verdict"] == "did not come back"
    assert "not in the bundle" in facts["replay_now"]["text"]
    monkeypatch.setattr(learner_module, "data_losses", overconfident_loss)
    facts = facts_of(wrong_loss)
    assert facts["replay_now"]["verdict"] == "bit-exact", facts["replay_now"]["text"]
    assert facts["replay_now"]["op"] == facts["op"]
    assert all(row["differs"] == [] for row in facts["origins"])


def test_another_machine_is_named(moved):
    rewritten(moved, lambda value: value["about"]["environment"].update(torch="1.0", threads=1))
    now = facts_of(moved)["replay_now"]
    assert now["verdict"] == "same verdict on another machine"
    assert now["differs"] == {"torch": ["1.0", torch.__version__]}


def test_the_page_opens_with_the_answer_and_draws_the_way(wrong_loss, tmp_path):
    page = tmp_path / "out.html"
    assert facts_of(wrong_loss, "--no-replay", "--html", page)["page"] == str(page)
    root = parsed(page)
    title, svg = root.find("body/section/h1"), root.find(".//svg[@id='picture']")
    assert title is not None
    assert svg is not None
    assert "".join(title.itertext()).startswith("Step 1: ")
    nodes = {g.get("data-node"): g.get("class", "") for g in svg.iter("g")}
    assert {"batch", "f.stem", "f.blocks.0", "f.policy", "f.value", "loss", "b.loss", "b.stem", "optimizer", "buffers"} <= nodes.keys()  # fmt: skip  # noqa: E501
    assert sum("born" in kind for kind in nodes.values()) == 1
    listed = {stop.get("data-node") for stop in root.findall(".//ol[@id='way']/li")}
    assert listed == {name for name, kind in nodes.items() if "reached" in kind}
    assert "f.stem" not in listed
    assert {button.get("id") for button in root.iter("button")} == {"first", "back", "play", "next", "last"}
    assert root.findall(".//svg[@class='curve']")


def test_the_page_loads_nothing(poisoned, tmp_path):
    page = tmp_path / "out.html"
    facts_of(poisoned, "--no-replay", "--html", page)
    content = page.read_text("utf-8")
    assert not re.search(r"\b(src|href|action)=|url\((?!#)|@import|https?:", content)
    assert "default-src 'none'" in unescape(content)
    assert "prefers-color-scheme: dark" in content


def test_whatever_an_incident_says_is_escaped(moved, tmp_path):
    bad = "</pre><script>alert(1)</script> \x00\x1b[31m \ud800 & \" '"

    def change(value):
        value["incident"]["evidence"]["text"] = [bad]
        value["incident"]["notes"] = [bad]
        value["incident"]["module"] = value["incident"]["source"] = bad
        value["incident"]["evidence"]["spread"] = [{"phase": "forward", "module": bad, "op": bad}]
        value["incident"]["evidence"]["operands"] = [{"role": bad, "shape": [bad], "nans": 1}]
        value["origins"][0]["model"] = value["about"]["run"] = bad

    rewritten(moved, change)
    page = tmp_path / "out.html"
    facts_of(moved, "--no-replay", "--html", page)
    root = parsed(page)
    assert len(list(root.iter("script"))) == 1
    assert "alert" not in root.findtext(".//script", "")
    out = run_az("doctor", moved, "--no-replay").out
    assert "\x1b" not in out
    assert "\x00" not in out


def test_what_is_gone_is_said_in_a_line(moved):
    run = moved.parent.parent
    (run / "records" / RECORDS).unlink()
    row = facts_of(moved)["origins"][0]
    assert row["file_says"] == f"its record file {RECORDS} is gone"
    assert row["game_again"]["played"]  # its parameters are the checkpoint's
    assert row["differs"][0].startswith("value is 7.5e+29 in the batch, should be ")
    shutil.rmtree(run / "models")
    row = facts_of(moved)["origins"][0]
    assert "is no longer in the run's models" in row["game_again"]["text"]
    assert (row["should"], row["board"]) == (None, None)
    assert run_az("doctor", moved).code == 0


def test_a_record_file_that_was_changed_cannot_be_read_and_its_game_can_be_played(moved):
    path = moved.parent.parent / "records" / RECORDS
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    (moved.parent.parent / "quarantine").mkdir()
    (moved.parent.parent / "quarantine" / RECORDS).write_bytes(data)
    path.unlink()
    row = facts_of(moved)["origins"][0]
    assert row["file_says"].startswith("its record file cannot be read: ")
    assert row["board"] is not None


def test_no_replay_runs_nothing(poisoned, monkeypatch):
    monkeypatch.setattr("az.commands.doctor.replay_step", None)
    monkeypatch.setattr("az.train.doctor.rows.SelfplayBatch", None)
    facts = facts_of(poisoned, "--no-replay")
    assert facts["replay_now"]["verdict"] == "not replayed"
    assert facts["origins"][0]["board"] is not None


def test_incidents_from_outside_the_step_are_told_too(finished, tmp_path):
    from az.train.run import bundle
    from az.train.run.incidents import of_file, of_search

    shutil.copytree(finished.path, tmp_path / "b")
    path = tmp_path / "b" / "records" / RECORDS
    evaluator = OnnxEvaluator(tmp_path / "b" / "models" / "000000.onnx", GAME)
    state = GAME.new_state()
    fault = {"cause": "no-legal-mass", "k": 5, "ply": 0, "model_id": evaluator.model_id, "state": state.tolist(), "text": "t"}  # fmt: skip  # noqa: E501
    about = {"game": "tictactoe", "run": "b", "progress": 0.0, "seed": 0}
    health = tmp_path / "b" / "health"
    log = tmp_path / "b" / "log.jsonl"
    incident, origins = of_search(fault, 0, 3)
    searched = bundle.write(health / "incident-0101", incident, origins, about, None, log)
    facts = facts_of(searched)
    assert facts["replay_now"]["verdict"] == "not replayed"
    assert facts["origins"][0]["board"] == GAME.render(state)
    parsed(searched / "page.html")
    from az.engine.errors import Refused

    incident, origins = of_file(path, Refused(f"{path}: the checksum does not match."), 3)
    refused = bundle.write(health / "incident-0102", incident, origins, about, None, log)
    assert facts_of(refused)["replay_now"]["verdict"] == "did not come back"
    path.unlink()
    assert facts_of(refused)["replay_now"]["text"] == f"the record file {RECORDS} is gone"


# -- a run -------------------------------------------------------------------------------------------------------


def test_a_run_tells_its_signs_its_warnings_and_its_incidents(finished, poisoned, tmp_path):
    facts = facts_of(finished.path, "--html", tmp_path / "run.html")
    assert (facts["kind"], facts["steps"]) == ("run", 180)
    signs = {sign["name"]: sign for sign in facts["signs"]}
    assert signs.keys() == {"max_logit", "variance_ratio"}
    assert (signs["max_logit"]["last"], signs["max_logit"]["least"], signs["max_logit"]["threshold"]) == (36.0, 4.0, 30.0)  # fmt: skip  # noqa: E501
    assert signs["max_logit"]["above"]
    assert not signs["variance_ratio"]["above"]
    assert signs["variance_ratio"]["greatest"] == 1e7
    assert Path(facts["incidents"][0]["folder"]).name == poisoned.name
    assert facts["incidents"][0]["cause"] == "value-out-of-range"
    root = parsed(tmp_path / "run.html")
    assert "the logits grow <fast>" in "".join(root.itertext())
    out = run_az("doctor", finished.path).out
    assert f"{poisoned.name}  step 1: a value target outside" in out
    assert "Look at one: az doctor " in out
    assert "the logits grow <fast>" in out


def test_a_run_without_incidents_and_with_a_half_written_log(finished, tmp_path):
    run = tmp_path / "c"
    shutil.copytree(finished.path, run)
    shutil.rmtree(run / "health")
    with (run / "log.jsonl").open("a") as file:
        file.write('{"kind":"st')
    (run / "quarantine").mkdir()
    (run / "quarantine" / "x.npz").write_bytes(b"")
    answer = run_az("doctor", run)
    assert answer.code == 0
    assert "no incident, 1 warning, 1 record file put aside." in answer.out.splitlines()[0]
    assert "put aside: x.npz: no reason was recorded" in answer.out
    (run / "log.jsonl").unlink()
    assert "no health metrics yet" in run_az("doctor", run).out


def test_a_broken_incident_does_not_hide_the_others(finished, tmp_path):
    run = tmp_path / "d"
    shutil.copytree(finished.path, run)
    (run / "health" / "incident-0050").mkdir()
    (run / "health" / "incident-0051").mkdir()
    (run / "health" / "incident-0051" / "incident.json").write_text("[]")
    out = run_az("doctor", run).out
    assert "incident-0050  it has no incident.json" in out
    assert "incident-0051  it cannot be read" in out


# -- requests that cannot be met ------------------------------------------------------------------------------------


def wrong(*words: object, code: int = 2) -> str:
    answer = run_az("doctor", *words)
    assert (answer.code, answer.out, answer.err.count("\n")) == (code, "", 1), answer
    return answer.err


def test_what_is_neither_a_run_nor_an_incident(tmp_path, finished):
    assert "there is no run or incident 'nowhere'" in wrong("nowhere")
    assert "is neither a run nor an incident" in wrong(tmp_path)
    assert "is neither a run nor an incident" in wrong(finished.path / "config.toml")
    assert wrong("")
    assert wrong(tmp_path / "incident.json")


@pytest.mark.parametrize("name", ["batch.safetensors", "timeline.jsonl", "incident.json"])
def test_a_damaged_bundle_is_refused(moved, name):
    path = moved / name
    path.write_bytes(path.read_bytes()[:-7] + b"xxxxxxx")
    assert name in wrong(moved, code=1)
    path.unlink()
    assert wrong(moved, code=1 if name != "incident.json" else 2)


@pytest.mark.parametrize(
    "change",
    [
        {"evidence": []},
        {"rows": ["x"]},
        {"notes": None},
        {"evidence": {"operands": ["x"]}},
        {"evidence": {"spread": 3}},
        {"counterfactual": "x"},
        {"phase": None},
        {"first_bad_step": None},
    ],
)
def test_an_incident_with_fields_of_another_kind_is_refused(moved, change):
    rewritten(moved, lambda value: value["incident"].update(change))
    assert "is damaged" in wrong(moved, "--no-replay", code=1)


def test_a_page_that_cannot_be_written_is_said(poisoned, tmp_path):
    (tmp_path / "file").write_text("")
    assert wrong(poisoned, "--no-replay", "--html", tmp_path / "file" / "x.html")
