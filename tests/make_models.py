"""Small real things to hand to the commands: models, checkpoints and runs, made the way that training makes them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from az.engine.game import load_game
from az.export.pipeline import Candidate, Published, onnx_bytes_of, publish
from az.train import checkpoint
from az.train.config import NetConfig, RunConfig
from az.train.learner import Learner
from az.train.model import Network
from az.train.presets import preset
from az.train.run.counters import Counters
from az.train.run.folder import RunFolder

NET = NetConfig(8, 1, policy_channels=2, value_channels=1, value_hidden=4)
OTHER_NET = replace(NET, block="squeeze_excite", value_head="wdl")  # with every operator that NET has not


def small_network(game_name: str, seed: int = 7, net: NetConfig = NET) -> Network:
    """A network that knows nothing, with averages that are not 0 and 1, as after training."""
    game = load_game(game_name)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other take longer than such a small network
    torch.manual_seed(seed)
    network = Network(game.planes_shape, game.num_actions, net).train()
    for _ in range(3):
        network(torch.rand(64, *game.planes_shape))
    torch.set_rng_state(before)
    torch.set_num_threads(threads)
    return network.eval()


def candidate(game_name: str, seed: int = 7, step: int = 12, net: NetConfig = NET) -> Candidate:
    """What is offered to the gates of publishing."""
    return Candidate(small_network(game_name, seed, net).state_dict(), load_game(game_name), net, step, "quick")


def model_bytes(game_name: str, seed: int = 7, net: NetConfig = NET) -> bytes:
    """The bytes of an ONNX file that the engine believes."""
    return onnx_bytes_of(candidate(game_name, seed, net=net), "model.onnx")[0]


def write_model(path: Path, game_name: str, seed: int = 7, net: NetConfig = NET) -> Path:
    """An ONNX file at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model_bytes(game_name, seed, net))
    return path


def small_config(game_name: str = "tictactoe", steps: int = 2) -> RunConfig:
    """A run that has had all its steps when its second checkpoint is read: going on with it takes no self-play."""
    config = replace(preset(game_name, "quick"), net=NET, deterministic=True, minutes=0.0, steps=steps, device="cpu")
    return replace(config, learner=replace(config.learner, batch=8), replay=replace(config.replay, min_rows=8))


def make_run(path: Path, game_name: str = "tictactoe", config: RunConfig | None = None, steps: int = 2) -> Path:
    """A run's folder as training leaves it: its configuration, checkpoints of steps 1 … `steps` and one model."""
    config = config or small_config(game_name, steps)
    game = load_game(game_name)
    folder = RunFolder.create(path, config)
    learner = Learner(small_network(game_name), config.learner)
    count = Counters(session=1, batches=checkpoint.numpy_state(np.random.default_rng(0)))
    for step in range(1, steps + 1):
        checkpoint.save(
            path, step, learner.model, learner.optimizer, learner.average, asdict(count), game=game, config=config
        )
    assert isinstance(publish(candidate(game_name), folder.models, 0), Published)
    folder.unlock()
    return path
