"""The system's Chromium, driven through playwright, with the ears and eyes that every test of a page needs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SIZES = {"desk": (1440, 900), "phone": (360, 740)}
LEVEL_AA = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]


@dataclass
class Page:
    """A page of a browser, what it complained of and whom it asked."""

    page: Any
    faults: list[str] = field(default_factory=list[str])
    hosts: set[str] = field(default_factory=set[str])

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    def open(self, url: str, game: str | None = None) -> None:
        """Go there, and wait for the board."""
        self.page.goto(url if game is None else f"{url}#game={game}")
        self.page.locator("html[data-ready]").wait_for(timeout=60_000)

    def cell(self, row: int, column: int) -> Any:
        """A square of the board."""
        return self.page.locator(f'.cell[data-cell="{row},{column}"]')

    def moves(self) -> list[str]:
        """The texts of the move list, without marks."""
        texts = self.page.locator("#moves li > button").all_inner_texts()
        return [text.split("\n")[0].split("?")[0].strip() for text in texts]

    def wait_for_moves(self, count: int) -> None:
        """Until the list has so many moves."""
        self.page.locator("#moves li > button").nth(count - 1).wait_for(timeout=120_000)

    def status(self) -> str:
        """What a screen reader was told last."""
        return self.page.locator("#status").inner_text()

    def violations(self) -> list[str]:
        """What axe-core finds against WCAG 2.2 AA on the page as it is; at least ten of its rules have held."""
        axe: Any = pytest.importorskip("axe_playwright_python")
        script = Path(axe.__file__).parent / "axe.min.js"
        if not self.page.evaluate("() => 'axe' in window"):
            self.page.evaluate(script.read_text("utf-8"))
        found = self.page.evaluate("tags => axe.run({runOnly: tags})", LEVEL_AA)
        assert len(found["passes"]) >= 10
        return [f"{one['id']}: {node['html'][:200]}" for one in found["violations"] for node in one["nodes"]]

    def overflow(self) -> int:
        """Pixels by which the page is wider than its window."""
        return self.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")


def chromium() -> str:
    """The path of Chromium; skips without it, fails without it where CI is set."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        reason = "Chromium is not installed: apt-get install chromium"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)
    return str(found)


@contextmanager
def browser() -> Generator[Any]:
    """Chromium, headless."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-integrations")
    path = chromium()
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@contextmanager
def new_page(found: Any, size: str = "desk", scheme: str = "light") -> Generator[Page]:
    """A page of its own session; at the end nothing was complained of, and no other machine was asked."""
    width, height = SIZES[size]
    view = {"width": width, "height": height}
    context = found.new_context(viewport=view, color_scheme=scheme, has_touch=size == "phone")
    page = Page(context.new_page())
    page.page.on("pageerror", lambda error: page.faults.append(str(error)))
    page.page.on("console", lambda said: page.faults.append(said.text) if said.type == "error" else None)
    page.page.on("dialog", lambda dialog: page.faults.append(f"dialog {dialog.message}"))
    page.page.on("request", lambda request: page.hosts.add(request.url.split("/")[2].partition(":")[0]))
    yield page
    assert page.faults == []
    assert page.hosts <= {"127.0.0.1"}
    context.close()
