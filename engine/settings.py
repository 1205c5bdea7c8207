"""Settings: how a field says what it means and which values it may take, and the one place where values are checked."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import Field, field, fields, replace
from typing import Any

from az.engine.errors import WrongRequest
from az.engine.printable import quoted

BIG = 10**12  # no count in a run comes near it; beyond it a number is a slip of the keyboard
KIND_TEXT = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}


def key(default: Any, meaning: str, low: float = 0, high: float = BIG, one_of: Collection[str] = ()) -> Any:
    """A field with its meaning and the values it may take: [low, high] for numbers, `one_of` for words."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high, "one_of": one_of})


def parse_value(name: str, text: str, item: Field[Any]) -> Any:
    """The value of a field made by `key`, from what a person typed. Raises WrongRequest with the range."""
    kind = type(item.default)
    value: Any = None
    if kind is bool:
        value = {"true": True, "false": False}.get(text.lower())
    elif kind is str:
        value = text.strip("\"'")
    else:
        with suppress(ValueError, OverflowError):
            value = kind(text)
    if value is None:
        raise WrongRequest(f"{name} is {_shown(text)}: it wants {KIND_TEXT[kind]}.")
    check_value(name, value, item)
    return value


def typed_value(name: str, value: Any, item: Field[Any]) -> Any:
    """The value of a field from TOML or JSON: a whole number is a float too, a bool is never a number."""
    if type(item.default) is float and type(value) is int and abs(value) <= 10**300:
        value = float(value)
    check_value(name, value, item)
    return value


def check_value(name: str, value: Any, item: Field[Any]) -> None:
    """Raises WrongRequest, in one sentence, for a value of another type or out of range."""
    kind = type(item.default)
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise WrongRequest(f"{name} is {_shown(value)}: it wants {KIND_TEXT[kind]}.")
    words, low, high = (item.metadata[which] for which in ("one_of", "low", "high"))
    if words and value not in words:
        choices = " or ".join(word or "''" for word in words)
        raise WrongRequest(f"{name} is {_shown(value)}: it can be {choices}.")
    if kind in (int, float) and not (low <= value <= high and math.isfinite(value)):
        raise WrongRequest(
            f"{name} is {_shown(value)}: it must lie between {number_text(low)} and {number_text(high)}."
        )


def checked(record: Any, values: Mapping[str, Any]) -> Any:
    """The record of fields made by `key` with these values. Raises WrongRequest."""
    known = {item.name: item for item in fields(record)}
    for name in values:
        if name not in known:
            raise WrongRequest(f"there is no setting '{quoted(name)}'.")
    return replace(record, **{name: typed_value(name, value, known[name]) for name, value in values.items()})


def number_text(value: float) -> str:
    """`65536`, and not `6.5536e+04`; a float as short as it can be read."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 10**16 else f"{value:g}"


def _shown(value: Any) -> str:
    text = repr(value) if not isinstance(value, int) or abs(value) < 10**30 else "an enormous number"
    return text if len(text) <= 60 else text[:57] + "..."
