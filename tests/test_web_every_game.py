"""Every function of the board page for every game, at both widths, light and dark, by pointer and by keyboard alone.

Each game is played in all four views: in two by pointer, in the other two by keyboard.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from browser import Page, browser, new_page
from make_models import make_run
from web_server import Json, Server, web_server

pytestmark = pytest.mark.integrations
pytest.importorskip("starlette", reason="the extra `web` is not installed")
GAMES = ("tictactoe", "connect4", "othello6", "othello", "checkers", "gomoku9", "gomoku", "hex")
VIEWS = [("desk", "light"), ("phone", "dark")], [("desk", "dark"), ("phone", "light")]
POINTER = [(game, *view) for number, game in enumerate(GAMES) for view in VIEWS[number % 2]]
KEYBOARD = [(game, *view) for number, game in enumerate(GAMES) for view in VIEWS[1 - number % 2]]
WON = {"tictactoe": 3, "connect4": 4, "gomoku9": 5, "gomoku": 5, "hex": 11}  # cells of a winning line
AT = """[...document.querySelectorAll('#moves li > button')]
    .findIndex((one) => one.getAttribute('aria-current') === 'step')"""
WAIT = 120_000  # milliseconds until the engine answers
VISITS = re.compile(r"proven|^[4-9]\d\d$")
DEEPER = re.compile(r"proven|^[2-9],\d\d\d$")


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """With a run of each game that ships no network."""
    folder = tmp_path_factory.mktemp("games")
    for game in ("gomoku",):
        make_run(folder / f"runs/{game}", game)
    with web_server("web", "connect4", "--no-browser", cwd=folder) as found:
        yield found


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as found:
        yield found


def position(server: Server, game: str, moves: list[str]) -> Json:
    return server.ask("/api/position", {"game": game, "moves": moves})


def line(server: Server, game: str, count: int, choose: int = 0) -> list[str]:
    """The first moves of a game, of the legal ones number `choose`."""
    moves = list[str]()
    for _ in range(count):
        legal = position(server, game, moves)["legal"]
        moves.append(legal[min(choose, len(legal) - 1)]["text"])
    return moves


def cells(server: Server, game: str, moves: list[str], text: str) -> list[list[int]]:
    """The squares that a person touches for a move: where it begins and ends."""
    found = next(move["cells"] for move in position(server, game, moves)["legal"] if move["text"] == text)
    return [found[0], found[-1]] if len(found) > 1 else found


def stands(page: Page, moves: list[str]) -> None:
    """Until the list of moves holds these, and the board stands behind the last one."""
    if moves:
        until = time.monotonic() + 60
        while page.evaluate(AT) != len(moves) - 1:
            assert time.monotonic() < until, f"{page.moves()} is not {moves}"
            time.sleep(0.05)
    else:
        page.locator("#moves p").wait_for(timeout=WAIT)
    assert page.moves()[: len(moves)] == moves


def play(page: Page, server: Server, game: str, moves: list[str], text: str) -> None:
    """A move by clicks on its squares."""
    for cell in cells(server, game, moves, text):
        page.cell(*cell).click()


@pytest.mark.parametrize(("game", "size", "scheme"), POINTER)
def test_by_pointer(server, chrome, game, size, scheme):
    with new_page(chrome, size, scheme) as page:
        page.open(f"http://127.0.0.1:{server.port}/", game)
        for side in (0, 1):
            page.locator(f"#side-{side}").select_option("person")
        moves_are_made_and_gone_through(page, server, game)
        text_goes_in_and_out(page, server, game)
        it_is_analyzed_and_reviewed(page)
        the_engine_plays(page, server, game)
        assert page.overflow() <= 0


def moves_are_made_and_gone_through(page: Page, server: Server, game: str) -> None:
    three = line(server, game, 3)
    other = next(m["text"] for m in position(server, game, three[:2])["legal"] if m["text"] != three[2])
    legal = position(server, game, [])["legal"]
    marked = page.locator('.cell[aria-label*="can be played"], .cell[aria-label*="can move"]')
    assert marked.count() == len({tuple(move["cells"][0]) for move in legal})
    for count in range(3):
        play(page, server, game, three[:count], three[count])
        stands(page, three[: count + 1])
    assert page.locator('.cell[aria-label*="last move"]').count() >= 1
    page.locator("#back").click()
    stands(page, three[:2])
    play(page, server, game, three[:2], other)
    stands(page, [*three[:2], other])
    page.locator(".branches button").click()
    stands(page, three)
    page.locator("#remove").click()
    stands(page, three[:2])
    assert page.moves() == [*three[:2], other]
    page.locator("#first").click()
    page.locator("#last:enabled").click()
    stands(page, [*three[:2], other])
    page.locator("#take-back").click()
    stands(page, three[:2])
    corner = page.locator(".cell").first.get_attribute("data-cell")
    page.locator("#flip").click()
    assert page.locator(".cell").first.get_attribute("data-cell") != corner
    page.locator("#flip").click()
    page.locator("#typed").fill(three[2])
    page.locator("#type button").click()
    stands(page, three)


def text_goes_in_and_out(page: Page, server: Server, game: str) -> None:
    three = line(server, game, 3)
    assert page.locator("#position").input_value() == position(server, game, three)["text"]
    page.locator("#show-text").click()
    page.locator("#file-note", has_text="as text").wait_for()
    written = page.locator("#pasted").input_value()
    page.locator("#position").fill(position(server, game, three[:2])["text"])
    page.locator("#position-form button").click()
    page.locator("#file-note", has_text="stands on the board").wait_for()
    stands(page, [])
    page.locator("#pasted").fill(ended(server, game))
    page.locator("#load-form button", has_text="Load").first.click()
    page.locator("#status", has_text=re.compile("wins|Drawn")).wait_for()
    if game in WON:
        assert page.locator('.cell[aria-label*="winning line"]').count() == WON[game]
    page.locator("#pasted").fill(written)
    page.locator("#load-form button", has_text="Load").first.click()
    stands(page, three)


def ended(server: Server, game: str) -> str:
    """A game that is over, as text."""
    given = {
        "tictactoe": "1. 5 1 2. 3 2 3. 7", "connect4": "1212121", "checkers": '[FEN "B:W15,23:B11"]\n1. 11x18x27',
        "gomoku9": "a9 a8 b9 b8 c9 c8 d9 d8 e9", "gomoku": "a9 a8 b9 b8 c9 c8 d9 d8 e9",
        "hex": " ".join(f"a{row} c{row}" for row in range(1, 11)) + " a11",
    }  # fmt: skip
    if game in given:
        return given[game]
    moves = list[str]()
    while legal := position(server, game, moves)["legal"]:
        moves.append(legal[0]["text"])
    return " ".join(moves)


def it_is_analyzed_and_reviewed(page: Page) -> None:
    page.locator("#analyze").click()
    page.locator("#analysis tbody tr").first.wait_for(timeout=WAIT)
    page.locator("#analysis .facts b", has_text=VISITS).first.wait_for(timeout=WAIT)
    assert page.locator(".mark.best").count() == 1
    page.locator("#deeper").click()
    page.locator("#analysis .facts b", has_text=DEEPER).first.wait_for(timeout=WAIT)
    page.locator("#analysis .move-button").last.click()
    page.locator("#analysis p", has_text="cost").wait_for(timeout=WAIT)
    page.locator("#take-back").click()
    page.locator("#review").click()
    page.locator("table.summary").wait_for(timeout=WAIT)
    assert page.locator("#chart .curve").count() == 1
    assert page.violations() == []
    assert page.overflow() <= 0
    page.locator("#analyze").click()


def the_engine_plays(page: Page, server: Server, game: str) -> None:
    page.locator("#new").click()
    stands(page, [])
    page.locator("#hint").click()
    page.locator("#status", has_text="Hint: ").wait_for(timeout=WAIT)
    page.locator("#effort").select_option("sims:100")
    page.locator("#side-1").select_option("2")
    play(page, server, game, [], line(server, game, 1)[0])
    page.wait_for_moves(2)
    page.locator("#clock", has_text="last move").wait_for(timeout=WAIT)
    page.locator("#back").click()
    page.locator("#go:enabled").click()  # the engine again, on its side
    page.locator("#forward:disabled").wait_for(timeout=WAIT)
    page.locator("#side-1").select_option("full")
    page.locator("#side-0").select_option("full")  # engine against engine
    page.wait_for_moves(5)
    page.locator("#new").click()
    if game in ("connect4", "checkers", "othello6"):  # in the others it knows the end, or another plays
        page.locator("#effort").select_option("secs:10")
        page.locator("#stop:enabled").click()
        page.locator("#go:enabled").wait_for(timeout=WAIT)


# By keyboard alone


def tab_to(page: Page, selector: str) -> None:
    """By Tab alone."""
    for _ in range(150):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    pytest.fail(f"Tab does not lead to {selector}")


def press(page: Page, selector: str, key: str = "Enter") -> None:
    page.locator(f"{selector}:enabled").first.wait_for(timeout=WAIT)
    tab_to(page, selector)
    page.keyboard.press(key)


def choose(page: Page, selector: str, text: str) -> None:
    """An entry of a select: its first one, and down from there."""
    tab_to(page, selector)
    page.keyboard.press("Home")
    for _ in range(40):
        if page.evaluate("() => document.activeElement.selectedOptions[0].text") == text:
            return
        page.keyboard.press("ArrowDown")
    pytest.fail(f"{selector} has no '{text}'")


def write(page: Page, selector: str, text: str) -> None:
    tab_to(page, selector)
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


def walk(page: Page, target: list[int]) -> None:
    """To a square by the arrow keys, whichever way the board is turned."""
    tab_to(page, "[role=gridcell]")
    for axis, keys in ((0, ("ArrowUp", "ArrowDown")), (1, ("ArrowLeft", "ArrowRight"))):
        for key in keys * 2:
            for _ in range(15):
                here = [int(part) for part in page.evaluate("() => document.activeElement.dataset.cell").split(",")]
                if here[axis] == target[axis]:
                    break
                page.keyboard.press(key)
    assert page.evaluate("() => document.activeElement.dataset.cell") == ",".join(map(str, target))


@pytest.mark.parametrize(("game", "size", "scheme"), KEYBOARD)
def test_by_keyboard_alone(server, chrome, game, size, scheme):
    three = line(server, game, 3)
    with new_page(chrome, size, scheme) as page:
        page.open(f"http://127.0.0.1:{server.port}/", "othello" if game == "tictactoe" else "tictactoe")
        page.keyboard.press("Tab")
        assert page.evaluate("() => document.activeElement.textContent") == "To the board"
        choose(page, "#game", game)
        page.locator(f'html[data-ready="{game}"]').wait_for(timeout=WAIT)
        for side in (0, 1):
            choose(page, f"#side-{side}", "Person")
        for count in range(2):
            for cell in cells(server, game, three[:count], three[count]):
                walk(page, cell)
                page.keyboard.press("Enter")
            stands(page, three[: count + 1])
        write(page, "#typed", three[2])
        page.keyboard.press("Enter")
        stands(page, three)
        press(page, "#flip")
        for key, count in (("ArrowLeft", 2), ("Home", 0), ("ArrowRight", 1), ("End", 3)):
            page.keyboard.press(key)
            page.locator("#moves button[aria-current]").wait_for(state="visible" if count else "hidden")
            if count:
                stands(page, three[:count])
        keyboard_takes_back_and_branches(page, three)
        keyboard_reads_and_writes(page, server, game, three)
        keyboard_asks_the_engine(page)


def keyboard_takes_back_and_branches(page: Page, three: list[str]) -> None:
    press(page, "#moves li:first-child > button")
    stands(page, three[:1])
    press(page, "#forward")
    stands(page, three[:2])
    press(page, "#remove")
    stands(page, three[:1])
    press(page, "#take-back")
    stands(page, [])


def keyboard_reads_and_writes(page: Page, server: Server, game: str, three: list[str]) -> None:
    write(page, "#position", position(server, game, three[:1])["text"])
    page.keyboard.press("Enter")
    page.locator("#file-note", has_text="stands on the board").wait_for()
    write(page, "#pasted", " ".join(three))
    tab_to(page, "#load-form button")
    page.keyboard.press("Enter")
    stands(page, three)
    press(page, "#show-text")
    page.locator("#file-note", has_text="as text").wait_for()
    assert three[0] in page.evaluate("() => getSelection().toString() || document.activeElement.value")


def keyboard_asks_the_engine(page: Page) -> None:
    choose(page, "#effort", "100 simulations")
    press(page, "#hint")
    page.locator("#status", has_text="Hint: ").wait_for(timeout=WAIT)
    press(page, "#analyze", "Space")
    page.locator("#analysis .facts b", has_text=VISITS).first.wait_for(timeout=WAIT)
    press(page, "#deeper")
    page.locator("#analysis .facts b", has_text=DEEPER).first.wait_for(timeout=WAIT)
    press(page, "#review")
    page.locator("table.summary").wait_for(timeout=WAIT)
    press(page, "#analysis .move-button")
    page.wait_for_moves(4)
    press(page, "#analyze", "Space")
    choose(page, "#side-0", "Level 1")
    choose(page, "#side-1", "Level 1")
    page.locator("#status", has_text=re.compile("wins|Drawn|to move")).wait_for(timeout=WAIT)
    page.wait_for_moves(5)
    press(page, "#new")
    page.wait_for_moves(1)
