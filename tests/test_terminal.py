"""The live displays: lines in a pipe, a panel in a terminal, and neither ever stops the work."""

from __future__ import annotations

import io
import math

import pytest
from rich.console import Console

from az.engine.game import load_game
from az.engine.terminal.board import Look, draw, picture
from az.engine.terminal.live import ROOM
from az.engine.terminal.progress import MatchDisplay, TrainingDisplay, duration, sparkline


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def piped() -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, width=80), out


def test_a_pipe_gets_a_line_every_ten_seconds():
    console, out = piped()
    clock = Clock()
    with TrainingDisplay("train", console, clock=clock) as display:
        for _ in range(100):
            clock.now += 0.5
            display.update({"games": 7, "step": 10, "total_steps": 40, "policy_loss": 1.25, "elapsed": clock.now})
        display.message("the gate refused step 5", warning=True)
    lines = out.getvalue().splitlines()
    assert len([line for line in lines if "games 7" in line]) in (5, 6)
    assert "policy 1.2500" in lines[0]
    assert "left" in lines[0]
    assert "warning: the gate refused step 5" in lines
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize("width", [24, 40, 80, 200])
def test_the_panel_fits_its_window(width):
    console = Console(file=io.StringIO(), width=width, force_terminal=True)
    display = TrainingDisplay("train connect4", console)
    display.update({"policy_loss": 1.0, "value_loss": math.nan, "step": 1, "total_steps": 3})
    display.update({"policy_loss": 0.5, "value_loss": 0.5, "arena": 0.62, "window": 5, "window_size": 10})
    display.notes.append(("a long message " * 20, True))
    plain = Console(file=io.StringIO(), width=width, color_system=None)
    plain.print(display.panel())
    shown = plain.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    assert max(map(len, shown.splitlines())) <= width - ROOM
    if width >= 80:
        assert "│ warning: a long message" in shown  # not told by a colour alone
        assert "last arena" in shown
        assert "62 %" in shown


def test_a_live_display_leaves_the_cursor_visible_after_an_error():
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    display = TrainingDisplay("train", console)
    with pytest.raises(RuntimeError), display:
        raise RuntimeError
    assert out.getvalue().rfind("\x1b[?25h") > out.getvalue().rfind("\x1b[?25l")


def test_a_terminal_that_goes_away_does_not_stop_the_run():
    tried: list[str] = []

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            tried.append(text)
            raise OSError(5, "Input/output error")

    with MatchDisplay("A vs B", 10, Console(file=Gone(), width=80), every=0.0) as display:
        display.update(1, 0, 0)
        display.message("still here")
    assert tried


def test_a_match_line_has_the_score_and_the_interval():
    console, out = piped()
    with MatchDisplay("A vs B", 10, console, every=0.0) as display:
        display.update(3, 2, 1, (-20.0, 60.0, 150.0))
    assert "A vs B: 6/10 games  +3 =2 -1  66.7 %  Elo +60 [-20, +150]" in out.getvalue()


def test_sparklines_and_durations():
    assert sparkline([0, 1, 2, 3], 10) == "▁▃▆█"
    assert sparkline([math.nan, 1.0], 10) == " ▁"
    assert sparkline([], 10) == ""
    assert len(sparkline(list(range(1000)), 30)) == 30
    assert (duration(65), duration(3661), duration(math.nan)) == ("1:05", "1:01:01", "?")


def test_a_picture_of_a_board_is_svg():
    game = load_game("connect4")
    svg = picture(draw(game, game.parse_position("4453"), Look(80, True, True)), "connect four")
    assert svg.startswith("<svg")
    assert "●" in svg
