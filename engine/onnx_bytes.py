"""Reading an ONNX file without onnx or onnxruntime: its metadata, its weights, its seal.

The engine looks at the bytes before a session is made from them: a damaged file never reaches the runtime, and a
weight that is not finite is found even where an operator would swallow it (Relu and Clip may turn NaN into a number).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SEAL = "checksum"  # the metadata entry: sha256 of the file with these 64 digits written as zeros
OPEN_SEAL = "0" * 64

# Field numbers of onnx.proto3.
_MODEL_GRAPH, _MODEL_METADATA = 7, 14
_GRAPH_INITIALIZER = 5
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 4, 8, 9
_FLOAT_TYPES = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}


class BrokenFileError(ValueError):
    """These bytes are not an ONNX model."""


@dataclass(frozen=True)
class OnnxBytes:
    """What stands in the file beside the operators."""

    metadata: dict[str, str]
    weights: dict[str, NDArray[np.floating]]  # floating-point initializers by name, in their own shapes


def read(data: bytes) -> OnnxBytes:
    """Raises BrokenFileError."""
    metadata: dict[str, str] = {}
    weights: dict[str, NDArray[np.floating]] = {}
    try:
        for number, value in _fields(memoryview(data)):
            if number == _MODEL_METADATA and isinstance(value, memoryview):
                entry = dict(_fields(value))
                metadata[_text(entry.get(1))] = _text(entry.get(2))
            elif number == _MODEL_GRAPH and isinstance(value, memoryview):
                weights.update(_weights(value))
    except (IndexError, ValueError) as error:
        raise BrokenFileError(str(error)) from None
    return OnnxBytes(metadata, weights)


def seal_digest(data: bytes, seal: str) -> str:
    """The sha256 that `seal` must be: of the file with the seal's digits written as zeros."""
    return hashlib.sha256(data.replace(seal.encode(), OPEN_SEAL.encode())).hexdigest()


def _weights(graph: memoryview) -> Iterator[tuple[str, NDArray[np.floating]]]:
    for number, tensor in _fields(graph):
        if number != _GRAPH_INITIALIZER or not isinstance(tensor, memoryview):
            continue
        dims: list[int] = []
        parts: dict[int, int | memoryview] = {}
        for field, value in _fields(tensor):
            if field == _TENSOR_DIMS:
                dims += [value] if isinstance(value, int) else _varints(value)
            else:
                parts[field] = value
        dtype = _FLOAT_TYPES.get(int(parts.get(_TENSOR_TYPE, 0)))  # pyright: ignore[reportArgumentType]
        content = parts.get(_TENSOR_RAW, parts.get(_TENSOR_FLOATS))
        if dtype is not None and isinstance(content, memoryview):
            yield _text(parts.get(_TENSOR_NAME)), np.frombuffer(content, dtype).reshape(dims)


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, integer or bytes) of one protobuf message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(data):
            raise ValueError("cut short")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("integer too long")


def _varints(data: memoryview) -> list[int]:
    values, at = [], 0
    while at < len(data):
        value, at = _varint(data, at)
        values.append(value)
    return values


def _text(value: int | memoryview | None) -> str:
    return bytes(value).decode() if isinstance(value, memoryview) else ""
