"""The pages name files that are there, and architecture.md names every one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import ROOT

PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md")), *sorted(ROOT.glob("examples/*/*.md"))]
TOPS = "engine|train|export|commands|tests|benchmarks|docs|examples|models"
PATH = re.compile(rf"(?<![\w./-])(?:{TOPS})/(?:[\w./-]*[\w/])?|(?<![\w./-])cli\.py")
PLACEHOLDER = re.compile(r"NAME|\*|COMMAND|GAME")  # engine/games/NAME.py
LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)(?:#[^)]*)?\)")


def named(text: str) -> list[str]:
    return [path for path in PATH.findall(text) if not PLACEHOLDER.search(path)]


def test_paths_are_found_in_a_page():
    text = "see `engine/game.py`, export/, (docs/x.md) and runs/engine/a or az.engine/x; `engine/games/NAME.py`."
    assert named(text) == ["engine/game.py", "export/", "docs/x.md"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_and_link_of_a_page_exists(page: Path):
    text = page.read_text("utf-8")
    assert [path for path in named(text) if not (ROOT / path).exists()] == []
    assert [link for link in LINK.findall(text) if not (page.parent / link).exists()] == []


def test_the_architecture_page_has_a_line_for_every_file_and_none_for_a_file_that_is_gone():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("## Every file")[2]
    lines = [line for line in text.splitlines() if line.startswith("- ")]
    listed = [path for line in lines for path in re.findall(r"`([\w/]+\.py)`", line.partition(": ")[0])]
    assert sorted(path for path in set(listed) if listed.count(path) > 1) == []
    files = {
        p.relative_to(ROOT) for top in ("engine", "train", "export", "commands") for p in (ROOT / top).rglob("*.py")
    }
    needed = {path.as_posix() for path in files if path.name != "__init__.py"} | {"cli.py"}
    assert sorted(needed - set(listed)) == [], "docs/architecture.md has no line for these"
    assert sorted(path for path in listed if not (ROOT / path).is_file()) == []
    assert all(": " in line and len(line) <= 120 for line in lines)


def test_where_to_change_what_names_what_stands_there():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8").partition("## Where to change what")[2]
    rows = [line for line in text.partition("## The map")[0].splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 14
    for row in rows:
        answer = row.split("|")[2]
        code = re.findall(r"`([^`]+)`", answer)
        sources = "".join((ROOT / name).read_text("utf-8") for name in code if "/" in name or name == "cli.py")
        words = [name for name in code if name.isidentifier()]
        assert sources, row
        assert [word for word in words if word not in sources] == [], row


def test_the_log_is_readable():
    lines = (ROOT / "docs" / "log.md").read_text("utf-8").splitlines()
    assert [line for line in lines if len(line) >= 120] == []
    days = [line for line in lines if line.startswith("## ")]
    assert all(re.match(r"## 20\d\d-\d\d-\d\d.*: .", line) for line in days)
    dates = [line[3:13] for line in days]
    assert dates == sorted(dates)
    assert [line for line in lines if re.search(r"\bissues? \d", line)] == []
