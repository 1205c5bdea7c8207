"""The thread that answers the questions of pages: a client that leaves, one that reads no more, a player that was put
away."""

from __future__ import annotations

import asyncio
import http.client
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import pytest

pytest.importorskip("starlette", reason="the extra `web` is not installed")

import uvicorn

from az.engine.web import jobs
from az.engine.web.jobs import Worker
from az.engine.web.server import make_app, streamed
from az.engine.web.start import bind


def worker() -> Worker:
    return Worker(lambda: None, lambda: "")


async def answers(asked: Worker, steps) -> list[jobs.Json]:
    return [answer async for answer in asked.ask(steps) if "waiting" not in answer]


def test_it_is_busy_while_it_thinks_about_its_only_question():
    asked, thinks, go_on = worker(), threading.Event(), threading.Event()

    def steps():
        thinks.set()
        go_on.wait(30)
        yield {"n": 1}

    async def talk() -> bool:
        answer = asyncio.ensure_future(answers(asked, steps))
        await asyncio.to_thread(thinks.wait, 30)
        was = asked.busy
        go_on.set()
        assert await answer == [{"n": 1}]
        return was

    assert asyncio.run(talk())
    until = time.monotonic() + 30
    while asked.busy and time.monotonic() < until:
        time.sleep(0.01)
    assert not asked.busy


def test_a_question_to_a_player_that_was_put_away_is_answered():
    asked = worker()
    asked.begin()
    asked.close()
    thread = asked._thread
    if thread is not None:
        thread.join(30)
    assert asyncio.run(answers(asked, lambda: iter([{"n": 1}, {"n": 2}]))) == [{"n": 1}, {"n": 2}]
    assert asked.closed


def test_an_answer_that_is_the_last_ends_it_while_the_thread_is_elsewhere():
    asked, elsewhere, go_on = worker(), threading.Event(), threading.Event()

    def long():
        elsewhere.set()
        go_on.wait(30)
        yield {"n": 2}

    def short():
        yield {"n": 1, "done": True}
        elsewhere.set()
        go_on.wait(30)

    async def talk() -> list[jobs.Json]:
        found = [answer async for answer in asked.ask(short)]
        other = asyncio.ensure_future(answers(asked, long))
        await asyncio.to_thread(elsewhere.wait, 30)
        go_on.set()
        await other
        return found

    assert asyncio.run(talk()) == [{"n": 1, "done": True}]  # no line that tells of waiting


def test_a_move_comes_before_every_analysis():
    """Once it is asked, no step of an analysis comes between two of its own."""
    asked, order, asked_too = worker(), list[str](), threading.Event()

    def analysis():
        while True:
            order.append("analysis")
            yield {"n": 1}
            asked_too.wait(30)

    def move():
        for n in range(20):
            order.append("move")
            yield {"n": n}

    async def talk() -> list[jobs.Json]:
        endless = asked.ask(analysis)
        await anext(endless)
        urgent = asyncio.ensure_future(collect(asked.ask(move, urgent=True)))
        await asyncio.sleep(0)  # it has asked
        asked_too.set()
        found = await urgent
        await endless.aclose()  # pyright: ignore[reportAttributeAccessIssue]
        return found

    assert len(asyncio.run(asyncio.wait_for(talk(), 60))) == 20
    assert "".join(order).count("move" * 20) == 1


async def collect(found) -> list[jobs.Json]:
    return [answer async for answer in found if "waiting" not in answer]


def test_a_client_that_leaves_stops_its_search():
    """Over a real connection: when it is closed, the thread has no question any more."""
    asked = worker()

    def endless():
        while True:
            time.sleep(0.001)
            yield {"n": 1}

    async def answers(_: jobs.Json):
        return asked.ask(endless)

    with served([streamed("/api/endless", answers)]) as port:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/api/endless", b"{}", {"Content-Type": "application/json"})
        answer = connection.getresponse()
        assert answer.readline()
        assert asked.busy
        answer.close()
        connection.close()
        until = time.monotonic() + 60
        while asked.busy:
            assert time.monotonic() < until, "the search went on without its client"
            time.sleep(0.01)
    asked.close()


@contextmanager
def served(routes) -> Generator[int]:
    """The routes on a server in a thread of this process; its port."""
    bound = bind(None)
    port = bound.getsockname()[1]
    config = uvicorn.Config(make_app(port, routes), log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
    thread.start()
    try:
        yield port
    finally:
        server.should_exit = True
        thread.join(60)


def test_a_client_that_was_left_is_told_nothing_more(monkeypatch):
    monkeypatch.setattr(jobs, "HEARTBEAT", 0.01)
    monkeypatch.setattr(jobs, "MOST_UNREAD", 3)
    asked, told = worker(), 0

    def endless():
        while True:
            yield {"n": 1}

    async def slow() -> int:
        count = 0
        async for _ in asked.ask(endless):
            count += 1
            if count == 1:
                time.sleep(0.5)  # it reads nothing meanwhile
        return count

    told = asyncio.run(asyncio.wait_for(slow(), 60))
    assert told > 0
    asked.close()
