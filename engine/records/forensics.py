"""Which rows of a damaged record file are not what was written.

A file's checksums say that it changed. Every row has a checksum of its own too (the member `row_sums`), so what can
still be unpacked tells from which row on the damage reaches. Nothing here is used for training.
"""

from __future__ import annotations

import ast
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from az.engine.records.container import directory

ROW_SUMS = "row_sums"
BY_ROW = ("states", "outcomes", "root_values", "games", "plies", "models")
BY_ENTRY = ("policy_actions", "policy_probs")
MOST_BYTES = 32 << 20  # unpacked; a larger file is not searched
PIECE = 1 << 12  # bytes that are unpacked at a time
_LOCAL_HEADER = 30  # bytes of a zip member's local header before its name


@dataclass(frozen=True)
class Damage:
    """What was found. members: arrays whose bytes changed, none where only the container did."""

    members: list[str]
    rows: list[int]  # that are not what was written
    origin: dict[str, Any]  # game, ply, model and seed of the first of them, where these can be read

    def __str__(self) -> str:
        if not self.members and not self.rows:
            return "no row was changed, only the container around them"
        where = " and ".join(self.members) or "the arrays"
        if not self.rows:
            return f"{where} changed, no row is known to have"
        game = f" (game {self.origin['game']}, ply {self.origin['ply']})" if self.origin else ""
        last = f" to {self.rows[-1]}" if len(self.rows) > 1 else ""
        return f"{where} changed, row {self.rows[0]}{game}{last}"


def row_sums(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint32]:
    """[R] CRC-32 of all that belongs to a row. Offsets that point nowhere give a sum of what is there."""
    offsets = arrays["policy_offsets"]
    sums = np.zeros(max(0, len(offsets) - 1), np.uint32)
    columns = [np.ascontiguousarray(arrays[name]) for name in BY_ROW]
    entries = [np.ascontiguousarray(arrays[name]) for name in BY_ENTRY]
    for row in range(len(sums)):
        found = zlib.crc32(offsets[row : row + 2].tobytes())
        for column in columns:
            found = zlib.crc32(column[row : row + 1].tobytes(), found)
        first, last = (max(0, int(offset)) for offset in offsets[row : row + 2])
        for entry in entries:
            found = zlib.crc32(entry[first:last].tobytes(), found)
        sums[row] = found
    return sums


def find_damage(data: bytes) -> Damage | None:
    """What is damaged in a file's bytes; None where that cannot be told: no sums in it, or too little is left."""
    try:
        return _found(data)
    except Exception:  # a damaged container raises whatever its reader trips over
        return None


def _found(data: bytes) -> Damage | None:
    with directory(data) as container:
        members = {info.filename.removesuffix(".npy"): info for info in container.infolist()}
        if not members.keys() >= {"header", ROW_SUMS, "policy_offsets", *BY_ROW, *BY_ENTRY}:
            return None
        if sum(info.file_size for info in members.values()) > MOST_BYTES:
            return None
        damaged = [name for name, info in members.items() if not _sound(container, info)]
    arrays = {name: _unpacked(data, info) for name, info in members.items()}
    lost = any(array is None for array in arrays.values())
    if lost or damaged == ["header"] or ROW_SUMS in damaged:
        return Damage(damaged, [], {})
    whole = {name: array for name, array in arrays.items() if array is not None}
    wanted = whole[ROW_SUMS]
    if wanted.dtype != np.uint32 or any(len(whole[name]) != len(wanted) for name in BY_ROW):
        return None
    if whole["policy_offsets"].dtype != np.int64 or len(whole["policy_offsets"]) != len(wanted) + 1:
        return None
    rows = [int(row) for row in np.flatnonzero(wanted != row_sums(whole))]
    known = bool(rows) and not {"header", "games", "plies", "models"} & set(damaged)
    return Damage(damaged, rows, _origin(whole, rows[0]) if known else {})


def _origin(arrays: Mapping[str, NDArray[Any]], row: int) -> dict[str, Any]:
    header = json.loads(arrays["header"].tobytes())
    model = header["models"][int(arrays["models"][row])]
    return {"game": int(arrays["games"][row]), "ply": int(arrays["plies"][row]), "model": model, "seed": header["seed"]}


def _sound(container: zipfile.ZipFile, info: zipfile.ZipInfo) -> bool:
    try:
        container.read(info)
        return True
    except Exception:  # as above
        return False


def _unpacked(data: bytes, info: zipfile.ZipInfo) -> NDArray[Any] | None:
    """The array as far as its stream can be unpacked, zeros after that; None where its own header is lost."""
    at = info.header_offset
    name, extra = (int.from_bytes(data[at + i : at + i + 2], "little") for i in (26, 28))
    packed = data[at + _LOCAL_HEADER + name + extra :][: info.compress_size]
    stream, out = zlib.decompressobj(-zlib.MAX_WBITS), bytearray()
    try:
        for i in range(0, len(packed), PIECE):
            if stream.eof or len(out) >= info.file_size:
                break
            before, piece = stream.copy(), packed[i : i + PIECE]
            try:
                out += _inflated(stream, piece, info.file_size - len(out))
            except zlib.error:  # byte by byte up to there: what comes out before the stream breaks is kept
                for byte in piece:
                    out += _inflated(before, bytes([byte]), info.file_size - len(out))
    except zlib.error:
        pass
    end = 10 + int.from_bytes(out[8:10], "little")
    if out[:6] != b"\x93NUMPY" or len(out) < end:
        return None
    try:
        about = ast.literal_eval(out[10:end].decode("latin-1"))
        dtype, shape = np.dtype(about["descr"]), about["shape"]
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    except Exception:  # numpy's own reader of such a header raises as many kinds
        return None
    if not 0 <= size == info.file_size - end:
        return None
    return np.frombuffer(bytes(out[end:]).ljust(size, b"\0")[:size], dtype).reshape(shape)


def _inflated(stream: Any, packed: bytes, most: int) -> bytes:
    """What comes out of these bytes, `most` of it."""
    return stream.decompress(packed, most) if most > 0 else b""
