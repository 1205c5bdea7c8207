"""The recorder as a distribution of its own: it needs torch and numpy, and loads nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import requires
from pathlib import Path

import pytest
from command_line import ROOT

LATE = 0.3  # seconds that import and first step may take over what the loop takes without the recorder

LOOP = """
import json, sys, time
from importlib.util import find_spec
assert not [name for name in ("az", "numba", "onnxruntime", "typer") if find_spec(name)]
import torch
from torch import nn
begun = time.perf_counter()
from flightrecorder import FlightRecorder, use_numba
seconds = [time.perf_counter() - begun]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters())
def step(batch):
    optimizer.zero_grad()
    loss = torch.log(batch).mul(model(batch)).mean()  # at: log
    loss.backward()
    optimizer.step()
    return loss
batch = torch.rand(8, 4) + 0.5
for run in (step, FlightRecorder(model, optimizer).run):  # without it first: torch prepares itself
    begun = time.perf_counter()
    run(*((batch,) if run is step else (step, batch)))
    seconds.append(time.perf_counter() - begun)
recorder = FlightRecorder(model, optimizer)
for _ in range(20):
    assert recorder.run(step, batch) is None
before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
moments = [t.clone() for state in optimizer.state.values() for t in state.values()]
nan = batch.clone()
nan[3] = float("nan")
batch[5, 1] = -1.0
found = [recorder.run(step, nan), recorder.run(step, batch)]
same = all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
now = [t for state in optimizer.state.values() for t in state.values()]
same = same and all(torch.equal(a, b) for a, b in zip(now, moments, strict=True))
loaded = [name for name in ("az", "numba", "onnxruntime") if name in sys.modules]
print(json.dumps([seconds, [[i.cause, i.rows, i.source, i.op] for i in found], same, loaded, use_numba()]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "recorder_wheel.py", folder], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return Path(done.stdout.strip())


def needed(name: str, seen: set[str]) -> set[str]:
    """A distribution and all that it asks for without extras, as far as it is installed here."""
    from importlib.metadata import PackageNotFoundError

    from packaging.requirements import Requirement

    if name in seen:
        return seen
    try:
        wanted = [Requirement(each) for each in requires(name) or []]
    except PackageNotFoundError:
        return seen
    seen.add(name)
    for one in wanted:
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            needed(one.name, seen)
    return seen


def with_torch_and_numpy_only(folder: Path, wheel: Path) -> Path:
    """The Python of a fresh environment: the wheel by pip, torch, numpy and what they ask for as links."""
    from importlib.metadata import distribution

    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    scheme = sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)})
    site, pip = Path(scheme), [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, site, wheel], check=True, capture_output=True)
    for name in needed("torch", needed("numpy", set())):
        files = distribution(name).files or []
        for top in {path.parts[0] for path in files if path.parts[0] not in ("..", "__pycache__")}:
            target = Path(str(distribution(name).locate_file(top)))
            if not (site / top).exists() and target.exists():
                (site / top).symlink_to(target)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def test_the_wheel_holds_every_source_and_nothing_of_az(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    code = {name.removeprefix("flightrecorder/") for name in names if name.endswith(".py")}
    source = ROOT / "train" / "health"
    assert code == {path.relative_to(source).as_posix() for path in source.rglob("*.py")}
    assert all(name.startswith(("flightrecorder/", "az_flightrecorder-0")) for name in names)
    told = zipfile.ZipFile(wheel).read(next(name for name in names if name.endswith("/METADATA"))).decode()
    asked = [line.partition(": ")[2] for line in told.splitlines() if line.startswith("Requires-Dist: ")]
    assert sorted(line for line in asked if "extra" not in line) == ["numpy>=2.1", "torch>=2.9"]
    assert "flightrecorder" in told.partition("\n\n")[2]


def test_it_works_with_torch_and_numpy_alone_and_begins_at_once(wheel, tmp_path):
    python, script = with_torch_and_numpy_only(tmp_path / "env", wheel), tmp_path / "loop.py"
    script.write_text(LOOP, "utf-8")
    times = []
    for _ in range(3):  # another program may hold up one
        done = subprocess.run([python, script], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        seconds, found, same, loaded, numba = json.loads(done.stdout)
        times.append(seconds)
        line = 1 + next(i for i, text in enumerate(LOOP.splitlines()) if text.endswith("# at: log"))
        assert found[0] == ["batch-not-finite", [3], f"{script}:{line}", "aten::log"]
        assert found[1] == ["log-of-negative", [5], f"{script}:{line}", "aten::log"]
        assert same
        assert (loaded, numba) == ([], False)
    assert min(imported for imported, _, _ in times) < LATE, times
    assert min(first - plain for _, plain, first in times) < LATE, times
