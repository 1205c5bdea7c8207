"""Train OpenSpiel's Python AlphaZero on connect four for so many minutes of wall time, in OpenSpiel's environment.

    python benchmarks/peers/openspiel_train.py FOLDER --minutes 30 [--configuration mlp] [--inference own]

The training is `open_spiel.python.algorithms.alpha_zero.alpha_zero` itself. FOLDER gets its logs, its config.json and
a checkpoint after every step. The clock starts with this program, so starting and compiling count, as they do for az.
When the time is up (or at Ctrl-C) its processes are ended; the newest whole checkpoint is the result.

Chosen here:
- CONFIGURATIONS and SETTINGS below. What is not said there to be ours is the default of OpenSpiel's own program,
  `open_spiel/python/examples/alpha_zero.py`.
- `--inference compiled` (the default) wraps the actors' call of the network in `jax.jit`, compiled anew for every
  checkpoint. No user of this release has that; it makes the actors some 30 times faster. `own` is what users get.

OpenSpiel's trainer hands a convolution a 3x6 board with 7 planes (see README.md); an mlp does not mind.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from openspiel_actor import PACKAGES, CompiledModel
from openspiel_player import CHECKPOINT, checkpoints
from report import show

# Both for two CPU cores. resnet: az's preset `seed` has that shape. mlp: its search is hardly slowed by the network.
CONFIGURATIONS = {
    "resnet": {"nn_model": "resnet", "nn_width": 64, "nn_depth": 5},
    "mlp": {"nn_model": "mlp", "nn_width": 128, "nn_depth": 2},
}
SETTINGS = {
    "uct_c": 1.41,
    "max_simulations": 40,
    "train_batch_size": 2**7,
    "replay_buffer_size": 2**13,
    "replay_buffer_reuse": 4,  # a step of learning comes after 2**13 / 4 new positions
    "learning_rate": 1e-3,
    "weight_decay": 1e-4,
    "decouple_weight_decay": False,
    "policy_epsilon": 0.25,
    "policy_alpha": 1.0,
    "temperature": 1.0,
    "temperature_drop": 10,  # ours: the example's 2 is for tic-tac-toe; 10 is the default of OpenSpiel's C++ AlphaZero
    "nn_api_version": "nnx",  # the default of its library; the example's "linen" is slower on a CPU
    "actors": 2,
    "evaluators": 0,  # ours: the example's 2 would take half of the two cores and teach nothing
    "evaluation_window": 50,
    "eval_levels": 7,
    "checkpoint_freq": 1,  # ours: the example's 25 would overwrite one checkpoint while actors read it
    "max_steps": 0,  # ours: the clock ends it
    "quiet": True,
    "verbose": False,
    "observation_shape": None,  # OpenSpiel fills in these two
    "output_size": None,
}
OUTPUT = "output.txt"  # in the folder: what the processes print


class RecompiledModel:
    """A model of OpenSpiel whose call is compiled, again whenever its weights change: they are constants of it."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.compiled = CompiledModel(model)

    def inference(self, observation: Any, legals_mask: Any) -> tuple[Any, Any]:
        """As OpenSpiel's own model: value, policy."""
        return self.compiled.inference(observation, legals_mask)

    def load_checkpoint(self, step: str) -> None:
        """As OpenSpiel's own model."""
        import jax

        self.model.load_checkpoint(step)
        jax.clear_caches()  # of the call with the old weights
        self.compiled = CompiledModel(self.model)


def compiled_actor(**given: Any) -> None:
    """OpenSpiel's actor, in its own process, with a compiled network."""
    from open_spiel.python.algorithms.alpha_zero import alpha_zero

    build = alpha_zero._init_model_from_config
    alpha_zero._init_model_from_config = lambda config: RecompiledModel(build(config))
    alpha_zero.actor(**given)


def train(settings: dict[str, Any], inference: str, parent: int) -> None:
    """OpenSpiel's training, in a process group of its own that ends with the parent."""
    os.setsid()
    output = os.open(Path(settings["path"]) / OUTPUT, os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)

    def end_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=end_with_parent, daemon=True).start()
    from open_spiel.python.algorithms.alpha_zero import alpha_zero

    if inference == "compiled":
        alpha_zero.actor = compiled_actor
    alpha_zero.alpha_zero(alpha_zero.Config(**settings))


def steps_of(folder: Path) -> list[dict[str, Any]]:
    """What the learner wrote down, whole lines alone."""
    log = folder / "learner.jsonl"
    return [json.loads(line) for line in log.read_text().splitlines(True) if line[-1] == "\n"] if log.is_file() else []


def follow(process: Any, folder: Path, begun: float, deadline: float) -> None:
    """Tell of every step until the time is up. Raises SystemExit when the training ends by itself."""
    told = 0
    while time.monotonic() < deadline:
        process.join(max(0.0, min(1.0, deadline - time.monotonic())))
        if process.exitcode is not None:
            raise SystemExit(f"OpenSpiel's training ended by itself: its last words are in {folder / OUTPUT}.")
        for step in steps_of(folder)[told:]:
            told += 1
            line = "step {step}: {total_trajectories:,} games, {total_states:,} positions".format(**step)
            print(f"{time.monotonic() - begun:.0f} s, {line}, loss {step['loss']['sum']:.3f}", file=sys.stderr)


def stop(process: Any, folder: Path) -> None:
    """End the training's processes and throw away a checkpoint that was being written."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.join()
    for path in folder.glob("checkpoint-*"):
        if not CHECKPOINT.fullmatch(path.name):
            shutil.rmtree(path, ignore_errors=True)


def figures(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What came of it. Raises SystemExit where no step was finished."""
    steps, saved = steps_of(folder), checkpoints(folder)
    failed = [log.name for log in folder.glob("log-actor-*.txt") if "Exception caught" in log.read_text()]
    if not saved or saved[-1] == 0:
        trouble = f"these actors failed: {', '.join(failed)}" if failed else "give it more minutes or fewer simulations"
        raise SystemExit(f"{folder}: no step of learning was finished; {trouble}.")
    size, batch = settings["replay_buffer_size"], settings["train_batch_size"]
    return {
        "checkpoint": saved[-1],
        "steps": len(steps),
        "games": steps[-1]["total_trajectories"] if steps else 0,
        "positions": steps[-1]["total_states"] if steps else 0,
        "updates": sum(min(step["total_states"], size) // batch for step in steps),
        "loss": steps[-1]["loss"] if steps else None,
        "failed_actors": failed,
    }


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a new or empty folder")
    parser.add_argument("--minutes", type=float, required=True, help="of wall time")
    parser.add_argument("--configuration", choices=sorted(CONFIGURATIONS), default="resnet")
    parser.add_argument("--inference", choices=("own", "compiled"), default="compiled")
    parser.add_argument("--simulations", type=int, default=SETTINGS["max_simulations"], help="a move, in self-play")
    parser.add_argument("--actors", type=int, default=SETTINGS["actors"], help="processes that play")
    asked = parser.parse_args()
    if not importlib.util.find_spec("pyspiel"):
        parser.error(f"{sys.executable} has no OpenSpiel: see benchmarks/peers/README.md.")
    if not 0 < asked.minutes < 100_000:
        parser.error(f"--minutes is {asked.minutes:g}: it must lie above 0 and below 100000.")
    if asked.simulations < 2 or asked.actors < 1:
        parser.error("--simulations must be 2 or more, --actors 1 or more.")
    if asked.folder.exists() and (not asked.folder.is_dir() or any(asked.folder.iterdir())):
        parser.error(f"{asked.folder} is there already and not an empty folder: name a new one.")
    return asked


def main() -> None:
    """Train, then one line of JSON."""
    begun = time.monotonic()
    asked = arguments()
    deadline = begun + 60 * asked.minutes
    asked.folder.mkdir(parents=True, exist_ok=True)
    settings = {
        **SETTINGS,
        **CONFIGURATIONS[asked.configuration],
        "game": "connect_four",
        "path": str(asked.folder.resolve()),
        "max_simulations": asked.simulations,
        "actors": asked.actors,
    }
    os.environ.update(JAX_PLATFORMS="cpu", PYTHONWARNINGS="ignore")
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=train, args=(settings, asked.inference, os.getpid()))
    process.start()
    try:
        with contextlib.suppress(KeyboardInterrupt):
            follow(process, asked.folder, begun, deadline)
    finally:
        stop(process, asked.folder)
    seconds = round(time.monotonic() - begun, 1)
    about = {"configuration": asked.configuration, "inference": asked.inference, "seconds": seconds}
    chosen = {name: settings[name] for name in ("max_simulations", "actors", "nn_model", "nn_width", "nn_depth")}
    show("OpenSpiel Python AlphaZero training", PACKAGES, **about, **chosen, **figures(asked.folder, settings))


if __name__ == "__main__":
    main()
