"""`--json`, the same for every command that has it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")]


def emit(as_json: bool, values: dict[str, Any], text: str) -> None:
    """Print the one or the other."""
    print(json.dumps(values) if as_json else text)
