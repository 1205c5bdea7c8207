"""What may stand in an incident's files: every field's type and range, every array's shape and dtype."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from az.engine.game import Game

FILES = ("batch.safetensors", "timeline.jsonl")
MOST_ROWS = 1_000_000  # of a batch
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Text = Annotated[str, Field(max_length=100_000)]
Texts = Annotated[list[Text], Field(max_length=10_000)]


_SURROGATE = re.compile("[\ud800-\udfff]")


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class Operand(_Strict):
    """A tensor that the first bad operation read or made."""

    name: Text | None = None
    role: Text | None = None
    dtype: Text | None = None
    shape: Annotated[list[JsonValue], Field(max_length=64)] | None = None


class Spread(_Strict):
    """One operation that the bad number went through."""

    phase: Text | None = None
    module: Text | None = None
    op: Text | None = None


class BackwardStop(_Strict):
    """One operation on the way from the loss to the first bad one of backward."""

    op: Text = ""
    module: Text | None = None
    source: Text | None = None
    finite: bool = True


class Evidence(_Strict):
    """What the recorder saw; whatever else stands there is shown as it is."""

    text: Texts = []
    fields: Texts = []
    operands: Annotated[list[Operand], Field(max_length=1000)] | None = None
    spread: Annotated[list[Spread], Field(max_length=10_000)] | None = None
    backward: Annotated[list[BackwardStop], Field(max_length=1000)] = []
    file: Text = ""


class Repair(_Strict):
    """What was tried, and whether the step then stayed finite."""

    repair: Text | None = None
    finite: bool | None = None


class IncidentFields(_Strict):
    """The fields of train/health/incident.py, by their keys in JSON."""

    model_config = ConfigDict(strict=True, extra="forbid")

    plane: Text
    cause: Text
    phase: Text
    op: Text | None
    module: Text | None
    source: Text | None
    rows: Annotated[list[Whole], Field(max_length=MOST_ROWS)]
    first_bad_step: Whole
    causal_step: Whole
    replay: Text
    evidence: Evidence
    fix: Text
    counterfactual: Repair | None
    seconds: float
    notes: Texts


class Origin(_Strict):
    """Where a guilty row came from."""

    file: Text | None = None
    row: Whole | None = None
    row_in_file: Whole | None = None
    row_in_run: Whole | None = None
    batch_row: Whole = 0
    game: Whole | None = None
    ply: Whole | None = None
    model: Text | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    state: Annotated[list[Whole], Field(max_length=100_000)] | None = None


class About(_Strict):
    """What the run was."""

    game: Text | None = None
    progress: Annotated[float, Field(ge=0, le=1)] | None = None
    environment: dict[str, JsonValue] | None = None


class IncidentFile(_Strict):
    """incident.json."""

    model_config = ConfigDict(strict=True, extra="forbid")

    format: Literal["az-incident"]
    format_version: Literal[1]
    incident: IncidentFields
    origins: Annotated[list[Origin], Field(max_length=10_000)]
    about: About
    files: dict[Literal[*FILES], Text]  # pyright: ignore[reportInvalidTypeForm]


BATCH: dict[str, tuple[Any, int]] = {  # dtype, number of dimensions
    "planes": (np.float32, 4),
    "policy": (np.float32, 2),
    "mask": (np.bool_, 2),
    "value": (np.float32, 1),
    "rows": (np.int64, 1),
    "turns": (np.int64, 1),  # `Batch.symmetry`
    "root_value": (np.float32, 1),  # only for a network that learns it
}
OPTIONAL = {"root_value"}


def without_surrogates(value: Any) -> Any:
    """The JSON value with U+FFFD for halves of characters, which JSON may hold and no file or terminal can."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(name): without_surrogates(item) for name, item in value.items()}
    return value


def batch_fault(arrays: dict[str, NDArray[Any]]) -> str | None:
    """Why these arrays are no batch of az.train.replay; None where they are."""
    if not BATCH.keys() - OPTIONAL <= arrays.keys() <= BATCH.keys():
        return f"its arrays are not {', '.join(BATCH)}"
    count = len(arrays["rows"]) if arrays["rows"].ndim else 0
    for name, array in arrays.items():
        dtype, dims = BATCH[name]
        if array.dtype != dtype or array.ndim != dims or len(array) != count or not 0 < count <= MOST_ROWS:
            return f"'{name}' has another type or shape"
    return "'mask' and 'policy' differ in shape" if arrays["mask"].shape != arrays["policy"].shape else None


def fits(planes: NDArray[Any], policy: NDArray[Any], game: Game) -> bool:
    """Whether a batch is of positions of this game."""
    return planes.shape[1:] == game.planes_shape and policy.shape[1] == game.num_actions
