"""Games of self-play of a run, for its page: the newest files, their games, one game with the search's opinion."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from az.engine.errors import Refused, WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.printable import quoted
from az.engine.records.format import Records, read_records
from az.engine.runs.folders import config_of
from az.engine.selfplay.worker import RECORD_NAME
from az.engine.web.engines import Engines
from az.engine.web.load import recorded_moves
from az.engine.web.position import Line, facts_of, follow, position_of

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
        told = recorded_moves(game, records, k)
        line, note = _with_the_last(follow(game, None, told["moves"]), records, k, told["note"])
        counts = np.cumsum([0, *(len(hops) for hops in line.actions)]).tolist()
        rows = {int(records.plies[row]): int(row) for row in np.flatnonzero(records.games == k)}
        steps = list[Json]()
        for i, count in enumerate(counts):
            part = Line(game, line.states[: i + 1], line.texts[:i], line.actions[:i])
            position = position_of(part)
            position.pop("moves")
            cells = {move["text"]: move["cells"] for move in position["legal"]}
            position["legal"] = []  # nothing is moved here
            row = rows.get(count)
            fits = row is not None and np.array_equal(records.states[row], line.states[i])
            said = _opinion(game, records, row, line.states[i], cells) if row is not None and fits else None
            steps.append({"position": position, "move": line.texts[i - 1] if i else None, "said": said})
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


def _with_the_last(line: Line, records: Records, k: int, note: str) -> tuple[Line, str]:
    """(the game with its last move, what is said of it). Rows do not tell the last move: where one move alone leads to
    the outcome that is told, it was this one.
    """
    game, header = line.game, next((one for one in records.header["games"] if one[0] == k), None)
    if line.over or header is None:
        return line, note
    left = int(header[1]) - sum(len(hops) for hops in line.actions)
    ends = list[str]()
    for text, hops in game.moves(line.last).items():
        after = game.play(line.last, hops)
        outcome = int(game.outcome(after))
        if len(hops) == left and outcome != ONGOING and (outcome if int(after[0]) == 0 else -outcome) == header[2]:
            ends.append(text)
    if len(ends) == 1:
        return follow(game, None, [*line.texts, ends[0]]), note
    return line, note or "The record does not tell which move was the last."


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
