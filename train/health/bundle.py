"""An incident on the disk: all that is needed to look at it, and to run the step again, in another place or year.

RUN/health/incident-0001/: incident.json (the verdict, where its rows came from, what made it), checkpoints/step-…
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
from safetensors import SafetensorError
from safetensors.numpy import load as arrays_from
from safetensors.numpy import save as arrays_to

from az.engine.errors import Refused, WrongRequest
from az.engine.files import write_atomic
from az.train import checkpoint
from az.train.config import installed_version
from az.train.health.incident import Incident
from az.train.replay import Batch
from az.train.run_names import incident_folders

FORMAT, FORMAT_VERSION = "az-incident", 1
TIMELINE = 200  # lines of the log that are kept


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
    """Write verdict, batch and timeline; incident.json comes last: without it the bundle is not there."""
    data: dict[str, str] = {}
    if batch is not None:
        arrays = {name: np.ascontiguousarray(getattr(batch, name)) for name in Batch.__dataclass_fields__}
        content = arrays_to(arrays)
        write_atomic(folder / "batch.safetensors", content)
        data["batch.safetensors"] = hashlib.sha256(content).hexdigest()
    lines = log.read_bytes().splitlines(keepends=True)[-TIMELINE:] if log.exists() else []
    timeline = b"".join(lines)
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
    try:
        value = json.loads(file.read_bytes())
        if value["format"] != FORMAT or value["format_version"] != FORMAT_VERSION:
            raise Refused(f"'{file}' is not of an incident that this az reads (version {FORMAT_VERSION}).")
        incident = Incident.from_json(value["incident"])
        files, about, origins = dict(value["files"]), dict(value["about"]), list(value["origins"])
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise Refused(f"'{file}' is damaged: {type(error).__name__} {error}.") from None
    data = {}
    for name, digest in files.items():
        try:
            data[name] = (folder / Path(name).name).read_bytes()
        except OSError as error:
            raise Refused(f"'{folder / name}' cannot be read: {error.strerror}.") from None
        if hashlib.sha256(data[name]).hexdigest() != digest:
            raise Refused(f"'{folder / name}' is damaged: its checksum is not the one in incident.json.")
    timeline = [json.loads(line) for line in data.get("timeline.jsonl", b"").splitlines()]
    state, reasons = checkpoint.latest(folder)
    if state is None and reasons:
        raise Refused(reasons[0])
    return Bundle(folder, incident, origins, about, timeline, _batch(folder, data), state)


def _batch(folder: Path, data: dict[str, bytes]) -> Batch | None:
    if "batch.safetensors" not in data:
        return None
    try:
        return Batch(**arrays_from(data["batch.safetensors"]))
    except (SafetensorError, TypeError) as error:
        raise Refused(f"'{folder / 'batch.safetensors'}' cannot be read: {error}.") from None
