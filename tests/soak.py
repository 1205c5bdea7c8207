"""A long run watched from outside: memory, open files and threads of every process, and the files in its folder."""

from __future__ import annotations

import csv
import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np
import psutil

KEPT = 3  # checkpoints
MODELS_KEPT = 20  # and every 50th; each is at most three files
WARM_UP = 0.25  # share of the run in which buffers, caches and the replay window still fill
ONE = 1.5  # a thread or descriptor may be added for good, not two
MEMORY_MB = 16.0  # what an allocator keeps or gives back by itself; 16 MB in 90 minutes are 256 MB a day


@dataclass(frozen=True)
class Sample:
    """One process at one moment."""

    seconds: float
    pid: int
    memory_mb: float  # what it has allocated: `allocated`
    files: int  # open descriptors
    threads: int


@dataclass(frozen=True)
class Disk:
    """The run's folder at one moment."""

    seconds: float
    records: int
    checkpoints: int
    models: int  # newest model's number: how often was published
    model_files: int  # without every 50th model, which stays
    temporary: int


def watch(run: subprocess.Popen[bytes], folder: Path, every: float, table: Path) -> tuple[list[Sample], list[Disk]]:
    """Sample the run until it ends; each sample is in `table` (CSV) at once, that of the folder beside it."""
    samples: list[Sample] = []
    disks: list[Disk] = []
    begun = time.monotonic()
    with table.open("w", newline="") as file, table.with_suffix(".disk.csv").open("w", newline="") as other:
        rows, disk_rows = csv.writer(file), csv.writer(other)
        rows.writerow([field.name for field in fields(Sample)])
        disk_rows.writerow([field.name for field in fields(Disk)])
        while run.poll() is None:
            now = time.monotonic() - begun
            for sample in _processes(run.pid, now):
                samples.append(sample)
                rows.writerow(astuple(sample))
            disks.append(_disk(folder, now))
            disk_rows.writerow(astuple(disks[-1]))
            file.flush()
            other.flush()
            time.sleep(every)
    return samples, disks


def _processes(pid: int, now: float) -> Iterator[Sample]:
    with suppress(psutil.NoSuchProcess):
        main = psutil.Process(pid)
        for process in [main, *main.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                own = allocated(process.pid) / 2**20
                yield Sample(round(now, 1), process.pid, round(own, 2), process.num_fds(), process.num_threads())


def allocated(pid: int) -> int:
    """Bytes of a process that no file on the disk holds, swapped out or not. Raises psutil.NoSuchProcess.

    Not the pages that it alone has (USS): libraries are among these while no other process uses them, so that figure
    of a run moves by 20 to 80 MB whenever another az or torch on the machine begins or ends. Where the system does not
    tell them apart (only Linux does), it is the figure all the same.
    """
    if not Path("/proc/self/status").exists():
        return int(psutil.Process(pid).memory_full_info().uss)
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        raise psutil.NoSuchProcess(pid) from None
    values = dict(line.split(":", 1) for line in lines)
    return sum(int(values.get(name, "0 kB").split()[0]) for name in ("RssAnon", "VmSwap")) * 1024


def _disk(folder: Path, now: float) -> Disk:
    def count(pattern: str) -> int:
        return sum(1 for _ in folder.glob(pattern))

    numbers = [path.name.partition(".")[0] for path in folder.glob("models/[0-9]*.*")]
    return Disk(
        seconds=round(now, 1),
        records=count("records/[0-9]*.npz"),
        checkpoints=count("checkpoints/step-*"),
        models=max(map(int, numbers), default=0),
        model_files=sum(int(number) % 50 != 0 for number in numbers),
        temporary=count("**/.*tmp*"),
    )


@dataclass(frozen=True)
class Series:
    """What one quantity did after the warm-up: the medians of its middle and of its last third."""

    name: str
    middle: float
    late: float
    slope_an_hour: float
    limit: float  # the last third may reach this

    @property
    def flat(self) -> bool:
        """Whether it stayed."""
        return self.late <= self.limit

    def __str__(self) -> str:
        text = f"{self.name}: {self.middle:,.1f} → {self.late:,.1f} ({self.slope_an_hour:+,.2f} an hour)"
        return text if self.flat else f"{text}, NOT FLAT: at most {self.limit:g}"


def judge(samples: Sequence[Sample], disks: Sequence[Disk]) -> list[Series]:
    """One entry for each quantity of each process that lasts, for those that come and go, and for the folder.

    A leak adds descriptors or threads with every model, checkpoint or match, which are hundreds: one is no leak yet,
    since torch makes a thread when the learner first computes on all cores.
    """
    end = max(sample.seconds for sample in samples)
    start = WARM_UP * end
    main = samples[0].pid
    after = [sample for sample in samples if sample.seconds >= start]
    moments = [sample.seconds for sample in after if sample.pid == main]
    pids = sorted({sample.pid for sample in after}, key=lambda pid: (pid != main, pid))
    lasting = [pid for pid in pids if sum(sample.pid == pid for sample in after) >= 0.9 * len(moments)]
    passing = set(pids) - set(lasting)
    found = []
    for quantity, more in (("memory_mb", MEMORY_MB), ("files", ONE), ("threads", ONE)):
        for pid in lasting:
            name = "main process" if pid == main else f"process {pid}"
            points = [(sample.seconds, float(getattr(sample, quantity))) for sample in after if sample.pid == pid]
            found += _series(f"{name}, {quantity}", points, start, end, more)
        peaks = _peaks([sample for sample in after if sample.pid in passing], quantity)
        found += _series(f"processes that come and go, {quantity}", peaks, start, end, more)
    counts = Counter(sample.seconds for sample in after)
    found += _series("processes at once", sorted(counts.items()), start, end, 0.5)
    records = [(disk.seconds, float(disk.records)) for disk in disks if disk.seconds >= start]
    found += [
        replace(series, limit=1.25 * series.middle + 0.5)
        for series in _series("folder, records", records, start, end, 0)
    ]
    for quantity, most in (("checkpoints", KEPT + 1), ("model_files", 3 * (MODELS_KEPT + 1)), ("temporary", 0.5)):
        points = [(disk.seconds, float(getattr(disk, quantity))) for disk in disks if disk.seconds >= start]
        found += [replace(series, limit=most) for series in _series(f"folder, {quantity}", points, start, end, 0)]
    return found


def _peaks(samples: Sequence[Sample], quantity: str) -> list[tuple[float, float]]:
    """The highest value that each process reached, at the moment at which it was last seen."""
    peaks: dict[int, tuple[float, float]] = {}
    for sample in samples:
        _, highest = peaks.get(sample.pid, (0.0, 0.0))
        peaks[sample.pid] = (sample.seconds, max(float(getattr(sample, quantity)), highest))
    return list(peaks.values())


def _series(name: str, points: Sequence[tuple[float, float]], start: float, end: float, more: float) -> list[Series]:
    """[the series], which may rise by `more`; [] where a third of the time has no sample of it."""
    third = (end - start) / 3
    middle = [value for moment, value in points if start + third <= moment < start + 2 * third]
    late = [value for moment, value in points if moment >= start + 2 * third]
    if not middle or not late:
        return []
    moments, values = np.array([moment for moment, _ in points]) / 3600, np.array([value for _, value in points])
    slope = float(np.polyfit(moments, values, 1)[0]) if len(set(moments)) > 1 else 0.0
    before = float(np.median(middle))
    return [Series(name, before, float(np.median(late)), slope, before + more)]


def scores(folder: Path) -> int:
    """Matches that the run's log tells of."""
    lines = (folder / "log.jsonl").read_text("utf-8").splitlines()
    return sum(json.loads(line)["kind"] == "score" for line in lines)
