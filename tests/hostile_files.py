"""Hostile files made from valid ones: changed inside, their checksums corrected, or put in place of another kind."""

from __future__ import annotations

import json
import os
import shutil
import struct
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from hostile_values import mangled, mutated
from onnx import TensorProto, helper
from reseal import reseal_checkpoint, rewrite_records

from az.engine.inference.onnx_reader import OPEN_SEAL, SEAL, seal_digest
from az.engine.system.safe_read import is_regular
from az.export.onnx_file import sealed

OPS = ["Loop", "If", "Scan", "Constant", "Identity", "Expand", "Tile", "ConstantOfShape", "Range", "Conv", "Gemm",
       "Relu", "Resize", "MatMul", "Pad", "RandomNormal", "Cast", "Tanh", "Mul", "ReduceMean", "Sigmoid",
       "Softmax", "Unsqueeze", "\x1b[2J"]  # fmt: skip


def dumped(value: Any) -> bytes:
    return json.dumps(value, default=str).encode("utf-8", "surrogatepass")


def replaced_by(path: Path, kind: str, outside: Path) -> None:
    """Another kind of thing in the place of a file or folder. outside: a file that nothing may touch."""
    data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "folder":
        (path / "inner").mkdir(parents=True)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind in ("device", "full"):
        path.symlink_to("/dev/zero" if kind == "device" else "/dev/full")
    elif kind == "hole":
        with path.open("wb") as file:
            file.write(data)
            file.truncate(1 << 36)
    elif kind == "outside":
        path.symlink_to(outside)
    elif kind == "dangling":
        path.symlink_to(outside.with_name("made-by-az"))
    elif kind == "self":
        path.symlink_to(path.name)
    elif kind == "hardlink":
        shutil.copy(outside, path)
    elif kind == "page":
        path.write_text("<!DOCTYPE html><title>404</title>")


def change_json(path: Path, changes: list[dict[str, Any]]) -> None:
    value = json.loads(path.read_bytes())
    for change in changes:
        value = mutated(value, change)
    path.write_bytes(dumped(value))


def change_lines(path: Path, changes: list[dict[str, Any]]) -> None:
    """JSON lines: each change in a line of its own."""
    lines: list[Any] = [json.loads(line) for line in path.read_bytes().splitlines()]
    for change in changes:
        at = change["where"][0] % len(lines)
        lines[at] = mutated(lines[at], change)
    path.write_bytes(b"".join(dumped(line) + b"\n" for line in lines))


def change_safetensors(path: Path, changes: list[dict[str, Any]], noise: bytes) -> None:
    """The table of contents changed, or the numbers."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    head, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    for change in changes:
        head = mutated(head, change)
    text = dumped(head)
    if noise:
        body = (noise * (1 + len(body) // len(noise)))[: len(body)]
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def change_records(path: Path, changes: list[dict[str, Any]], arrays: list[dict[str, Any]]) -> None:
    """Header and arrays changed under right checksums."""

    def change(header: dict[str, Any], held: dict[str, Any]) -> bytes:
        for one in arrays:
            name = sorted(held)[one["which"] % len(held)]
            held[name] = changed_array(held[name], one)
        made: Any = header
        for one in changes:
            made = mutated(made, one)
        if isinstance(made, dict) and one_in(made, "sha256"):
            return made  # pyright: ignore[reportReturnType]
        return dumped(made)

    rewrite_records(path, change)


def one_in(value: dict[str, Any], name: str) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return name in value


def changed_array(array: np.ndarray, one: dict[str, Any]) -> np.ndarray:
    how, number = one["how"], one["number"]
    with np.errstate(all="ignore"):
        if how == "dtype":
            return array.astype(one["dtype"])
        if how == "cut":
            return array[: number % (len(array) + 1)]
        if how == "longer":
            return np.concatenate([array] * (2 + number % 3))
        if how == "shape":
            return array.reshape(array.shape + (1,) * (1 + number % 3))
        if how == "scalar":
            return array.reshape(-1)[:1].reshape(()) if array.size else array
        array = array.copy()
        flat = array.reshape(-1)
        if flat.size:
            places = np.random.default_rng(number % 2**32).integers(0, flat.size, 1 + number % 5)
            if how == "bytes":
                flat.view(np.uint8)[number % flat.nbytes] ^= 1 + number % 255
            elif array.dtype.kind in "iu":
                info = np.iinfo(array.dtype)
                flat[places] = min(max(number, int(info.min)), int(info.max))
            else:
                flat[places] = [np.nan, np.inf, -1.0, 1e30, 0.0][number % 5]
    return array


def change_onnx(data: bytes, steps: list[dict[str, Any]]) -> bytes:
    """A model with nodes, weights, fields and metadata changed, sealed again."""
    model = onnx.load_model_from_string(data)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    for step in steps:
        number, text = step["number"], step["text"].encode("utf-8", "replace").decode()
        node = model.graph.node[number % len(model.graph.node)]
        tensor = model.graph.initializer[number % len(model.graph.initializer)]
        how = step["how"]
        if how == "op":
            node.op_type = OPS[number % len(OPS)]
        elif how == "domain":
            node.domain = ["com.microsoft", "ai.onnx.ml", text][number % 3]
        elif how == "attribute":
            values = [
                number,
                [number] * 4,
                float(number % 10**30),
                "text",
                [2**40] * 2,
                0,
                1,
                [1, 1, 1, 1],
                [2, 3],
                [0],
                [2, 2],
                [1, 2, 3],
            ]
            names = ["pads", "axis", "transB", "kernel_shape", "dilations", "group", "axes", "keepdims", text or "x"]
            name = names[number % len(names)]
            kept = [one for one in node.attribute if one.name != name]
            del node.attribute[:]
            value = values[step["other"] % len(values)]
            value = value if not isinstance(value, int) else min(value, 2**63 - 1)
            value = [min(v, 2**63 - 1) for v in value] if isinstance(value, list) else value
            node.attribute.extend([*kept, helper.make_attribute(name, value)])
        elif how == "input":
            names = [*(t.name for t in model.graph.initializer), "planes", "logits", "", text]
            if node.input:
                node.input[step["other"] % len(node.input)] = names[number % len(names)]
        elif how == "output":
            node.output[0] = text
        elif how == "dims":
            del tensor.dims[:]
            tensor.dims.extend([[], [number % 2**40], [1, 1], [0], [2**31, 2**31]][step["other"] % 5])
        elif how == "type":
            tensor.data_type = number % 24
        elif how == "raw":
            tensor.raw_data = step["noise"] * (len(tensor.raw_data) // max(1, len(step["noise"])))
        elif how == "nan":
            tensor.raw_data = np.full(len(tensor.raw_data) // 4, [np.nan, np.inf, 1e38][number % 3], "<f4").tobytes()
        elif how == "field":
            fields = [("float_data", [0.5]), ("double_data", [float("nan")]), ("int32_data", [1]), ("int64_data", [1])]
            name, value = fields[number % 4]
            getattr(tensor, name).extend(value)
        elif how == "external":
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.append(onnx.StringStringEntryProto(key="location", value=text or "/etc/passwd"))
        elif how == "metadata":
            key = sorted(metadata)[number % len(metadata)]
            metadata[key] = text
        elif how == "drop":
            (model.graph.node if number % 2 else model.graph.initializer).pop(step["other"] % 5)
        elif how == "copy":
            model.graph.node.extend([node] * (1 + number % 3))
        elif how == "opset":
            model.opset_import[0].version = number % 10**6
        elif how == "ir":
            model.ir_version = number % 100
        elif how == "port":
            port = (model.graph.input if number % 2 else model.graph.output)[0]
            dim = port.type.tensor_type.shape.dim[step["other"] % len(port.type.tensor_type.shape.dim)]
            dim.dim_value = number % 2**40
        elif how == "port_type":
            model.graph.input[0].type.tensor_type.elem_type = number % 20
    try:
        return sealed(model, {**metadata, SEAL: OPEN_SEAL})
    except (AssertionError, ValueError, UnicodeError):
        return data[: len(data) // 2]


def resealed_bytes(data: bytes, change: dict[str, Any]) -> bytes:
    """Bytes changed anywhere and the seal's digits corrected, where they can still be found."""
    model = onnx.load_model_from_string(data)
    seal = next(entry.value for entry in model.metadata_props if entry.key == SEAL)
    changed = mangled(data, change)
    if changed.count(seal.encode()) != 1:
        return changed
    return changed.replace(seal.encode(), seal_digest(changed, seal).encode())


def change_toml(path: Path, changes: list[dict[str, Any]]) -> None:
    """The configuration with values changed, as TOML again."""
    value: Any = tomllib.loads(path.read_text())
    for change in changes:
        value = mutated(value, change)
    if not isinstance(value, dict):
        path.write_bytes(dumped(value))
        return
    lines = [f"{key} = {toml(item)}" for key, item in value.items() if not isinstance(item, dict)]
    for key, item in value.items():
        if isinstance(item, dict):
            lines += [f"[{key}]", *(f"{inner} = {toml(leaf)}" for inner, leaf in item.items())]
    path.write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))


def toml(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value)


def reseal_incident(folder: Path) -> None:
    """The checksums in incident.json of the files beside it."""
    import hashlib

    if not ordinary(folder / "incident.json"):
        return
    value = json.loads((folder / "incident.json").read_bytes())
    if isinstance(value, dict) and isinstance(value.get("files"), dict):
        for name in value["files"]:
            file = folder / str(name)
            if "/" not in str(name) and "\0" not in str(name) and ordinary(file):
                value["files"][name] = hashlib.sha256(file.read_bytes()).hexdigest()
    (folder / "incident.json").write_bytes(dumped(value))


def ordinary(path: Path) -> bool:
    """A regular file, itself, that the harness can read without waiting and without filling memory."""
    return is_regular(path) and path.lstat().st_size < 1 << 26


def reseal_folder(folder: Path) -> None:
    """A checkpoint's manifest, where all of its files can be read."""
    if not all(ordinary(path) for path in folder.iterdir()):
        return
    try:
        reseal_checkpoint(folder)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return
