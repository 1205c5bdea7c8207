"""The pictures of the board and of a run in the README, taken in the system's Chromium from a real `az web`.

.venv-integrations/bin/python benchmarks/web_pictures.py RUN    # writes docs/web-board.png and docs/web-run.png
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright  # pyright: ignore[reportMissingImports]

DOCS = Path(__file__).resolve().parents[1] / "docs"
GAME = "4444432"  # connect four: a game to review and to analyze
SETTLED = 4000  # milliseconds in which pages draw what they were told


def board(page: Any, url: str) -> None:
    """A game with its review, and what the engine thinks of its last position."""
    page.goto(f"{url}#game=connect4")
    page.locator("html[data-ready]").wait_for()
    page.locator("#pasted").fill(" ".join(GAME))
    page.locator("#load-form button").first.click()
    page.locator("#moves li > button").nth(len(GAME) - 1).wait_for()
    page.locator("#review").click()
    page.locator("#review-result *").first.wait_for(timeout=120_000)
    page.locator("#analyze").click()
    page.locator("#analysis table, #analysis li").first.wait_for(timeout=120_000)
    page.wait_for_timeout(SETTLED)
    page.evaluate("() => scrollTo(0, 0)")
    page.screenshot(path=DOCS / "web-board.png")


def run(page: Any, url: str, name: str) -> None:
    """The curves of a run."""
    page.set_viewport_size({"width": 1280, "height": 1120})
    page.goto(f"{url}run?name={name}")
    page.locator("svg").first.wait_for(timeout=60_000)
    page.wait_for_timeout(SETTLED)
    page.screenshot(path=DOCS / "web-run.png")


def main() -> None:
    name = sys.argv[1]
    command = [sys.executable, "-m", "az.cli", "web", "connect4", "--no-browser"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        found = next(match[0] for line in server.stdout if (match := re.search(r"http://127\.0\.0\.1:\d+/", line)))
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = chromium.new_page(viewport={"width": 1280, "height": 860})
            board(page, found)
            run(page, found, name)
            chromium.close()
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
