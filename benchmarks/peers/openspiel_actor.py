"""Self-play of connect four by OpenSpiel's Python AlphaZero actors: simulations a second of all actors together.

An actor is what `open_spiel.python.algorithms.alpha_zero.alpha_zero.actor` runs, made with that module's own functions:
its model ("resnet", 64 wide, 5 deep, its default API), its `AlphaZeroEvaluator` with the cache of 65,536 positions, its
two `MCTSBot`s with root noise, and its game loop. Only the queue to a learner is left out. There is one process for
each core, as with its option `actors`.

A simulation is one walk of `MCTSBot` from the root to a leaf, counted as it begins; some end in a finished game or in a
position that the cache knows, so the calls of the network are counted too.

Two things are chosen here:
`--inference own` calls the model as OpenSpiel does: this release does not compile that call, so every layer is sent to
JAX by itself. `compiled` wraps the same call in `jax.jit` and turns its answers into numpy arrays: not what a user of
OpenSpiel gets, but what its search could do with a network that answers quickly.
`--board whole` hands the network a 6x7 board with 3 planes. `own` hands it the observation's shape as OpenSpiel's
trainer does: planes first, which its network takes for a 3x6 board with 7 planes, less than half the work.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

from report import median, show

PACKAGES = ("open-spiel", "jax", "jaxlib", "flax")
WARM_SIMULATIONS = 30  # of each actor before the clock starts: by then JAX has compiled what it compiles
ACTOR_FIGURES = 3  # simulations, calls of the network, the network's parameters


class SilentLogger:
    """OpenSpiel's game loop wants to write down every game."""

    def print(self, *_: Any) -> None:
        """Nothing."""

    opt_print = print


class CompiledModel:
    """A model of OpenSpiel whose call is compiled as a whole, its weights with it."""

    def __init__(self, model: Any) -> None:
        import jax
        import numpy as np

        self.call = jax.jit(model.inference)
        self.to_numpy = np.asarray

    def inference(self, observation: Any, legals_mask: Any) -> tuple[Any, Any]:
        """As OpenSpiel's own model: value, policy."""
        value, policy = self.call(observation, legals_mask)
        return self.to_numpy(value), self.to_numpy(policy)


def counted(function: Callable[..., Any], figures: Any, index: int) -> Callable[..., Any]:
    """The same function, its calls counted where the parent process can read them."""

    def call(*arguments: Any) -> Any:
        figures[index] += 1
        return function(*arguments)

    return call


def actor(number: int, figures: Any, simulations: int, inference: str, board: str) -> None:
    """Play games for ever."""
    warnings.simplefilter("ignore")  # OpenSpiel warns of its choice of API
    import pyspiel
    from open_spiel.python.algorithms.alpha_zero import alpha_zero, evaluator

    game = pyspiel.load_game("connect_four")
    shape = game.observation_tensor_shape()
    unused = {name: None for name in alpha_zero.Config.__dataclass_fields__ if name != "nn_api_version"}
    settings = {
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "uct_c": 1.25,
        "max_simulations": simulations,
        "policy_alpha": 1.0,
        "policy_epsilon": 0.25,
        "nn_model": "resnet",
        "nn_width": 64,
        "nn_depth": 5,
        "observation_shape": shape if board == "own" else [*shape[1:], shape[0]],
        "output_size": game.num_distinct_actions(),
        "verbose": False,
    }
    config = alpha_zero.Config(**{**unused, **settings})
    model = alpha_zero._init_model_from_config(config)
    first = number * ACTOR_FIGURES
    figures[first + 2] = int(model.num_trainable_variables)
    if inference == "compiled":
        model = CompiledModel(model)
    model.inference = counted(model.inference, figures, first + 1)
    judge = evaluator.AlphaZeroEvaluator(game, model)
    bots = [alpha_zero._init_bot(config, game, judge, False) for _ in range(2)]
    for bot in bots:
        bot._apply_tree_policy = counted(bot._apply_tree_policy, figures, first)
    for k in itertools.count():
        alpha_zero._play_game(SilentLogger(), k, game, bots, temperature=1.0, temperature_drop=30)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Start the actors, let them warm up, and read their counts at the ends of equal stretches of time."""
    context = multiprocessing.get_context("spawn")
    figures = context.Array("q", arguments.actors * ACTOR_FIGURES, lock=False)
    settings = (arguments.simulations, arguments.inference, arguments.board)
    actors = [context.Process(target=actor, args=(i, figures, *settings), daemon=True) for i in range(arguments.actors)]
    for process in actors:
        process.start()

    def wait(seconds: float) -> None:
        time.sleep(seconds)
        if not all(process.is_alive() for process in actors):
            raise SystemExit("an actor died; its error is above")

    while min(figures[0::ACTOR_FIGURES]) < WARM_SIMULATIONS:
        wait(0.1)
    runs, calls = [], []
    for repeat in range(arguments.repeats):
        before = time.perf_counter(), sum(figures[0::ACTOR_FIGURES]), sum(figures[1::ACTOR_FIGURES])
        wait(arguments.seconds)
        seconds = time.perf_counter() - before[0]
        runs.append(round((sum(figures[0::ACTOR_FIGURES]) - before[1]) / seconds, 1))
        calls.append(round((sum(figures[1::ACTOR_FIGURES]) - before[2]) / seconds, 1))
        print(f"{repeat + 1}: {runs[-1]:,} simulations/s", file=sys.stderr)
    for process in actors:
        process.terminate()
    return {
        "inference": arguments.inference,
        "board": arguments.board,
        "network_parameters": figures[2],
        "actors": arguments.actors,
        "games_in_flight": arguments.actors,
        "simulations_per_move": arguments.simulations,
        "simulations_per_s": median(runs),
        "runs": runs,
        "network_calls_per_s": median(calls),
    }


def main() -> None:
    """Measure and say so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inference", choices=("own", "compiled"), default="own")
    parser.add_argument("--board", choices=("whole", "own"), default="whole")
    parser.add_argument("--actors", type=int, default=os.cpu_count(), help="processes; default: the number of cores")
    parser.add_argument("--simulations", type=int, default=100, help="simulations a move")
    parser.add_argument("--seconds", type=float, default=5.0, help="of a repetition")
    parser.add_argument("--repeats", type=int, default=5)
    show("OpenSpiel Python AlphaZero actor", PACKAGES, **measure(parser.parse_args()))


if __name__ == "__main__":
    main()
