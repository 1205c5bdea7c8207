"""The live view in a real terminal (tmux's): whole after the window was resized, whole after Ctrl-C."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console
from rich.text import Text

from az.engine.terminal.live import ROOM, LiveView

SHOW = """
import time
from az.engine.terminal.progress import TrainingDisplay
try:
    with TrainingDisplay("t") as display:
        display.message("a message that stays")
        display.update({"step": 1, "policy_loss": 1.0, "elapsed": 5.0})
        time.sleep(60)
except KeyboardInterrupt:
    print("stopped.")
"""


class Window:
    """A terminal of tmux with one program in it."""

    def __init__(self, folder: Path) -> None:
        (folder / "show.py").write_text(SHOW)
        self._socket = str(folder / "s")
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "80", "-y", "24", "sh")
        self.tmux("send-keys", f"PS1='$ '; clear; '{sys.executable}' '{folder}/show.py'", "Enter")

    def tmux(self, *words: str) -> str:
        env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "TMUX")}
        command = ["tmux", "-S", self._socket, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20, env=env).stdout

    def until(self, holds: Callable[[list[str]], bool]) -> list[str]:
        """The screen's lines as soon as this holds of them."""
        deadline = time.monotonic() + 30
        while not holds(lines := self.tmux("capture-pane", "-p").rstrip("\n").split("\n")):
            assert time.monotonic() < deadline, "\n".join(lines)
            time.sleep(0.1)
        return lines


@pytest.fixture
def window(tmp_path: Path) -> Iterator[Window]:
    if shutil.which("tmux") is None:
        pytest.skip("there is no tmux")
    found = Window(tmp_path)
    found.until(lambda lines: "╭" in "".join(lines))
    yield found
    found.tmux("kill-server")


def whole(lines: list[str]) -> bool:
    """One frame, closed, with nothing of an older one above it."""
    text = "\n".join(lines)
    frames = (text.count("╭"), text.count("╮"), text.count("╰"), text.count("╯"))
    inside = [line for line in lines if line.startswith("│")]
    return frames == (1, 1, 1, 1) and all(line.endswith("│") for line in inside) and text.count("entropy") == 1


def test_a_resized_window_has_one_whole_frame(window):
    for width, height in ((60, 20), (120, 30), (40, 24), (30, 24), (80, 24)):
        window.tmux("resize-window", "-x", str(width), "-y", str(height))
        window.until(lambda lines, wide=width - ROOM: whole(lines) and max(map(len, lines)) == wide)
    assert "a message that stays" in window.tmux("capture-pane", "-p", "-S", "-200")


def test_ctrl_c_leaves_one_whole_frame(window):
    window.tmux("send-keys", "C-c")
    assert whole(window.until(lambda lines: "stopped." in lines))


def test_nothing_is_drawn_while_the_window_is_pulled_and_nothing_is_erased_after():
    out = io.StringIO()
    console = Console(file=out, width=80, height=24, force_terminal=True)
    view = LiveView(console, lambda: Text("view"))
    view.draw()
    for width, drawn in ((70, False), (60, False), (60, True), (60, True), (90, False), (90, True)):
        begun = len(out.getvalue())
        console.width = width
        view.draw()
        new = out.getvalue()[begun:]
        assert ("view" in new) == drawn
        assert ("\n" * 23 + "\x1b[H" in new) == ("\x1b[H" in new)
        assert "\x1b[2J" not in new
    assert out.getvalue().count("\x1b[H") == 2
    view.stop()
