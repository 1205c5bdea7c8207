"""Files changed by somebody who also corrects their checksums: what only a look at the contents can find."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from az.engine.records.container import sealed
from az.engine.records.format import ARRAYS, array_digest


def reseal_checkpoint(folder: Path) -> None:
    """The manifest with the checksums of the files that are there."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def rewrite_records(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> None:
    """The record file with its header and arrays changed in place by `change`, and every checksum right again.

    What `change` returns, unless it is None, stands in place of the header: bytes, or any JSON.
    """
    with np.load(path) as old:
        arrays: dict[str, Any] = {name: old[name].copy() for name in old}
    header = json.loads(bytes(arrays.pop("header")))
    found = change(header, arrays)
    header = header if found is None else found
    if isinstance(header, dict) and "sha256" in header:
        header["sha256"] = array_digest({name: arrays[name] for name in ARRAYS})
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    out = io.BytesIO()
    np.savez_compressed(out, header=np.frombuffer(text, np.uint8), **arrays)
    path.write_bytes(sealed(out.getvalue()))
