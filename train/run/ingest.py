"""Record files on their way into the replay: each is checked on entry, the bad ones are put aside."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from az.engine.errors import Refused
from az.engine.game import Game
from az.engine.records.container import MOST_PACKED
from az.engine.records.forensics import find_damage
from az.engine.records.format import Records, read_records
from az.engine.records.header import MOST_GAME
from az.engine.records.row_checks import CHANGED, check_records, row_fault
from az.engine.system.safe_read import read_regular
from az.train.replay import Replay
from az.train.run.folder import RunFolder
from az.train.run.incidents import BadFile

LEFT = 10**9  # game numbers that a run must still have before it


class Ingest:
    """The replay and the files behind it."""

    def __init__(
        self,
        folder: RunFolder,
        game: Game,
        capacity: int,
        report: Callable[[str], None],
        root_values: bool = False,
        td_lambda: float = 1.0,
    ) -> None:
        self.folder, self.game, self.capacity, self.report = folder, game, capacity, report
        self.root_values, self.td_lambda = root_values, td_lambda  # as `Replay` takes them
        self.replay = self._new_replay(0)
        self.files: deque[tuple[str, int]] = deque()  # names and rows of the files on the disk, oldest first
        self.forgotten_rows = 0  # rows of files that have been deleted
        self.quarantined = 0
        self.refused_by_writer: Counter[str] = Counter()  # files put aside, by the worker that wrote them
        self.last_game = -1  # highest number of a game seen
        self.on_refusal: Callable[[Path, Refused, str], None] | None = None  # the run's, once it is there

    @property
    def total_rows(self) -> int:
        """Rows ever accepted."""
        return self.replay.total_rows

    def _new_replay(self, first_row: int) -> Replay:
        return Replay(self.game, self.capacity, first_row, self.root_values, self.td_lambda)

    def load_all(self, forgotten_rows: int, gone: list[str]) -> None:
        """After a resume: delete what was to be deleted, read the rest."""
        self.folder.remove_records(gone)
        self.forgotten_rows = forgotten_rows
        self.replay = self._new_replay(forgotten_rows)
        for path in self.folder.record_files():
            self.take(path)
        if self.last_game > MOST_GAME - LEFT:
            raise Refused(f"the records hold game {self.last_game}, and games are numbered up to {MOST_GAME} only.")

    def take(self, path: Path, writer: str = "") -> int:
        """Read, check and add one file; returns its rows, 0 when it was quarantined. writer: for people."""
        try:
            records = self._checked(path)
        except Refused as refusal:
            self._put_aside(path, refusal, writer)
            return 0
        if len(records):
            self.replay.add(records)
            self.last_game = max(self.last_game, int(records.games.max()))
        self.last_game = max([self.last_game, *(game[0] for game in records.header["games"])])
        self.files.append((path.name, len(records)))
        return len(records)

    def _checked(self, path: Path) -> Records:
        """A file, read and every row judged. Raises Refused naming the first bad row."""
        try:
            records = read_records(path, self.game)
        except Refused as refusal:
            raise _located(path, refusal) from None
        faults = check_records(self.game, records)
        if faults:
            first = faults[0]
            raise BadFile(
                f"{path}: row {first.row} (game {int(records.games[first.row])},"
                f" ply {int(records.plies[first.row])}), {first.field}: {first.reason};"
                f" {len(faults)} bad rows in all.",
                faults,
                records.origin(first.row),
            )
        return records

    def _put_aside(self, path: Path, refusal: Refused, writer: str = "") -> None:
        if writer:  # the sentence is what the log, the note beside the file and the incident have
            refusal.args = (f"{str(refusal).rstrip('.')}; written by {writer}.",)
        self.quarantined += 1
        number = path.stem.rpartition("-")[2]
        elsewhere = len(number) >= 12  # see cluster/inbox.py
        self.refused_by_writer["--records" if elsewhere else number] += 1
        self.folder.quarantine(path, str(refusal))
        self.report(f"quarantined {path.name}: {refusal}")
        if self.on_refusal is not None:
            self.on_refusal(path, refusal, "--records" if elsewhere else writer)

    def reread(self, rows: NDArray[np.int64]) -> bool:
        """Write these rows again from their files; False when a file itself is bad: then it is put aside.

        Memory that differs from a good file is what went bad.
        """
        for name in dict.fromkeys(self.replay.origin(int(row))["file"] for row in rows):
            path = self.folder.records / Path(name).name
            try:
                records = self._checked(path)
            except Refused as refusal:
                self._put_aside(path, refusal)
                self.files = deque((n, count) for n, count in self.files if n != path.name)
                again, self.files = list(self.files), deque()
                self.replay = self._new_replay(self.forgotten_rows)
                for file, _ in again:
                    self.take(self.folder.records / file)
                return False
            mine = next(int(row) for row in rows if self.replay.origin(int(row))["file"] == name)
            self.replay.renew(mine, records)
        return True

    def left_window(self) -> list[str]:
        """Names of the oldest files all of whose rows are older than the last `capacity`.

        They stop counting as on the disk; the caller deletes them once a checkpoint says so.
        """
        names = []
        total = self.total_rows
        while self.files and total - self.forgotten_rows - self.files[0][1] >= self.capacity:
            name, rows = self.files.popleft()
            self.forgotten_rows += rows
            names.append(name)
        return names


def _located(path: Path, refusal: Refused) -> Refused:
    """The refusal of a file that cannot be read, with the rows that changed, where they can be told."""
    changed = ("checksum", "not a readable record file")  # and not: of another game
    try:
        text = str(refusal).removeprefix(str(path))
        found = find_damage(read_regular(path, MOST_PACKED)) if any(words in text for words in changed) else None
    except OSError:  # the disk, or the file has gone
        return refusal
    if found is None:
        return refusal
    faults = [row_fault(row, CHANGED, " ".join(found.members)) for row in found.rows]
    origin = {"file": str(path), "row": found.rows[0], **found.origin} if found.rows else {}
    return BadFile(f"{str(refusal).rstrip('.')}; {found}.", faults, origin)
