"""A run that is asked to stop, at any stage: one sentence, a checkpoint of what was done, and no process left."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from make_models import make_run, small_config
from processes import Marked
from run_tools import command, digests, run_az, settings

from az.engine.game import load_game
from az.engine.system.stopping import Stopped, on_stop_signal, raise_stopped
from az.train import checkpoint
from az.train.run.deterministic import play_turn
from az.train.run.folder import RunFolder
from az.train.run.worker_pool import DEATH_SECONDS, MOST_DEATHS, DeathRate

TRAIN = command("train", "tictactoe", "--run", "t", "--steps", 1_000_000, *settings())
STAGES = {
    "imports": lambda _, pid: catches_sigterm(pid),
    "first model": lambda run, _: (run / "config.toml").exists(),
    "workers": lambda run, _: any((run / "checkpoints").glob("step-*")),
    "training": lambda run, _: "step" in kinds(run),
}


def catches_sigterm(pid: int) -> bool:
    """Whether the process has got as far as its own handlers: before, the system's default ends it silently."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def kinds(run: Path) -> list[str]:
    path = run / "log.jsonl"
    return [json.loads(line)["kind"] for line in path.read_text().split("\n")[:-1]] if path.exists() else []


@pytest.mark.parametrize(
    ("number", "stage"),
    [
        (signal.SIGTERM, "imports"),
        (signal.SIGHUP, "first model"),
        (signal.SIGINT, "workers"),
        (signal.SIGHUP, "training"),
    ],
)
def test_asked_to_stop(tmp_path: Path, number: signal.Signals, stage: str) -> None:
    code = _stop(tmp_path, number, stage, 0.0)
    assert code == 0 or (stage != "training" and code == 128 + number)


def test_a_deterministic_run_drops_the_turn_that_it_plays(tmp_path: Path) -> None:
    """The turn would take minutes; its games leave no trace, so a resumed run plays the same ones."""
    long = settings(games_per_turn=10_000, selfplay__simulations=1600, selfplay__slots=512)
    run = tmp_path / "runs" / "t"
    train = command("train", "tictactoe", "--run", "t", "--deterministic", "--steps", 20, *long)
    with Marked(train, tmp_path, stdout=subprocess.PIPE, text=True) as process:
        process.wait_for(lambda: any((run / "checkpoints").glob("step-*")))
        time.sleep(1.5)  # into the search
        before = digests(run)
        asked = time.monotonic()
        process.main.send_signal(signal.SIGTERM)
        said, _ = process.main.communicate(timeout=60)
        seconds = time.monotonic() - asked
    assert process.main.returncode == 0
    assert "from the end of the last turn" in said
    assert digests(run) == before
    assert seconds < 30  # about 1, and the turn would take minutes; the machine may have much else to do


def test_a_dropped_turn_is_played_again_to_the_byte(tmp_path: Path) -> None:
    game, folder = load_game("tictactoe"), RunFolder(make_run(tmp_path / "a"))
    config = replace(small_config(), games_per_turn=8)
    asked = itertools.count()

    def play(stopping: Callable[[], bool]) -> object:
        return play_turn(folder, game, config, folder.models / "000000.onnx", 0, stopping=stopping)

    assert play(lambda: next(asked) >= 20) is None
    assert list(folder.records.iterdir()) == []
    after_a_stop, bytes_after = play(lambda: False), digests(folder.records)
    assert play(lambda: False) == after_a_stop
    assert digests(folder.records) == bytes_after
    assert next(asked) > 20


def test_a_stop_that_a_library_swallows_is_not_lost() -> None:
    """`except:` around an import, a weak reference's callback: what is raised there goes no further."""
    with on_stop_signal(raise_stopped):
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped) as stopped, on_stop_signal(lambda _: None):
            pytest.fail("the run begins")
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    with on_stop_signal(lambda _: None):  # the next command of this process is not stopped
        pass


class StopsWhenFreed:
    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # the signal is handled in here


def test_a_stop_where_nothing_can_be_raised_is_silent_and_not_lost() -> None:
    """Python prints a traceback of its own for what a callback raises."""
    shown: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "unraisablehook", shown.append)
        with on_stop_signal(raise_stopped):
            thing = StopsWhenFreed()
            del thing
            with pytest.raises(Stopped), on_stop_signal(lambda _: None):
                pytest.fail("the run begins")
    assert shown == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_stop_at_every_stage(tmp_path: Path, number: signal.Signals) -> None:
    moments = [("imports", 0.2 * k) for k in range(12)] + [(stage, 0.2 * k) for stage in STAGES for k in range(3)]
    for k, (stage, delay) in enumerate(moments):
        (tmp_path / str(k)).mkdir()
        code = _stop(tmp_path / str(k), number, stage, delay)
        assert code == 0 or (stage != "training" and code == 128 + number)
    print(f"\n{number.name}: {len(moments)} moments, no traceback, no process, no temporary file")


def _stop(folder: Path, number: signal.Signals, stage: str, delay: float) -> int:
    """Send the signal to the whole group, as a terminal and a service manager do; the exit code."""
    run = folder / "runs" / "t"
    with Marked(TRAIN, folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.wait_for(lambda: STAGES[stage](run, process.main.pid))
        time.sleep(delay)
        os.killpg(process.main.pid, number)
        shown, said = process.main.communicate(timeout=120)
        assert "Traceback" not in said, said
        assert process.left_after_kill() == []
    assert "replaced" not in shown
    if process.main.returncode == 0:
        found, reasons = checkpoint.latest(run)
        assert found is not None
        assert not reasons
        assert "az: stopped" not in said
        assert stage != "training" or found.step >= 1
    else:
        assert process.main.returncode == 128 + number
        assert said.strip().splitlines()[-1] == "az: stopped."
    assert not list(folder.rglob(".*.tmp-*"))
    return process.main.returncode


def test_a_closed_terminal_leaves_a_checkpoint(tmp_path: Path) -> None:
    """The terminal's other side is closed: the system sends SIGHUP, and nothing can be printed any more."""
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    train = Marked(TRAIN, tmp_path, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **streams)
    os.close(theirs)
    run = tmp_path / "runs" / "t"
    with train as process:
        os.set_blocking(ours, False)
        process.wait_for(lambda: _drained(ours) and "step" in kinds(run))
        os.close(ours)
        assert process.main.wait(120) in (0, 2)
        assert process.left_after_kill() == []
    found, reasons = checkpoint.latest(run)
    assert found is not None
    assert found.step >= 1
    assert not reasons


@pytest.mark.slow
@pytest.mark.parametrize("from_first_child", [False, True])
def test_ctrl_c_shows_no_traceback(tmp_path: Path, from_first_child: bool) -> None:
    """In a terminal, every 0.25 s from az's own handlers on, and every 0.1 s from the first worker on."""
    for k in range(20):
        delay = k * (0.1 if from_first_child else 0.25)
        (tmp_path / str(k)).mkdir()
        shown = _shown_after_ctrl_c(tmp_path / str(k), from_first_child, delay)
        assert "Traceback" not in shown, f"{delay:.2f} s: {shown}"
        assert "KeyboardInterrupt" not in shown, f"{delay:.2f} s: {shown}"


def _shown_after_ctrl_c(folder: Path, from_first_child: bool, delay: float) -> str:
    ours, theirs = pty.openpty()
    streams = {"stdin": theirs, "stdout": theirs, "stderr": theirs}
    train = Marked(TRAIN, folder, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0), **streams)
    os.close(theirs)
    shown = bytearray()

    def read(seconds: float = 0.0) -> bool:
        """Whether the terminal is still open."""
        while select.select([ours], [], [], seconds)[0]:
            try:
                shown.extend(os.read(ours, 65_536))
            except OSError:
                return False
        return True

    with train as process:
        pid = process.main.pid
        process.wait_for(lambda: read() and (process.others() if from_first_child else catches_sigterm(pid)))
        end = time.monotonic() + delay
        while (left := end - time.monotonic()) > 0:
            read(min(left, 0.05))
        os.write(ours, b"\x03")
        while process.main.poll() is None or process.others():
            if not read(0.1):
                break
        assert process.main.wait(120) in (0, 130)
    os.close(ours)
    return shown.decode(errors="replace")


def _drained(terminal: int) -> bool:
    try:
        while os.read(terminal, 65_536):
            pass
    except BlockingIOError:
        return True
    return False


def test_nohup_is_respected(tmp_path: Path) -> None:
    steps = command("train", "tictactoe", "--run", "t", "--steps", 40, *settings())
    with Marked(["nohup", *steps], tmp_path) as process:
        process.wait_for(lambda: any((tmp_path / "runs" / "t" / "checkpoints").glob("step-*")))
        os.killpg(process.main.pid, signal.SIGHUP)
        assert process.main.wait(120) == 0
    found, _ = checkpoint.latest(tmp_path / "runs" / "t")
    assert found is not None
    assert (found.step, found.extra["finished"]) == (40, True)


def test_a_worker_that_is_killed_is_replaced_and_the_log_says_why(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "t"
    with Marked(TRAIN, tmp_path, stdout=subprocess.PIPE, text=True) as process:
        process.wait_for(lambda: any((run / "records").glob("*.npz")))
        workers = [p for p in process.others() if "spawn_main" in " ".join(p.cmdline())]
        assert len(workers) == 2
        for worker in workers:
            worker.kill()
        process.wait_for(lambda: kinds(run).count("worker") == 2)
        process.main.send_signal(signal.SIGTERM)
        said, _ = process.main.communicate(timeout=120)
        assert process.main.returncode == 0
    assert "ended by SIGKILL and was replaced (the system does that when memory runs out" in " ".join(said.split())
    entries = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {e["worker"]: e["ended"] for e in entries if e["kind"] == "worker"} == {0: "by SIGKILL", 1: "by SIGKILL"}


def test_workers_may_die_now_and_then_for_ever() -> None:
    rate = DeathRate(2)
    assert not any(rate.too_high(k * (DEATH_SECONDS + 1) / MOST_DEATHS / 2) for k in range(1, 1000))


def test_workers_that_die_at_every_start_end_the_run() -> None:
    rate = DeathRate(2)
    assert [rate.too_high(float(k)) for k in range(11)] == [False] * 10 + [True]


def test_a_removed_lock_still_refuses_a_second_process(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "t"
    with Marked(TRAIN, tmp_path) as process:
        process.wait_for((run / "log.jsonl").exists)
        (run / "lock").unlink()
        refused = run_az(tmp_path, "resume", "t")
        assert refused.returncode == 2
        assert "in use by another process" in refused.stderr
        refused = run_az(tmp_path, "resume", "t")  # the one before has made a new file `lock`
        assert refused.returncode == 2
        assert process.main.poll() is None
