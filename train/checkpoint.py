"""Checkpoints: everything that a run needs to go on as if it had never stopped.

runs/NAME/checkpoints/step-000012000/: tensors in safetensors, scalars in state.json, and manifest.json with the
SHA-256 of each. A folder appears whole or not at all; every byte is checked when read. Nothing is a pickle.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from os import getpid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save as tensors_to
from torch import Tensor, nn

from az.engine.errors import Refused
from az.engine.game import Game
from az.engine.system.files import NEW, naming, publish_folder, settle_folder, write_atomic
from az.train.checkpoint_read import FORMAT, FORMAT_VERSION, Tensors, folders, step_of
from az.train.checkpoint_read import Checkpoint as Checkpoint
from az.train.checkpoint_read import latest as latest
from az.train.checkpoint_read import load as load
from az.train.checkpoint_read import numpy_from_state as numpy_from_state
from az.train.config import RunConfig, to_toml


def save(
    run: Path,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: nn.Module | None,
    extra: Mapping[str, Any],
    *,
    game: Game,
    config: RunConfig,
) -> Path:
    """Write RUN/checkpoints/step-…; `extra` is JSON: counters, `numpy_state` of generators. Returns the folder."""
    state = {
        "step": step,
        "game": game.name,
        "game_version": game.version,
        "config": to_toml(config),
        "groups": [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups],
        "extra": dict(extra),
    }
    files = {
        "weights.safetensors": _to_bytes(model.state_dict()),
        "optimizer.safetensors": _to_bytes(_optimizer_tensors(model, optimizer)),
        "random.safetensors": _to_bytes(_random_states()),
        "state.json": json.dumps(state, indent=1, allow_nan=False).encode(),
    }
    if average is not None:
        files["average.safetensors"] = _to_bytes(average.state_dict())
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": sums}
    files["manifest.json"] = json.dumps(manifest, indent=1).encode()
    final = run / "checkpoints" / f"step-{step:09d}"
    beside = final.with_name(f".{final.name}.tmp-{getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with naming(final):  # and not the hidden folder
            for name, data in files.items():
                write_atomic(beside / name, data)
            publish_folder(beside, final)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return final


def settle(run: Path) -> None:
    """Let a checkpoint that was taking the place of an older one of its step do so; a kill came in between."""
    for path in folders(run):
        if path.name.endswith(NEW):
            settle_folder(path)


def prune(run: Path, keep: int) -> list[Path]:
    """Delete all but the newest `keep` checkpoints, and what crashes left behind. Returns what was deleted."""
    gone = folders(run)[: -max(keep, 1)]
    gone += [p for p in (run / "checkpoints").glob(".step-*") if p.is_dir()]
    for path in gone:
        _remove(path)
    return gone


def withdraw(run: Path, after: int, but: int) -> None:
    """Delete the checkpoints after a step, which were made of steps that have been undone, but not that of `but`."""
    for path in folders(run):
        if step_of(path) > after and step_of(path) != but:
            _remove(path)


def _remove(path: Path) -> None:
    """Hidden first: a checkpoint that is half removed must not look like one that is damaged."""
    with naming(path):
        if not path.name.startswith("."):
            path = path.rename(path.with_name(f".{path.name}.tmp-{getpid()}"))
        try:
            shutil.rmtree(path)
        except OSError:  # one call may fail and the next go well: what stays after both is told
            shutil.rmtree(path, ignore_errors=True)
            if path.exists():
                raise


def numpy_state(rng: np.random.Generator) -> dict[str, Any]:
    """A numpy generator's state, as JSON can hold it. PCG64 (np.random.default_rng) only."""
    state = rng.bit_generator.state
    assert state["bit_generator"] == "PCG64"
    return dict(state)


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    tensors: Tensors = {}
    for name, parameter in model.named_parameters():
        for field, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{field}/{name}"] = value
            elif value is not None:
                raise Refused(f"the optimizer's '{field}' of '{name}' is no tensor: this az cannot save it.")
    return tensors


def _random_states() -> Tensors:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return tensors_to({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
