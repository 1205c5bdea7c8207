"""What the flight recorder takes of memory: resident memory at its peak with it, less the same loop without it.

    python benchmarks/recorder_memory.py [--sizes 1 10 100] [--optimizers adam lbfgs] [--json]

Every loop has a process of its own. The state is what the loop carries on: weights and the optimizer's tensors, as
they are after the last step, in megabytes. Promised: at most two copies of the state and 30 MB.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from typing import Any

SPARE = 30.0  # MB that the recorder may take beside two copies

LOOP = """
import json, resource, sys, torch
from torch import nn
from az.train.health import FlightRecorder
name, mb, recorded = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "with"
torch.set_num_threads(1)
torch.manual_seed(0)
copies = {"sgd": 1, "adam": 3, "lbfgs": 14}[name]  # of the weights: moments; LBFGS keeps 2 x 6 vectors and a gradient
width = max(4, int((mb * 1e6 / 4 / copies / 4) ** 0.5))
model = nn.Sequential(*[nn.Linear(width, width, bias=False) for _ in range(4)])
make = {"sgd": lambda p: torch.optim.SGD(p, 1e-3), "adam": torch.optim.Adam,
        "lbfgs": lambda p: torch.optim.LBFGS(p, 1e-2, max_iter=2, history_size=6)}[name]
optimizer = make(model.parameters())
def step(batch):
    def closure():
        optimizer.zero_grad()
        loss = model(batch).square().mean()
        loss.backward()
        return loss
    if name == "lbfgs":
        return optimizer.step(closure)
    loss = closure()
    optimizer.step()
    return loss
recorder = FlightRecorder(model, optimizer) if recorded else None
for _ in range(40):
    batch = torch.randn(4, width)
    if recorder is None:
        step(batch)
    else:
        assert recorder.run(step, batch) is None
def size(thing):
    if isinstance(thing, torch.Tensor):
        return thing.nbytes
    if isinstance(thing, dict):
        return sum(map(size, thing.values()))
    return sum(map(size, thing)) if isinstance(thing, (list, tuple)) else 0
state = size(list(model.parameters())) + size(dict(optimizer.state))
print(json.dumps([state / 1e6, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6]))
"""


def peak(optimizer: str, mb: float, recorded: bool) -> tuple[float, float]:
    """(MB of the state, MB resident at the peak) of one loop. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-c", LOOP, optimizer, str(mb), "with" if recorded else "without"]
    state, resident = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return state, resident


def measure(optimizer: str, mb: float) -> dict[str, Any]:
    """The figures of one loop."""
    (state, bare), (_, recorded) = peak(optimizer, mb, False), peak(optimizer, mb, True)
    return {
        "optimizer": optimizer, "state_mb": state, "bare_mb": bare, "over_mb": recorded - bare,
        "most_mb": 2 * state + SPARE,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=float, nargs="+", default=[1.0, 10.0, 100.0])
    parser.add_argument("--optimizers", nargs="+", choices=["sgd", "adam", "lbfgs"], default=["sgd", "adam", "lbfgs"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    for optimizer in options.optimizers:
        for mb in options.sizes:
            found = measure(optimizer, mb)
            text = "{optimizer}, state {state_mb:.1f} MB: {over_mb:.1f} MB over {bare_mb:.0f}, at most {most_mb:.1f}"
            print(json.dumps(found) if options.json else text.format(**found), flush=True)


if __name__ == "__main__":
    main()
