"""Measure the models that ship again, after the search of play has changed: `python models/measure_again.py GAME …`.

The network stays as it is; its card `models/GAME.json` gets new figures and solved positions, by ship_model.py's
measures. The untrained network is made again, of the checkpoint's or the preset's size and from the run's seed.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from ship_model import MODELS, measure, solved

from az.engine.game import load_game
from az.export.pipeline import Candidate, publish
from az.train import checkpoint
from az.train.model import Network
from az.train.presets import preset


def untrained(name: str, folder: Path) -> Path:
    """A network of the shipped one's architecture with its first weights, in `folder`."""
    kept = MODELS / "checkpoints" / name
    config = checkpoint.load(kept).config if kept.is_dir() else preset(name, "quick")
    torch.manual_seed(config.seed)
    game = load_game(name)
    network = Network(game.planes_shape, game.num_actions, config.net)
    made = publish(Candidate(network.state_dict(), game, config.net, 0, config.preset, stamp=False), folder, 0)
    if isinstance(made, Exception):
        raise made
    return made.path


def main() -> None:
    """Each game's card in turn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("games", nargs="+")
    for name in parser.parse_args().games:
        path = MODELS / f"{name}.json"
        card = json.loads(path.read_text())
        with tempfile.TemporaryDirectory() as folder:
            card["figures"] = measure(name, MODELS / f"{name}.onnx", untrained(name, Path(folder)), 1.0)
        card["solved"] = solved(name, MODELS / f"{name}.onnx")
        path.write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
