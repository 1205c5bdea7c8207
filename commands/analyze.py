"""`az analyze`: JSON lines in, JSON lines out, so that any program can drive the engine.

A thread reads; the main thread searches and answers. Requests with the same number of simulations share a batch; a
lone request never waits for company.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, BinaryIO, TextIO

from az.engine.analysis.answers import as_line
from az.engine.analysis.desk import Desk
from az.engine.analysis.lines import LineQueue, read_lines
from az.engine.analysis.requests import MAX_SECONDS, MAX_SIMULATIONS, Effort
from az.engine.analysis.work import Engine
from az.engine.errors import WrongRequest
from az.engine.game import Game
from az.engine.inference.evaluator import Evaluator
from az.engine.inference.model_resolver import load_evaluator
from az.engine.search.params import SearchParams
from az.engine.selfplay.warmup import compile_search
from az.engine.system.stopping import Stopped, on_stop_signal, raise_stopped
from az.engine.system.streams import forget_stdout


def usual_effort(sims: int | None, seconds: float | None) -> Effort:
    """The effort of requests that do not say. Raises WrongRequest."""
    if sims is not None and seconds is not None:
        raise WrongRequest("--sims and --seconds exclude each other: give one of them.")
    if sims is not None and not 0 <= sims <= MAX_SIMULATIONS:
        raise WrongRequest(f"--sims is {sims}: it must lie between 0 and {MAX_SIMULATIONS}.")
    if seconds is not None and not 0 < seconds <= MAX_SECONDS:
        raise WrongRequest(f"--seconds is {seconds}: it must lie above 0 and up to {MAX_SECONDS}.")
    return Effort(seconds=seconds) if sims is None else Effort(sims)


def analyze_command(model: str, sims: int | None, seconds: float | None) -> int:
    """Answer what comes through stdin until it ends; returns the exit code. Raises Stopped at a signal."""
    usual = usual_effort(sims, seconds)
    with on_stop_signal(raise_stopped):
        try:
            evaluator = load_evaluator(model)
            return analyze(evaluator.game, evaluator, SearchParams(), sys.stdin.buffer, sys.stdout, usual)
        except Stopped:
            forget_stdout()  # a program that waits for the end may have stopped reading: Python would wait for it
            raise


def analyze(
    game: Game,
    evaluator: Evaluator,
    params: SearchParams,
    stdin: BinaryIO,
    stdout: TextIO,
    usual: Effort | None = None,
) -> int:
    """Answer requests until stdin ends and everything is answered; returns the exit status.

    stdin: bytes, one JSON object a line; stdout: text, one JSON object a line, flushed each. usual: the effort of
    requests that say neither sims nor seconds.
    """
    compile_search(game)  # before the first request: a rule that does not compile is no fault of a position

    def tell(answer: dict[str, Any]) -> None:
        stdout.write(as_line(answer))
        stdout.flush()

    desk = Desk(Engine(game, evaluator, params), tell, usual or Effort())
    lines = LineQueue()
    threading.Thread(target=read_lines, args=(stdin, lines), daemon=True).start()
    try:
        serve(desk, lines)
    except BrokenPipeError:  # the reader of the answers has gone
        return 0
    return 0


def serve(desk: Desk, lines: LineQueue) -> None:
    """Take lines as they come and search meanwhile, until the lines end and everything is answered."""
    ended = False
    while desk.busy or not ended:
        while not ended and desk.has_room and (taken := lines.take(1, wait=not desk.busy)):
            if taken[0] is None:
                ended = True
            elif taken[0].strip():
                desk.accept(taken[0])
        if desk.busy:
            desk.step()
