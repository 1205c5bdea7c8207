"""Games of self-play of a run, for its page: the newest files, their games, one game with the search's opinion."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from az.engine.errors import Refused, WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.printable import quoted
from az.engine.records.format import Records, read_records
from az.engine.runs.folders import config_of
from az.engine.search.whole_moves import Hops
from az.engine.selfplay.worker import RECORD_NAME
from az.engine.web.engines import Engines
from az.engine.web.position import Line, facts_of, position_of
from az.engine.web.recorded import Part, longer, recorded_parts

Json = dict[str, Any]
MOST_FILES = 12  # the newest, in the list
MOST_KEPT = 4  # files read lately
MOST_SHOWN = 8  # moves of an opinion


class RunGames:
    """Reads a file when a page asks for it; a few stay in memory."""

    def __init__(self, engines: Engines) -> None:
        self.engines = engines
        self._kept: OrderedDict[tuple[str, int], Records] = OrderedDict()
        self._lock = threading.Lock()

    def files(self, run: Path) -> Json:
        """The newest record files, newest first."""
        found = list[tuple[float, str]]()
        try:
            names = sorted((name for name in os.listdir(run / "records") if RECORD_NAME.fullmatch(name)), reverse=True)
        except OSError:
            names = []
        for name in names[: 4 * MOST_FILES]:  # names of one session grow; a time settles it between two workers
            try:
                found.append((os.stat(run / "records" / name).st_mtime, name))
            except OSError:  # it has left the window meanwhile
                continue
        newest = sorted(found, reverse=True)[:MOST_FILES]
        return {"files": [{"file": name, "time": time} for time, name in newest], "count": len(names)}

    def games(self, run: Path, file: str) -> Json:
        """The games of a file: number, plies, outcome of the first player, model."""
        game, records = self._read(run, file)
        models = records.header["models"]
        listed = [
            {"k": k, "plies": plies, "outcome": outcome, "model": str(models[model])[:16]}
            for k, plies, outcome, model in records.header["games"]
        ]
        return {"games": listed, "facts": facts_of(game)}

    def game(self, run: Path, file: str, k: int) -> Json:
        """One game: a position a move, and what the search said of those that it searched in full."""
        game, records = self._read(run, file)
        parts = recorded_parts(game, records, k)
        last, note = _with_the_last(parts[-1], records, k)
        if len(parts) > 1:
            note = "The record does not tell every move: some steps jump to the next position that was recorded."
        rows = {int(records.plies[row]): int(row) for row in np.flatnonzero(records.games == k)}
        steps = [step for part in (*parts[:-1], last) for step in _steps(part, records, rows)]
        return {"steps": steps, "note": note, "facts": facts_of(game), "file": file, "k": k}

    def _read(self, run: Path, file: str) -> tuple[Game, Records]:
        if not RECORD_NAME.fullmatch(file):
            raise WrongRequest(f"'{quoted(file)}' is no record file of a run.")
        game = self.engines.game(str(config_of(run).get("game")))
        path = run / "records" / file
        try:
            status = os.stat(path)
        except OSError:
            raise WrongRequest("these games have left the run's window: choose newer ones.") from None
        key = (str(path), status.st_mtime_ns)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return game, self._kept[key]
        try:
            found = read_records(path, game)
        except OSError as error:
            raise Refused(f"{path} cannot be read now: {error.strerror or error}.") from None
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return game, found


def _steps(part: Part, records: Records, rows: dict[int, int]) -> Iterator[Json]:
    """A position a move. rows: of the file, by the actions of the game before them."""
    line = part.line
    counts = np.cumsum([part.before, *(len(hops) for hops in line.actions)]).tolist()
    for i, count in enumerate(counts):
        position = position_of(Line(line.game, line.states[: i + 1], line.texts[:i], line.actions[:i]))
        position.pop("moves")
        cells = {move["text"]: move["cells"] for move in position["legal"]}
        position["legal"] = []  # nothing is moved here
        row, said = rows.get(count), None
        if row is not None and np.array_equal(records.states[row], line.states[i]):
            said = _opinion(line.game, records, row, line.states[i], cells)
        yield {"position": position, "move": line.texts[i - 1] if i else None, "said": said}


def _with_the_last(part: Part, records: Records, k: int) -> tuple[Part, str]:
    """(the end of a game with its last move, what is said of it). Rows do not tell the last move: where one move alone
    leads to the outcome that is told, it was this one.
    """
    line, game = part.line, part.line.game
    header = next((one for one in records.header["games"] if one[0] == k), None)
    if line.over or header is None:
        return part, ""
    left = int(header[1]) - part.before - sum(len(hops) for hops in line.actions)
    ends = list[tuple[str, Hops]]()
    for text, hops in game.moves(line.last).items():
        after = game.play(line.last, hops)
        outcome = int(game.outcome(after))
        if len(hops) == left and outcome != ONGOING and (outcome if int(after[0]) == 0 else -outcome) == header[2]:
            ends.append((text, hops))
    if len(ends) == 1:
        return Part(part.before, longer(line, *ends[0])), ""
    return part, "The record does not tell which move was the last."


def _opinion(game: Game, records: Records, row: int, state: State, cells: dict[str, Any]) -> Json:
    """The search's policy over whole moves, most likely first, and its value for the player to move."""
    begin, end = records.policy_offsets[row], records.policy_offsets[row + 1]
    actions, shares = records.policy_actions[begin:end].tolist(), records.policy_probs[begin:end].tolist()
    first = {int(action): float(share) for action, share in zip(actions, shares, strict=True)}
    moves = list[Json]()
    for text, hops in game.moves(state).items():
        share = first.get(int(hops[0]), 0.0)  # a search thinks in single hops
        moves.append({"text": text, "cells": cells[text], "share": share})
    moves.sort(key=lambda move: -move["share"])
    return {"moves": moves[:MOST_SHOWN], "value": float(records.root_values[row])}
