"""What this machine can bear of a run's settings: processes by its cores, sizes by its memory.

Asked when a run is begun or resumed, not when a configuration is read: one of a larger machine can be read and changed.
"""

from __future__ import annotations

from az.engine.errors import WrongRequest
from az.engine.game import Game
from az.engine.search.batch import tree_size
from az.engine.search.tree import tree_bytes
from az.engine.system.cores import WORKERS_A_CORE, most_workers, usable_cores, usable_memory
from az.train.architecture import block_size
from az.train.config import NetConfig, RunConfig

ROW_BYTES = 200  # of a row in the replay beside its planes: result, ply, number, and the policy over a dozen moves
KEPT = 4  # arrays of a convolution's size that a training step keeps: two inputs, the normalized one, a gradient
NUMBERS_A_WEIGHT = 4  # the weight, its gradient and Adam's two moments


def check_machine(config: RunConfig, game: Game) -> None:
    """Raises WrongRequest, in one sentence with the range, for the first setting that is too large for this machine."""
    cores, most = usable_cores(), most_workers()
    if config.workers > most:
        raise WrongRequest(
            f"workers is {config.workers}: on this machine it must lie between 0 and {most}"
            f" ({WORKERS_A_CORE} for each of its {cores} cores)."
        )
    selfplay, net = config.selfplay, config.net
    processes = (config.workers or cores) * max(1, selfplay.in_flight)
    tree = tree_bytes(*tree_size(game, selfplay.simulations, selfplay.leaves))
    _fits("net.blocks", net.blocks, _block_bytes(net), 0)
    _fits("selfplay.simulations", selfplay.simulations, processes * tree // selfplay.simulations, 1)
    _fits("selfplay.slots", selfplay.slots, processes * tree, 1)
    _fits("learner.batch", config.learner.batch, _batch_row_bytes(net, game), 2)
    _fits("replay.window", config.replay.window, _row_bytes(game), 1)


def _fits(name: str, value: int, each: int, low: int) -> None:
    """each: bytes for one of `value`."""
    memory = usable_memory()
    if value * each > memory:
        raise WrongRequest(
            f"{name} is {value}: it would take about {_size(value * each)}, and this machine has {_size(memory)};"
            f" with the other settings as they are it must lie between {low} and {max(low, memory // each)}."
        )


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB"


def _block_bytes(net: NetConfig) -> int:
    """Of a block while it is trained."""
    return block_size(net, 1, 1)[0] * 4 * NUMBERS_A_WEIGHT


def _batch_row_bytes(net: NetConfig, game: Game) -> int:
    """Of a row while a step trains on it."""
    _, height, width = game.planes_shape
    stem, block = net.channels * height * width, block_size(net, height, width)[1]
    return (net.blocks * block + stem) * 4 * KEPT


def _row_bytes(game: Game) -> int:
    planes, height, width = game.planes_shape
    return planes * height * width * 4 + ROW_BYTES
