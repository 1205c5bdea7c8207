"""What this machine can do and what the search makes of it: meters that run side by side in a process a core.

Every figure is taken in one run, alternating: a phase of raw onnxruntime, a phase of self-play, and again. The ratio of
two phases that follow each other says more than either, on a machine that others use too.
"""

from __future__ import annotations

import itertools
import multiprocessing
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from az.engine.errors import AzError, Refused
from az.engine.game import ONGOING, Game, State, load_game
from az.engine.inference.evaluator import Evaluator
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.raw_meter import RawMeter
from az.engine.rng import below, stream
from az.engine.search.batch import BatchSearch
from az.engine.search.params import SearchParams
from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig
from az.engine.system.child import Child

SLOTS = 128
POSITIONS = 512
TREE_SIMULATIONS = 1600
TREE_LEAVES = 32


@dataclass(frozen=True)
class Bench:
    """What a process measures."""

    game: str
    models: dict[str, Path]  # by precision
    precision: str  # the one that a run would choose
    seed: int
    simulations: int = 100
    slots: int = SLOTS


def middle_positions(game: Game, count: int, seed: int) -> np.ndarray:
    """[count, S] unfinished states of random games, from every part of a game."""
    words, found = stream(seed, "bench"), []
    state = game.new_state()
    while len(found) < count:
        legal = np.flatnonzero(game.mask(state))
        state = game.play(state, (int(legal[below(words, len(legal))]),))
        if game.outcome(state) != ONGOING:
            state = game.new_state()
        elif below(words, 4) == 0:
            found.append(state)
    return np.stack(found)


def usual_length(game: Game) -> int:
    """Plies of a random game, the median of some."""
    words, lengths = stream(0, "length"), []
    for _ in range(15):
        state, plies = game.new_state(), 0
        while game.outcome(state) == ONGOING:
            legal = np.flatnonzero(game.mask(state))
            game.apply(state, int(legal[below(words, len(legal))]))
            plies += 1
        lengths.append(plies)
    return int(np.median(lengths))


class SelfplayMeter:
    """Self-play in the middle of games, finished ones replaced by new ones."""

    def __init__(self, game: Game, evaluator: Evaluator, config: SelfplayConfig, seed: int) -> None:
        self.batch = SelfplayBatch(game, config, seed, config.slots)
        self.simulations = config.simulations
        numbers = itertools.count()
        self.steps = self.batch.steps(lambda: (next(numbers), evaluator))

    def measure(self, seconds: float) -> dict[str, float]:
        """Simulations and positions a second, and the share of look-ups that the cache knew."""
        batch, begun = self.batch, time.perf_counter()
        walks, asked, hits = batch.walks(), *self._cache()
        while (spent := time.perf_counter() - begun) < seconds:
            next(self.steps)
        now_asked, now_hits = self._cache()
        rate = (batch.walks() - walks) / spent
        return {
            "per_s": rate,
            "positions_per_s": rate / self.simulations,
            "hit_rate": (now_hits - hits) / max(1, now_asked - asked),
        }

    def _cache(self) -> tuple[int, int]:
        tables = list(self.batch.caches.values())
        return sum(int(table.asked[0]) for table in tables), sum(int(table.asked[1]) for table in tables)


class TreeMeter:
    """One tree a search, several leaves in flight: what play, arena and analysis of a single game do."""

    def __init__(self, game: Game, evaluator: Evaluator, states: np.ndarray, leaves: int = TREE_LEAVES) -> None:
        self.evaluator = evaluator
        self.search = BatchSearch(game, SearchParams(simulations=TREE_SIMULATIONS, leaves=leaves), 1)
        self.states: itertools.cycle[State] = itertools.cycle(states)
        self.active = np.zeros(1, np.int64)

    def measure(self, seconds: float) -> dict[str, float]:
        """Whole searches until the time is over."""
        begun, walks = time.perf_counter(), 0
        while (spent := time.perf_counter() - begun) < seconds:
            self.search.place(0, next(self.states), stream(walks))
            self.search.begin_as_asked(0)
            self.search.run(self.evaluator, self.active)
            walks += int(self.search.roots.started[0])
        return {"per_s": walks / spent}


def meters_of(bench: Bench) -> dict[str, Any]:
    """Every meter by its name."""
    game = load_game(bench.game)
    evaluators = {name: OnnxEvaluator(path, game, provider="cpu") for name, path in bench.models.items()}
    states = middle_positions(game, POSITIONS, bench.seed)
    planes = np.stack([game.planes(state) for state in states])
    meters: dict[str, Any] = {f"raw_{name}": RawMeter(e, planes) for name, e in evaluators.items()}
    chosen = evaluators[bench.precision]
    config = replace(
        SelfplayConfig(),
        simulations=bench.simulations,
        fast_simulations=bench.simulations,
        slots=bench.slots,
        opening_plies=usual_length(game),  # games begin in step: these are spread over all of a game at once
    )
    for name, cache in (("search_nocache", False), ("search", True)):
        meters[name] = SelfplayMeter(game, chosen, replace(config, cache=cache), bench.seed)
    meters["one_tree"] = TreeMeter(game, chosen, states)
    return meters


def bench_main(bench: Bench, pipe: Connection) -> None:
    """A process's body: answers (meter, seconds) with what it measured, until told None."""
    try:
        meters = meters_of(bench)
        pipe.send("ready")
        while (order := pipe.recv()) is not None:
            name, seconds = order
            pipe.send(meters[name].measure(seconds))
    except AzError as error:
        pipe.send(error)


def answer_of(process: Any, pipe: Any) -> Any:
    """What a process sent. Raises the error that it sent, or Refused where it ended without a word."""
    try:
        found = pipe.recv()
    except EOFError:
        process.join(timeout=5)
        raise Refused(
            f"a measuring process ended with exit code {process.exitcode}: ask for fewer with --threads."
        ) from None
    if isinstance(found, AzError):
        raise found
    return found


class BenchPool:
    """A process a core, all told the same at the same time."""

    def __init__(self, bench: Bench, processes: int) -> None:
        self.pipes: list[Any] = []
        self.processes = []
        for number in range(processes):
            ours, theirs = multiprocessing.Pipe()
            job = replace(bench, seed=bench.seed + number)
            process = Child(bench_main, (job, theirs))
            process.start()
            theirs.close()
            self.pipes.append(ours)
            self.processes.append(process)
        try:
            self._answers()
        except AzError:
            self.close()
            raise

    def _answers(self) -> list[Any]:
        return [answer_of(process, pipe) for process, pipe in zip(self.processes, self.pipes, strict=True)]

    def measure(self, meter: str, seconds: float) -> dict[str, float]:
        """The sum over the processes of what is a rate, the mean of the rest."""
        for pipe in self.pipes:
            pipe.send((meter, seconds))
        answers = self._answers()
        total = {name: float(sum(answer[name] for answer in answers)) for name in answers[0]}
        return {name: value if name.endswith("per_s") else value / len(answers) for name, value in total.items()}

    def close(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            with suppress(OSError):  # it has ended already
                pipe.send(None)
        for process in self.processes:
            process.join(timeout=10)
            process.end()


def memory_main(game_name: str, model: Path, slots: int, simulations: int, seconds: float, pipe: Connection) -> None:
    """A process's body: plays, then sends the most memory that it ever held, in bytes."""
    try:
        game = load_game(game_name)
        evaluator = OnnxEvaluator(model, game, provider="cpu")
        config = SelfplayConfig(
            simulations=simulations, fast_simulations=simulations, slots=slots, opening_plies=usual_length(game)
        )
        SelfplayMeter(game, evaluator, config, 0).measure(seconds)
        pipe.send(most_memory())
    except AzError as error:
        pipe.send(error)


def most_memory() -> int:
    """Bytes of the largest resident size of this process so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024
