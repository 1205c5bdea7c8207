"""An incident on the disk: all that is needed to look at it, and to run the step again, in another place or year.

RUN/health/incident-0001/: incident.json (the incident, where its rows came from, what made it), checkpoints/step-…
(the state before the step, verified like any checkpoint), batch.safetensors, timeline.jsonl (the log before it).
"""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load as arrays_from
from safetensors.numpy import save as arrays_to

from az.engine.errors import Refused, WrongRequest
from az.engine.game import game_names, load_game
from az.engine.printable import quoted
from az.engine.system.files import write_atomic
from az.engine.system.safe_read import MB, parse_json, read_regular, tail
from az.train import checkpoint
from az.train.checkpoint_read import first_fault
from az.train.config import installed_version
from az.train.health.incident import Incident
from az.train.replay import Batch
from az.train.run.bundle_check import IncidentFile, batch_fault, fits, without_surrogates
from az.train.run.names import incident_folders

FORMAT, FORMAT_VERSION = "az-incident", 1
TIMELINE = 200  # lines of the log that are kept
IN_FILE = {"symmetry": "turns"}  # field of a batch: its key in batch.safetensors
MOST_BYTES = {"incident.json": 16 * MB, "timeline.jsonl": 16 * MB, "batch.safetensors": 512 * MB}


@dataclass(frozen=True)
class Bundle:
    """An incident as read and verified."""

    path: Path
    incident: Incident
    origins: list[dict[str, Any]]  # of the guilty rows
    about: dict[str, Any]  # game, progress, learning rate, versions, …
    timeline: list[dict[str, Any]]
    batch: Batch | None
    state: checkpoint.Checkpoint | None


def environment() -> dict[str, Any]:
    """What bits depend on: a replay is exact only where these are equal."""
    return {
        "az": installed_version(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "onnxruntime": _runtime(),
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "flush_denormal": True,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def _runtime() -> str:
    """The version of onnxruntime, in whichever package it comes."""
    for name in ("onnxruntime-gpu", "onnxruntime"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "none"


def processor() -> str:
    """The processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def next_folder(health: Path) -> Path:
    """The folder of the next incident."""
    numbers = [number for number, _ in incident_folders(health)]
    return health / f"incident-{max(numbers, default=0) + 1:04d}"


def write(
    folder: Path,
    incident: Incident,
    origins: list[dict[str, Any]],
    about: dict[str, Any],
    batch: Batch | None,
    log: Path,
) -> Path:
    """Write incident, batch and timeline; incident.json comes last: without it the bundle is not there."""
    data: dict[str, str] = {}
    if batch is not None:
        fields = {IN_FILE.get(name, name): getattr(batch, name) for name in Batch.__dataclass_fields__}
        arrays = {name: np.ascontiguousarray(array) for name, array in fields.items() if array is not None}
        content = arrays_to(arrays)
        write_atomic(folder / "batch.safetensors", content)
        data["batch.safetensors"] = hashlib.sha256(content).hexdigest()
    timeline = b"".join(tail(log, MOST_BYTES["timeline.jsonl"] // 4)[-TIMELINE:])
    write_atomic(folder / "timeline.jsonl", timeline)
    data["timeline.jsonl"] = hashlib.sha256(timeline).hexdigest()
    value = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "incident": incident.to_json(),
        "origins": origins,
        "about": {**about, "environment": environment()},
        "files": data,
    }
    write_atomic(folder / "incident.json", json.dumps(value, indent=1, default=str).encode())
    return folder


def read(path: Path) -> Bundle:
    """Read and verify a bundle. Raises WrongRequest where there is none, Refused where it is damaged."""
    file = path / "incident.json" if path.is_dir() else path
    if file.name != "incident.json" or not file.is_file():
        raise WrongRequest(f"'{path}' is no incident: give a folder RUN/health/incident-NNNN, or a run.")
    folder = file.parent
    value = _checked(file)
    about, origins = value["about"], [origin for origin in value["origins"] if origin]
    data = {}
    for name, digest in value["files"].items():
        try:
            data[name] = read_regular(folder / name, MOST_BYTES[name])
        except OSError as error:
            raise Refused(f"'{folder / name}' cannot be read: {error.strerror}.") from None
        if hashlib.sha256(data[name]).hexdigest() != digest:
            raise Refused(f"'{folder / name}' is damaged: its checksum is not the one in incident.json.")
    timeline = _timeline(folder, data.get("timeline.jsonl", b""))
    batch = _batch(folder, data)
    game = about.get("game")
    if batch is not None and game in game_names() and not fits(batch.planes, batch.policy, load_game(game)):
        raise Refused(f"'{folder / 'batch.safetensors'}' is damaged: its rows are no positions of {game}.")
    state, reasons = checkpoint.latest(folder)
    if state is None and reasons:
        raise Refused(reasons[0])
    return Bundle(folder, Incident.from_json(value["incident"]), origins, about, timeline, batch, state)


def incident_in(folder: Path) -> Incident:
    """What incident.json says, nothing else being verified. Raises Refused, or FileNotFoundError."""
    if not (folder / "incident.json").exists():
        raise FileNotFoundError
    return Incident.from_json(_checked(folder / "incident.json")["incident"])


def _checked(file: Path) -> dict[str, Any]:
    """The object in incident.json, each field of it what it should be. Raises Refused."""
    try:
        value = without_surrogates(parse_json(read_regular(file, MOST_BYTES["incident.json"]), nan=True))
        known = isinstance(value, dict) and (value.get("format"), value.get("format_version"))
        if known and known != (FORMAT, FORMAT_VERSION):
            raise Refused(f"'{file}' is not of an incident that this az reads (version {FORMAT_VERSION}).")
        IncidentFile.model_validate(value)
    except OSError as error:
        raise Refused(f"'{file}' cannot be read: {error.strerror}.") from None
    except ValidationError as error:
        reason = f"its fields are not those of an incident ({first_fault(error)})"
        raise Refused(f"'{file}' is damaged: {reason}.") from None
    except ValueError as error:
        raise Refused(f"'{file}' is damaged: {error}.") from None
    return value


def _timeline(folder: Path, data: bytes) -> list[dict[str, Any]]:
    """The log before the incident. Raises Refused for a line that is not JSON."""
    lines = data.splitlines()
    try:
        found = [parse_json(line, nan=True) for line in lines]
    except ValueError as error:
        raise Refused(f"'{folder / 'timeline.jsonl'}' is damaged: {error}.") from None
    if len(lines) > 10 * TIMELINE or not all(isinstance(line, dict) for line in found):
        raise Refused(f"'{folder / 'timeline.jsonl'}' is damaged: its lines are not those of a log.")
    return found


def _batch(folder: Path, data: dict[str, bytes]) -> Batch | None:
    if "batch.safetensors" not in data:
        return None
    file = folder / "batch.safetensors"
    try:
        arrays = arrays_from(data["batch.safetensors"])
    except (SafetensorError, TypeError, ValueError, KeyError, OverflowError) as error:
        raise Refused(f"'{file}' cannot be read: {quoted(str(error))}.") from None
    fault = batch_fault(arrays)
    if fault:
        raise Refused(f"'{file}' is damaged: {fault}.")
    fields = {key: name for name, key in IN_FILE.items()}
    return Batch(**{fields.get(key, key): array for key, array in arrays.items()})
