"""Where a run's games are made: what `--cluster` and `--records` put in the place of this machine's processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from az.train.cluster.inbox import Inbox
from az.train.run.services import OnFault, OnFile, Pool, PoolStart, Selfplay


class WithRecords:
    """Self-play of any kind, and besides it the record files that appear in a folder."""

    def __init__(self, selfplay: Selfplay, source: Path) -> None:
        self._selfplay, self._source = selfplay, source

    def pool(self, start: PoolStart) -> Pool:
        """As `services.Selfplay`. Raises WrongRequest where there is no such folder."""
        inbox = Inbox(self._source, start.folder, start.game, start.job.session, start.report)
        return _PoolWithInbox(self._selfplay.pool(start), inbox)

    def play_turn(
        self, start: PoolStart, model: Path, turn: int, loaded: Callable[[Path, str], None]
    ) -> tuple[str, dict[str, Any]] | None:
        """As `services.Selfplay`; a deterministic run has no such folder."""
        return self._selfplay.play_turn(start, model, turn, loaded)

    def close(self) -> None:
        """Stop what is under way."""
        self._selfplay.close()


class _PoolWithInbox:
    """While the learner is behind, files wait in their folder, as workers rest."""

    def __init__(self, pool: Pool, inbox: Inbox) -> None:
        self._pool, self._inbox, self._paused = pool, inbox, False

    def pause(self, paused: bool) -> None:
        self._paused = paused
        self._pool.pause(paused)

    def doing(self) -> str:
        return self._pool.doing()

    def listen(self, timeout: float, on_file: OnFile, on_fault: OnFault) -> None:
        taken = 0 if self._paused else self._inbox.look(on_file)
        self._pool.listen(0.0 if taken else timeout, on_file, on_fault)

    def stop(self) -> None:
        self._pool.stop()
        self._inbox.close()
