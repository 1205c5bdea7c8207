"""Make the int8 variant of a published model again, as publishing does today: `python models/remake_variant.py MODEL`.

For models whose run is gone. The network is read back from the fp32 file, the positions come from games that it plays
against itself (512 of them, every other one calibrates, the rest judge). The card beside it gets the new figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import nn

from az.engine.errors import Refused
from az.engine.game import Game
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.precision import variant_of
from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig
from az.export.onnx_file import model_of
from az.export.parity import Positions
from az.export.quantization_gate import variant_bytes_of
from az.train.architecture import BLOCKS, VALUE_HEADS
from az.train.config import NetConfig
from az.train.model import Network

POSITIONS, GAMES, SIMULATIONS = 512, 200, 32


def network_of(model: onnx.ModelProto, game: Game) -> Network:
    """The network that a file was written from, its batch norms already folded into the convolutions.

    A file names its tensors and not its architecture: each kind of block and value head that `az.train.architecture`
    has is written as a graph of the file's sizes, and the one that gives the file's graph is it. What was left out of
    the file (net.auxiliary) is left out. Raises Refused where none does.
    """
    weights = {item.name: numpy_helper.to_array(item).copy() for item in model.graph.initializer}
    hidden = weights.get("value_hidden.weight")
    sizes = NetConfig(
        weights["stem.conv.weight"].shape[0],
        len({name.split(".")[1] for name in weights if name.startswith("blocks.")}),
        policy_channels=weights["policy_stem.conv.weight"].shape[0],
        value_channels=weights["value_stem.conv.weight"].shape[0],
        value_hidden=0 if hidden is None else hidden.shape[0],
    )
    for block, head in itertools.product(BLOCKS, VALUE_HEADS):
        network = Network(game.planes_shape, game.num_actions, replace(sizes, block=block, value_head=head)).eval()
        made = model_of(network)
        if isinstance(made, onnx.ModelProto) and _form(made) == _form(model):
            _fill(network, model, weights)
            return network
    raise Refused(f"no block of {', '.join(BLOCKS)} with a value head of {', '.join(VALUE_HEADS)} gives this graph.")


def _form(model: onnx.ModelProto) -> tuple[list[bytes], dict[str, tuple[int, ...]]]:
    """The operators, and the shapes of the weights by name."""
    nodes = [node.SerializeToString(deterministic=True) for node in model.graph.node]
    return nodes, {item.name: tuple(item.dims) for item in model.graph.initializer}


def _fill(network: Network, model: onnx.ModelProto, weights: dict[str, NDArray[Any]]) -> None:
    """A convolution's bias becomes that of the batch norm behind it, which does nothing else."""
    state = network.state_dict()
    for name, array in weights.items():
        if name in state:
            state[name].copy_(torch.from_numpy(array))
    for node in model.graph.node:
        if node.op_type == "Conv":
            norm, bias = node.output[0], node.input[2]
            layer = network.get_submodule(norm)
            assert isinstance(layer, nn.BatchNorm2d)
            state[f"{norm}.weight"].fill_(1.0)
            state[f"{norm}.bias"].copy_(torch.from_numpy(weights[bias]))
            state[f"{norm}.running_mean"].zero_()
            state[f"{norm}.running_var"].fill_(1.0 - layer.eps)


def played_positions(game: Game, evaluator: OnnxEvaluator) -> Positions:
    """Positions of games that the model plays against itself."""
    config = SelfplayConfig(simulations=SIMULATIONS, fast_simulations=SIMULATIONS, slots=32)
    numbers = itertools.count()
    batch = SelfplayBatch(game, config, 1, config.slots)
    found = batch.play(lambda: (k, evaluator) if (k := next(numbers)) < GAMES else None)
    states = [row.state for one in sorted(found, key=lambda one: one.k) for row in one.rows]
    chosen = [states[i] for i in np.random.default_rng(1).permutation(len(states))[:POSITIONS]]
    planes = np.stack([game.planes(state) for state in chosen]).astype(np.float32)
    return Positions(planes, np.stack([game.mask(state) for state in chosen]))


def main() -> None:
    """Write the variant; print how far it is from fp32."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    path = parser.parse_args().model
    plain = OnnxEvaluator(path, provider="cpu")
    facts = {key: fact for key, fact in plain.metadata.items() if not key.startswith("check_")}
    model = onnx.load(path)
    positions = played_positions(plain.game, plain)
    network = network_of(model, plain.game)
    small = variant_of(path, "int8")
    data, difference = variant_bytes_of("int8", network, model, plain.game, positions, facts, small.name)
    small.write_bytes(data)
    told = {"int8_model_id": OnnxEvaluator(variant_of(path, "int8")).model_id, **difference.facts()}
    card = path.with_suffix(".json")
    if card.is_file():
        card.write_text(json.dumps(json.loads(card.read_text()) | told, indent=1) + "\n")
    print(json.dumps(told))


if __name__ == "__main__":
    main()
