"""Ranks under the recorder: real processes with gloo. They undo a step together, name the rank, and never hang."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from recorder_ranks import FAULTS

HERE = Path(__file__).parent


def ended(program: str, folder: Path, words: list[list[str]], seconds: int) -> list[tuple[int, str, str]]:
    """(exit status, output, errors) of every rank; fails where one is still there after so many seconds."""
    # to files: a rank that writes into a full pipe, not read before the other has ended, would stop both
    outs = [(folder / f"{program}.{rank}.out", folder / f"{program}.{rank}.err") for rank in range(len(words))]
    processes = list[subprocess.Popen[str]]()
    try:
        for own, (out, err) in zip(words, outs, strict=True):
            with out.open("w") as out_file, err.open("w") as err_file:
                processes.append(
                    subprocess.Popen([sys.executable, str(HERE / program), *own], stdout=out_file, stderr=err_file,
                                     text=True, cwd=folder, env={**os.environ, "OMP_NUM_THREADS": "1"})
                )  # fmt: skip
        until = time.monotonic() + seconds
        statuses = [process.wait(timeout=max(0.0, until - time.monotonic())) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(status, out.read_text(), err.read_text()) for status, (out, err) in zip(statuses, outs, strict=True)]


def told_by(folder: Path, cases: list[str], seconds: int, ranks: int = 2) -> list[list[dict[str, Any]]]:
    """What each rank tells of each case."""
    address = f"file://{folder}/meeting"
    found = ended("recorder_ranks.py", folder, [[str(r), str(ranks), address, *cases] for r in range(ranks)], seconds)
    assert all(status == 0 for status, _, _ in found), [errors[-2000:] for _, _, errors in found]
    return [[json.loads(line) for line in out.splitlines()] for _, out, _ in found]


def wrong(case: str, by_rank: list[dict[str, Any]]) -> list[str]:
    """What is not as it must be."""
    fault, harmed, _ = case.split(":")
    met, found = sorted(map(int, harmed)), list[str]()
    for rank, told in enumerate(by_rank):
        found += [f"rank {rank}: {key}" for key in ("alike", "as_control", "losses", "finite") if not told[key]]
        found += told["warnings"]
        incidents = told["told"]
        if fault == "clean":
            found += [f"rank {rank}: a false alarm"] if incidents else []
            continue
        if len(incidents) != 1 or incidents[0]["step"] != told["at"]:
            found.append(f"rank {rank}: {len(incidents)} incidents")
            continue
        one = incidents[0]
        if fault == "error" and rank in met:
            found += [] if one["cause"] == "IndexError" else [f"rank {rank}: {one['cause']}"]
            continue
        found += [] if one["ranks"] == met else [f"rank {rank}: named {one['ranks']}"]
        other = one["cause"] == "from-another-rank"
        found += [] if other == (rank not in met) else [f"rank {rank}: {one['cause']}"]
        words = f"undone since rank {' and '.join(map(str, met))} met a fault"
        found += [] if (words in one["text"]) == (rank not in met) else [f"rank {rank}: {one['text']}"]
    return [f"{case}: {one}" for one in found]


def test_ranks_undo_a_step_together_and_name_the_rank(tmp_path):
    cases = ["clean::1", "data:1:7", "guard:0:2", "finite:1:6", "gradient-once:0:8", "weight-once:1:4", "error:1:3",
             "data-once:01:5"]  # fmt: skip
    told = told_by(tmp_path, cases, 240)
    rows = [told[rank][1]["told"][0]["rows"] for rank in range(2)]
    assert rows == [[], [3]]
    assert "rank 1 of 2: batch-not-finite, rows [3]" in told[0][1]["told"][0]["text"]
    assert not [one for case, *by_rank in zip(cases, *told, strict=True) for one in wrong(case, by_rank)]


def test_three_ranks(tmp_path):
    cases = ["clean::1", "data:2:7", "gradient-once:02:8"]
    told = told_by(tmp_path, cases, 240, ranks=3)
    assert not [one for case, *by_rank in zip(cases, *told, strict=True) for one in wrong(case, by_rank)]


@pytest.mark.slow
def test_a_hundred_of_a_hundred(tmp_path):
    """30 faults on rank 0, 30 on rank 1, 40 on both; transient ones in a half."""
    draw = random.Random(17)
    cases = [f"{FAULTS[number % len(FAULTS)]}:{harmed}:{draw.randrange(1000) * 100 + number}"
             for number, harmed in enumerate(["0"] * 30 + ["1"] * 30 + ["01"] * 40)]  # fmt: skip
    told = told_by(tmp_path, cases, 1800)
    assert not [one for case, *by_rank in zip(cases, *told, strict=True) for one in wrong(case, by_rank)]


@pytest.mark.parametrize(
    ("way", "statuses", "words"),
    [
        ("early", (1, 0), "RuntimeError"),
        ("error", (1, 1), "IndexError"),
        ("own", (1, 1), "IndexError"),
        ("join", (0, 0), ""),
        pytest.param("killed", (1, 9), "RuntimeError", marks=pytest.mark.slow),
        pytest.param("first", (0, 0), "", marks=pytest.mark.slow),
        pytest.param("one", (0, 0), "found none on every other rank", marks=pytest.mark.slow),
        pytest.param("silent", (0, 0), "did not end their step within 10 s", marks=pytest.mark.slow),
    ],
)
def test_no_rank_waits_for_one_that_has_gone(tmp_path, way, statuses, words):
    address = f"file://{tmp_path}/meeting"
    found = ended("recorder_endings.py", tmp_path, [[str(rank), address, way] for rank in range(2)], 120)
    assert tuple(status for status, _, _ in found) == statuses, found
    assert words in "".join(errors for _, _, errors in found)
    if statuses == (0, 0) and way != "silent":
        assert len({out.split("end ")[1].split()[1] for _, out, _ in found}) == 1  # the same weights
