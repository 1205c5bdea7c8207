"""The pages about runs as a person uses them, in a real Chromium: `make test-integrations` runs these."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import Page, browser, new_page
from command_line import run_az
from finished_run import FinishedRun, add_incident
from make_models import make_run, small_config
from test_doctor import poison_value
from test_runs import LINES, write_log
from web_server import Server, web_server

pytestmark = pytest.mark.integrations
pytest.importorskip("starlette", reason="the extra `web` is not installed")
BOTH = pytest.mark.parametrize(
    ("size", "scheme"), [("desk", "light"), ("desk", "dark"), ("phone", "light"), ("phone", "dark")]
)
NODES = [
    {"node": "gpu-1 (10.0.0.2, 4f2a9c)", "players": 16, "simulations_per_s": 48211, "simulations": 9_000_000,
     "games": 12_904, "rows": 301_552, "files": 502, "faults": 0, "lost": 0, "left_out": ""},
    {"node": "old-laptop (10.0.0.7, 77aa10)", "players": 0, "simulations_per_s": 0, "simulations": 1200,
     "games": 3, "rows": 60, "files": 1, "faults": 3, "lost": 1,
     "left_out": "3 searches failed on it, the last: 7 of 7 logits are not finite"},
]  # fmt: skip
HOSTILE = "<img src=x onerror=alert(1)><script>alert(2)</script>"


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Runs a (games, an incident with hostile words), b and c (curves; c has another batch)."""
    folder = tmp_path_factory.mktemp("web")
    FinishedRun(folder / "runs/a")
    told = {"cause": HOSTILE, "fix": HOSTILE, "first_bad_step": 7, "causal_step": 7, "phase": "loss", "module": HOSTILE}
    add_incident(folder / "runs/a", told, f"<style>b {{ color: red }}</style><b id='x'>page</b>{HOSTILE}")
    with (folder / "runs/a/log.jsonl").open("a") as file:
        file.write(json.dumps({"kind": "warning", "step": 9, "text": HOSTILE}) + "\n")
        file.write(json.dumps({"kind": "score", "step": 180, "opponent": HOSTILE, "elo": 10.0}) + "\n")
    config = small_config()
    write_log(make_run(folder / "runs/b", config=config), LINES)
    other = replace(config, learner=replace(config.learner, batch=16))
    write_log(make_run(folder / "runs/c", config=other), LINES)
    return folder


@pytest.fixture(scope="module")
def server(place) -> Iterator[Server]:
    with web_server("web", "tictactoe", "--no-browser", cwd=place) as found:
        yield found


@pytest.fixture(scope="module")
def chrome() -> Iterator[Any]:
    with browser() as found:
        yield found


def open_page(page: Page, server: Server, path: str) -> None:
    page.goto(f"http://127.0.0.1:{server.port}{path}")
    page.locator("html[data-ready]").wait_for(timeout=60_000)


def fine(page: Page) -> None:
    assert page.violations() == []
    assert page.overflow() <= 0


@BOTH
def test_from_the_list_to_a_run_to_several(server, chrome, size, scheme):
    with new_page(chrome, size, scheme) as page:
        open_page(page, server, "/runs")
        assert page.locator(".run-card h2").all_inner_texts() == ["a", "b", "c"]
        fine(page)
        page.get_by_label("Compare b").check()
        assert page.locator("#compare").is_disabled()
        page.get_by_label("Compare c").check()
        page.locator("#compare").click()
        page.locator("html[data-ready]").wait_for(timeout=60_000)
        assert page.locator("#title").inner_text() == "2 runs compared"
        assert page.locator("#strength .chart-card h3").all_inner_texts() == [
            "Solved positions given away, %", "Elo against random",
        ]  # fmt: skip
        assert page.locator("#strength .band").count() == 2  # intervals of three models each
        assert page.locator("#strength .interval").count() == 2  # and of the one match of each
        assert "20 [13.3, 28.9]" in page.locator("#strength .readout").first.inner_text()
        table = page.get_by_role("region", name="Settings that differ")
        assert table.locator("tbody tr").all_inner_texts() == ["learner.batch\t8\t16"]
        fine(page)
        page.get_by_role("link", name="b", exact=True).click()
        page.get_by_role("heading", name="Run b").wait_for()


@BOTH
def test_the_nodes_of_a_cluster(chrome, tmp_path, size, scheme):
    lines = [*LINES, {"kind": "nodes", "time": 1.0, "nodes": NODES}]
    hostile = [dict.fromkeys(NODES[0], HOSTILE), None, 5, {}]
    write_log(make_run(tmp_path / "runs/r", config=small_config()), lines)
    with web_server("web", "tictactoe", "--no-browser", cwd=tmp_path) as server, new_page(chrome, size, scheme) as page:
        open_page(page, server, "/run?name=r")
        table = page.get_by_role("region", name="Nodes", exact=True)
        heads = table.locator("th").all_inner_texts()
        assert heads == ["Node", "Players", "Simulations/s", "Games", "Rows", "Faults", "Lost games", "Left out"]
        rows = table.locator("tbody tr").all_inner_texts()
        assert rows[0].split("\t") == ["gpu-1 (10.0.0.2, 4f2a9c)", "16", "48,211", "12,904", "301,552", "0", "0", ""]
        assert "3 searches failed on it" in rows[1]
        fine(page)
        with (tmp_path / "runs/r/log.jsonl").open("a") as file:  # it grows, and somebody else's words come
            file.write(json.dumps({"kind": "nodes", "time": 2.0, "nodes": hostile}) + "\n")
        table.locator("tbody tr").nth(3).wait_for(timeout=60_000)
        assert HOSTILE in table.locator("tbody tr").nth(0).inner_text()
        fine(page)


@BOTH
def test_a_run_with_games_and_an_incident(server, chrome, size, scheme):
    with new_page(chrome, size, scheme) as page:
        open_page(page, server, "/run?name=a")
        page.locator("#replay .drawing").wait_for()
        assert page.locator("#health .threshold").count() >= 1
        page.get_by_label("To the end").click()
        assert page.locator("#replay-status").inner_text().startswith("Move ")
        page.get_by_label("To the start").click()
        assert page.locator("#replay-status").inner_text().startswith("Move 0 of")
        while not page.locator("#opinion tbody tr").count():
            page.get_by_label("One move on").click()
        assert page.locator("#opinion").inner_text().startswith("The search gives ")
        assert HOSTILE[:20] in page.locator("#incidents").inner_text()
        assert any(HOSTILE[:20] in text for text in page.locator("#strength h3").all_inner_texts())
        page.locator("#across").select_option("elapsed")
        page.locator("summary").click()
        assert "learner.batch" in page.locator("#config").inner_text()
        fine(page)


def test_the_keyboard_alone(server, chrome):
    with new_page(chrome) as page:
        open_page(page, server, "/run?name=b")
        plot = page.locator("#curves .plot").first
        plot.focus()
        before = page.locator("#curves .readout").first.inner_text()
        page.keyboard.press("Home")
        assert page.locator("#curves .readout").first.inner_text() != before
        page.keyboard.press("Escape")
        assert page.locator("#curves .readout").first.inner_text() == before
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.classList.contains('plot')")


def test_curves_grow_and_a_deleted_run_is_said_to_be(server, chrome, place):
    run = place / "runs/d"
    write_log(make_run(run), LINES, '{"kind":"st')
    with new_page(chrome) as page:
        open_page(page, server, "/run?name=d")
        assert "20 [" in page.locator("#strength .readout").first.inner_text()
        line = {"kind": "solved", "step": 60, "model": 3, "thrown": {"all": 0.1}, "of": {"all": 100}}
        write_log(run, [*LINES, line])
        page.locator("#strength .readout", has_text="10 [").first.wait_for(timeout=30_000)
        shutil.rmtree(run)
        page.locator("#fault", has_text="there is no run 'd' now").wait_for(timeout=30_000)
        assert page.locator("#curves .plot svg").count() > 3  # what was drawn stays
        # the browser itself writes of the refused request in its console
        page.faults[:] = [fault for fault in page.faults if "400" not in fault]


def test_a_page_goes_on_when_the_server_comes_back(chrome, place):
    with web_server("web", "tictactoe", "--no-browser", cwd=place) as first, new_page(chrome) as page:
        open_page(page, first, "/run?name=b")
        first.process.kill()
        first.process.wait()
        page.locator("#lost").wait_for(timeout=30_000)
        with web_server("web", "tictactoe", "--no-browser", "--port", str(first.port), cwd=place):
            answer = page.wait_for_event("response", lambda response: "/api/run" in response.url, timeout=60_000)
            assert answer.ok
            page.locator("#lost").wait_for(state="hidden")
        page.faults.clear()  # requests that nothing answered


def test_nothing_of_the_doctor_s_page_runs(server, chrome):
    with new_page(chrome) as page:
        page.goto(f"http://127.0.0.1:{server.port}/doctor?run=a&incident=incident-0001")
        assert page.locator("#x").evaluate("one => getComputedStyle(one).color") == "rgb(255, 0, 0)"
        assert not any("dialog" in fault for fault in page.faults)
        page.faults.clear()  # the browser says what it has not loaded


@BOTH
def test_a_page_that_is_not_there(server, chrome, size, scheme):
    with new_page(chrome, size, scheme) as page:
        assert page.goto(f"http://127.0.0.1:{server.port}/none").status == 404
        fine(page)
        page.get_by_role("link", name="Runs", exact=True).click()
        page.get_by_role("heading", name="Runs").wait_for()
        page.faults[:] = [fault for fault in page.faults if "404" not in fault]


@pytest.fixture(scope="module")
def doctors(tmp_path_factory) -> Path:
    """A folder with the pages that the doctor writes of a run, run.html, and of its incident, incident.html."""
    folder = tmp_path_factory.mktemp("doctor")
    with pytest.MonkeyPatch.context() as patch:
        incident = FinishedRun(folder / "runs/a").incident(patch, poison=poison_value)
    for target, page in ((incident, "incident.html"), (folder / "runs/a", "run.html")):
        answer = run_az("doctor", target, "--no-replay", "--html", folder / page)
        assert answer.code == 0, answer.err
    return folder


@BOTH
@pytest.mark.parametrize("file", ["incident.html", "run.html"])
def test_the_doctor_s_pages(doctors, chrome, size, scheme, file):
    with new_page(chrome, size, scheme) as page:
        page.goto((doctors / file).as_uri())
        page.locator("h1").wait_for()
        fine(page)
        part = page.locator("details:has(> summary)").first
        was_open = part.get_attribute("open") is not None
        part.locator("> summary").click()
        assert (part.get_attribute("open") is not None) != was_open
        fine(page)
        page.hosts.clear()  # it is a file


def test_ten_browsers_and_one_that_is_killed(server, chrome):
    contexts = [chrome.new_context() for _ in range(10)]
    pages = [context.new_page() for context in contexts]
    for page in pages:
        page.goto(f"http://127.0.0.1:{server.port}/run?name=b")
    contexts.pop().close()
    for page in pages[:-1]:
        page.locator("html[data-ready]").wait_for(timeout=60_000)
        assert "20 [" in page.locator("#strength .readout").first.inner_text()
    for context in contexts:
        context.close()
