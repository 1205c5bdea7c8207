"""How a configuration's field says what it means and which values it may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, field, fields, replace
from typing import Any

from az.engine.errors import WrongRequest
from az.engine.printable import quoted

BIG = 10**12  # no count in a run comes near it; beyond it a number is a slip of the keyboard


def key(default: Any, meaning: str, low: float = 0, high: float = BIG, one_of: tuple[str, ...] = ()) -> Any:
    """A field with its meaning and the values it may take: [low, high] for numbers, `one_of` for words."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high, "one_of": one_of})


KIND_TEXT = {bool: "true or false", int: "a whole number", float: "a number", str: "a word"}


def parse_value(name: str, text: str, item: Field[Any]) -> Any:
    """The value of a field made by `key`, from its text. Raises WrongRequest with the range."""
    kind = type(item.default)
    value: Any = text
    if kind is bool:
        value = {"true": True, "false": False}.get(text.lower())
    elif kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            value = None
    if value is None:
        raise WrongRequest(f"{name} is '{text}': it wants {KIND_TEXT[kind]}.")
    words, low, high = (item.metadata[which] for which in ("one_of", "low", "high"))
    if words and value not in words:
        raise WrongRequest(f"{name} is '{text}': it can be {' or '.join(words)}.")
    if kind in (int, float) and not low <= value <= high:
        raise WrongRequest(f"{name} is {text}: it must lie between {number_text(low)} and {number_text(high)}.")
    return value


def checked(record: Any, values: Mapping[str, Any]) -> Any:
    """The record of fields made by `key` with these values. Raises WrongRequest for a name, type or range of none."""
    known = {item.name: item for item in fields(record)}
    for name, value in values.items():
        if name not in known:
            raise WrongRequest(f"there is no setting '{quoted(name)}'.")
        kind = type(known[name].default)
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise WrongRequest(f"{name} is {quoted(value)}: it wants {KIND_TEXT[kind]}.")
        parse_value(name, str(value), known[name])
    return replace(record, **values)


def number_text(value: float) -> str:
    """`65536`, and not `6.5536e+04`; a float as short as it can be read."""
    return str(int(value)) if float(value).is_integer() and abs(value) < 10**16 else f"{value:g}"
