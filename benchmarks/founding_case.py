"""The founding case from its end: its faults put back into a run of preset `seed` on checkers, and what az says.

    python benchmarks/founding_case.py

Two runs. In the first the training step is the one that was posted: policy and value loss alone, no L2, and
batch-norm averages that are left out of the step. In the second the policy loss of one step is written by hand as the
paper writes it, -sum pi log p, with logits as sharp as they become after millions of moves.
"""

from __future__ import annotations

import random
import time
from contextlib import nullcontext

from az.commands.drill import faults_in_loops as drill_loops
from az.commands.drill import faults_in_steps as drill_steps
from az.commands.drill.runs import RunResult, temporary, train_with
from az.train.config import RunConfig, with_settings
from az.train.presets import preset

SETTINGS = (
    "deterministic=true", "minutes=0", "steps=24", "games_per_turn=16", "steps_per_turn=8", "replay.min_rows=512",
    "replay.window_start=512", "selfplay.simulations=16", "selfplay.fast_simulations=16", "arena.games=0",
)  # fmt: skip


def config(*more: str) -> RunConfig:
    """Preset `seed` on checkers, with little self-play: the step is what this is about."""
    return with_settings(preset("checkers", "seed"), [*SETTINGS, *more])


def main() -> None:
    """Run both and print what was said, with seconds."""
    with temporary() as root:
        print("# the step as it was posted")
        begun = time.perf_counter()
        with drill_loops.as_posted():
            result = train_with(RunResult(0), config(), root / "posted", nullcontext())
        print("\n".join(text for text in result.said if text.startswith("before training")))
        print(f"stopped: {result.stopped}")
        print(f"steps made: {result.steps}; {time.perf_counter() - begun:.0f} s with self-play of the first rows")
        print("\n# -sum pi log p by hand, sharp logits, batch 1024")
        result = RunResult(0)
        fault = next(fault for fault in drill_steps.FAULTS if fault.id == "D10")
        train_with(result, config(), root / "by-hand", fault.inject(result, random.Random(0)))
        for _, incident in result.incidents:
            print(incident)
            print(f"from detection to diagnosis: {incident.seconds:.1f} s; steps made in all: {result.steps}")


if __name__ == "__main__":
    main()
