"""An incident's page: what it opens with, the way through backward; and the link to it on the live screen of a run."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from az.engine.terminal.live import ROOM
from az.engine.terminal.progress import TrainingDisplay
from az.train.doctor.html import incident_page
from az.train.health import FlightRecorder

WIDTHS, CHROMIUM = (360, 1280), shutil.which("chromium")


class Root(nn.Module):
    """The root of a sum of squares: its derivative at zero is infinite."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * x).sum(1).sqrt()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.root, self.last = nn.Linear(4, 4), Root(), nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.root(self.first(x))[:, None])


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    """What the doctor knows of a fault of backward, found by the recorder."""
    torch.manual_seed(0)
    model = Net()
    nn.init.zeros_(model.first.bias)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    recorder = FlightRecorder(model, optimizer)

    def step(batch: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()

    batch = torch.randn(3, 4)
    batch[1] = 0.0
    incident = recorder.run(step, batch)
    assert incident is not None
    assert incident.phase == "backward"
    told = {"folder": "runs/x/health/incident-0001", "words": incident.words(), **incident.to_json()}
    told |= {"network": {"kind": "other", "blocks": 0, "columns": []}, "timeline": [], "origins": []}
    told |= {"signs": [], "numbers": [], "warnings": [], "replay_now": {"text": "not run again: --no-replay"}}
    return told


def test_the_way_through_backward_ends_at_the_first_bad_operation(facts: dict[str, Any]) -> None:
    way = facts["evidence"]["backward"]
    assert [one["finite"] for one in way] == [True] * (len(way) - 1) + [False]
    assert [one["op"] for one in way] == [
        "MeanBackward0", "PowBackward0", "AddmmBackward0", "UnsqueezeBackward0", "SqrtBackward0"
    ]  # fmt: skip
    assert [one["module"] for one in way] == [None, None, "last", "", "root"]
    assert way[-1]["op"] == facts["op"]
    assert all("test_incident_page.py" in one["source"] for one in way)


def test_the_page_opens_on_the_cause_and_says_where_in_sentences(facts: dict[str, Any]) -> None:
    page = ET.fromstring(incident_page(facts).partition("\n")[2])
    body = page.find("body")
    assert body is not None
    first = body[0]
    assert [part.tag for part in first[:2]] == ["h1", "p"]
    assert facts["words"] in "".join(first[0].itertext())
    told = "".join(first[1].itertext())
    assert told.startswith("The first non-finite value was made in backward, by the operation SqrtBackward0, in the")
    assert "".join(first[2].itertext()) == "The tensor that was hit is the gradient of first.bias."
    assert "".join(first[3].itertext()) == "The state is that of before the step."
    items = ["".join(one.itertext()) for one in page.findall(".//ol[@class='backward']/li")]
    assert len(items) == 5
    assert "finite" in items[0]
    assert "in root" in items[-1]
    assert "non-finite, the first" in items[-1]


def test_without_a_way_there_is_no_section(facts: dict[str, Any]) -> None:
    old = {**facts, "evidence": {k: v for k, v in facts["evidence"].items() if k != "backward"}}  # of an earlier az
    assert "The way through backward" not in incident_page(old)
    assert "The way through backward" in incident_page(facts)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(facts: dict[str, Any], width: int, tmp_path: Path) -> None:
    """The page in a frame of that width, since chromium's own window has a least width."""
    (tmp_path / "page.html").write_text(incident_page(facts), "utf-8")
    tell = "document.title = [f.contentDocument.documentElement.scrollWidth, f.contentWindow.innerWidth].join()"
    frame = f'<iframe id="f" src="page.html" width="{width}" height="700" style="border:0" onload="{tell}"></iframe>'
    (tmp_path / "frame.html").write_text(frame)
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += [f"--user-data-dir={tmp_path}/p", "--virtual-time-budget=2000", "--dump-dom", f"file://{tmp_path}/frame.html"]  # fmt: skip  # noqa: E501
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120).stdout
    found = re.search(r"<title>(\d+),(\d+)</title>", shown)
    assert found is not None, shown
    wide, window = map(int, found.groups())
    assert wide <= window <= width


@pytest.mark.parametrize(("width", "color"), [(80, True), (80, False), (40, False)])
def test_the_live_screen_gives_the_command_and_links_to_the_page(width: int, color: bool, tmp_path: Path) -> None:
    folder = tmp_path / "health" / "incident-0001"
    folder.mkdir(parents=True)
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=color, width=width, color_system="truecolor" if color else None)
    display = TrainingDisplay("t", console)
    console.print(display.panel())
    assert "az doctor" not in screen.getvalue()
    display.update({"step": 1, "incident": str(folder)})
    for target in (folder, folder / "page.html"):
        if target != folder:
            target.write_text("a page")
        screen.seek(0)
        screen.truncate()
        console.print(display.panel())
        lines = re.sub(r"\x1b\][^\x1b]*\x1b\\|\x1b\[[0-9;]*m", "", screen.getvalue()).splitlines()
        text = "".join(line.strip("│ ") for line in lines)
        assert f"az doctor {folder}" in text.replace("az doctor/", "az doctor /")
        assert all(len(line) <= width - ROOM for line in lines)
        assert (f";{target.as_uri()}\x1b\\" in screen.getvalue()) == color
