"""`python -m az.train.health script.py`: an ordinary script is what it was, and its first fault is named in time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys, torch
from torch import nn
kind, file = sys.argv[1:]
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.1), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)

if kind == "compiled":
    model = torch.compile(model, backend="aot_eager")

class Root(nn.Module):
    def forward(self, x):
        return x.sqrt()

root = Root()
def loss_of(out, i):
    zero = out - out.detach()
    if kind == "log" and i == 5:
        return zero.log().mean()
    if kind == "root" and i == 5:
        return root(zero).mean()
    return out.square().mean()

for i, x in enumerate(torch.randn(10, 6, 4).unbind()):
    if kind == "nan" and i == 5:
        x[2, 1] = torch.nan
    if kind == "rate" and i == 5:
        optimizer.param_groups[0]["lr"] = torch.inf
    optimizer.zero_grad()
    loss = loss_of(model(x), i)
    if kind == "guard" and i == 5:
        loss = loss * torch.nan
    if not (kind == "guard" and torch.isnan(loss)):
        loss.backward()
        if kind == "skip" and i == 5:
            model[0].weight.grad.fill_(torch.inf)
        if not (kind == "skip" and torch.isinf(model[0].weight.grad).any()):
            optimizer.step()
    torch.save(model.state_dict(), file)
    print(__name__, i, loss.item(), file)
assert kind != "raise"
sys.exit(7 if kind == "exit" else None)
"""


def run(folder: Path, kind: str, watched: bool) -> tuple[int, str, str]:
    """(exit status, output, errors)"""
    script = folder / "train.py"
    script.write_text(SCRIPT, "utf-8")
    words = ["-m", "az.train.health"] if watched else []
    command = [sys.executable, *words, str(script), kind, str(folder / "model.pt")]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=folder
    )
    return done.returncode, done.stdout, done.stderr


def at(text: str) -> str:
    return f"train.py:{next(i for i, line in enumerate(SCRIPT.splitlines(), 1) if text in line)}"


@pytest.mark.parametrize("kind", ["exit", "raise", "guard", "skip", "compiled"])
def test_a_script_without_a_fault_is_what_it_was(tmp_path: Path, kind: str):
    code, output, errors = run(tmp_path, kind, False)
    weights = (tmp_path / "model.pt").read_bytes()
    watched_code, watched_output, watched_errors = run(tmp_path, kind, True)
    assert (watched_code, watched_output) == (code, output)
    assert (tmp_path / "model.pt").read_bytes() == weights
    assert errors.splitlines()[-1:] == watched_errors.splitlines()[-1:]
    assert code == {"exit": 7, "raise": 1}.get(kind, 0)
    assert output.startswith("__main__ 0 ")


@pytest.mark.parametrize(
    ("kind", "place", "words"),
    [
        ("log", "zero.log()", ["the loss is -inf", "in forward, operation log", "6 zeros"]),
        ("nan", "x[2, 1] = torch.nan", ["the loss is nan", "operation __setitem__", "rows: 2"]),
        ("root", "x.sqrt()", ["the loss is finite", "operation SqrtBackward0, module Root", "6 zeros"]),
        ("rate", "optimizer.step()", ["the step of Adam wrote bad numbers into 0.weight", "written already"]),
    ],
)
def test_a_fault_stops_the_script_before_the_weights_are_written(
    tmp_path: Path, kind: str, place: str, words: list[str]
):
    _, plain, _ = run(tmp_path, "none", False)
    code, output, errors = run(tmp_path, kind, True)
    assert code == 3
    assert output.splitlines() == plain.splitlines()[:5]
    assert "az.train.health: step 5 of Adam" in errors
    assert at(place) in errors
    for word in words:
        assert word in errors
    assert ("the weights are good" in errors) == (kind != "rate")
    assert "recorder = FlightRecorder(model, optimizer)" in errors
    assert "with recorder.step(x):" in errors


TWICE = """
import torch
w = torch.ones(3, requires_grad=True)
loss = (w * w).sum()
loss.backward()
loss.backward()
"""

CLOSURE = """
import sys, torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(4, 1)
optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
for i, x in enumerate(torch.randn(4, 6, 4).unbind()):
    def closure():
        optimizer.zero_grad()
        out = model(x)
        loss = out.square().mean()
        if i == 2 and sys.argv[1:] == ["log"]:
            loss = loss + (out - out.detach()).log().sum()
        if i == 2 and sys.argv[1:] == ["root"]:
            loss = loss + (out - out.detach()).sqrt().sum()
        loss.backward()
        return loss
    optimizer.step(closure)
    print(i, [p.tolist() for p in model.parameters()])
"""


def run_text(folder: Path, text: str, *arguments: str, watched: bool = True) -> subprocess.CompletedProcess[str]:
    script = folder / "train.py"
    script.write_text(text, "utf-8")
    command = [sys.executable, *(["-m", "az.train.health"] if watched else []), str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)


def test_a_second_backward_is_the_error_that_it_is_without_us(tmp_path: Path):
    done = run_text(tmp_path, TWICE)
    assert done.returncode == 1
    assert "RuntimeError: Trying to backward through the graph a second time" in done.stderr


@pytest.mark.parametrize(("kind", "op"), [("log", "operation log"), ("root", "operation SqrtBackward0")])
def test_what_a_closure_calls_is_noted(tmp_path: Path, kind: str, op: str):
    plain = run_text(tmp_path, CLOSURE, watched=False)
    assert run_text(tmp_path, CLOSURE).stdout == plain.stdout
    done = run_text(tmp_path, CLOSURE, kind)
    assert done.returncode == 3
    assert done.stdout.splitlines() == plain.stdout.splitlines()[:2]
    assert "step 2 of LBFGS" in done.stderr
    assert op in done.stderr
    line = next(i for i, text in enumerate(CLOSURE.splitlines(), 1) if f").{kind.replace('root', 'sqrt')}()" in text)
    assert f"train.py:{line}" in done.stderr


def test_the_edit_that_is_printed_undoes_the_step(tmp_path: Path):
    """The script, changed as it was told, goes on behind the fault."""
    lines = SCRIPT.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("for i, x"))
    last = next(i for i, line in enumerate(lines) if "print(__name__" in line)
    edited = [*lines[:first], "from az.train.health import FlightRecorder",
              "recorder = FlightRecorder(model, optimizer)", lines[first], "    with recorder.step(x):",
              *("    " + line for line in lines[first + 1 : last + 1]), *lines[last + 1 :]]  # fmt: skip
    script = tmp_path / "edited.py"
    script.write_text("\n".join(edited), "utf-8")
    os.utime(script, (1e9, 1e9))
    command = [sys.executable, str(script), "log", str(tmp_path / "model.pt")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "step 5: the logarithm of 0" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("__main__ 9 ")


def test_a_script_that_is_not_there_is_told(tmp_path: Path):
    command = [sys.executable, "-m", "az.train.health"]
    done = subprocess.run([*command, str(tmp_path / "none.py")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "can't open file" in done.stderr
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage: python -m az.train.health script.py" in done.stderr
