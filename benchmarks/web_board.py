"""How soon the first board of `az play connect4 --web` stands in a browser, and the engine's answer to a click.

    .venv-integrations/bin/python benchmarks/web_board.py    # needs Chromium; the search is compiled already

The browser runs before the command starts: its own start is no part of az.
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from browser import browser, new_page
from web_server import web_server

REPEATS = 5


def main() -> None:
    boards, answers = list[float](), list[float]()
    with browser() as chrome:
        for _ in range(REPEATS):
            with new_page(chrome) as page:
                begun = time.perf_counter()
                with web_server("play", "connect4", "--web") as server:
                    page.open(f"http://127.0.0.1:{server.port}/")
                    boards.append(time.perf_counter() - begun)
                    page.wait_for_timeout(2500)  # the engine gets ready while a person looks at the board
                    clicked = time.perf_counter()
                    page.cell(0, 3).click()
                    page.wait_for_moves(2)
                    answers.append(time.perf_counter() - clicked)
    for name, found in (("first board", boards), ("answer at 400 simulations", answers)):
        middle, low, high = statistics.median(found), min(found), max(found)
        print(f"{name}: median {middle:.2f} s, from {low:.2f} to {high:.2f}, {REPEATS} times")


if __name__ == "__main__":
    main()
