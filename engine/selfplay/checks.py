"""What self-play looks at before anything is written: the network's answers to a search, and a finished game's rows."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from az.engine.records.format import SUM_TOLERANCE, FinishedGame

FLOAT32_EXPONENT = 88.7  # exp() of more overflows float32
SEARCH_CAUSES = ("temperature-overflow", "no-legal-mass", "network-output-not-finite", "not-a-number")


@dataclass(frozen=True)
class SearchFault:
    """A game that was stopped before a row of it was written."""

    cause: str  # one of SEARCH_CAUSES
    k: int
    ply: int
    model_id: str
    state: list[int]
    text: str

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def bad_answers(logits: NDArray[np.float32], values: NDArray[np.float32], mask: NDArray[np.bool_]) -> list[int]:
    """Rows of an evaluation with a non-finite number among the legal logits or the value."""
    if np.isfinite(logits).all() and np.isfinite(values).all():
        return []
    fine = np.isfinite(np.where(mask, logits, 0.0)).all(1) & np.isfinite(values)
    return np.flatnonzero(~fine).tolist()


def answer_cause(
    logits: NDArray[np.float32], mask: NDArray[np.bool_], raw: NDArray[np.float32] | None
) -> tuple[str, str]:
    """Why one row's answer is bad: (cause, text). raw: what the model itself answers, asked again."""
    if raw is not None and np.isfinite(raw).all():
        shares = np.exp(raw - raw.max(), dtype=np.float32)
        mass = float(shares[mask].sum() / shares.sum())
        if mass == 0.0:
            return "no-legal-mass", f"the softmax over all outputs gives legal moves {mass:g} of the mass in float32"
    if np.isneginf(logits[mask]).all():
        return "no-legal-mass", "the prior of every legal move is 0"
    bad = int((~np.isfinite(logits)).sum())
    return "network-output-not-finite", f"{bad} of {len(logits)} logits are not finite"


def judge_game(game: FinishedGame, simulations: int, temperature: float) -> tuple[int, str, str] | None:
    """(row, cause, text) of the first row that must not be written, or None."""
    for i, row in enumerate(game.rows):
        policy = row.policy
        finite = bool(np.isfinite(policy).all())
        fine = finite and abs(float(policy.sum()) - 1.0) < SUM_TOLERANCE and bool((policy >= 0).all())
        if fine and abs(row.root_value) <= 1.0:
            continue
        if fine:
            return i, "not-a-number", f"the root's value is {row.root_value}"
        power = math.log(max(2, simulations)) / temperature if temperature > 0 else 0.0
        if not finite and power > FLOAT32_EXPONENT:
            text = (
                f"log({simulations} visits) / {temperature:g} = {power:.0f}: exp() of it overflows float32 beyond 88.7"
            )
            return i, "temperature-overflow", text
        return i, "not-a-number", f"the policy sums to {float(policy.sum()):g}"
    return None
