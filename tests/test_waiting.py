"""What is shown while something slow begins: a line that moves in a terminal, few lines in a pipe."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading

import pytest
from rich.console import Console

from az.engine.selfplay import warmup as warm
from az.engine.system.waiting import Waiting
from az.engine.terminal.progress import TrainingDisplay
from az.engine.terminal.session import _Moving


class Terminal(io.StringIO):
    """A terminal that remembers what was written, and says when something new was."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn = threading.Semaphore(0)

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.drawn.release()
        return super().write(text)


def test_a_terminal_gets_one_line_that_moves_and_goes(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "20")
    stream, count = Terminal(), iter(range(100))
    with Waiting(stream) as waiting:
        waiting.stage(lambda: f"reading {next(count)} of many many files")
        for _ in range(2):
            assert stream.drawn.acquire(timeout=30)
    text = stream.getvalue()
    assert "\n" not in text
    assert "\r\x1b[Kreading 0 of many …\r\x1b[Kreading 1" in text
    assert text.endswith("\r\x1b[K")


@pytest.mark.parametrize("terminal", [False, True])
def test_a_pipe_and_a_dumb_terminal_get_lines_and_not_many(monkeypatch, terminal):
    monkeypatch.setenv("TERM", "dumb")
    now = [100.0]
    monkeypatch.setattr("az.engine.system.waiting.time.monotonic", lambda: now[0])
    stream = Terminal() if terminal else io.StringIO()
    with Waiting(stream) as waiting:
        for number in range(250):
            waiting.stage(f"step {number}")
            now[0] += 0.1
    assert stream.getvalue() == "step 101\nstep 202\n"  # none for a wait of less than ten seconds


def test_a_stream_that_breaks_does_not_stop_the_work(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    tried = []

    class Broken(Terminal):
        def write(self, text: str) -> int:
            tried.append(text)
            raise BrokenPipeError

    with Waiting(Broken()) as waiting:
        waiting.stage("x")
    assert tried


def test_the_panel_asks_again_for_the_stage():
    stream = io.StringIO()
    console = Console(file=stream, width=60, force_terminal=False)
    display, made = TrainingDisplay("t", console), [0]
    display.update({"stage": lambda: f"self-play: {made[0]} simulations"})
    made[0] = 7
    console.print(display.panel())
    assert "self-play: 7 simulations" in stream.getvalue()
    assert "self-play: 7 simulations" in display.line()
    display.update({"step": 3})
    assert "simulations" not in display.line()


def test_a_wait_in_a_game_says_what_is_compiled(monkeypatch):
    monkeypatch.setattr(warm, "_told", ["compiling function 3 of about 70: gather"])
    words = _Moving("getting ready …")
    assert str(words.__rich__()) == "getting ready … compiling function 3 of about 70: gather"
    warm._remember("")
    assert str(words.__rich__()) == "getting ready …"


@pytest.mark.slow
def test_compiling_names_what_it_compiles_and_counts(tmp_path):
    code = (
        "from az.engine.game import load_game\nfrom az.engine.selfplay.warmup import FUNCTIONS, warm_up\ntold = []\n"
        "warm_up(load_game('tictactoe'), None, told.append)\n"
        "assert any('gather' in line for line in told), told[-2]\n"
        "done = int(told[-2].split()[2])\nassert abs(done - FUNCTIONS) <= 8, told[-2]\n"
    )
    environment = {**os.environ, "AZ_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
