"""Reading a checkpoint: every file's checksum, every field's type and range, every tensor's name, shape and dtype.

A checkpoint may have been written by anybody. What is in it reaches torch, the run's counters and the file system
only after it was looked at here; what does not fit is Refused, and a run takes the checkpoint before it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from torch import Tensor, nn

from az.engine.errors import AzError, Refused, WrongRequest
from az.engine.game import Game, load_game
from az.engine.printable import quoted
from az.engine.settings import BIG
from az.engine.system.disk_errors import is_passing
from az.engine.system.files import NEW
from az.engine.system.safe_read import MB, parse_json, read_regular
from az.train.config import RunConfig, from_toml
from az.train.model import Network

FORMAT = "az-checkpoint"
FORMAT_VERSION = 1
FOLDER_NAME = re.compile(r"step-(\d{9,})(\.new)?", re.ASCII)  # .new: it is taking the place of the one without
NEEDED = ("weights.safetensors", "optimizer.safetensors", "random.safetensors", "state.json")
AVERAGE = "average.safetensors"
MOST_MANIFEST, MOST_STATE = MB // 16, 16 * MB  # bytes
ROOM = 64 * MB  # bytes that a file of tensors may have beyond what its network needs
FIELDS = {torch.optim.Adam: {"step", "exp_avg", "exp_avg_sq"}, torch.optim.SGD: {"momentum_buffer"}}
Tensors = dict[str, Tensor]
_Model = TypeVar("_Model", bound=BaseModel)


class _Manifest(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["az-checkpoint"]
    format_version: Literal[1]
    files: dict[Literal[*NEEDED, AVERAGE], str]  # pyright: ignore[reportInvalidTypeForm]


class _State(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    step: int = Field(ge=0, le=BIG)
    game: str = Field(max_length=200)
    game_version: int = Field(ge=0, le=BIG)
    config: str
    groups: list[dict[str, JsonValue]] = Field(max_length=100)
    extra: dict[str, JsonValue]


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
    groups: list[dict[str, Any]]  # the optimizer's options, without parameters
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

    def check(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, average: nn.Module | None = None
    ) -> None:
        """Raises Refused, naming the tensor or field, where `restore` with these would not go through."""
        self._check_weights(model, self.weights)
        if average is not None and self.average is not None:
            self._check_weights(average, self.average)
        if optimizer is not None:
            self._check_optimizer(model, optimizer)
            self._check_random()

    def restore(
        self, model: nn.Module, optimizer: torch.optim.Optimizer | None = None, average: nn.Module | None = None
    ) -> None:
        """Put weights, buffers, optimizer, averaged weights and torch's random states back; first `check`."""
        self.check(model, optimizer, average)
        model.load_state_dict(self.weights)
        if average is not None:
            average.load_state_dict(self.average if self.average is not None else self.weights)
        if optimizer is not None:
            self._load_optimizer(model, optimizer)
            torch.set_rng_state(self.random["cpu"])
            for device in range(torch.cuda.device_count()):
                if f"cuda{device}" in self.random:
                    torch.cuda.set_rng_state(self.random[f"cuda{device}"], device)

    def _check_weights(self, model: nn.Module, weights: Tensors) -> None:
        own = model.state_dict()
        for name in sorted(own.keys() | weights.keys()):
            if name not in own or name not in weights or not _alike(own[name], weights[name]):
                raise Refused(f"checkpoint '{self.path}' does not fit this network: tensor '{quoted(name)}' differs.")

    def _check_optimizer(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        parameters, known = dict(model.named_parameters()), FIELDS.get(type(optimizer))
        for key, tensor in self.optimizer.items():
            field, _, name = key.partition("/")
            if name not in parameters or (known is not None and field not in known):
                raise self._no_fit(f"it keeps no '{quoted(key)}'")
            fits = tensor.shape == (() if field == "step" else parameters[name].shape)
            if not fits or tensor.dtype != torch.float32:
                raise self._no_fit(f"tensor '{quoted(key)}' has another shape or type")
            if field in ("step", "exp_avg_sq") and bool((tensor < 0).any()):
                raise self._no_fit(f"tensor '{quoted(key)}' is negative")
        of_each: dict[str, set[str]] = {}
        for field, _, name in (key.partition("/") for key in self.optimizer):
            of_each.setdefault(name, set()).add(field)
        lacking = next((name for name, fields in of_each.items() if known is not None and fields != known), None)
        if lacking is not None:
            raise self._no_fit(f"some of what it keeps of '{lacking}' is missing")
        if len(self.groups) != len(optimizer.param_groups):
            raise self._no_fit(f"it has {len(optimizer.param_groups)} groups and not {len(self.groups)}")
        for mine, theirs in zip(optimizer.param_groups, self.groups, strict=True):
            strange = next((name for name in theirs if name not in mine or name == "params"), None)
            rate: Any = theirs.get("lr")
            if strange is not None or type(rate) not in (int, float) or not 0 <= rate <= 1e6:
                raise self._no_fit(f"its option '{quoted(strange or 'lr')}' is not one of {type(optimizer).__name__}")

    def _no_fit(self, reason: str) -> Refused:
        return Refused(f"checkpoint '{self.path}' does not fit this optimizer: {reason}.")

    def _check_random(self) -> None:
        """A state that torch refuses is seen on a generator of no importance."""
        name = "cpu"
        try:
            torch.Generator().set_state(self.random["cpu"])
            for device in range(torch.cuda.device_count()):
                name = f"cuda{device}"
                if name in self.random:
                    torch.Generator(f"cuda:{device}").set_state(self.random[name])
        except KeyError:
            raise Refused(f"checkpoint '{self.path}' holds no random state '{name}'.") from None
        except (RuntimeError, TypeError):
            raise Refused(f"checkpoint '{self.path}': the random state '{name}' is not one of torch's.") from None

    def _load_optimizer(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """The options but for the learning rate are those of the optimizer, which the configuration decides."""
        parameters = dict(model.named_parameters())
        numbers = {name: number for number, name in enumerate(parameters)}
        state: dict[int, dict[str, Tensor]] = {}
        for key, tensor in self.optimizer.items():
            field, _, name = key.partition("/")
            if tensor.shape == parameters[name].shape:  # in the parameter's memory order, or fused Adam mixes them up
                tensor = torch.empty_like(parameters[name], device="cpu").copy_(tensor)
            state.setdefault(numbers[name], {})[field] = tensor.detach()
        own = optimizer.state_dict()["param_groups"]
        groups = [{**mine, "lr": theirs["lr"]} for mine, theirs in zip(own, self.groups, strict=True)]
        optimizer.load_state_dict({"state": state, "param_groups": groups})


def load(path: Path) -> Checkpoint:
    """Read and verify one checkpoint folder. Raises Refused naming the file that is wrong."""
    at = path / "manifest.json"
    manifest = _json(at, _read(at, MOST_MANIFEST))
    if (manifest.get("format"), manifest.get("format_version")) != (FORMAT, FORMAT_VERSION):
        raise Refused(f"'{at}' is not of a checkpoint that this az reads (version {FORMAT_VERSION}).")
    sums = _valid(_Manifest, at, manifest).files
    if not set(NEEDED) <= sums.keys():
        raise Refused(f"'{at}' does not list the files of a checkpoint.")
    at = path / "state.json"
    state = _valid(_State, at, _json(at, _sealed(at, MOST_STATE, sums)))
    named = FOLDER_NAME.fullmatch(path.name)
    if named and int(named[1]) != state.step:
        raise Refused(f"'{at}' is of step {state.step}, and its folder of step {int(named[1])}.")
    try:
        config = from_toml(state.config)
    except WrongRequest as error:
        raise Refused(f"checkpoint '{path}' cannot be read by this az: {error}") from None
    if config.game != state.game:
        raise Refused(f"'{at}' is of {quoted(state.game)}, and its configuration of {quoted(config.game)}.")
    if (path / AVERAGE).exists() and AVERAGE not in sums:
        raise Refused(f"'{path / AVERAGE}' is not listed in manifest.json.")
    most = _most_bytes(state.game, config)
    found = {name: _tensors(path / name, most, sums) for name in sums if name != "state.json"}
    return Checkpoint(
        path=path,
        step=state.step,
        game=state.game,
        game_version=state.game_version,
        config=config,
        weights=found["weights.safetensors"],
        optimizer=found["optimizer.safetensors"],
        groups=state.groups,
        average=found.get(AVERAGE),
        random=found["random.safetensors"],
        extra=state.extra,
    )


def folders(run: Path) -> list[Path]:
    """The run's checkpoint folders, oldest step first. Names that are not az's, and links, are left out."""
    found = [p for p in (run / "checkpoints").glob("step-*") if FOLDER_NAME.fullmatch(p.name)]
    found = [p for p in found if p.is_dir() and not p.is_symlink()]
    return sorted(found, key=lambda path: (step_of(path), path.name.endswith(NEW)))


def step_of(folder: Path) -> int:
    """The step in the name of a checkpoint's folder."""
    return int(folder.name.removeprefix("step-").removesuffix(NEW))


def latest(run: Path, check: Callable[[Checkpoint], object] | None = None) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint that is whole, and why newer ones were passed over.

    check: what else it must fulfil; raises Refused where a checkpoint does not.
    """
    reasons = []
    for path in reversed(folders(run)):
        try:
            found = load(path)
            if check is not None:
                check(found)
            return found, reasons
        except Refused as error:
            reasons.append(str(error))
    return None, reasons


def numpy_from_state(state: Mapping[str, Any]) -> np.random.Generator:
    """The generator that goes on where `checkpoint.numpy_state` was taken. Raises Refused for any other state."""
    rng = np.random.default_rng(0)
    try:
        inner = state["state"]
        whole = all(type(number) is int for number in (*inner.values(), state["has_uint32"], state["uinteger"]))
        if not whole or state["bit_generator"] != "PCG64" or inner["inc"] % 2 == 0:  # numpy checks the range
            raise ValueError
        if state["has_uint32"] not in (0, 1) or not 0 <= state["uinteger"] < 2**32:
            raise ValueError
        rng.bit_generator.state = dict(state)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
        raise Refused("the state of the random generator is not one of numpy's PCG64.") from None
    return rng


# -- reading ---------------------------------------------------------------------------------------------------------


def _alike(mine: Tensor, theirs: Tensor) -> bool:
    return mine.shape == theirs.shape and mine.dtype == theirs.dtype


def _most_bytes(game_name: str, config: RunConfig) -> int:
    """What a file of tensors may have: twice the parameters (Adam's moments), and some room."""
    try:
        game = load_game(game_name)
    except AzError:  # an incident of a game that is not installed here: its bundle can be looked at all the same
        return 1024 * MB
    with torch.device("meta"):  # no memory, and no numbers drawn from anybody's random state
        network = Network(game.planes_shape, game.num_actions, config.net)
    return ROOM + 3 * sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())


def _tensors(path: Path, most: int, sums: Mapping[str, str]) -> Tensors:
    data = _sealed(path, most, sums)
    try:
        return tensors_from(data)
    except (SafetensorError, ValueError, TypeError, KeyError, RuntimeError, OverflowError) as error:
        raise Refused(f"'{path}' is damaged: {quoted(str(error))}.") from None


def _sealed(path: Path, most: int, sums: Mapping[str, str]) -> bytes:
    data = _read(path, most)
    if hashlib.sha256(data).hexdigest() != sums[path.name]:
        raise Refused(f"'{path}' is damaged: its checksum is not the one in manifest.json.")
    return data


def _read(path: Path, most: int) -> bytes:
    try:
        return read_regular(path, most)
    except OSError as error:
        if is_passing(error):  # an older checkpoint would cost the work since then
            raise
        raise Refused(f"'{path}' cannot be read: {error.strerror}.") from None


def _json(path: Path, data: bytes) -> dict[str, Any]:
    try:
        value = parse_json(data)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise Refused(f"'{path}' is damaged: it is not a JSON object.")
    return value


def _valid(model: type[_Model], path: Path, value: dict[str, Any]) -> _Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise Refused(f"'{path}' is damaged: {first_fault(error)}.") from None


def first_fault(error: ValidationError) -> str:
    """The first field that is not what it should be, and why: `step: input should be a valid integer`."""
    fault: Any = error.errors(include_url=False, include_context=False, include_input=False)[0]
    return f"{'.'.join(quoted(part) for part in fault['loc'])}: {fault['msg'][:1].lower()}{quoted(fault['msg'][1:])}"
