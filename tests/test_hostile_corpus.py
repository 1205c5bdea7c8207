"""Standing proof: whatever is in the files that `az` reads, it answers in a sentence and touches nothing else.

AZ_HOSTILE=FIRST:END runs slices FIRST to END - 1; a slice is 1,056 cases, always the same. What failed is kept in
AZ_HOSTILE_KEEP, where that is set, and a figure is printed after every slice.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hostile_corpus import RECORD, Bench, cases
from make_models import OTHER_NET, make_run, small_config, write_model
from test_records import SEARCH, TICTACTOE, play_games

from az.engine.records.format import read_records, write_records
from az.train.health.incident import Incident
from az.train.replay import Replay
from az.train.run import bundle


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    """A folder with a run that has had its steps, an incident, a model; beside it what nothing may touch."""
    root = tmp_path_factory.mktemp("hostile") / "stock"
    place = root / "place"
    run = make_run(place / "runs" / "run", config=small_config(steps=1))
    write_records(run / "records" / RECORD.format(0), TICTACTOE, play_games(TICTACTOE, 3), 3, SEARCH)
    (run / "log.jsonl").write_text('{"kind":"step","step":20,"total":1.5,"signs":{"max_logit":4.0}}\n' * 9)
    write_incident(run)
    (run / "quarantine").mkdir()
    (run / "quarantine" / "0000-000000-000.npz").write_bytes(b"")
    (run / "quarantine" / "0000-000000-000.npz.json").write_text('{"file": "x", "reason": "because", "time": "t"}')
    write_model(place / "model.onnx", "tictactoe")
    write_model(place / "other.onnx", "tictactoe", net=OTHER_NET)
    (place / "notes.txt").write_text("mine\n")
    (root / "sibling").mkdir()
    (root / "sibling" / "file.txt").write_text("mine too\n")
    (root / "victim.txt").write_text("precious\n")
    return root


def write_incident(run: Path) -> None:
    """An incident of a row that no step really stumbled over: what is in its files is the same."""
    records = read_records(run / "records" / RECORD.format(0), TICTACTOE)
    replay = Replay(TICTACTOE, 1000)
    replay.add(records)
    batch = replay.gather(np.arange(8), np.zeros(8, np.int64))
    folder = run / "health" / "incident-0001"
    shutil.copytree(run / "checkpoints" / "step-000000001", folder / "checkpoints" / "step-000000001")
    operand = {
        "role": "self",
        "shape": [8],
        "dtype": "float32",
        "low": -1.0,
        "high": 1.0,
        "nans": 1,
        "infs": 0,
        "zeros": 0,
    }
    evidence = {
        "text": ["a value"], "fields": ["value"], "operands": [operand], "end_digest": "0",
        "spread": [{"phase": "forward", "module": "stem.conv", "op": "aten::conv"}],
    }  # fmt: skip
    incident = Incident(
        stage="data", cause="value-out-of-range", phase="data", op="aten::log", module="value_out", source="x.py:1",
        rows=[3], first_bad_step=1, causal_step=1, evidence=evidence, fix="Mend it.",
        counterfactual={"repair": "without the row", "finite": True}, seconds=0.5, notes=["a note"],
    )  # fmt: skip
    origins = [replay.origin(3) | {"batch_row": 3, "state": records.states[3].tolist()}]
    about = {"game": "tictactoe", "run": "run", "progress": 0.5, "seed": 0}
    bundle.write(folder, incident, origins, about, batch, run / "log.jsonl")


@pytest.fixture
def bench(stock, tmp_path):
    made = Bench(stock, tmp_path)
    yield made
    made.zygote.close()


def failures(bench: Bench, first: int, end: int, share: float = 1.0) -> list[str]:
    """What went wrong in these slices, the first of it."""
    for number in range(first, end):
        for index, (kind, case) in enumerate(cases(number, share)):
            bench.run(kind, case, f"{number}-{kind}-{index}")
        files = sum(count for kind, count in bench.count.items() if kind not in ("real", "processes"))
        print(
            f"slice {number}: {files:,} hostile files and lines in {bench.count['processes']:,} processes"
            f" ({bench.count['real']} by the command itself), {len(bench.failures)} failures; worst"
            f" {bench.worst['cpu']:.1f} CPU s, {bench.worst['grown'] / 2**20:.0f} MB; {dict(bench.count)};"
            f" exit codes {dict(sorted(bench.codes.items()))};"
            f" seconds { ({kind: round(wall) for kind, wall in bench.walls.items()}) }",
            flush=True,
        )
    keep = os.environ.get("AZ_HOSTILE_KEEP")
    if keep and bench.failures:
        Path(keep).mkdir(parents=True, exist_ok=True)
        with (Path(keep) / "failures.txt").open("a") as file:
            file.write("\n".join(bench.failures) + "\n")
        shutil.copytree(bench.work / "failures", Path(keep), symlinks=True, dirs_exist_ok=True)
    return bench.failures[:20]


def test_a_few_hostile_files(bench):
    bench.real_share = 0.0  # the rest of the tests start enough of them
    assert failures(bench, 0, 1, 0.06) == []
    assert bench.count["processes"] >= 10


@pytest.mark.slow
def test_the_hostile_corpus(bench):
    first, _, end = os.environ.get("AZ_HOSTILE", "1:7").partition(":")
    assert failures(bench, int(first), int(end)) == []
