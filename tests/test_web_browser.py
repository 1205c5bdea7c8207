"""The board page as a person uses it, in a real Chromium: `make test-integrations` runs these."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Page, browser, new_page
from command_line import run_az
from web_server import Server, web_server

pytestmark = pytest.mark.integrations
pytest.importorskip("starlette", reason="the extra `web` is not installed")
BOTH = pytest.mark.parametrize(("size", "scheme"), [("desk", "light"), ("phone", "dark")])
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"
BEGINNINGS = {"tictactoe": (1, 1), "connect4": (0, 3), "othello6": (1, 2), "othello": (2, 3)}
BEGINNINGS |= {"gomoku9": (4, 4), "hex": (5, 5)}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with web_server("play", "connect4", "--web", "--sims", "100") as found:
        yield found


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as found:
        yield found


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}/"


def both_persons(page: Page) -> None:
    for side in (0, 1):
        page.locator(f"#side-{side}").select_option("person")


@BOTH
@pytest.mark.parametrize("game", [*BEGINNINGS, "checkers"])
def test_a_game_is_begun_by_clicks_and_the_engine_answers(server, chrome, game, size, scheme):
    with new_page(chrome, size, scheme) as page:
        page.open(url(server), game)
        if game == "checkers":
            page.cell(5, 4).click()  # square 22 of White … nothing of Black's begins there
            assert "No move begins there." in page.status()
            page.cell(2, 1).click()
            page.cell(3, 2).click()
        else:
            page.cell(*BEGINNINGS[game]).click()
        page.wait_for_moves(2)
        assert re.match(r".+ played .+\. .+ to move\.", page.status())
        assert page.violations() == []
        assert page.overflow() <= 0
        page.locator("#take-back").click()
        page.locator("#moves p").wait_for()
        assert page.moves() == []


@BOTH
def test_the_analysis_is_shown_on_the_board_and_goes_deeper(server, chrome, size, scheme):
    with new_page(chrome, size, scheme) as page:
        page.open(url(server), "connect4")
        both_persons(page)
        page.locator("#analyze").click()
        page.locator("#analysis .facts b", has_text=re.compile(r"^4\d\d$")).wait_for(timeout=120_000)
        assert page.locator("#analysis tbody tr").count() == 7
        assert page.locator(".mark.best").count() == 1
        page.locator("#deeper").click()
        page.locator("#analysis .facts b", has_text=re.compile(r"^2,0\d\d$")).wait_for(timeout=120_000)
        page.locator("#analysis .move-button").last.click()  # the worst move of the table
        page.locator("#analysis p", has_text=re.compile("cost")).wait_for(timeout=60_000)
        assert page.locator("#chart .curve").count() == 1
        assert page.violations() == []
        assert page.overflow() <= 0


@BOTH
def test_a_game_is_loaded_reviewed_and_gone_through(server, chrome, size, scheme):
    with new_page(chrome, size, scheme) as page:
        page.open(url(server), "tictactoe")
        both_persons(page)
        page.locator("#pasted").fill("1. 5 2 2. 1 3 3. 9")
        page.locator("#load-form button", has_text="Load").first.click()
        page.wait_for_moves(5)
        assert "has three in a row and wins" in page.status()
        page.locator("#review").click()
        page.locator("table.summary").wait_for(timeout=120_000)
        assert page.locator(".mark-text.blunder").count() == 1
        assert page.violations() == []
        assert page.overflow() <= 0
        page.locator("#first").click()
        page.locator("#forward:enabled").click()
        page.locator('#moves button[aria-current="step"]', has_text="5").wait_for()
        page.locator("#show-text").click()
        page.locator("#file-note", has_text="as text").wait_for()
        assert "1. 5" in page.locator("#pasted").input_value()
        page.locator("#position").fill("123")
        page.locator("#position-form button").click()
        page.locator("#file-note", has_text="stands on the board").wait_for()
        assert page.locator('.cell[aria-label*=" piece"]').count() == 3


def test_a_game_of_the_command_line_waits_for_a_person(chrome, tmp_path):
    (tmp_path / "game.txt").write_text("game: tictactoe\nstart:\nmoves:\n  1. 5 1\n  2. 9\n")
    with web_server("play", "--web", "--load", "game.txt", cwd=tmp_path) as server, new_page(chrome) as page:
        page.open(url(server))
        assert page.moves() == ["5", "1", "9"]
        page.wait_for_timeout(1500)
        assert page.moves() == ["5", "1", "9"]
        page.locator("#go").click()
        page.wait_for_moves(4)


def test_another_move_makes_a_branch_and_both_survive_a_reload(server, chrome):
    with new_page(chrome) as page:
        page.open(url(server), "connect4")
        both_persons(page)
        for count, column in enumerate((3, 3, 2), 1):
            page.cell(0, column).click()
            page.wait_for_moves(count)
        page.locator("#back").click()
        page.locator("#forward:enabled").wait_for()
        page.cell(0, 6).click()
        page.locator(".branches button", has_text="3").wait_for()
        assert page.moves() == ["4", "4", "7"]
        page.reload()
        page.locator("html[data-ready]").wait_for()
        assert page.moves() == ["4", "4", "7"]
        page.locator(".branches button").click()
        page.locator(".branches button", has_text="7").wait_for()
        assert page.moves() == ["4", "4", "3"]
        page.locator("#remove").click()
        page.locator('#moves button[aria-current="step"]', has_text="4").wait_for()
        assert page.moves() == ["4", "4", "7"]


def walk(page: Page, target: tuple[int, int]) -> None:
    """To a square by the arrow keys, on a board that is turned round."""
    focus = "() => document.activeElement.dataset.cell"
    for _ in range(20):
        row, column = map(int, page.evaluate(focus).split(","))
        if (row, column) == target:
            return
        key = ("ArrowUp" if row < target[0] else "ArrowDown") if row != target[0] else "ArrowLeft"
        page.keyboard.press("ArrowRight" if row == target[0] and column > target[1] else key)
    pytest.fail(f"the arrows do not lead to {target}")


@BOTH
def test_the_keyboard_alone_plays(server, chrome, size, scheme):
    with new_page(chrome, size, scheme) as page:
        page.open(url(server), "checkers")
        page.locator("#side-1").select_option("1")
        page.locator("#flip").focus()
        for _ in range(60):  # a way there and back by Tab alone
            page.keyboard.press("Shift+Tab")
            if page.evaluate("() => document.activeElement.getAttribute('role')") == "gridcell":
                break
        focus = "() => document.activeElement.dataset.cell"
        start = [int(part) for part in page.evaluate(focus).split(",")]
        assert start == [0, 0]
        walk(page, (2, 1))
        label = page.evaluate("() => document.activeElement.getAttribute('aria-label')")
        assert label.startswith("square 9, Black man")
        assert "can move" in label
        page.keyboard.press("Enter")
        assert re.search("It may go to square 1[34], square 1[34]", page.status())
        page.keyboard.press("Escape")
        assert page.status() == "Put back."
        page.keyboard.press("Enter")
        walk(page, (3, 2))
        page.keyboard.press("Enter")
        page.wait_for_moves(2)
        assert page.moves()[0] == "9-14"
        assert page.evaluate("() => document.activeElement.getAttribute('role')") == "gridcell"


def test_a_piece_is_dragged_and_a_jump_has_several_hops(server, chrome):
    with new_page(chrome) as page:
        page.open(url(server), "checkers")
        both_persons(page)
        page.locator("#position").fill("B:W15,23:B11")
        page.locator("#position-form button").click()
        page.locator("#file-note", has_text="stands on the board").wait_for()
        page.cell(2, 5).drag_to(page.cell(0, 1))  # no move ends there
        assert page.moves() == []
        page.cell(2, 5).drag_to(page.cell(6, 5))
        page.wait_for_moves(1)
        assert page.moves() == ["11x18x27"]
        assert "has no pieces left" in page.status()


def test_engine_against_engine_plays_to_the_end(server, chrome):
    with new_page(chrome) as page:
        page.open(url(server), "tictactoe")
        page.locator("#side-1").select_option("2")
        page.locator("#side-0").select_option("1")
        page.locator("#status", has_text=re.compile("wins|Drawn")).wait_for(timeout=60_000)
        assert 5 <= len(page.moves()) <= 9
        assert "in all" in page.locator("#clock").inner_text()


def slow_positions(route: Any) -> None:
    """A machine that takes its time between two moves of an engine."""
    time.sleep(0.3)
    route.continue_()


def test_engine_against_engine_stops_between_two_moves_too(server, chrome):
    with new_page(chrome) as page:
        page.route("**/api/position", slow_positions)
        page.open(url(server), "connect4")
        page.locator("#effort").select_option("sims:100")
        page.locator("#side-1").select_option("1")
        with page.expect_request("**/api/position", timeout=60_000):  # the engine's move on its way to the board
            page.locator("#side-0").select_option("1")
        page.locator("#stop:enabled").click(timeout=60_000)
        page.locator("#go:enabled").wait_for(timeout=60_000)
        moves = page.moves()
        page.wait_for_timeout(1500)
        assert page.moves() == moves
        assert page.locator("#go").is_enabled()


def test_a_new_game_while_the_engine_thinks_shows_no_fault(server, chrome):
    with new_page(chrome) as page:
        page.route("**/api/position", slow_positions)
        page.open(url(server), "connect4")
        shown = "() => { window.shown = []; new MutationObserver(() => shown.push(document.querySelector('#fault')"
        page.evaluate(f"{shown}.textContent)).observe(document.querySelector('#fault'), {{childList: true}}); }}")
        page.locator("#effort").select_option("secs:10")
        page.locator("#side-0").select_option("full")
        page.locator("#stop:enabled").wait_for(timeout=60_000)
        page.locator("#new").click()
        page.locator("#stop:enabled").wait_for(timeout=60_000)  # it thinks about its first move again
        page.locator("#stop").click()
        assert page.evaluate("() => shown") == []
        page.locator("#new").click()
        page.locator("#effort").select_option("secs:3")  # it thinks about the game that is still there
        page.locator("#stop:enabled").click()
        page.wait_for_timeout(1500)
        assert page.moves() == []
        assert page.locator("#stop").is_disabled()


def test_what_has_the_focus_stays_while_an_analysis_goes_on(server, chrome):
    with new_page(chrome) as page:
        page.open(url(server), "connect4")
        both_persons(page)
        page.locator("#analyze").click()
        page.locator("#analysis .facts b", has_text=re.compile(r"^4\d\d$")).wait_for(timeout=120_000)
        page.locator("#analysis .move-button", has_text="6").focus()
        page.locator("#deeper").click()
        page.locator("#analysis .move-button", has_text="6").focus()
        page.locator("#analysis .facts b", has_text=re.compile(r"^2,0\d\d$")).wait_for(timeout=120_000)
        assert page.evaluate("() => document.activeElement.textContent") == "6"
        page.keyboard.press("Enter")
        page.wait_for_moves(1)
        assert page.moves() == ["6"]


def test_an_address_with_wrong_moves_opens_the_game_and_says_so(server, chrome):
    with new_page(chrome) as page:
        page.open(f'{url(server)}#game=connect4&moves=["99"]')
        assert "'99' is not a legal move here" in page.locator("#fault").inner_text()
        assert page.locator(".cell").count() == 42
        page.faults[:] = [fault for fault in page.faults if "400 (Bad Request)" not in fault]


def test_a_wrong_move_and_a_wrong_text_are_sentences(server, chrome):
    with new_page(chrome) as page:
        page.open(url(server), "connect4")
        page.locator("#typed").fill(HOSTILE)
        page.keyboard.press("Enter")
        page.locator("#fault", has_text="is not a legal move").wait_for()
        page.locator("#pasted").fill(HOSTILE)
        page.locator("#load-form button", has_text="Load").first.click()
        page.locator("#fault", has_text="neither a list of moves").wait_for()
        assert page.locator("img").count() == 0
        page.faults[:] = [fault for fault in page.faults if "400 (Bad Request)" not in fault]


def test_hostile_names_of_runs_games_and_moves_stay_text(chrome, tmp_path):
    from az.engine.inference.model_resolver import SHIPPED

    models = tmp_path / "runs" / "<b onclick=alert(1)>x" / "models"
    models.mkdir(parents=True)
    for kind in ("onnx", "json"):
        shutil.copy(SHIPPED / f"tictactoe.{kind}", models / f"000001.{kind}")

    def spoil(route: Any) -> None:
        answer = route.fetch()
        found = answer.json()
        if "players" in found:
            found["players"] = [HOSTILE, f"b{HOSTILE}"]
            for piece in found["board"]["pieces"].values():
                piece["glyph"] = piece["name"] = HOSTILE
            found["board"]["labels"] = [[0, 0, HOSTILE]]
        for move in found.get("legal", []):
            move["text"] = move["text"] if move["text"] == "5" else HOSTILE
        found["moves"] = [HOSTILE for _ in found.get("moves", [])]
        route.fulfill(response=answer, body=json.dumps(found))

    with web_server("play", "tictactoe", "--web", cwd=tmp_path) as server, new_page(chrome) as page:
        page.route("**/api/game", spoil)
        page.route("**/api/position", spoil)
        page.open(url(server))
        both_persons(page)
        assert "<b onclick" in page.locator("#model").inner_text()
        page.cell(1, 1).click()
        page.wait_for_moves(1)
        assert HOSTILE in page.locator("#moves").inner_text()
        assert page.locator("img, main script, main b[onclick]").count() == 0


def test_a_record_of_self_play_is_opened(server, chrome, tmp_path):
    answer = run_az("selfplay", "tictactoe", "--games", 2, "--sims", 8, "--out", tmp_path, "--json")
    assert answer.code == 0
    with new_page(chrome) as page:
        page.open(url(server), "tictactoe")
        both_persons(page)
        page.locator("#file").set_input_files(str(next(tmp_path.glob("*.npz"))))
        page.locator("#record-game").wait_for()
        page.locator("#record button").click()
        page.wait_for_moves(4)


def test_a_server_that_is_killed_and_started_again_loses_nothing(chrome):
    with new_page(chrome) as page:
        with web_server("play", "tictactoe", "--web", "--sims", "50") as first:
            page.open(url(first))
            page.cell(1, 1).click()
            page.wait_for_moves(2)
            moves = page.moves()
            first.process.kill()
            first.process.wait()
        free = page.locator('.cell[aria-label*="can be played"]').first
        free.click()
        page.locator("#lost").wait_for()
        with web_server("web", "tictactoe", "--no-browser", "--port", str(first.port)):
            page.wait_for_moves(4)
            assert page.moves()[:2] == moves
            assert page.locator("#lost").is_hidden()
        page.faults[:] = [fault for fault in page.faults if "net::ERR_" not in fault]


def test_a_game_without_a_board_is_played_by_buttons(server, chrome):
    def bare(route: Any) -> None:
        answer = route.fetch()
        found = answer.json()
        found["board"] = None
        found["legal"] = [{**move, "cells": []} for move in found.get("legal", [])]
        found["render"] = "1 2 3\n4 5 6\n7 8 9"
        route.fulfill(response=answer, body=json.dumps(found))

    with new_page(chrome, "phone", "dark") as page:
        page.route("**/api/game", bare)
        page.route("**/api/position", bare)
        page.open(url(server), "tictactoe")
        assert page.locator("#board pre").inner_text().startswith("1 2 3")
        page.locator("#choices button", has_text="5").click()
        page.wait_for_moves(2)
        assert page.violations() == []
        assert page.overflow() <= 0
