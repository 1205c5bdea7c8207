"""`az export`: a checkpoint as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from az.engine.errors import WrongRequest
from az.export.pipeline import export_checkpoint


def export_command(checkpoint: Path, out: Path, force: bool) -> dict[str, Any]:
    """The model's card. Raises WrongRequest where a file would be written over without `force`."""
    for path in (out, out.with_suffix(".json")) if out.suffix == ".onnx" and not force else ():
        if path.is_file():
            raise WrongRequest(f"'{path}' exists: name another file, or give --force to write over it.")
    return export_checkpoint(checkpoint, out).card
