"""Reading an ONNX file without onnx or onnxruntime: its metadata, its weights, its operators, its seal.

The engine looks at the bytes before a session is made from them: a damaged file never reaches the runtime, a weight
that is not finite is found even where an operator would swallow it (Relu and Clip may turn NaN into a number), and
whatever az does not write is refused: an encoding of numbers, a field, data in another file. Which operators may stand
in the file, and on what, is the affair of `onnx_graph`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

SEAL = "checksum"  # the metadata entry: sha256 of the file with these 64 digits written as zeros
OPEN_SEAL = "0" * 64
IR_VERSION = 8
OPSETS = {"": 17, "com.microsoft": 1}
MOST_BYTES = 512 << 20  # of a model's file
MOST_METADATA, MOST_NODES, MOST_INITIALIZERS = 64, 2_000, 20_000
MOST_NAMES, MOST_ATTRIBUTES, MOST_NUMBERS, MOST_NAME = 16, 8, 16, 1024  # of a node; characters

# Field numbers of onnx.proto3: those that az writes, with what may be told of others.
_MODEL = {1: "ir_version", 2: "producer", 7: "graph", 8: "opset", 14: "metadata"}
_GRAPH = {1: "node", 2: "name", 5: "initializer", 11: "input", 12: "output"}
_NODE = {1: "input", 2: "output", 3: "name", 4: "op_type", 5: "attribute", 7: "domain"}
_ATTRIBUTE = {1: "name", 3: "i", 8: "ints", 20: "type"}
_TENSOR = {1: "dims", 2: "data_type", 8: "name", 9: "raw_data"}
_WORDS = {
    id(_MODEL): {20: "training code", 25: "functions"},
    id(_GRAPH): {14: "quantization notes", 15: "sparse weights"},
    id(_NODE): {8: "an overload"},
    id(_ATTRIBUTE): {2: "a float", 4: "a text", 5: "a tensor", 6: "a subgraph", 11: "subgraphs"},
    id(_TENSOR): {13: "data in another file", 14: "data in another file"},
}
_INT, _INTS = 2, 7  # kinds of attribute
DTYPES = {1: "<f4", 2: "|u1", 3: "|i1", 6: "<i4", 7: "<i8", 10: "<f2"}


class BrokenFileError(ValueError):
    """These bytes are not an ONNX model."""


class ForeignModelError(ValueError):
    """An ONNX model that holds what az does not write; the message says what."""


@dataclass(frozen=True)
class Node:
    """One operator."""

    op: str
    domain: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, int | list[int]]


@dataclass(frozen=True)
class OnnxBytes:
    """What stands in the file."""

    metadata: dict[str, str]
    weights: dict[str, NDArray[np.generic]] = field(default_factory=dict)  # initializers by name, in their own shapes
    nodes: list[Node] = field(default_factory=list)


def read(data: bytes) -> OnnxBytes:
    """Raises BrokenFileError, or ForeignModelError for a model in which something stands that az does not write."""
    try:
        return _model(memoryview(data))
    except ForeignModelError:
        raise
    except (IndexError, ValueError, KeyError) as error:
        raise BrokenFileError(str(error)) from None


def seal_fits(data: bytes, seal: str) -> bool:
    """Whether `seal` is the sha256 of the file with the seal's digits, which stand in it once, written as zeros."""
    digits = seal.encode()
    at = data.find(digits)
    if len(digits) != len(OPEN_SEAL) or at < 0 or data.find(digits, at + 1) >= 0:
        return False
    view, digest = memoryview(data), hashlib.sha256()
    for part in (view[:at], OPEN_SEAL.encode(), view[at + len(digits) :]):
        digest.update(part)
    return digest.hexdigest() == seal


def seal_digest(data: bytes, seal: str) -> str:
    """The sha256 that `seal` must be: of the file with the seal's digits written as zeros."""
    return hashlib.sha256(data.replace(seal.encode(), OPEN_SEAL.encode())).hexdigest()


def metadata_of(data: bytes) -> dict[str, str]:
    """The metadata alone, whatever else stands in the file. Raises BrokenFileError."""
    found: dict[str, str] = {}
    try:
        for count, (number, value) in enumerate(_fields(memoryview(data))):
            if count > 2 * MOST_METADATA:
                raise ValueError("too many fields")
            if _MODEL.get(number) == "metadata" and isinstance(value, memoryview):
                entry = dict(_fields(value))
                found[_text(entry.get(1))] = _text(entry.get(2))
    except (IndexError, ValueError) as error:
        raise BrokenFileError(str(error)) from None
    return found


# -- the messages of onnx.proto3 ---------------------------------------------------------------------------------------


def _model(data: memoryview) -> OnnxBytes:
    metadata: dict[str, str] = {}
    graph: OnnxBytes | None = None
    opsets: dict[str, object] = {}
    for name, value in _known(data, _MODEL, once=("ir_version", "producer", "graph")):
        if name == "ir_version" and value != IR_VERSION:
            _foreign(f"it is of version {value} of ONNX's format and not of {IR_VERSION}")
        elif name == "graph":
            graph = _graph(_bytes(value))
        elif name == "opset":
            entry = dict(_fields(_bytes(value)))
            opsets[_text(entry.get(1, b""))] = entry.get(2)
        elif name == "metadata":
            entry = dict(_fields(_bytes(value)))
            metadata[_text(entry.get(1))] = _text(entry.get(2))
        if max(len(metadata), len(opsets)) > MOST_METADATA:
            _foreign("it holds too much metadata")
    if graph is None:
        raise ValueError("no graph")
    strange = next((domain for domain in opsets if opsets[domain] != OPSETS.get(domain)), None)
    if strange is not None:
        _foreign(f"it is of version {opsets[strange]} of the operators '{strange or 'ai.onnx'}'")
    return OnnxBytes(metadata, graph.weights, graph.nodes)


def _graph(data: memoryview) -> OnnxBytes:
    weights: dict[str, NDArray[np.generic]] = {}
    nodes: list[Node] = []
    for name, value in _known(data, _GRAPH, once=("name",)):
        if name == "node":
            nodes.append(_node(_bytes(value)))
        elif name == "initializer":
            weight, array = _tensor(_bytes(value))
            if weight in weights:
                _foreign(f"two weights have the name '{weight}'")
            weights[weight] = array
        if len(nodes) > MOST_NODES or len(weights) > MOST_INITIALIZERS:
            _foreign(f"it has more than {MOST_NODES} operators or {MOST_INITIALIZERS} weights")
    return OnnxBytes({}, weights, nodes)


def _node(data: memoryview) -> Node:
    texts = {"op_type": "", "domain": "", "name": ""}
    ends: dict[str, list[str]] = {"input": [], "output": []}
    attributes: dict[str, int | list[int]] = {}
    for name, value in _known(data, _NODE, once=tuple(texts)):
        if name in texts:
            texts[name] = _text(_bytes(value))
        elif name in ends:
            ends[name].append(_text(_bytes(value)))
        else:
            attribute, number = _attribute(_bytes(value))
            if attribute in attributes:
                _foreign(f"an operator has '{attribute}' twice")
            attributes[attribute] = number
        if max(map(len, (*ends.values(), attributes))) > MOST_NAMES:
            _foreign("an operator has too many inputs, outputs or attributes")
    return Node(texts["op_type"], texts["domain"], texts["name"], ends["input"], ends["output"], attributes)


def _attribute(data: memoryview) -> tuple[str, int | list[int]]:
    name, kind, single = "", 0, 0
    many: list[int] = []
    for part, value in _known(data, _ATTRIBUTE, once=("name", "i", "type")):
        if part == "name":
            name = _text(_bytes(value))
        elif part == "type":
            kind = value
        elif part == "i":
            single = _integer(value)
        else:
            many += _integers(value)
        if len(many) > MOST_NUMBERS:
            _foreign(f"the attribute '{name}' is too long")
    if kind not in (_INT, _INTS) or (kind == _INT and many) or (kind == _INTS and single):
        _foreign(f"the attribute '{name}' is of a kind that az does not write")
    return name, single if kind == _INT else many


def _tensor(data: memoryview) -> tuple[str, NDArray[np.generic]]:
    dims: list[int] = []
    parts: dict[str, int | memoryview] = {}
    for part, value in _known(data, _TENSOR, once=("data_type", "name", "raw_data")):
        if part == "dims":
            dims += _integers(value)
            if len(dims) > MOST_ATTRIBUTES:
                _foreign("a weight has too many dimensions")
        else:
            parts[part] = value
    name, kind = _text(_bytes(parts.get("name", memoryview(b"")))), parts.get("data_type")
    if kind not in DTYPES:
        _foreign(f"the weight '{name}' is of a type that az does not write")
    dtype, raw = np.dtype(DTYPES[kind]), _bytes(parts.get("raw_data", memoryview(b"")))
    if prod(dims) * dtype.itemsize != len(raw):
        raise ValueError(f"the weight '{name}' has {len(raw)} bytes")
    return name, np.frombuffer(raw, dtype).reshape(dims)


def _foreign(reason: str) -> NoReturn:
    raise ForeignModelError(reason)


# -- protobuf ----------------------------------------------------------------------------------------------------------


def _known(data: memoryview, names: dict[int, str], once: tuple[str, ...]) -> Iterator[tuple[str, int | memoryview]]:
    """(name, value) of a message's fields. Refused: a field that az does not write, or one of `once` twice."""
    seen: set[str] = set()
    for number, value in _fields(data):
        name = names.get(number)
        if name is None:
            _foreign(f"it holds {_WORDS[id(names)].get(number, 'a field')} that az does not write")
        if name in once and name in seen:
            raise ValueError(f"{name} stands twice")
        seen.add(name)
        yield name, value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, integer or bytes) of one protobuf message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if key < 8:
            raise ValueError("a field without a number")
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


def _integers(value: int | memoryview) -> list[int]:
    """Of a repeated field: one, or packed many."""
    if isinstance(value, int):
        return [value]
    if len(value) > 10 * MOST_NUMBERS:
        _foreign("a list of numbers is too long")
    values, at = [], 0
    while at < len(value):
        one, at = _varint(value, at)
        values.append(one)
    return values


def _integer(value: int | memoryview) -> int:
    if not isinstance(value, int):
        raise ValueError("bytes instead of a number")
    return value


def _bytes(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number instead of bytes")
    return value


def _text(value: object) -> str:
    return bytes(value).decode() if isinstance(value, memoryview | bytes) else ""
