"""Make the int8 variant of a published model again, as publishing does today: `remake_variant.py MODEL`.

For models whose run is gone. The network is read back from the fp32 file, the positions come from games that it plays
against itself (512 of them, every other one calibrates, the rest judge). The card beside it gets the new figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from az.engine.game import Game
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.precision import variant_of
from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig
from az.export.parity import Positions
from az.export.quantization_gate import variant_bytes_of
from az.train.config import NetConfig
from az.train.model import Network

POSITIONS, GAMES, SIMULATIONS = 512, 200, 32


def network_of(model: onnx.ModelProto, game: Game) -> Network:
    """The network that a file was written from, its batch norms already folded into the convolutions."""
    weights = {item.name: numpy_helper.to_array(item).copy() for item in model.graph.initializer}
    hidden = weights.get("value_hidden.weight")
    config = NetConfig(
        weights["stem.conv.weight"].shape[0],
        sum(name.endswith("conv1.weight") for name in weights),
        policy_channels=weights["policy_stem.conv.weight"].shape[0],
        value_channels=weights["value_stem.conv.weight"].shape[0],
        value_hidden=0 if hidden is None else hidden.shape[0],
    )
    network = Network(game.planes_shape, game.num_actions, config).eval()
    state = network.state_dict()
    for name in state:
        owner, _, kind = name.rpartition(".")
        if ".norm" in name:
            conv = f"{owner.replace('norm', 'conv')}.bias"
            plain = {"bias": weights[conv], "running_var": 1.0 - 1e-5}  # 1 with the epsilon
            fill = plain.get(kind, 1.0 if kind == "weight" else 0.0)
            state[name].copy_(torch.as_tensor(fill))
        else:
            state[name].copy_(torch.from_numpy(weights[name]))
    return network


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
