"""The process that a run lives in: its device and its threads."""

from __future__ import annotations

import torch

from az.engine.errors import WrongRequest
from az.engine.system.cores import usable_cores
from az.train.config import RunConfig


def device_of(config: RunConfig) -> torch.device:
    """Where the network trains. Raises WrongRequest for a device that is not there."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise WrongRequest("device is cuda and this torch finds no CUDA device: use device=cpu or device=auto.")
    cuda = config.device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def use_threads(config: RunConfig, alone: bool) -> None:
    """As many threads as the learner has cores for; alone: self-play rests."""
    cores = usable_cores()
    # Workers fill the cores; a second learner thread would only wait at barriers for a core that a worker has.
    shared = 1 if config.deterministic or cores <= 2 else max(1, cores // 4)
    wanted = cores if alone and not config.deterministic else shared
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)
