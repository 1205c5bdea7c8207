"""A trained OpenSpiel Python AlphaZero answers positions of connect four; openspiel_match.py starts it and asks.

It runs in OpenSpiel's environment and speaks JSON lines: one object a line on stdin, one on stdout for each.

    {"positions": ["44", "443"], "keys": [7, 8], "simulations": 100}    → {"actions": [3, 3], "values": [0.1, 0.0], …}
    {"positions": ["44"], "keys": [7], "seconds": 1.0}                  → the same, and how many simulations it made

A position is the columns 1–7 played so far, as az writes it; an action is a column, 0–6. A value is that of the player
to move. 0 simulations: the network alone. The first line on stdout tells who answers, or {"error": one sentence}.

The search is what OpenSpiel's trainer evaluates with: its `MCTSBot` as `_init_bot` makes it, without noise, its
`AlphaZeroEvaluator`, and the settings of the training (config.json beside the checkpoints). A key draws the order in
which the search meets the moves of a node, so the same question has the same answer.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
import warnings
from pathlib import Path
from typing import Any

from openspiel_actor import PACKAGES, CompiledModel
from report import versions

CHECKPOINT = re.compile(r"checkpoint-(\d+)")


def checkpoints(folder: Path) -> list[int]:
    """The steps of whole checkpoints, oldest first; one that was being written has a longer name."""
    return sorted(int(found[1]) for path in folder.iterdir() if (found := CHECKPOINT.fullmatch(path.name)))


class TimeIsUpError(Exception):
    """Ends a search between two simulations; carries the root of its tree."""


class Network:
    """A checkpoint and the searches with it."""

    def __init__(self, folder: Path, step: int | None, inference: str) -> None:
        """Raises ValueError with a sentence."""
        self.config, self.step = self._find(folder, step)
        import pyspiel
        from open_spiel.python.algorithms.alpha_zero import alpha_zero, evaluator

        config = alpha_zero.Config(**self.config)
        self.game = pyspiel.load_game(config.game)
        model = alpha_zero._init_model_from_config(config)
        model.load_checkpoint(self.step)
        self.parameters = int(model.num_trainable_variables)
        self.judge = evaluator.AlphaZeroEvaluator(self.game, CompiledModel(model) if inference == "compiled" else model)
        self.bot = alpha_zero._init_bot(config, self.game, self.judge, True)
        self.walk, self.bot._apply_tree_policy = self.bot._apply_tree_policy, self._walk_in_time
        self.deadline = float("inf")
        self.judge.evaluate(self.game.new_initial_state())  # JAX compiles before any clock starts

    @staticmethod
    def _find(folder: Path, step: int | None) -> tuple[dict[str, Any], int]:
        try:
            config = json.loads((folder / "config.json").read_text())
        except (OSError, ValueError):
            raise ValueError(f"{folder} is not a folder that openspiel_train.py wrote: no config.json there.") from None
        known = checkpoints(folder)
        if not known or (step is not None and step not in known):
            asked = "" if step is None else f" {step}"
            raise ValueError(f"{folder} has no checkpoint{asked}; it has {known or 'none'}.")
        return {**config, "path": str(folder.resolve())}, known[-1] if step is None else step

    def _walk_in_time(self, root: Any, state: Any) -> Any:
        if time.monotonic() >= self.deadline and root.children:
            raise TimeIsUpError(root)
        return self.walk(root, state)

    def about(self) -> dict[str, Any]:
        """Who answers."""
        names = ("nn_api_version", "nn_model", "nn_width", "nn_depth", "uct_c", "max_simulations")
        return {
            "name": "OpenSpiel {nn_model} {nn_width}x{nn_depth}".format(**self.config) + f", step {self.step}",
            "step": self.step,
            "network_parameters": self.parameters,
            "training": {name: self.config[name] for name in names},
            "versions": versions(*PACKAGES),
        }

    def state(self, position: str) -> Any:
        """OpenSpiel's state after these columns."""
        state = self.game.new_initial_state()
        for column in position:
            state.apply_action(int(column) - 1)
        return state

    def alone(self, position: str) -> tuple[int, float, int]:
        """Without a search: action, value, 0 simulations."""
        state = self.state(position)
        action = max(self.judge.prior(state), key=lambda pair: pair[1])[0]
        return int(action), float(self.judge.evaluate(state)[state.current_player()]), 0

    def search(self, position: str, key: int, simulations: int | None, seconds: float | None) -> tuple[int, float, int]:
        """By so many simulations or seconds: action, value, simulations made."""
        import numpy as np

        self.bot._random_state = np.random.RandomState(key % 2**32)
        self.bot.max_simulations = sys.maxsize if simulations is None else simulations
        self.deadline = float("inf") if seconds is None else time.monotonic() + seconds
        try:
            root = self.bot.mcts_search(self.state(position))
        except TimeIsUpError as up:
            root = up.args[0]
        value = root.total_reward / root.explore_count
        return int(root.best_child().action), float(value), int(root.explore_count)

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """All positions of a question, one after another."""
        simulations, seconds = question.get("simulations"), question.get("seconds")
        found = [
            self.alone(position) if simulations == 0 else self.search(position, key, simulations, seconds)
            for position, key in zip(question["positions"], question["keys"], strict=True)
        ]
        names = ("actions", "values", "simulations")
        return {name: [one[i] for one in found] for i, name in enumerate(names)}


def main() -> None:
    """Load, say who answers, answer until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what openspiel_train.py wrote")
    parser.add_argument("--step", type=int, help="of the checkpoint; default: the newest")
    parser.add_argument("--inference", choices=("own", "compiled"), default="compiled", help="see openspiel_actor.py")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # OpenSpiel warns of its choice of API
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not come between the answers
    try:
        network = Network(asked.folder, asked.step, asked.inference)
    except (ValueError, ModuleNotFoundError) as error:
        missing = f"{sys.executable} has no OpenSpiel ({error}): see benchmarks/peers/README.md."
        print(json.dumps({"error": missing if isinstance(error, ImportError) else str(error)}), file=out)
        return
    print(json.dumps(network.about()), file=out)
    for line in sys.stdin:
        print(json.dumps(network.answer(json.loads(line))), file=out)


if __name__ == "__main__":
    main()
