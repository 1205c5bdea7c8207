"""Checkpoints: everything that a run needs to go on as if it had never stopped.

runs/NAME/checkpoints/step-000012000/: tensors in safetensors, scalars in state.json, and manifest.json with the
SHA-256 of each. A folder appears whole or not at all; every byte is checked when read. Nothing is a pickle.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from os import getpid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensors_to
from torch import Tensor, nn

from az.engine.errors import Refused, WrongRequest
from az.engine.files import publish_folder, write_atomic
from az.engine.game import Game
from az.train.config import RunConfig, from_toml, to_toml

FORMAT = "az-checkpoint"
FORMAT_VERSION = 1
FOLDER_NAME = re.compile(r"step-(\d{9,})")
Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as read and verified; tensors on the CPU."""

    path: Path
    step: int
    game: str
    game_version: int
    config: RunConfig
    weights: Tensors  # parameters and buffers, by name
    optimizer: Tensors  # "exp_avg/stem.conv.weight", …
    groups: list[dict[str, Any]]  # the optimiser's options, without parameters
    average: Tensors | None  # averaged parameters and buffers
    random: Tensors  # torch's random states: "cpu", "cuda0", …
    extra: dict[str, Any]  # what the run keeps: counters, numpy's random states

    def check_game(self, game: Game) -> None:
        """Raises Refused when the checkpoint is of another game or of other rules."""
        if (self.game, self.game_version) != (game.name, game.version):
            raise Refused(
                f"checkpoint '{self.path}' is of {self.game} version {self.game_version},"
                f" not of {game.name} version {game.version}."
            )

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, average: nn.Module | None = None
    ) -> None:
        """Put weights, buffers, optimiser, averaged weights and torch's random states back."""
        self._load_weights(model, self.weights)
        if average is not None:
            self._load_weights(average, self.average if self.average is not None else self.weights)
        if optimizer is not None:
            self._load_optimizer(model, optimizer)
            torch.set_rng_state(self.random["cpu"])
            for device in range(torch.cuda.device_count()):
                if f"cuda{device}" in self.random:
                    torch.cuda.set_rng_state(self.random[f"cuda{device}"], device)

    def _load_weights(self, model: nn.Module, weights: Tensors) -> None:
        own = model.state_dict()
        for name in sorted(own.keys() | weights.keys()):
            if name not in own or name not in weights or own[name].shape != weights[name].shape:
                raise Refused(f"checkpoint '{self.path}' does not fit this network: tensor '{name}' differs.")
        model.load_state_dict(weights)

    def _load_optimizer(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        parameters = dict(model.named_parameters())
        numbers = {name: number for number, name in enumerate(parameters)}
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in self.optimizer.items():
            field, _, name = key.partition("/")
            if name not in numbers:
                raise Refused(f"checkpoint '{self.path}' does not fit this network: it has no '{name}'.")
            if tensor.shape == parameters[name].shape:  # in the parameter's memory order, or fused Adam mixes them up
                tensor = torch.empty_like(parameters[name], device="cpu").copy_(tensor)
            state.setdefault(numbers[name], {})[field] = tensor.detach()
        groups = [{**group, "params": list(range(len(parameters)))} for group in self.groups]
        for group in groups:
            group.update({k: tuple(v) for k, v in group.items() if k == "betas"})
        optimizer.load_state_dict({"state": state, "param_groups": groups})


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
        for name, data in files.items():
            write_atomic(beside / name, data)
        publish_folder(beside, final)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return final


def load(path: Path) -> Checkpoint:
    """Read and verify one checkpoint folder. Raises Refused naming the file that is wrong."""
    manifest = _json(path / "manifest.json", _read(path / "manifest.json"))
    if manifest.get("format") != FORMAT or manifest.get("format_version") != FORMAT_VERSION:
        raise Refused(f"'{path / 'manifest.json'}' is not of a checkpoint that this az reads (version 1).")
    sums = manifest.get("files")
    needed = {"weights.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"}
    if not isinstance(sums, dict) or not needed <= sums.keys() <= needed | {"average.safetensors"}:
        raise Refused(f"'{path / 'manifest.json'}' does not list the files of a checkpoint.")
    data = {name: _read(path / name) for name in sums}
    for name, content in data.items():
        if hashlib.sha256(content).hexdigest() != sums[name]:
            raise Refused(f"'{path / name}' is damaged: its checksum is not the one in manifest.json.")
    if (path / "average.safetensors").exists() and "average.safetensors" not in sums:
        raise Refused(f"'{path / 'average.safetensors'}' is not listed in manifest.json.")
    state = _json(path / "state.json", data["state.json"])
    try:
        return Checkpoint(
            path=path,
            step=state["step"],
            game=state["game"],
            game_version=state["game_version"],
            config=from_toml(state["config"]),
            weights=tensors_from(data["weights.safetensors"]),
            optimizer=tensors_from(data["optimizer.safetensors"]),
            groups=state["groups"],
            average=tensors_from(data["average.safetensors"]) if "average.safetensors" in data else None,
            random=tensors_from(data["random.safetensors"]),
            extra=state["extra"],
        )
    except (KeyError, TypeError, SafetensorError, WrongRequest) as error:
        raise Refused(f"checkpoint '{path}' cannot be read by this az: {error}") from None


def folders(run: Path) -> list[Path]:
    """The run's checkpoint folders, oldest step first."""
    found = [p for p in (run / "checkpoints").glob("step-*") if p.is_dir() and FOLDER_NAME.fullmatch(p.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))


def latest(run: Path) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and why newer ones were passed over."""
    reasons = []
    for path in reversed(folders(run)):
        try:
            return load(path), reasons
        except Refused as error:
            reasons.append(str(error))
    return None, reasons


def prune(run: Path, keep: int) -> list[Path]:
    """Delete all but the newest `keep` checkpoints, and what crashes left behind. Returns what was deleted."""
    gone = folders(run)[: -max(keep, 1)]
    gone += [p for p in (run / "checkpoints").glob(".step-*") if p.is_dir()]
    for path in gone:
        shutil.rmtree(path)
    return gone


def withdraw(run: Path, after: int, but: int) -> None:
    """Delete the checkpoints after a step, which were made of steps that have been undone, but not that of `but`."""
    for path in folders(run):
        step = int(path.name.removeprefix("step-"))
        if step > after and step != but:
            shutil.rmtree(path)


def numpy_state(rng: np.random.Generator) -> dict[str, Any]:
    """A numpy generator's state, as JSON can hold it. PCG64 (np.random.default_rng) only."""
    state = rng.bit_generator.state
    assert state["bit_generator"] == "PCG64"
    return dict(state)


def numpy_from_state(state: Mapping[str, Any]) -> np.random.Generator:
    """The generator that goes on where `numpy_state` was taken."""
    rng = np.random.default_rng(0)
    rng.bit_generator.state = dict(state)
    return rng


def _optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> Tensors:
    tensors: Tensors = {}
    for name, parameter in model.named_parameters():
        for field, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                tensors[f"{field}/{name}"] = value
            elif value is not None:
                raise Refused(f"the optimiser's '{field}' of '{name}' is no tensor: this az cannot save it.")
    return tensors


def _random_states() -> Tensors:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        states |= {f"cuda{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def _to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return tensors_to({name: t.detach().cpu().contiguous() for name, t in tensors.items()})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"'{path}' cannot be read: {error.strerror}.") from None


def _json(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Refused(f"'{path}' is damaged: it is not a JSON object.")
    return value
