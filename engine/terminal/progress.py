"""What a long run shows while it runs: a live panel for a person, plain lines now and then for a pipe."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypedDict

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.style import Style
from rich.table import Table
from rich.text import Text

from az.engine.terminal.board import Look
from az.engine.terminal.live import ROOM, LiveView

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-:=+*#"
KEPT = 512  # points of a curve
PLAIN_EVERY = 10.0  # seconds between two lines in a pipe


class TrainingStats(TypedDict, total=False):
    """What a training run reports; every field may be missing, and a missing one keeps its last value."""

    games: int
    positions: int
    positions_per_second: float
    policy_loss: float
    value_loss: float
    entropy: float  # of the policy, in nats
    learning_rate: float
    step: int  # version of the network
    total_steps: int
    window: int  # rows in the replay
    window_size: int
    arena: float  # last score against the earlier model, 0 to 1
    thrown: float  # share of solved positions in which the network alone gives the result away
    elapsed: float  # seconds
    left: float  # seconds
    nodes: str  # of a cluster: how many, their rates and faults
    incident: str  # the folder of the newest incident
    stage: str | Callable[[], str]  # what is going on; a function is asked again for every drawing; "" = nothing to say


def sparkline(values: Sequence[float], width: int, unicode: bool = True) -> str:
    """A curve in one line of text; numbers that are not finite leave a gap."""
    bars = BARS if unicode else ASCII_BARS
    if len(values) > width > 0:  # means of equal stretches
        edges = [i * len(values) // width for i in range(width + 1)]
        values = [_mean(values[a:b]) for a, b in pairwise(edges)]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0
    return "".join(
        bars[min(len(bars) - 1, int((value - low) / span * len(bars)))] if math.isfinite(value) else " "
        for value in values
    )


def incident_link(folder: str) -> Text:
    """The command that opens an incident's page, never cut; a link to the page, or to the folder as long as there is
    none, where the terminal follows links."""
    place = Path(folder).absolute()
    page = place / "page.html"
    link = (page if page.is_file() else place).as_uri()
    return Text.assemble(("incident: ", "dim"), (f"az doctor {folder}", Style(link=link)), overflow="fold")


def _mean(values: Sequence[float]) -> float:
    finite = [value for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan


def duration(seconds: float) -> str:
    """`1:02:03` or `4:05`."""
    if not math.isfinite(seconds) or seconds < 0:
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Display(ABC):
    """A panel that redraws itself in a terminal, or lines in a pipe. Showing must never stop the work it shows."""

    def __init__(
        self, console: Console | None, every: float = PLAIN_EVERY, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.console = console or Console(highlight=False, markup=False, emoji=False)
        self.every = every
        self.clock = clock
        self.begun = clock()
        self._printed = -math.inf
        self._said = ""
        self._broken = False
        self._live: LiveView | None = None
        if self.console.is_terminal and not self.console.is_dumb_terminal:
            self._live = LiveView(self.console, self.panel)

    @abstractmethod
    def panel(self) -> RenderableType:
        """The live view."""

    @abstractmethod
    def line(self) -> str:
        """The same in one plain line."""

    def message(self, text: str, warning: bool = False) -> None:
        """A line that stays, above the live view."""
        style = "yellow" if warning and Look.of(self.console).color else ""
        self._safely(lambda: self.console.print(Text(("warning: " if warning else "") + text, style)))

    def changed(self, now: bool = False) -> None:
        """Show the news: the live view redraws by itself, a pipe gets a line when it is time."""
        if self._live is None and (now or self.clock() - self._printed >= self.every):
            text = self.line()
            if not (now and text == self._said):  # the last line twice would tell nothing
                self._safely(lambda: self.console.print(Text(text), soft_wrap=True))
            self._printed, self._said = self.clock(), text

    def _safely(self, show: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            show()
        except OSError:  # the terminal has gone; the run goes on
            self._broken = True

    def __enter__(self) -> Self:
        if self._live is not None:
            self._safely(self._live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._safely(self._live.stop)
        elif self._said or kind is None:  # of work that never began there is nothing to tell
            self.changed(now=True)


class TrainingDisplay(_Display):
    """A training run. Use as a context manager; call `update` with any of the fields of TrainingStats."""

    def __init__(
        self,
        title: str,
        console: Console | None = None,
        every: float = PLAIN_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title = title
        self.stats: dict[str, float] = {}
        self.losses: deque[float] = deque(maxlen=KEPT)
        self.arenas: deque[float] = deque(maxlen=KEPT)
        self.thrown: deque[float] = deque(maxlen=KEPT)
        self.notes: deque[tuple[str, bool]] = deque(maxlen=1)
        self.incident = self.nodes = ""
        self.stage: Callable[[], str] = str
        self.between: Callable[[], str] = str  # what is told while there is no stage and no step yet
        super().__init__(console, every, clock)

    def update(self, stats: Mapping[str, Any] | TrainingStats) -> None:
        """Show the news; unknown fields are kept and not shown."""
        if "stage" in stats:
            stage: Any = stats["stage"]
            self.stage = (lambda: stage) if isinstance(stage, str) else stage
        self.incident = str(stats.get("incident", self.incident))
        self.nodes = str(stats.get("nodes", self.nodes))
        news = {name: float(value) for name, value in stats.items() if isinstance(value, int | float)}
        self.stats.update(news)
        if "policy_loss" in news or "value_loss" in news:
            self.losses.append(news.get("policy_loss", 0.0) + news.get("value_loss", 0.0))
        if "arena" in news:
            self.arenas.append(news["arena"])
        if "thrown" in news:
            self.thrown.append(news["thrown"])
        self.changed()

    def message(self, text: str, warning: bool = False) -> None:
        self.notes.append((text, warning))
        super().message(text, warning)

    def _stage(self) -> str:
        return self.stage() or ("" if "step" in self.stats else self.between())

    def _get(self, name: str, form: str = ",.0f") -> str:
        value = self.stats.get(name)
        return "–" if value is None else format(value, form)

    def _elapsed(self) -> float:
        return self.stats.get("elapsed", self.clock() - self.begun)

    def _fraction(self) -> float | None:
        total = self.stats.get("total_steps", 0.0)
        if total > 0:
            return min(1.0, max(0.0, self.stats.get("step", 0.0) / total))
        if "left" in self.stats and self._elapsed() + self.stats["left"] > 0:
            return min(1.0, self._elapsed() / (self._elapsed() + self.stats["left"]))
        return None

    def _left(self) -> float | None:
        fraction = self._fraction()
        if "left" in self.stats:
            return self.stats["left"]
        return self._elapsed() * (1 / fraction - 1) if fraction else None

    def line(self) -> str:
        stage = self._stage()
        if stage and "step" not in self.stats:  # nothing is counted yet
            return f"{duration(self._elapsed())}  {stage}"
        parts = [f"{duration(self._elapsed())}", f"step {self._get('step')}", f"games {self._get('games')}"]
        parts += [f"positions {self._get('positions')} ({self._get('positions_per_second')}/s)"]
        parts += [f"policy {self._get('policy_loss', '.4f')}", f"value {self._get('value_loss', '.4f')}"]
        parts += [f"entropy {self._get('entropy', '.3f')}", f"lr {self._get('learning_rate', '.2g')}"]
        parts += [f"window {self._get('window')}"]
        if self.arenas:
            parts.append(f"arena {100 * self.arenas[-1]:.1f} %")
        if self.thrown:
            parts.append(f"result given away {100 * self.thrown[-1]:.1f} %")
        left = self._left()
        if left is not None:
            parts.append(f"left {duration(left)}")
        if self.nodes:
            parts.append(self.nodes)
        return "  ".join(parts)

    def panel(self) -> RenderableType:
        look = Look.of(self.console)
        width = max(20, look.width - ROOM)
        inside = width - 4
        rows: list[RenderableType] = [self._figures(inside), Text()]
        if self.losses:
            rows.append(self._curve("loss", self.losses, format(self.losses[-1], ".3f"), inside, look))
        if self.arenas:
            rows.append(self._curve("arena", self.arenas, f"{100 * self.arenas[-1]:.0f} %", inside, look))
        if self.thrown:  # of solved positions, by the network alone
            rows.append(self._curve("mistakes", self.thrown, f"{100 * self.thrown[-1]:.1f} %", inside, look))
        if self.nodes:
            rows.append(Text(self.nodes, no_wrap=True, overflow="ellipsis"))
        rows.append(self._bar(inside))
        if stage := self._stage():
            rows.append(Text(stage, "dim", no_wrap=True, overflow="ellipsis"))
        if self.notes:
            text, warning = self.notes[-1]
            rows.append(
                Text("warning: " * warning + text, "yellow" if warning else "dim", no_wrap=True, overflow="ellipsis")
            )
        if self.incident:
            rows.append(incident_link(self.incident))
        return Panel(Group(*rows), title=self.title, border_style="cyan", width=width)

    def _figures(self, inside: int) -> Table:
        cells = [
            ("network", f"step {self._get('step')}"),
            ("games", self._get("games")),
            ("positions", self._get("positions")),
            ("positions/s", self._get("positions_per_second")),
            ("policy loss", self._get("policy_loss", ".4f")),
            ("value loss", self._get("value_loss", ".4f")),
            ("entropy", self._get("entropy", ".3f")),
            ("learn rate", self._get("learning_rate", ".2g")),
            ("window", self._get("window") + (f" / {self._get('window_size')}" if "window_size" in self.stats else "")),
            ("last arena", f"{100 * self.arenas[-1]:.1f} %" if self.arenas else "–"),
        ]
        pairs = 2 if inside >= 56 else 1
        table = Table.grid(padding=(0, 2), expand=pairs == 2)
        for _ in range(pairs):
            table.add_column(style="dim", no_wrap=True)
            table.add_column(justify="right", no_wrap=True)
        height = -(-len(cells) // pairs)
        for row in range(height):
            table.add_row(*[self._figure(text) for cell in cells[row::height] for text in cell])
        return table

    def _figure(self, text: str) -> Text:
        return Text(text, "bold red" if text in ("nan", "inf", "-inf") else "")

    def _curve(self, name: str, values: Sequence[float], last: str, inside: int, look: Look) -> Text:
        curve = sparkline(list(values), max(4, inside - 8 - len(last)), look.unicode)
        return Text.assemble((f"{name:<7}", "dim"), (curve, "green"), " ", last, no_wrap=True)

    def _bar(self, inside: int) -> RenderableType:
        fraction, left = self._fraction(), self._left()
        if fraction is None:
            return Text(f"{duration(self._elapsed())} so far", "dim")
        words = f" {100 * fraction:.0f} %  {duration(self._elapsed())}"
        words += f" + {duration(left)}" if left is not None else ""
        table = Table.grid()
        table.add_row(ProgressBar(total=1.0, completed=fraction, width=max(4, inside - len(words))), Text(words))
        return table


class MatchDisplay(_Display):
    """A match of two players: won, drawn and lost in the view of the first, and the Elo interval."""

    def __init__(
        self,
        title: str,
        games: int,
        console: Console | None = None,
        every: float = PLAIN_EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title = title
        self.games = games
        self.wins = self.draws = self.losses = 0
        self.elo: tuple[float, float, float] | None = None
        super().__init__(console, every, clock)

    def update(self, wins: int, draws: int, losses: int, elo: tuple[float, float, float] | None = None) -> None:
        """The standing so far; elo: (low, middle, high)."""
        self.wins, self.draws, self.losses, self.elo = wins, draws, losses, elo
        self.changed()

    @property
    def played(self) -> int:
        """Games that are finished."""
        return self.wins + self.draws + self.losses

    def line(self) -> str:
        text = f"{self.title}: {self.played}/{self.games} games  +{self.wins} ={self.draws} -{self.losses}"
        if self.played:
            text += f"  {100 * (self.wins + self.draws / 2) / self.played:.1f} %"
        if self.elo is not None:
            low, middle, high = self.elo
            text += f"  Elo {middle:+.0f} [{low:+.0f}, {high:+.0f}]"
        return text

    def panel(self) -> RenderableType:
        elapsed = self.clock() - self.begun
        words = f" {duration(elapsed)}"
        if self.played:
            words += f" + {duration(elapsed * max(0, self.games - self.played) / self.played)}"
        width = max(4, min(60, self.console.width - ROOM - len(words)))
        table = Table.grid()
        table.add_row(ProgressBar(total=max(1, self.games), completed=self.played, width=width), Text(words))
        return Group(Text(self.line()), table)
