"""What a run knows of its own strength: every published model on solved positions, by the network alone.

Numbers that are finite can still go bad: the probe warns when a model is clearly worse than an earlier one, and keeps
the best model. One call of a few hundred positions for each published model, where az has positions of the game.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

from az.engine.game import Game
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.score.positions import shipped
from az.engine.score.solved import answers, by_phase, keeps, unlearned
from az.engine.search.params import SearchParams
from az.engine.settings import BIG
from az.engine.system.files import write_atomic
from az.train.config import LearnerConfig

UNLIKELY = 1e-3  # of a model that is as good as the best: below this the run is said to unlearn
EARLY = 0.5  # of the run: before it the learning rate is above half of what it falls through
RATE_IS_HIGH = "; the learning rate is still high, and much of this can come back as it falls"
ALONE = SearchParams(simulations=0)
Count = Annotated[int, Field(strict=True, ge=0, le=BIG)]


@dataclass(config=ConfigDict(extra="forbid", allow_inf_nan=False))
class BestModel:
    """The model that kept the result in most positions; a checkpoint has it."""

    model: Count  # its number
    step: Count
    kept: Annotated[str, Field(pattern="^[01]*$", max_length=100_000)]  # 1 for every position whose result it kept
    told: bool = False  # that a later model is worse


class Probe:
    """Measures published models. note: a kind and values for the run's log."""

    def __init__(
        self,
        game: Game,
        config: LearnerConfig,
        run: Path,
        note: Callable[[str, dict[str, Any]], None],
        message: Callable[[str], None],
    ) -> None:
        self.game, self.config, self.run, self.note, self.message = game, config, run, note, message
        self.positions = shipped(game)

    def measure(
        self, model: Path, number: int, step: int, best: BestModel | None, progress: float = 0.0
    ) -> tuple[BestModel | None, dict[str, float]]:
        """(the best model from now on, figures for TensorBoard and the display)

        progress: the share of the run's planned time or steps that is over, 0 where no end is planned.
        """
        if not self.positions:
            return best, {}
        given = answers(self.game, OnnxEvaluator(model, self.game, provider="cpu"), self.positions, ALONE)
        phases = by_phase(self.positions, given)
        thrown = {name: part.thrown.count / max(1, part.thrown.of) for name, part in phases.items()}
        kept = [keeps(one, answer) for one, answer in zip(self.positions, given, strict=True) if one.scores]
        of = {name: part.thrown.of for name, part in phases.items()}  # positions: an interval needs them
        figures = {"thrown": thrown, "of": of, "value_error": phases["all"].value_error}
        self.note("solved", {"step": step, "model": number, **figures})
        return self._compared(number, step, kept, best, progress), thrown

    def _compared(self, number: int, step: int, kept: list[bool], best: BestModel | None, progress: float) -> BestModel:
        if best is None or len(best.kept) != len(kept) or sum(kept) >= best.kept.count("1"):
            best = BestModel(number, step, "".join("1" if one else "0" for one in kept))
            self.keep(best)
        elif not best.told and unlearned([one == "1" for one in best.kept], kept) < UNLIKELY:
            best.told = True
            share, before = (f"{100 * (1 - right / len(kept)):.1f} %" for right in (sum(kept), best.kept.count("1")))
            self.message(
                f"the run unlearns: model {number:06d} gives the result away in {share} of the solved positions,"
                f" model {best.model:06d} did in {before} (it is kept: best.json)"
                + (RATE_IS_HIGH if 0.0 < progress < EARLY and self.config.lr_final_fraction < 1.0 else "")
            )
            self.note("unlearned", {"step": step, "model": number, "best": best.model})
        return best

    def still_best(self, best: BestModel | None, first: int) -> BestModel | None:
        """The best model after steps from `first` on were undone: None where they made it."""
        if best is not None and best.step > first:
            best = None
            self.keep(None)
        return best

    def keep(self, best: BestModel | None) -> None:
        """Write best.json, or remove it where no model is the best yet."""
        path = self.run / "best.json"
        if best is None:
            path.unlink(missing_ok=True)
        elif self.positions:
            share = best.kept.count("0") / max(1, len(best.kept))
            about: dict[str, Any] = {"model": f"{best.model:06d}", "step": best.step, "thrown": share}
            write_atomic(path, (json.dumps(about, indent=1) + "\n").encode())
