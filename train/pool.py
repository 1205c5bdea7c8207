"""The self-play processes of a run, seen from the learner: started, listened to, paused, replaced, stopped."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from az.engine.errors import Refused
from az.engine.worker import WorkerJob, worker_main

MOST_DEATHS = 5  # a pool in which this many workers died has a fault that starting again does not mend


class WorkerPool:
    """W worker processes. A worker that dies is replaced; its games in flight are lost, nothing else."""

    def __init__(self, job: WorkerJob, workers: int, report: Callable[[str], None]) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._paused = self._context.Value("b", 0, lock=False)
        self._meter = self._context.Array("q", workers, lock=False)  # simulations of each worker since it started
        self._report = report
        self._deaths = 0
        self._job = replace(job, stride=workers)
        self._next_number = [job.first_game + worker for worker in range(workers)]
        self._restarts = [0] * workers
        self._processes: list[Any] = [None] * workers
        self._pipes: list[Connection] = []
        for worker in range(workers):
            self._pipes.append(self._start(worker))

    def _start(self, worker: int) -> Connection:
        ours, theirs = self._context.Pipe(duplex=False)
        # A replaced worker writes under a number of its own, so that no file name comes twice.
        number = worker + self._restarts[worker] * len(self._next_number)
        job = replace(self._job, worker=number, first_game=self._next_number[worker])
        process = self._context.Process(target=worker_main, args=(job, theirs, self._paused, self._meter), daemon=True)
        process.start()
        theirs.close()
        self._processes[worker] = process
        return ours  # pyright: ignore[reportReturnType]

    def pause(self, paused: bool) -> None:
        """Let the workers rest, or go on."""
        self._paused.value = int(paused)

    def doing(self) -> str:
        """How far self-play is at this moment, for people; may be asked in any thread."""
        made = sum(self._meter)
        if made:
            return f"self-play: {made:,} simulations"
        size = sum(resident_bytes(process.pid) for process in self._processes if process is not None) >> 20
        return f"starting self-play: {len(self._processes)} workers" + (f", {size:,} MB loaded" if size else "")

    def listen(
        self,
        timeout: float,
        on_file: Callable[[str, dict[str, Any]], None],
        on_fault: Callable[[dict[str, Any]], None],
    ) -> None:
        """Take in what the workers have written, waiting at most `timeout` seconds for the first word."""
        for pipe in multiprocessing.connection.wait(self._pipes, timeout):
            worker = self._pipes.index(pipe)  # pyright: ignore
            try:
                kind, *rest = pipe.recv()  # pyright: ignore
            except (EOFError, OSError):
                self._replace(worker)
                continue
            if kind == "error":
                raise Refused(f"self-play stopped: {rest[0]}")
            if kind == "fault":
                on_fault(rest[0])
                continue
            name, stats = rest
            self._next_number[worker] = max(self._next_number[worker], stats["next_game"])
            on_file(name, stats)

    def _replace(self, worker: int) -> None:
        self._processes[worker].join(timeout=5)
        code = self._processes[worker].exitcode
        self._deaths += 1
        if self._deaths > MOST_DEATHS:
            raise Refused(f"self-play workers died {self._deaths} times, the last with exit code {code}: see the log.")
        self._report(f"self-play worker {worker} died (exit code {code}) and was replaced")
        self._pipes[worker].close()
        self._restarts[worker] += 1
        self._pipes[worker] = self._start(worker)

    def stop(self) -> None:
        """End the workers; the games in flight are lost, half-written files are nobody's."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
        for pipe in self._pipes:
            pipe.close()


def resident_bytes(pid: int) -> int:
    """Memory of a process; 0 where the system does not tell (only Linux does without a library)."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
