"""What is told while the search is compiled: by one thread of several, and by one whose telling fails."""

from __future__ import annotations

import threading

import numba
import pytest
from numba.core import event

from az.engine.jit import JIT_OFF
from az.engine.selfplay.warmup import compile_progress

pytestmark = pytest.mark.skipif(JIT_OFF, reason="the compiler is off")


def compiled() -> int:
    """A function that numba has not seen yet, compiled and called."""
    return numba.njit(lambda number: number + 1)(1)


def in_a_thread(work) -> list:
    """What it returns, or how it failed; fails where it does not end."""
    found = []

    def run() -> None:
        try:
            found.append(work())
        except Exception as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(240)
    assert not thread.is_alive(), "it waits for a lock that nobody gives back"
    return found


def test_what_another_thread_compiles_is_neither_told_nor_tripped_over():
    """Its functions may have begun before this block has: their ends are told without beginnings."""
    told = []
    with compile_progress(told.append):
        for _ in range(3):
            assert in_a_thread(lambda: event.end_event("numba:compile", data={})) == [None]
        assert in_a_thread(compiled) == [2]
        assert told == []
        assert compiled() == 2
    assert told[0].startswith("compiling function 1 of about 80: <lambda>, pass 0")


def test_an_end_without_a_beginning_in_its_own_thread():
    told = []
    with compile_progress(told.append):
        for _ in range(3):
            event.end_event("numba:compile", data={})
        assert compiled() == 2
    assert "…" in told[2]


def test_telling_that_fails_leaves_the_compiler_to_others():
    def fail(_: str) -> None:
        raise OSError("the terminal is gone")

    with compile_progress(fail):
        assert compiled() == 2
    assert in_a_thread(compiled) == [2]
