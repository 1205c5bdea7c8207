"""How a configuration's field says what it means and which values it may take."""

from __future__ import annotations

from dataclasses import field
from typing import Any

BIG = 10**12  # no count in a run comes near it; beyond it a number is a slip of the keyboard


def key(default: Any, meaning: str, low: float = 0, high: float = BIG, one_of: tuple[str, ...] = ()) -> Any:
    """A field with its meaning and the values it may take: [low, high] for numbers, `one_of` for words."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high, "one_of": one_of})
