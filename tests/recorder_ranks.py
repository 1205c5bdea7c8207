"""One rank of a loop under the recorder: `recorder_ranks.py RANK RANKS ADDRESS CASE …`, a line of JSON for each case.

A case is `FAULT:RANKS:SEED`, such as `data:1:7` or `weight-once:01:3`. Each is run twice: under the recorder with its
fault, and without the recorder, the step of the fault left out: the weights must be the same to the bit.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from az.train.health import FlightRecorder

STEPS = 9
NAN = float("nan")
FAULTS = (
    "data", "log", "weight", "guard", "finite", "data-once", "gradient-once", "reduced-once", "weight-once",
    "buffer-once",
)  # fmt: skip


def once(name: str) -> bool:
    """True at the first call only; in the environment, where no recorder puts it back."""
    return os.environ.setdefault(name, "0") == "0" and os.environ.update({name: "1"}) is None


class Loop:
    """A model, its optimizer, its batches, and a step that goes wrong at step `at` where `harmed`."""

    def __init__(self, fault: str, harmed: bool, seed: int, rank: int) -> None:
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
        self.model = nn.parallel.DistributedDataParallel(net)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.01)
        self.fault, self.harmed, self.rank, self.seed = fault, harmed, rank, seed
        self.at = 3 + seed % 4
        draw = torch.Generator().manual_seed(1000 * seed + rank)
        self.batches = [(number, torch.randn(8, 6, generator=draw)) for number in range(STEPS)]
        torch.manual_seed(10 * seed + rank)

    def step(self, batch: tuple[int, torch.Tensor]) -> torch.Tensor:
        number, x = batch
        bad = self.harmed and number == self.at
        fault = self.fault if bad else ""
        first = fault.endswith("-once") and once(f"{self.fault}:{self.rank}:{self.seed}")
        self.optimizer.zero_grad()
        if first and fault == "data-once":
            x = x * NAN
        y = self.model(x)
        loss = y.square().mean()
        if fault == "log":
            loss = loss + torch.log(torch.where(torch.arange(8) == 2, 0.0, 1.0) * y.flatten().exp()).mean()
        if fault == "guard" and not bool(torch.isfinite(loss)):
            raise ValueError("the loss is not finite")
        if fault == "error":
            print([1, 2][x.shape[0]])
        if first and fault == "gradient-once":
            self.model.module[0].weight.register_hook(lambda g: g * NAN if once(f"hook:{self.rank}:{self.seed}") else g)
        loss.backward()
        if first and fault == "reduced-once":
            self.model.module[0].weight.grad[0, 0] = NAN
        if fault == "finite":  # the other ranks stay finite
            self.model.module[4].weight.grad *= torch.log(self.model.module[4].weight.grad * 0)
        self.optimizer.step()
        if fault == "weight" or (first and fault == "weight-once"):
            self.model.module[0].bias.data[1] = NAN
        if first and fault == "buffer-once":
            self.model.module[1].running_var[3] = NAN
        return loss

    def numbers(self) -> torch.Tensor:
        """Weights and what Adam remembers of them."""
        state = [value.flatten() for one in self.optimizer.state.values() for value in one.values()]
        return torch.cat([*(p.detach().flatten() for p in self.model.parameters()), *state])


def ran(fault: str, harmed: bool, seed: int, rank: int, ranks: int) -> dict[str, Any]:
    loop = Loop(fault, harmed, seed, rank)
    if fault in ("data", "guard") and harmed:
        loop.batches[loop.at][1][3, 1] = NAN
    recorder = FlightRecorder(loop.model, loop.optimizer)
    told, losses = [], []
    for batch in loop.batches:
        try:
            incident = recorder.run(loop.step, batch)
        except IndexError:
            told.append({"step": batch[0], "cause": "IndexError", "ranks": [], "rows": [], "text": ""})
            continue
        if incident is None:
            losses.append(float(recorder.value))
        else:
            told.append({"step": batch[0], "cause": incident.cause, "ranks": incident.ranks, "rows": incident.rows,
                         "text": str(incident)})  # fmt: skip
    control = Loop(fault, False, seed, rank)
    kept = [float(control.step(batch)) for batch in control.batches if fault == "clean" or batch[0] != control.at]
    numbers = loop.numbers()
    others = [torch.zeros_like(numbers) for _ in range(ranks)]
    dist.all_gather(others, numbers)
    alike = all(torch.equal(numbers, other) for other in others)
    return {"told": told, "at": loop.at, "alike": alike, "as_control": bool(torch.equal(numbers, control.numbers())),
            "losses": losses == kept, "finite": bool(torch.isfinite(numbers).all())}  # fmt: skip


def main() -> None:
    rank, ranks, address = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=ranks)
    for case in sys.argv[4:]:
        fault, harmed, seed = case.split(":")
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            found = ran(fault, str(rank) in harmed, int(seed), rank, ranks)
        found["warnings"] = [str(one.message) for one in heard if "recorder" in str(one.message)]
        print(json.dumps({"case": case, **found}), flush=True)
    dist.barrier()
    os._exit(0)  # an interpreter that ended by itself was aborted in one run: "terminate called without …"


if __name__ == "__main__":
    main()
