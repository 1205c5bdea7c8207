"""The container of a record file: a zip of arrays under a checksum, unpacked within bounds.

What may be unpacked is told by the file's own directory and looked at first, so that a file of a few megabytes cannot
become gigabytes; and nothing but plain numbers is read.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from az.engine.errors import Refused

SEAL = b"az-sha256:"
SEAL_SIZE = len(SEAL) + 64
MOST_PACKED, MOST_UNPACKED = 192 << 20, 512 << 20  # bytes
MOST_HEADER = 16 << 20  # bytes of the header's JSON
MOST_MEMBERS = 16
_END = 22  # bytes of a zip's end record without its comment
_DIRECTORY = 8192  # bytes of the directory of so few members


def sealed(data: bytes) -> bytes:
    """The container with a checksum over all its bytes in its comment: its own checksums leave some bytes out."""
    comment = SEAL + hashlib.sha256(data).hexdigest().encode()
    return data[:-2] + len(comment).to_bytes(2, "little") + comment


def check_seal(path: Path, data: bytes) -> None:
    """Files of an az before there were seals have no comment at all; anything else must be a right seal."""
    length, comment = data[-SEAL_SIZE - 2 : -SEAL_SIZE], data[-SEAL_SIZE:]
    if SEAL in data[-2 * SEAL_SIZE :]:
        digest = hashlib.sha256(memoryview(data)[: -SEAL_SIZE - 2])
        digest.update(b"\0\0")
        right = SEAL + digest.hexdigest().encode()
        if (int.from_bytes(length, "little"), comment) != (SEAL_SIZE, right):
            raise Refused(f"{path}: the checksum of the file does not match: it was changed after it was written.")
    elif data[-22:-18] != b"PK\5\6":
        raise Refused(f"{path}: the checksum at the end of the file is damaged: it was changed after it was written.")


def directory(data: bytes) -> zipfile.ZipFile:
    """The container, its directory within bounds. Raises ValueError or BadZipFile."""
    at = len(data) - _END - (SEAL_SIZE if data[-SEAL_SIZE:].startswith(SEAL) else 0)
    end = data[at : at + _END] if at >= 0 else b""
    count, size = (int.from_bytes(end[i : i + n], "little") for i, n in ((10, 2), (12, 4)))
    if end[:4] != b"PK\5\6" or count > MOST_MEMBERS or size > _DIRECTORY or data[at - 20 : at - 16] == b"PK\6\7":
        raise ValueError("its directory is not that of a record file")
    container = zipfile.ZipFile(io.BytesIO(data))
    plain = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    infos = container.infolist()
    if any(info.compress_type not in plain or info.flag_bits & 1 for info in infos):
        raise ValueError("it is packed in a way that az does not use")
    total = sum(info.file_size for info in infos)
    if total > MOST_UNPACKED:
        raise ValueError(f"it would unpack to {total:,} bytes, and at most {MOST_UNPACKED:,} are read")
    return container


def unpacked(data: bytes, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """The arrays of these names. Raises what the zip reader and numpy trip over, or ValueError."""
    with directory(data) as container:
        return {name: _array(container, container.getinfo(f"{name}.npy")) for name in names}


def _array(container: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any]:
    name = info.filename.removesuffix(".npy")
    with container.open(info) as stream:
        if npy.read_magic(stream) != (1, 0):
            raise ValueError(f"{name} is of another version of numpy's format")
        shape, fortran, dtype = npy.read_array_header_1_0(stream, max_header_size=1000)
        size = dtype.itemsize  # Python's own numbers: they do not overflow
        for side in shape:
            size *= side
        if dtype.kind not in "biuf" or fortran or len(shape) > 2 or size != info.file_size - stream.tell():
            raise ValueError(f"{name} is no array of plain numbers")
        if name == "header" and size > MOST_HEADER:
            raise ValueError("its header is too long")
        array = np.empty(shape, dtype)
        _fill(array.reshape(-1).view(np.uint8), stream)
        if stream.read(1):  # also has the checksum of the member looked at
            raise ValueError(f"{name} is longer than it says")
    return array


def _fill(place: NDArray[np.uint8], stream: IO[bytes]) -> None:
    done = 0
    while done < len(place):
        part = stream.read(min(1 << 20, len(place) - done))
        if not part:
            raise ValueError("an array is cut short")
        place[done : done + len(part)] = np.frombuffer(part, np.uint8)
        done += len(part)
