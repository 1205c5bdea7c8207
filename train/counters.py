"""The numbers of a run that outlive a session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Counters:
    """What a checkpoint keeps beside tensors; everything else is found again on the disk."""

    elapsed: float = 0.0  # seconds of training, over all sessions
    session: int = 0
    games: int = 0
    plies: int = 0
    simulations: int = 0
    first_wins: int = 0
    draws: int = 0
    model: int = 0  # number of the newest model
    turns: int = 0
    forgotten_rows: int = 0
    gone: list[str] = field(default_factory=list)  # record files to delete
    batches: dict[str, Any] = field(default_factory=dict)  # the generator that draws batches
    finished: bool = False
    score: float | None = None
