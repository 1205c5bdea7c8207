"""One of two ranks, the other of which ends in some way: `recorder_endings.py RANK ADDRESS WAY`.

Prints `end STEPS WEIGHTS` where the loop came to its end; an error of the loop ends the process as it would without
the recorder.
"""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext

import torch
import torch.distributed as dist
from recorder_ranks import STEPS, Loop

from az.train.health import FlightRecorder
from az.train.health.ranks import agreement

WAYS = ("early", "error", "killed", "first", "one", "join", "accumulate", "silent", "own")


def main() -> None:
    rank, address, way = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    loop = Loop({"error": "error", "first": "guard", "own": "error"}.get(way, "clean"), rank == 1, 5, rank)
    model, optimizer = loop.model, loop.optimizer
    agreement.MEETING = 3.0
    recorder = FlightRecorder(model, optimizer, ranks=way != "silent" or None, rank_timeout=10.0)

    def accumulated(batch: tuple[int, torch.Tensor]) -> torch.Tensor:
        with model.no_sync() if batch[0] % 3 else nullcontext():
            loss = model(batch[1]).square().mean()
            loss.backward()
        if batch[0] % 3 == 0:
            optimizer.step()
            optimizer.zero_grad()
        return loss

    def logged(batch: tuple[int, torch.Tensor]) -> torch.Tensor:
        loss = loop.step(batch)
        mean = loss.detach().clone()
        dist.all_reduce(mean)  # the other ranks wait in it for one whose step raised
        return mean

    step = logged if way == "own" else accumulated if way in ("accumulate", "silent") else loop.step
    if way == "first" and rank == 1:
        loop.at = 0
        loop.batches[0][1][0] = float("nan")
    batches = loop.batches[:4] if rank == 1 and way in ("early", "join") else loop.batches
    done = 0
    with model.join() if way == "join" else nullcontext():
        for batch in batches:
            if way == "killed" and rank == 1 and batch[0] == 4:
                os._exit(9)
            if way == "silent" and rank == 1 and batch[0] == 4:  # not in the recorder's step, and not heard of
                step(batch)
                continue
            if way == "one" and rank == 1:
                step(batch)
            elif (incident := recorder.run(step, batch)) is not None:
                print(str(incident).replace("\n", " | "))
            done += 1
    print("end", done, float(sum(p.detach().sum() for p in model.parameters())), len(loop.batches) == STEPS, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
