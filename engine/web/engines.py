"""The games and the players that a page may choose, loaded when they are first asked for and kept.

A page names a player by a text that stands in the list it was given: a model that ships, one of the command line, a
run's newest, or a player without a network. Any other name is refused, so no page opens a file of its choice.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from az.engine.errors import AzError, WrongRequest
from az.engine.game import Game, known_game, load_game
from az.engine.inference.model_file import ModelFile
from az.engine.inference.model_resolver import (
    RUNS,
    LateEvaluator,
    default_model,
    newest_model,
    resolve_model,
    short_name,
)
from az.engine.players import is_model, make_player
from az.engine.printable import printable, quoted
from az.engine.selfplay.warmup import compile_search, compiling
from az.engine.system.safe_read import MB, read_json
from az.engine.web.jobs import Worker
from az.engine.web.position import Line
from az.engine.web.review import review
from az.engine.web.thinking import Searcher, choice

Json = dict[str, Any]
WITHOUT_NETWORK = ("rollouts:400", "random")
MOST_ENGINES = 6  # kept; the one that was asked longest ago goes first
MOST_RUNS = 100  # that are listed
SETTLED = 2 * 10**9  # ns after which a folder's time tells of another change: some file systems count in seconds


class Engine:
    """A player of a game and the thread that thinks for it."""

    def __init__(self, game: Game, text: str) -> None:
        self.game, self.text = game, text
        self.model = is_model(text)
        self._evaluator = LateEvaluator(text, game) if self.model else None
        self._player = None if self.model else make_player(text, game)
        self._searcher: Searcher | None = None
        self.worker = Worker(self._prepare, self._doing)

    def _prepare(self) -> None:
        if self._evaluator is None:
            return
        self._evaluator.load()  # first: what may be refused
        compile_search(self.game)
        self._searcher = Searcher(self.game, self._evaluator)

    def _doing(self) -> str:
        return compiling() or ("loading the network" if self._searcher is None else "")

    def searcher(self) -> Searcher:
        """The search. Raises WrongRequest for a player without a network. In the worker's thread alone."""
        if self._searcher is None:
            raise WrongRequest(f"{self.text} has no network: choose a model to analyze with.")
        return self._searcher

    def move(
        self, page: str, line: Line, level: int | None, simulations: int | None, seconds: float | None, seed: int
    ) -> AsyncIterator[Json]:
        """Answers up to the move it plays after this line."""
        ply = len(line.texts)
        if self._player is not None:
            player = self._player
            return self.worker.ask(lambda: choice(player, line.last, seed, ply), urgent=True)
        if level is not None:
            return self.worker.ask(lambda: self.searcher().at_level(line.last, level, seed, ply), urgent=True)
        return self.worker.ask(
            lambda: self.searcher().think(page, line.last, simulations=simulations, seconds=seconds), urgent=True
        )

    def analyze(self, page: str, line: Line, visits: int) -> AsyncIterator[Json]:
        """Answers that deepen until the root has so many visits."""
        return self.worker.ask(lambda: self.searcher().think(page, line.last, visits=visits))

    def review(self, line: Line, simulations: int) -> AsyncIterator[Json]:
        """The review of a whole game."""
        return self.worker.ask(lambda: review(self.searcher(), line, simulations))


class RunModels:
    """The newest models of the runs, read again only where the folder of a run's models has changed: every move of a
    page asks for them. May be asked in several threads.
    """

    def __init__(self) -> None:
        self._kept: dict[Path, tuple[int, _Newest | None]] = {}

    def of(self, game: str) -> dict[str, str]:
        """Runs under runs/ whose newest model plays this game, and its name for people; the newest run first."""
        kept, found = dict[Path, tuple[int, _Newest | None]](), list[tuple[float, str, str]]()
        for folder in RUNS.iterdir() if RUNS.is_dir() else ():
            if folder.name[0] == "." or not is_model(folder.name):
                continue
            try:
                changed = os.stat(folder / "models").st_mtime_ns
            except OSError:  # it has none, or was deleted meanwhile
                continue
            before = self._kept.get(folder)
            newest = before[1] if before is not None and before[0] == changed else _newest(folder)
            if abs(time.time_ns() - changed) > SETTLED:
                kept[folder] = changed, newest
            if newest is not None and newest.game == game:
                found.append((newest.time, folder.name, newest.name))
        self._kept = kept
        return {text: name for _, text, name in sorted(found, reverse=True)[:MOST_RUNS]}


@dataclass(frozen=True)
class _Newest:
    """The newest model of a run."""

    game: str | None
    time: float  # of its file, in seconds
    name: str  # for people


def _newest(run: Path) -> _Newest | None:
    with suppress(OSError):  # it may be deleted meanwhile
        path = newest_model(run / "models")
        if path is not None:
            return _Newest(_card(path), path.stat().st_mtime, f"model {short_name(path)}")
    return None


@dataclass
class Engines:
    """All that pages may choose. named: of the command line, as `az play --model` takes them."""

    named: list[str] = field(default_factory=list[str])
    _runs: RunModels = field(default_factory=RunModels)
    _games: dict[str, Game] = field(default_factory=dict[str, Game])
    _engines: OrderedDict[tuple[str, str], Engine] = field(default_factory=OrderedDict[tuple[str, str], Engine])
    _gone: list[Worker] = field(default_factory=list[Worker])  # closed, and not at their end yet
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def game(self, name: str) -> Game:
        """A game by its name. Raises WrongRequest or Refused."""
        known_game(name)
        with self._lock:
            if name not in self._games:
                self._games[name] = load_game(name)
            return self._games[name]

    def players(self, game: Game) -> list[Json]:
        """Of this game: {"id", "name", "model"}; the first is the usual one."""
        texts = [text for text in self.named if not is_model(text) or _game_of(text) == game.name]
        if default_model(game.name) is not None:
            texts.append(game.name)
        names = {text: _name(text) for text in texts}
        names |= {text: name for text, name in self._runs.of(game.name).items() if text not in names}
        names |= {text: text for text in WITHOUT_NETWORK}
        return [{"id": text, "name": printable(name), "model": is_model(text)} for text, name in names.items()]

    def engine(self, game: Game, text: str) -> Engine:
        """A player of the list. Raises WrongRequest or Refused."""
        if not any(player["id"] == text for player in self.players(game)):
            raise WrongRequest(f"'{quoted(text)}' is no player of {game.name} here: choose one of the list.")
        path = str(resolve_model(text)) if is_model(text) else text
        with self._lock:
            engine = self._engines.pop((game.name, path), None) or Engine(game, text)
            self._engines[game.name, path] = engine
            while len(self._engines) > MOST_ENGINES:
                gone = self._engines.popitem(last=False)[1].worker
                gone.close()
                self._gone = [worker for worker in [*self._gone, gone] if worker.busy]
            return engine

    def busy(self) -> bool:
        """Whether a thread is at work that Python could not end."""
        return any(worker.busy for worker in [*self._gone, *(engine.worker for engine in self._engines.values())])


def _name(text: str) -> str:
    with suppress(AzError):
        return f"model {short_name(resolve_model(text))}" if is_model(text) else text
    return text


def _game_of(text: str) -> str | None:
    """The game of a model; None for one that cannot be read any more."""
    with suppress(AzError, OSError):
        path = resolve_model(text)
        return _card(path) or ModelFile(path).game(None).name
    return None


def _card(path: Path) -> str | None:
    """The game that a model's card names."""
    with suppress(OSError, ValueError):
        card = read_json(path.with_suffix(".json"), MB)
        name = cast("Json", card).get("game") if isinstance(card, dict) else None
        return name if isinstance(name, str) else None
    return None
