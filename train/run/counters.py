"""The numbers of a run that outlive a session."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, StrictBool, StrictFloat, TypeAdapter, ValidationError

from az.engine.errors import Refused
from az.engine.game import Game
from az.engine.selfplay.worker import RECORD_NAME
from az.engine.settings import BIG
from az.train.checkpoint_read import Checkpoint, first_fault, numpy_from_state
from az.train.config import RunConfig
from az.train.learner import Learner
from az.train.probe import BestModel
from az.train.run.health_memory import HealthMemory

Count = Annotated[int, Field(strict=True, ge=0, le=BIG)]
RecordName = Annotated[str, Field(strict=True, pattern=f"^{RECORD_NAME.pattern}$")]  # no separator: it becomes a path


@dataclass
class Counters:
    """What a checkpoint keeps beside tensors; everything else is found again on the disk."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", allow_inf_nan=False)

    elapsed: Annotated[float, Field(strict=True, ge=0, le=BIG)] = 0.0  # seconds of training, over all sessions
    session: Count = 0
    games: Count = 0
    plies: Count = 0
    simulations: Annotated[int, Field(strict=True, ge=0, lt=2**63)] = 0
    first_wins: Count = 0
    draws: Count = 0
    model: Count = 0  # number of the newest model
    published_step: Annotated[int, Field(strict=True, ge=-1, le=BIG)] = -1  # of the newest model
    refusals: Count = 0  # of models, one after the other
    turns: Count = 0
    incidents: Count = 0  # number of the newest incident
    forgotten_rows: Count = 0
    extra_rows: Annotated[float, Field(strict=True, ge=-BIG, le=BIG)] = 0.0  # that the learner may draw, see `go_on`
    gone: list[RecordName] = field(default_factory=list)  # record files to delete
    batches: dict[str, Any] = field(default_factory=dict)  # the generator that draws batches
    finished: StrictBool = False
    score: StrictFloat | None = None
    health: HealthMemory | None = None
    best: BestModel | None = None

    def go_on(self, before: RunConfig, now: RunConfig, rows: int, steps: int) -> None:
        """Keep what the learner may still draw as it is where `reuse` or `batch` changed: they hold from now on.

        Without that, a smaller reuse would stop the learner until the run's whole past has been made up for.
        """
        self.extra_rows += rows * (before.replay.reuse - now.replay.reuse)
        self.extra_rows -= steps * (before.learner.batch - now.learner.batch)

    def left_to_draw(self, config: RunConfig, rows: int, steps: int) -> float:
        """Rows that the learner may still draw before it must wait for self-play."""
        if rows < config.replay.min_rows:
            return 0.0
        return rows * config.replay.reuse + self.extra_rows - steps * config.learner.batch

    @classmethod
    def read(cls, value: dict[str, Any]) -> Counters:
        """The counters of a checkpoint. Raises Refused naming the first field that is not what it should be."""
        try:
            return _READER.validate_python(value)
        except ValidationError as error:
            raise Refused(f"the counters of the checkpoint are damaged: {first_fault(error)}.") from None


_READER = TypeAdapter(Counters)


def check_resumable(found: Checkpoint, game: Game, learner: Learner) -> None:
    """Raises Refused for a checkpoint from which a run of this game with this learner cannot go on."""
    found.check_game(game)
    found.check(learner.model, learner.optimizer, learner.average)
    try:
        numpy_from_state(Counters.read(found.extra).batches)
    except Refused as refusal:
        raise Refused(f"checkpoint '{found.path}': {refusal}") from None
