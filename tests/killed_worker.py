"""A self-play worker that is killed between writing its second record file and telling of it, in its first life."""

from __future__ import annotations

import os
import shutil
import signal
from multiprocessing.connection import Connection
from typing import Any

from az.engine.selfplay import worker


class _Pipe:
    """The worker's pipe; the word about its second file never comes through."""

    def __init__(self, job: worker.WorkerJob, pipe: Connection) -> None:
        self.job, self.pipe, self.files = job, pipe, 0

    def send(self, message: tuple[Any, ...]) -> None:
        if message[0] == "file":
            self.files += 1
            if self.files == 2 and self.job.worker < self.job.stride:  # a replaced worker has a higher number
                shutil.copy(self.job.run / "records" / message[1], self.job.run / f"untold-{self.job.worker}.npz")
                os.kill(os.getpid(), signal.SIGKILL)
        self.pipe.send(message)


def worker_main(job: worker.WorkerJob, pipe: Connection, paused: Any, meter: Any) -> None:
    """The process's body, in the place of the real one."""
    pipe.send(("precision", f"worker {job.worker} plays in fp32", True))
    worker.worker_main(job, _Pipe(job, pipe), paused, meter)  # pyright: ignore[reportArgumentType]
