"""A game played in a process of its own: what its author got wrong comes back as a sentence, not as a crash of ours.

First the rules run as plain Python, where numpy checks every index; then compiled, which must answer the same; then
under the search. A rule that does not come back is stopped; a process that dies is said to have died.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from az.engine.errors import Refused, WrongRequest
from az.engine.jit import is_marked, mark

CHILD = "AZ_GAME_TRIAL"  # set in the process that tries a game: it must not start another
# The process ends with its parent, also while it still imports: then its stdin ends.
CODE = """
import json, os, sys, threading
line = os.dup(0)
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
threading.Thread(target=lambda: (os.read(line, 1), os._exit(1)), daemon=True).start()
sys.path[:] = json.loads(sys.argv[1])
from az.engine.conformance.trial_process import main
main()
"""
STAGES = {
    "load": "while its file was loaded",
    "python": "while its rules ran as Python",
    "compile": "while its rules were compiled",
    "compiled": "in a compiled rule, which has probably written beyond its arrays",
    "search": "in the search, where a compiled rule has probably written beyond its arrays",
}


_tried: set[str] = set()  # by this process; a mark in the cache folder tells later ones, where there is such a folder


@dataclass
class Trial:
    """What the process said before it ended."""

    broken: list[str] = field(default_factory=list)
    laws: list[str] = field(default_factory=list)  # the names of the laws that `broken` tells of
    refused: str | None = None  # why the game cannot be used at all
    playthrough: str = ""
    stage: str = "load"
    finished: bool = False


def check_apart(name: str, games: int, seed: int, say: Callable[[str], None]) -> Trial:
    """Every law, on that many random games. Raises Refused for a game that cannot be loaded."""
    trial = _run(name, games, seed, whole=True, say=say)
    if trial.refused is not None:
        raise Refused(trial.refused)
    return trial


def try_game(name: str) -> None:
    """Refuse a game whose rules fail in the first random game; once for each version of the sources.

    Raises Refused. Where no process can be started the game is taken on trust.
    """
    if CHILD in os.environ or multiprocessing.parent_process() is not None:
        return
    if name in _tried or is_marked(f"tried-{name}"):
        return
    try:
        trial = _run(name, 1, 0, whole=False, say=lambda _: None)
    except OSError:
        return
    if trial.refused is not None:
        raise Refused(trial.refused)
    if trial.broken:
        raise Refused(f"the game '{name}' cannot be used: {trial.broken[0].rstrip('.')}; see az check {name}.")
    if trial.finished:
        _tried.add(name)
        mark(f"tried-{name}")


def _run(name: str, games: int, seed: int, whole: bool, say: Callable[[str], None]) -> Trial:
    job = {"game": name, "games": games, "seed": seed, "whole": whole}
    command = [sys.executable, "-c", CODE, json.dumps(sys.path), json.dumps(job)]
    trial = Trial()
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, CHILD: "1"},
        encoding="utf-8",
    ) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                with contextlib.suppress(ValueError):
                    _take(trial, json.loads(line), say)
            code = process.wait()
        finally:
            process.kill()
    if not trial.finished:
        _died(trial, name, code)
    return trial


def _take(trial: Trial, told: dict[str, Any], say: Callable[[str], None]) -> None:
    if "wrong" in told:
        raise WrongRequest(told["wrong"])
    if "stage" in told and told["stage"] != trial.stage:
        say(told["stage"])
    for key, value in told.items():
        setattr(trial, key, value)


def _died(trial: Trial, name: str, code: int) -> None:
    known = {int(number): number.name for number in signal.Signals}
    how = f"signal {known.get(-code, -code)}" if code < 0 else f"exit code {code}"
    sentence = f"{name} ended the process that checked it ({how}) {STAGES[trial.stage]}."
    if trial.stage == "load":
        trial.refused = f"the game '{name}' cannot be used: {sentence}"
    else:
        trial.broken, trial.laws = [sentence], ["no-error"]
