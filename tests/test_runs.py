"""`az runs`: list, compare, plot, delete; a configuration from a file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import run_az
from make_models import make_run, small_config
from test_wrong_requests import check_sentence

from az.engine.errors import WrongRequest
from az.engine.runs import remove, summary
from az.engine.runs.compare import differences
from az.engine.runs.log import read_log, read_on
from az.engine.runs.state import held, is_running
from az.engine.runs.strength import last_before, measured
from az.train.run import lock as lock_module
from az.train.run.lock import RunLock

LINES = [
    {"kind": "solved", "step": 0, "model": 0, "thrown": {"all": 0.6}, "of": {"all": 100}},
    *({"kind": "step", "step": s, "rows": 10 * s, "elapsed": 2.0 * s, "total": 2.0, "simulations": 50 * s,
       "entropy": 1.0, "policy_loss": 1.5, "value_loss": 0.5} for s in (1, 20, 40)),
    {"kind": "solved", "step": 20, "model": 1, "thrown": {"all": 0.3}, "of": {"all": 100}},
    {"kind": "solved", "step": 40, "model": 2, "thrown": {"all": 0.2}, "of": {"all": 100}},
    {"kind": "score", "step": 40, "opponent": "random", "elo": 120.0, "elo_low": 60.0, "elo_high": 190.0},
]  # fmt: skip


def write_log(run: Path, lines: list[dict], end: str = "") -> None:
    (run / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + end)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two runs, a and b."""
    monkeypatch.chdir(tmp_path)
    config = small_config()
    write_log(make_run(Path("runs/a"), config=config), LINES, '{"kind":"st')
    other = replace(config, seed=3, learner=replace(config.learner, batch=16))
    write_log(make_run(Path("runs/b"), config=other), LINES[:3] + LINES[4:5])
    return tmp_path


def test_the_list(place):
    (place / "runs/a/health/incident-0001").mkdir()
    answer = run_az("runs")
    assert (answer.code, answer.err) == (0, "")
    head, a, b = answer.out.splitlines()
    assert head.split() == ["run", "game", "preset", "state", "steps", "time", "incidents", "strength"]
    assert a.split()[:9] == ["a", "tictactoe", "quick", "stopped", "40", "1.3", "min", "1", "20.0"]
    assert "[13.3, 28.9]" in a  # Wilson, of 20 in 100
    assert "+120 Elo [+60, +190] (Elo against random)" in a
    assert b.startswith("b ")
    found = json.loads(run_az("runs", "list", "--json").out)["runs"]
    assert [one["name"] for one in found] == ["a", "b"]
    assert found[0]["strength"][0]["high"] == pytest.approx(0.289, abs=1e-3)


def test_a_list_without_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "az train GAME" in run_az("runs").out
    check_sentence(run_az("runs", "compare", "a", "b"), 2, "there are no runs here")


def test_a_damaged_run_is_listed_and_does_not_stop_the_list(place):
    (place / "runs/a/config.toml").write_bytes(b"\xff\x00")
    (place / "runs/a/log.jsonl").write_bytes(b"\xff\n[1]\n" + b"[" * 5000 + b"\n")
    out = run_az("runs").out
    assert "cannot be read" in out
    assert "\nb " in out
    check_sentence(run_az("runs", "compare", "a", "b"), 1, "it is not TOML")


def test_states(place):
    run = place / "runs/a"
    assert not is_running(run)
    lock = RunLock(run)
    lock.acquire()
    try:
        assert is_running(run)
        assert json.loads(run_az("runs", "list", "--json").out)["runs"][0]["state"] == "running"
        with pytest.raises(WrongRequest, match="in use"), held(run):
            pass
    finally:
        lock.release()
    state = next(iter(sorted((run / "checkpoints").iterdir(), reverse=True))) / "state.json"
    told = json.loads(state.read_text())
    told["extra"]["finished"] = True
    state.write_text(json.dumps(told))
    assert json.loads(run_az("runs", "list", "--json").out)["runs"][0]["state"] == "ended"


def test_asking_never_keeps_a_run_from_starting(place, monkeypatch):
    """A shared lock that is held for a moment is waited for: here it is let go at the first try that fails."""
    run = place / "runs/a"
    code = "import sys\nfrom pathlib import Path\nfrom az.engine.runs.state import _locked\n"
    code += "with _locked(Path(sys.argv[1]), exclusive=False):\n    print(1, flush=True)\n    sys.stdin.read()"
    asking = subprocess.Popen([sys.executable, "-c", code, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert asking.stdin is not None
    assert asking.stdout is not None
    assert asking.stdout.readline() == b"1\n"
    paused = []

    def pause(_: float) -> None:
        paused.append(asking.poll())
        asking.kill()
        asking.wait()  # it is killed; with a timeout it would sleep, which is this

    monkeypatch.setattr(lock_module.time, "sleep", pause)
    lock = RunLock(run)
    lock.acquire()
    lock.release()
    assert paused[0] is None


@pytest.mark.usefixtures("place")
def test_compare():
    found = json.loads(run_az("runs", "compare", "a", "b", "--json").out)
    assert found["differences"] == {"seed": [0, 3], "learner.batch": [8, 16]}
    rows, seconds = found["equal"]
    assert (rows["scale"], rows["across"], rows["at"]) == ("solved", "rows", 200)
    assert [one["value"] for one in rows["runs"]] == [0.3, 0.3]
    assert (seconds["across"], seconds["at"]) == ("seconds", 40)
    text = run_az("runs", "compare", "a", "b").out
    assert "learner.batch  8" in text
    assert "200 rows: solved positions given away" in text
    check_sentence(run_az("runs", "compare", "a"), 2, "2 different runs")
    check_sentence(run_az("runs", "compare", "a", "a"), 2, "2 different runs")
    check_sentence(run_az("runs", "compare", "a", "bb"), 2, "did you mean b?")
    assert differences([{"x": True}, {"x": 1}]) == {"x": [True, 1]}
    assert differences([{"x": 1, "az_version": "1"}, {"x": 1, "az_version": "2"}]) == {}


def test_strength_is_the_newest_at_or_before():
    found = measured(LINES)
    assert [(one.scale, one.step, one.rows) for one in found] == [
        ("solved", 0, 0.0), ("solved", 20, 200.0), ("solved", 40, 400.0), ("elo random", 40, 400.0),
    ]  # fmt: skip
    assert (last_before(found, "solved", "rows", 399) or found[0]).step == 20
    assert last_before(found, "elo random", "seconds", 1) is None
    assert measured([{"kind": "solved", "step": "x"}, {"kind": "score", "step": 1, "elo": float("nan")}]) == []


@pytest.mark.parametrize(("name", "begin"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG")])
def test_plot(place, name, begin):
    os.rename("runs/b", "runs/$x_{$")
    kept = []
    for _ in range(2):
        answer = run_az("runs", "plot", "a", "runs/$x_{$", "--out", name)
        assert (answer.code, answer.err) == (0, "")
        kept.append((place / name).read_bytes())
    assert kept[0].startswith(begin)
    assert kept[0] == kept[1]
    check_sentence(run_az("runs", "plot", "a", "--out", "a.gif"), 2, "must end in .svg or .png")


def test_a_plot_of_nothing(place):
    (place / "runs/a/log.jsonl").unlink()
    check_sentence(run_az("runs", "plot", "a", "--out", "a.svg"), 2, "nothing to draw")
    assert not (place / "a.svg").exists()


def test_delete(place):
    check_sentence(run_az("runs", "delete", "a"), 2, "give --yes")
    assert (place / "runs/a/config.toml").is_file()
    (place / "runs/.old.deleted-1").mkdir()  # of a kill
    (place / "runs/.old.deleted-1/config.toml").touch()
    (place / "runs/.photos.deleted-2024").mkdir()  # not of az
    answer = run_az("runs", "delete", "a", "--yes")
    assert (answer.code, answer.err) == (0, "")
    assert sorted(path.name for path in (place / "runs").iterdir()) == [".photos.deleted-2024", "b"]
    check_sentence(run_az("runs", "delete", "a", "--yes"), 2, "there is no run 'a'")


def test_a_run_that_goes_on_is_not_deleted_nor_is_another_with_it(place):
    lock = RunLock(place / "runs/b")
    lock.acquire()
    try:
        check_sentence(run_az("runs", "delete", "a", "b", "--yes"), 2, "in use by another process")
    finally:
        lock.release()
    assert (place / "runs/a/config.toml").is_file()
    assert (place / "runs/b/config.toml").is_file()


def test_a_link_is_not_deleted(place):
    (place / "runs/c").symlink_to("a")
    check_sentence(run_az("runs", "delete", "c", "--yes"), 2, "is a link")
    assert (place / "runs/a/config.toml").is_file()


def test_a_kill_while_deleting_leaves_no_half_run(place, monkeypatch):
    def killed(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(remove.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        remove.delete(place / "runs/a")
    assert run_az("runs").out.count("tictactoe") == 1
    monkeypatch.undo()
    os.chdir(place)
    remove.delete(Path("runs/b"))
    assert list((place / "runs").iterdir()) == []


def test_the_question_names_what_is_not_of_az(place):
    from az.commands.runs import delete_runs

    (place / "runs/a/thesis.txt").write_text("x")
    asked = []
    assert delete_runs(["a"], lambda question: bool(asked.append(question))) == []
    assert "what az did not put there: thesis.txt" in asked[0]
    assert (place / "runs/a/thesis.txt").is_file()


def test_a_log_is_read_on_from_where_it_was(tmp_path):
    path = tmp_path / "log.jsonl"
    nothing = read_on(path, 0, "")
    assert (nothing.text, nothing.next, nothing.fresh) == ("", 0, False)
    path.write_text('{"a":1}\n{"b":')
    first = read_on(path, 0, "")
    assert (first.text, first.next, first.fresh, first.more) == ('{"a":1}\n', 8, True, False)
    assert read_on(path, first.next, first.id).text == ""
    with path.open("a") as file:
        file.write("2}\n")
    second = read_on(path, first.next, first.id)
    assert (second.text, second.fresh) == ('{"b":2}\n', False)
    path.write_text('{"c":3}\n')  # the same file, cut
    third = read_on(path, second.next, second.id)
    assert (third.text, third.fresh) == ('{"c":3}\n', True)
    other = tmp_path / "other"
    other.write_text('{"d":4}\n{"e":5}\n')
    os.replace(other, path)  # as RunLog.cut writes it fresh
    fourth = read_on(path, third.next, third.id, most=8)
    assert (fourth.text, fourth.fresh, fourth.more) == ('{"d":4}\n', True, True)
    path.unlink()
    assert read_on(path, 8, fourth.id).fresh


def test_a_line_without_end_and_what_is_no_file_do_not_stop_the_reading(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"x" * 100 + b'\n{"a":1}\n')
    first = read_on(path, 0, "", most=20)
    assert (first.text, first.next, first.more) == ("", 101, True)
    assert read_on(path, first.next, first.id, most=20).text == '{"a":1}\n'
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert read_on(pipe, 0, "").text == ""


def test_nothing_of_the_list_needs_torch():
    code = "import sys\nimport az.commands.runs, az.commands.run_files, az.train.health.early_warnings\n"
    code += "print([name for name in ('torch', 'filelock', 'pydantic', 'matplotlib') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


def test_a_log_that_grows_is_read_from_its_end_alone(tmp_path, monkeypatch):
    """A strength that was measured long ago is remembered; a log of another beginning is read whole again."""
    run, ends, read = make_run(tmp_path / "runs/a"), summary.LogEnds(), []
    monkeypatch.setattr(summary, "read_log", lambda path, most: read.append(most) or read_log(path, most))
    steps = [{"kind": "step", "step": 50 + i, "rows": 1, "elapsed": 1.0} for i in range(8000)]
    write_log(run, [*LINES, *steps])

    def asked() -> tuple[int, list[tuple[str, float]], list[int]]:
        read.clear()
        found = summary.summarize(run, ends)
        return found.steps, [(one.scale, one.value) for one in found.strength], list(read)

    short, long = summary.ENDS
    strength = [("solved", 0.2), ("elo random", 120.0)]
    assert asked() == (8049, strength, [short, long])
    assert asked() == (8049, strength, [])
    with (run / "log.jsonl").open("a") as file:
        file.write('{"kind":"step","step":9000}\n{"kind":"solved","step":9000,"thrown":{"all":0.1},"of":{"all":100}}\n')
    assert asked() == (9000, [("solved", 0.1), strength[1]], [short])
    write_log(run, LINES[:3])
    assert summary.summarize(run, ends).strength[0].value == 0.6
    (run / "log.jsonl").unlink()
    assert summary.summarize(run, ends).strength == []
