"""The thread that answers the questions of pages: a client that leaves, one that reads no more, a player that was put
away."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

pytest.importorskip("starlette", reason="the extra `web` is not installed")

from az.engine.web import jobs
from az.engine.web.jobs import Worker


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
