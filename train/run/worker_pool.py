"""The self-play processes of a run, seen from the learner: started, listened to, paused, replaced, stopped."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

from az.engine.errors import Refused
from az.engine.inference.precision import Fallback
from az.engine.printable import counted
from az.engine.selfplay.autotune import Plan
from az.engine.selfplay.worker import WorkerJob, record_name, worker_main
from az.engine.system.child import Child, end_of
from az.train.config import RunConfig
from az.train.run.deterministic import play_turn
from az.train.run.services import OnFault, OnFile, PoolStart

MOST_DEATHS = 5  # a worker may die so many times in DEATH_SECONDS: more is a fault that starting again does not mend
DEATH_SECONDS = 600.0
ADVICE = {
    "by SIGKILL": "the system does that when memory runs out: set fewer workers, or a smaller selfplay.slots",
    "by SIGILL": "its numpy, numba or onnxruntime was made for another CPU: install them again on this machine",
    "with exit code 1": "log.jsonl has its error",
}


def first_job(run: Path, config: RunConfig, plan: Plan, session: int, first_game: int) -> WorkerJob:
    """What the first worker is told; the pool numbers the others from there."""
    return WorkerJob(
        run=run.resolve(),
        game=config.game,
        config=plan.config,
        seed=config.seed,
        session=session,
        worker=0,
        first_game=first_game,
        stride=plan.workers,
        threads=plan.threads,
        provider=plan.provider,
    )


class LocalSelfplay:
    """Self-play by processes of this machine."""

    def pool(self, start: PoolStart) -> WorkerPool:
        """As `services.Selfplay`."""
        return WorkerPool(start.job, start.plan.workers, start.report, start.note, start.stopping)

    def play_turn(
        self, start: PoolStart, model: Path, turn: int, loaded: Callable[[Path, str], None]
    ) -> tuple[str, dict[str, Any]] | None:
        """As `services.Selfplay`."""
        parts = start.folder, start.game, start.config, model, turn, start.show
        return play_turn(*parts, start.stopping, loaded)

    def close(self) -> None:
        """Nothing goes on between two calls."""


class DeathRate:
    """Whether workers die faster than it makes sense to replace them."""

    def __init__(self, workers: int) -> None:
        self.most = MOST_DEATHS * workers
        self._moments: deque[float] = deque(maxlen=self.most + 1)

    def too_high(self, now: float) -> bool:
        """Count a death at this moment, in seconds of a clock that never goes back."""
        self._moments.append(now)
        return len(self._moments) > self.most and now - self._moments[0] <= DEATH_SECONDS


class WorkerPool:
    """W worker processes. A worker that dies is replaced; its games in flight are lost, nothing else.

    report: told a sentence for people; note: a kind and values for the run's log; stopping: whether the run was asked
    to stop, so that a worker which was ended by the same signal is not replaced.
    """

    def __init__(
        self,
        job: WorkerJob,
        workers: int,
        report: Callable[[str], None],
        note: Callable[[str, dict[str, Any]], None],
        stopping: Callable[[], bool],
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._paused = context.Value("b", 0, lock=False)
        self._meter = context.Array("q", workers, lock=False)  # simulations of each worker since it started
        self._report, self._note, self._stopping = report, note, stopping
        self._rate = DeathRate(workers)
        self._fallback = Fallback(self._precision)  # the first worker says it for all
        self._job = replace(job, stride=workers)
        self._next_number = [job.first_game + worker for worker in range(workers)]
        self._restarts = [0] * workers
        self._files = [0] * workers  # that the worker has told of since it started
        self._crashes = [""] * workers  # its last words
        self._processes: list[Child | None] = [None] * workers
        self._pipes: list[Connection] = []
        try:
            for worker in range(workers):
                self._pipes.append(self._start(worker))
        except BaseException:
            self.stop()
            raise

    def _number(self, worker: int) -> int:
        """A replaced worker writes under a number of its own, so that no file name comes twice."""
        return worker + self._restarts[worker] * len(self._next_number)

    def _start(self, worker: int) -> Connection:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        job = replace(self._job, worker=self._number(worker), first_game=self._next_number[worker])
        process = Child(worker_main, (job, theirs, self._paused, self._meter))
        self._processes[worker] = process
        process.start()
        theirs.close()
        return ours  # pyright: ignore[reportReturnType]

    def pause(self, paused: bool) -> None:
        """Let the workers rest, or go on."""
        self._paused.value = int(paused)

    @property
    def simulations(self) -> int:
        """Begun by the processes that are there now."""
        return sum(self._meter)

    def doing(self) -> str:
        """How far self-play is at this moment, for people; may be asked in any thread."""
        made = self.simulations
        if made:
            return f"self-play: {made:,} simulations"
        size = sum(resident_bytes(process.pid or 0) for process in self._processes if process is not None) >> 20
        loaded = f", {size:,} MB loaded" if size else ""
        return f"starting self-play: {counted(len(self._processes), 'worker')}{loaded}"

    def listen(self, timeout: float, on_file: OnFile, on_fault: OnFault) -> None:
        """Take in what the workers have written, waiting at most `timeout` seconds for the first word."""
        for pipe in cast("list[Connection]", multiprocessing.connection.wait(self._pipes, timeout)):
            worker = self._pipes.index(pipe)
            try:
                kind, *rest = pipe.recv()
            except (EOFError, OSError):
                if not self._stopping():
                    self._replace(worker)
                continue
            if kind == "crash":
                self._crashes[worker] = rest[0]
                continue
            if kind == "error":
                raise Refused(f"self-play stopped: {rest[0]}")
            if kind == "disk":
                raise OSError(*rest)  # as if this process had met it: the caller says how to go on
            if kind == "fault":
                on_fault(rest[0])
                continue
            if kind == "precision":
                self._fallback.changed(*rest)
                continue
            name, stats = rest
            self._files[worker] += 1
            self._next_number[worker] = max(self._next_number[worker], stats["next_game"])
            on_file(name, stats)

    def _precision(self, text: str, _: bool) -> None:
        self._report(text)
        self._note("precision", {"text": text})

    def _replace(self, worker: int) -> None:
        process = self._processes[worker]
        assert process is not None
        process.join(timeout=5)
        process.end()
        how, crash = end_of(process), self._crashes[worker].strip()
        self._note("worker", {"worker": worker, "ended": how, "error": crash})
        advice = ADVICE.get(how, "log.jsonl has what is known about it")
        last = f", {crash.splitlines()[-1]}" if crash else ""
        if self._rate.too_high(time.monotonic()):
            raise Refused(
                f"{self._rate.most + 1} self-play workers ended within {DEATH_SECONDS / 60:g} minutes, the last"
                f" {how}{last} ({advice}); `az resume` goes on with the run."
            )
        self._report(f"self-play worker {worker} ended {how}{last} and was replaced ({advice})")
        # Written, but not told of: its games have not been counted and are played again under the same numbers.
        untold = record_name(self._job.session, self._number(worker), self._files[worker])
        (self._job.run / "records" / untold).unlink(missing_ok=True)
        self._remove_half_written(process)
        self._pipes[worker].close()
        self._restarts[worker] += 1
        self._files[worker], self._crashes[worker] = 0, ""
        self._pipes[worker] = self._start(worker)

    def _remove_half_written(self, process: Child) -> None:
        for path in (self._job.run / "records").glob(f".*.tmp-{process.pid}"):
            path.unlink(missing_ok=True)

    def stop(self) -> None:
        """End the workers; the games in flight are lost."""
        for process in self._processes:
            if process is not None and process.pid is not None:
                process.kill()  # all at once; `end` waits for each
        for process in self._processes:
            if process is not None:
                process.end()
                self._remove_half_written(process)
        for pipe in self._pipes:
            pipe.close()


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0 where the system does not tell (only Linux does without a library)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
