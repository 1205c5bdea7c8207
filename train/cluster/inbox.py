"""`--records DIR`: record files that appear in a folder, by rsync or on a mount, become rows of the run, each once.

A file is copied into the run and judged there as any other; the folder is only read. RUN/taken.jsonl remembers every
file by its checksum, and every game by seed, search, model and number, so that neither comes twice.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from az.engine.errors import Refused, WrongRequest
from az.engine.game import Game
from az.engine.printable import one_line
from az.engine.records.container import MOST_PACKED, SEAL, SEAL_SIZE, check_seal
from az.engine.records.format import parse_header, parse_records
from az.engine.records.header import MOST_GAME
from az.engine.selfplay.worker import RECORD_NAME, record_name
from az.engine.system.files import AppendFile, write_atomic
from az.engine.system.safe_read import read_regular
from az.train.run.folder import RunFolder

LEDGER = "taken.jsonl"
MOST_LEDGER = 1 << 30  # bytes
LOOK_EVERY = 2.0  # seconds
LOOK_MOST = 0.5  # seconds of one look, so that the learner's steps go on
PATIENCE = 60.0  # seconds that a file which is not whole may stay as it is; then it is judged as it is
FIRST_WRITER = 10**11  # files from elsewhere have writer numbers from there on: twelve digits of their checksum
MOST_NUMBER = MOST_GAME - 2 * 10**9  # a run numbers its own games on from the highest that it has

OnFile = Callable[[str, dict[str, Any]], bool]


class Inbox:
    """The folder, and what has been taken of it."""

    def __init__(
        self, source: Path, folder: RunFolder, game: Game, session: int, report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """Raises WrongRequest where there is no such folder, OSError where the run's own files cannot be read."""
        if not source.is_dir():
            raise WrongRequest(f"--records: there is no folder '{source}'.")
        if source.resolve().is_relative_to(folder.path.resolve()):
            raise WrongRequest(f"--records: '{source}' is a part of the run: give a folder outside it.")
        self.source, self.folder, self.game, self.session = source, folder, game, session
        self._report, self._clock = report, clock
        self._number = 0
        self._looked = -LOOK_EVERY
        self._seen: dict[str, tuple[int, int]] = {}  # names that are done with: size and time of change
        self._partial: dict[str, tuple[tuple[int, int], float]] = {}  # of files not whole yet: since when unchanged
        self._digests: set[str] = set()
        self._games: set[tuple[str, int]] = set()
        self._ledger = AppendFile(folder.path / LEDGER)
        self._read_ledger()

    def _read_ledger(self) -> None:
        path = self.folder.path / LEDGER
        text = read_regular(path, MOST_LEDGER)
        if text and not text.endswith(b"\n"):
            self._ledger.append(b"\n")
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                self._digests.add(str(entry["sha256"]))
                self._games |= {(str(key), k) for key, first, last in entry["games"] for k in range(first, last + 1)}
            except (ValueError, KeyError, TypeError):  # a line that a kill tore: its file is in the run, see below
                continue
        for path in self.folder.record_files():
            if int(path.stem.rpartition("-")[2]) < FIRST_WRITER:
                continue
            data = read_regular(path, MOST_PACKED)
            if hashlib.sha256(data).hexdigest() not in self._digests:  # a kill came before its line
                self._remember(path.name, path.name, data, _keys(parse_header(path, data)))

    def look(self, on_file: OnFile) -> int:
        """Take what is new and whole; how many files that were. Raises OSError of the run's own disk."""
        now = self._clock()
        if now - self._looked < LOOK_EVERY:
            return 0
        taken = 0
        for path in self._new(now):
            if not self.source.is_dir():
                break
            taken += self._take(path, on_file)
            if self._clock() - now > LOOK_MOST:
                return taken  # the rest at the next call
        self._looked = self._clock()
        return taken

    def _new(self, now: float) -> Iterator[Path]:
        """Whole files that are not known yet. Names of temporary files (of rsync) begin with a dot."""
        try:
            names = sorted(path for path in self.source.glob("*.npz") if path.name[0] != ".")
        except OSError:  # the mount has gone, for a while
            return
        for path in names:
            try:
                status = path.stat()
            except OSError:
                continue
            mark = status.st_size, status.st_mtime_ns
            if self._seen.get(path.name) == mark:
                continue
            if not self._is_whole(path):
                before, since = self._partial.setdefault(path.name, (mark, now))
                if before != mark:
                    self._partial[path.name] = mark, now
                    continue
                if now - since < PATIENCE:
                    continue
            self._seen[path.name] = mark
            self._partial.pop(path.name, None)
            yield path

    def _is_whole(self, path: Path) -> bool:
        """A file says by its seal where it ends; one without a seal is waited for."""
        try:
            data = read_regular(path, MOST_PACKED)
            check_seal(path, data)
        except (OSError, Refused):
            return False
        return data[-SEAL_SIZE:].startswith(SEAL)

    def _take(self, path: Path, on_file: OnFile) -> int:
        shown = one_line(path.name, 100)
        try:
            data = read_regular(path, MOST_PACKED)
        except OSError as error:
            self._report(f"--records: {shown} cannot be read ({error.strerror or error}) and was left where it is")
            return 0
        digest = hashlib.sha256(data).hexdigest()
        if digest in self._digests:
            return 0
        stats: dict[str, Any] = dict.fromkeys(("games", "plies", "first_wins", "draws", "simulations"), 0)
        stats["writer"] = f"the file {shown} of --records"
        keys: list[tuple[str, int]] = []
        try:
            header = parse_records(path, data, self.game).header
            keys = _keys(header)
            if reason := self._refused(keys):
                self._report(f"--records: {shown} was left out: {reason}")
                self._remember(shown, "", data, [])
                return 0
            stats |= _tally(header)
        except Refused:  # judged again, and put aside, by the run
            keys = []
        name = record_name(self.session, FIRST_WRITER + int(digest, 16) % (9 * FIRST_WRITER), self._number)
        self._number += 1
        write_atomic(self.folder.records / name, data)
        self._remember(shown, name, data, keys)
        return int(on_file(name, stats))

    def _refused(self, keys: list[tuple[str, int]]) -> str | None:
        if not keys:
            return "it holds no game"
        if len(set(keys)) < len(keys):
            return "it holds a game twice"
        if high := next((k for _, k in keys if k > MOST_NUMBER), None):
            return f"its game {high} is numbered beyond {MOST_NUMBER}"
        if again := next(((key, k) for key, k in keys if (key, k) in self._games), None):
            return f"its game {again[1]} was taken before, from another file"
        return None

    def _remember(self, source: str, name: str, data: bytes, keys: list[tuple[str, int]]) -> None:
        digest = hashlib.sha256(data).hexdigest()
        line = {"sha256": digest, "file": source, "as": name, "games": _ranges(keys)}
        self._ledger.append((json.dumps(line, separators=(",", ":")) + "\n").encode())
        self._ledger.sync()
        self._digests.add(digest)
        self._games |= set(keys)

    def close(self) -> None:
        """Close the ledger."""
        self._ledger.close()


def is_elsewhere(name: str) -> bool:
    """Whether a record file of a run came from such a folder, by its name."""
    return bool(RECORD_NAME.fullmatch(name)) and int(name.removesuffix(".npz").rpartition("-")[2]) >= FIRST_WRITER


def _keys(header: dict[str, Any]) -> list[tuple[str, int]]:
    """Of every game what it is a function of, as a short text, and its number."""
    common = json.dumps([header["seed"], header["search"]], sort_keys=True)
    texts = [hashlib.sha256(f"{common} {model}".encode()).hexdigest()[:16] for model in header["models"]]
    return [(texts[model], k) for k, _, _, model in header["games"]]


def _ranges(keys: list[tuple[str, int]]) -> list[tuple[str, int, int]]:
    found: list[tuple[str, int, int]] = []
    for key, k in sorted(keys):
        if found and found[-1][0] == key and found[-1][2] == k - 1:
            found[-1] = key, found[-1][1], k
        else:
            found.append((key, k, k))
    return found


def _tally(header: dict[str, Any]) -> dict[str, int]:
    games = header["games"]
    return {
        "games": len(games),
        "plies": sum(plies for _, plies, _, _ in games),
        "first_wins": sum(outcome == 1 for _, _, outcome, _ in games),
        "draws": sum(outcome == 0 for _, _, outcome, _ in games),
    }
