"""The list of loops x faults with their right answers, and which of them are held out."""

from __future__ import annotations

import csv
import hashlib
import random
from dataclasses import dataclass
from pathlib import Path

LIST = Path(__file__).resolve().parents[1] / "list.csv"
HELD_OUT, DRAW = 0.3, 20261129  # the share of the pairs, and the seed of the draw


@dataclass(frozen=True)
class Pair:
    """One fault of one loop. trigger: see triggers.py. The other fields are the right answer.

    "a|b": either is right. "-": not asked. op: torch's name without namespace. tensor: words that must stand in what
    the tool says. line: a marker in the loop's file. rows: "row" for the one that was struck.
    """

    loop: str
    fault: str
    trigger: str
    phase: str
    family: str
    op: str
    module: str
    tensor: str
    line: str
    rows: str

    @property
    def name(self) -> str:
        """LOOP/FAULT."""
        return f"{self.loop}/{self.fault}"

    @property
    def seed(self) -> int:
        """A number of the pair's own, for its loop and its places."""
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:4], "big") % 100_000


def pairs() -> list[Pair]:
    """All pairs, in the order of the list."""
    with LIST.open(newline="", encoding="utf-8") as file:
        return [Pair(**row) for row in csv.DictReader(file)]


def held_out() -> set[str]:
    """The names of the pairs that are kept out of the open part: a draw that depends on the list's names alone."""
    names = sorted(pair.name for pair in pairs())
    return set(random.Random(DRAW).sample(names, round(HELD_OUT * len(names))))


def digest(names: set[str]) -> str:
    """SHA-256 of names, sorted, one a line."""
    return hashlib.sha256("".join(f"{name}\n" for name in sorted(names)).encode()).hexdigest()
