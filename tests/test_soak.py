"""A run that goes on for hours keeps its memory, its open files, its threads and its folder as they were."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from run_tools import start_az
from soak import Disk, Sample, Series, allocated, judge, scores, watch

MINUTES = float(os.environ.get("AZ_SOAK_MINUTES", "4"))  # 120 is the whole proof
WINDOW = 20_000 if MINUTES >= 20 else 2_000  # full before the warm-up is over
EVERY = 5.0 if MINUTES >= 20 else 1.0  # seconds

# Everything that can pile up happens often: models, checkpoints, matches, files that leave the window.
SETTINGS = {
    "workers": 1,
    "replay.window": WINDOW,
    "replay.window_start": WINDOW,
    "replay.min_rows": 500,
    "replay.publish_every_steps": 40,
    "checkpoint_steps": 100,
    "checkpoint_minutes": 0.5,
    "arena.games": 6,
    "arena.simulations": 8,
    "arena.opponent": "rollouts:20",
    "arena.every_minutes": min(2.0, MINUTES / 12),
}


@pytest.mark.slow
def test_a_long_run_stays_flat(tmp_path: Path) -> None:
    options = [part for key, value in SETTINGS.items() for part in ("--set", f"{key}={value}")]
    table = Path(os.environ.get("AZ_SOAK_TABLE", tmp_path / "soak.csv"))
    run = start_az(tmp_path, "train", "connect4", "--run", "soak", "--minutes", MINUTES, *options)
    try:
        samples, disks = watch(run, tmp_path / "runs" / "soak", EVERY, table)
    finally:
        run.kill()
        run.wait()
    assert run.returncode == 0
    found = judge(samples, disks)
    matches = scores(tmp_path / "runs" / "soak")
    print(f"\n{MINUTES:g} minutes, {len(samples)} samples, {disks[-1].models} models, {matches} matches")
    print("\n".join(map(str, found)))
    assert disks[-1].models >= 3
    assert matches >= 2
    assert len(found) >= 12
    assert not [str(series) for series in found if not series.flat]


LOADED = """
import sys
import onnxruntime
print("ready", flush=True)
for line in sys.stdin:
    kept = bytearray(b"x" * (int(line) << 20))
    print("ready", flush=True)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux tells what a process has allocated")
def test_memory_is_what_a_process_has_allocated() -> None:
    """Neither that another process loads the same libraries, nor that it ends, is seen; 20 MB of its own are."""

    def start() -> subprocess.Popen[str]:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        process = subprocess.Popen([sys.executable, "-c", LOADED], **pipes)
        wait(process)
        return process

    def wait(process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"

    one = start()
    try:
        alone = allocated(one.pid)
        other = start()
        both = allocated(one.pid)
        other.kill()
        other.communicate()
        assert alone == both == allocated(one.pid)
        assert one.stdin is not None
        one.stdin.write("20\n")
        one.stdin.flush()
        wait(one)
        assert 20 << 20 <= allocated(one.pid) - alone < 24 << 20
    finally:
        one.kill()
        one.communicate()


def _run(hours: float, memory: float, files: float, threads: float, records: float) -> list[Series]:
    """The judgement of an invented run of a main process and a worker; the arguments are what is added an hour."""
    moments = [3600 * hours * step / 1000 for step in range(1000)]
    samples = []
    for seconds in moments:
        hour = seconds / 3600
        wobble = 3.0 * (round(seconds) % 7) / 7
        samples.append(
            Sample(seconds, 1, 500 + memory * hour + wobble, int(30 + files * hour), int(9 + threads * hour))
        )
        samples.append(Sample(seconds, 2, 200 + wobble, 12, 4))
    disks = [Disk(seconds, int(40 + records * seconds / 3600), 3, int(seconds / 20), 60, 0) for seconds in moments]
    return judge(samples, disks)


def test_an_even_run_is_flat() -> None:
    found = _run(2.0, 0.0, 0.0, 0.0, 0.0)
    assert len(found) == 11
    assert all(series.flat for series in found)


@pytest.mark.parametrize(
    ("what", "leak"),
    [
        ("memory_mb", (45.0, 0.0, 0.0, 0.0)),  # 100 kB a model, with 450 models an hour
        ("files", (0.0, 4.0, 0.0, 0.0)),
        ("threads", (0.0, 0.0, 4.0, 0.0)),
        ("records", (0.0, 0.0, 0.0, 600.0)),
    ],
)
def test_a_leak_is_not_flat(what: str, leak: tuple[float, float, float, float]) -> None:
    rising = [series.name for series in _run(2.0, *leak) if not series.flat]
    assert len(rising) == 1
    assert what in rising[0]
