"""A run as one file that others can use: a zip with its model, the model's card, the configuration and the score.

On demand also with its newest checkpoint, to train on from. Its README.md is a model card with front matter, as model
hubs take it. Nothing in it is a pickle. A file that is read may come from anywhere: only these names, each within its
size, every one with the checksum that the manifest tells.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from az.engine.errors import Refused
from az.engine.printable import quoted
from az.engine.records.container import MOST_PACKED, check_seal, directory, sealed
from az.engine.runs.folders import MOST_CONFIG, NAME
from az.engine.system.files import write_atomic
from az.engine.system.safe_read import MB, parse_json, read_regular

FORMAT, FORMAT_VERSION = "az-run", 1
MANIFEST = "manifest.json"
MOST = {  # bytes of every file that may be inside
    MANIFEST: MB,
    "README.md": MB,
    "config.toml": MOST_CONFIG,
    "score.json": 16 * MB,
    "log.jsonl": 64 * MB,
    "model.json": MB,
    "model.onnx": 128 * MB,
    "model.int8.onnx": 128 * MB,
    "model.fp16.onnx": 128 * MB,
    "checkpoint.manifest.json": MB,  # the files of a checkpoint's folder
    "checkpoint.state.json": 16 * MB,
    "checkpoint.weights.safetensors": 128 * MB,
    "checkpoint.average.safetensors": 128 * MB,
    "checkpoint.optimizer.safetensors": 256 * MB,
    "checkpoint.random.safetensors": MB,
}
CHECKPOINT = "checkpoint."  # what the names of its files begin with
NEEDED = ("README.md", "config.toml", "score.json", "model.json", "model.onnx")
NUMBER = re.compile(r"[0-9]{6,12}")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the same run gives the same file


@dataclass(frozen=True)
class Packed:
    """What such a file holds."""

    name: str  # of the run
    game: str
    model: str  # its number in the run, such as "000150"
    files: dict[str, bytes]  # names of MOST but the manifest


def write(path: Path, packed: Packed) -> None:
    """Write the file. Raises OSError naming it, Refused where a part is larger than what is read again."""
    for name, data in packed.files.items():
        if len(data) > MOST[name]:
            raise Refused(f"{path} cannot be written: {name} has {len(data):,} bytes and at most {MOST[name]:,} fit.")
    manifest: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
    manifest |= {"name": packed.name, "game": packed.game, "model": packed.model}
    manifest["files"] = {name: hashlib.sha256(data).hexdigest() for name, data in packed.files.items()}
    parts = {MANIFEST: (json.dumps(manifest, indent=1) + "\n").encode(), **packed.files}
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w", zipfile.ZIP_DEFLATED) as container:
        for name, data in parts.items():
            about = zipfile.ZipInfo(name, _EPOCH)
            about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            container.writestr(about, data)
    whole = sealed(kept.getvalue())
    if len(whole) > MOST_PACKED:
        raise Refused(f"{path} cannot be written: it would have {len(whole):,} bytes, and {MOST_PACKED:,} are read.")
    write_atomic(path, whole)


def read(path: Path) -> Packed:
    """Read and check such a file. Raises Refused that says what is wrong, OSError where it cannot be read."""
    data = read_regular(path, MOST_PACKED)
    if data and not data.startswith(b"PK"):
        raise Refused(f"{path} is no run that az has exported: az export-run writes zip files.")
    try:
        check_seal(path, data)
        with directory(data) as container:
            files = _files(container)
        manifest = parse_json(files.pop(MANIFEST))
    except Refused:
        raise
    except Exception as error:  # a damaged container raises whatever its reader trips over
        said = str(error) if type(error) is ValueError else type(error).__name__
        said = said.replace("a record file", "an exported run")
        raise Refused(f"{path} is no run that az has exported: {quoted(said, 200)}.") from None
    return _checked(path, manifest, files)


def _files(container: zipfile.ZipFile) -> dict[str, bytes]:
    """Every member, unpacked within its bounds. Raises ValueError."""
    infos = container.infolist()
    names = [info.filename for info in infos]
    for info in infos:
        if info.filename not in MOST or names.count(info.filename) > 1:
            raise ValueError(f"it holds '{quoted(info.filename)}', and az puts no such file into one")
        if info.file_size > MOST[info.filename]:
            raise ValueError(f"{info.filename} has {info.file_size:,} bytes, at most {MOST[info.filename]:,} are read")
    for name in (MANIFEST, *NEEDED):
        if name not in names:
            raise ValueError(f"{name} is missing")
    return {info.filename: _unpacked(container, info) for info in infos}


def _unpacked(container: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with container.open(info) as stream:
        data = stream.read(info.file_size + 1)  # what the directory says is checked already
        if len(data) != info.file_size or stream.read(1):
            raise ValueError(f"{info.filename} is not as long as it says")
    return data


def _checked(path: Path, manifest: Any, files: dict[str, bytes]) -> Packed:
    told = cast("dict[str, Any]", manifest) if isinstance(manifest, dict) else {}
    for field, value in (("format", FORMAT), ("format_version", FORMAT_VERSION)):
        if told.get(field) != value or type(told.get(field)) is not type(value):
            raise Refused(f"{path}: {field} is {quoted(told.get(field))}, and this az reads {value}.")
    for field, pattern in (("name", NAME), ("game", NAME), ("model", NUMBER)):
        if not isinstance(told.get(field), str) or not pattern.fullmatch(told[field]):
            raise Refused(f"{path}: its {field} is '{quoted(told.get(field))}', which az never writes.")
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    if told.get("files") != sums:
        raise Refused(f"{path}: a checksum does not match: the file was changed after it was written.")
    return Packed(told["name"], told["game"], told["model"], files)
