"""One line of JSON from a stranger, as an object; what is wrong with it as one sentence."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, cast

from az.engine.analysis import lines

KINDS: dict[type, str] = {
    bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object",
}  # fmt: skip

Identity = str | int | float | None


class BadRequestError(Exception):
    """A request that cannot be answered, with the id as far as it could be read."""

    def __init__(self, identity: Identity, sentence: str) -> None:
        super().__init__(sentence)
        self.identity = identity
        self.sentence = sentence


def parse(line: bytes) -> dict[str, Any]:
    """The object of a line. Raises BadRequestError without an id."""
    if len(line) > lines.MAX_LINE:
        raise BadRequestError(None, f"the request is longer than {lines.MAX_LINE} bytes; send a shorter line.")
    try:
        fields = json.loads(
            line.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_once
        )
    except UnicodeDecodeError:
        raise BadRequestError(None, "the request is not UTF-8 text.") from None
    except (ValueError, RecursionError) as error:
        raise BadRequestError(None, f"the request is not valid JSON: {_reason(error)}.") from None
    if not isinstance(fields, dict):
        raise BadRequestError(None, 'the request must be a JSON object such as {"id": 1, "sims": 100}.')
    return cast("dict[str, Any]", fields)  # JSON has no other keys


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return str(error).split(";")[0]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{shown(double)} is given twice")
    return fields


def is_identity(value: object) -> bool:
    """Whether a value may be an id: a string or a number."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def identity_of(fields: dict[str, Any]) -> Identity:
    """The id of a request. Raises BadRequestError where it has none."""
    if "id" not in fields:
        raise BadRequestError(None, "the request has no id; id is a string or a number.")
    identity = fields["id"]
    if not is_identity(identity):
        raise BadRequestError(None, f"id must be a string or a number, not {kind(identity)}.")
    return cast("Identity", identity)


def whole(identity: Identity, fields: dict[str, Any], name: str, low: int, high: int, usual: int) -> int:
    """A whole number within bounds; `usual` where it is missing. Raises BadRequestError."""
    value = fields.get(name, usual)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadRequestError(identity, f"{name} must be a whole number from {low} to {high}, not {shown(value)}.")
    return value


def duration(identity: Identity, fields: dict[str, Any], name: str, most: float, least: float = 0.0) -> float | None:
    """Seconds, or None where the field is missing. Raises BadRequestError."""
    if name not in fields:
        return None
    value = fields[name]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not (value >= least if least else value > 0) or value > most:
        wanted = f"from {least:g} to {most:g}" if least else f"above 0 and up to {most:g}"
        raise BadRequestError(identity, f"{name} must be a number {wanted}, not {shown(value)}.")
    return float(value)


def texts(identity: Identity, fields: dict[str, Any], name: str) -> list[str]:
    """A list of strings; an empty one where the field is missing. Raises BadRequestError."""
    value = fields.get(name, [])
    if not isinstance(value, list):
        raise BadRequestError(identity, f"{name} must be a list of strings, not {kind(value)}.")
    entries = cast("list[object]", value)
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, str):
            raise BadRequestError(identity, f"{name} must be a list of strings; entry {number} is {kind(entry)}.")
    return cast("list[str]", entries)


def kind(value: object) -> str:
    """What a JSON value is, for people."""
    if value is None:
        return "null"
    return KINDS[type(value)]


def shown(value: object) -> str:
    """A JSON value as an error quotes it."""
    if isinstance(value, list | dict):
        return kind(cast("object", value))
    if isinstance(value, int) and abs(value) > 10**30:
        return "such a large number"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"
