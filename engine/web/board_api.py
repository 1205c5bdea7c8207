"""The questions of the board page. Each sends the game, the start and the moves, so the server keeps nothing of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from az.engine.errors import WrongRequest
from az.engine.game import Game, game_names
from az.engine.players.levels import LEVELS
from az.engine.records.container import MOST_PACKED
from az.engine.web.asked import moves, optional_text, seconds, text, whole
from az.engine.web.engines import Engine, Engines
from az.engine.web.load import load_text, pdn, record_game, record_games
from az.engine.web.position import MOST_TEXT, Line, facts_of, follow, position_of, winner_of
from az.engine.web.server import body_of, page, question, streamed

Json = dict[str, Any]
MOST_SIMULATIONS = 100_000  # of a move
MOST_VISITS = 500_000  # of an analysis: a tree takes memory for each
MOST_REVIEW = 10_000  # simulations a position
MOST_SECONDS = 600
MOST_PASTED = 200_000  # characters


@dataclass(frozen=True)
class Begin:
    """What the page begins with. Fields as `az play` has them; sides: of each player a level, "full" or "person"."""

    game: str
    model: str | None = None
    sides: tuple[str, str] = ("person", "full")
    simulations: int = 400
    seconds: float | None = None
    start: str | None = None
    moves: list[str] = field(default_factory=list[str])  # from there, of a game that was loaded


class BoardApi:
    """The routes of the board."""

    def __init__(self, engines: Engines, begin: Begin) -> None:
        self.engines, self.begin = engines, begin

    def routes(self) -> list[BaseRoute]:
        """The page and its questions."""
        return [
            page("/", "board.html"),
            question("/api/begin", self.about),
            question("/api/game", self.game),
            question("/api/position", self.position),
            question("/api/load", self.load),
            question("/api/text", self.as_text),
            Route("/api/record", self.record, methods=["POST"]),
            streamed("/api/move", self.move),
            streamed("/api/analyze", self.analyze),
            streamed("/api/review", self.review),
        ]

    def about(self, _: Json) -> Json:
        """What the page begins with, and the games there are."""
        begin = self.begin
        return {
            "games": game_names(), "game": begin.game, "model": begin.model, "sides": list(begin.sides),
            "simulations": begin.simulations, "seconds": begin.seconds, "start": begin.start, "moves": begin.moves,
            "levels": len(LEVELS),
        }  # fmt: skip

    def game(self, body: Json) -> Json:
        """A game's facts and its players; the usual one's thread begins to get ready."""
        game = self._game(body)
        players = self.engines.players(game)
        if players[0]["model"]:
            self.engines.engine(game, players[0]["id"]).worker.begin()
        return {**facts_of(game), "engines": players}

    def position(self, body: Json) -> Json:
        """The position after the moves."""
        return position_of(self._line(body))

    def load(self, body: Json) -> Json:
        """Pasted text as {"start", "moves"}."""
        line = load_text(self._game(body), text(body, "text", MOST_PASTED))
        return {"start": line.text_of_start(), "moves": line.texts}

    def as_text(self, body: Json) -> Json:
        """The game and its last position as text."""
        line = self._line(body)
        winner = winner_of(line.game, line.last)
        result = "*" if not line.over else "1/2-1/2" if winner is None else ("1-0", "0-1")[winner]
        return {"game": pdn(line, result), "position": line.game.position_text(line.last)}

    async def record(self, request: Request) -> Response:
        """A record file's bytes; ?game=…: its games; &k=…: the moves of one."""
        asked = dict(request.query_params)
        data = await body_of(request, MOST_PACKED)

        def answer() -> Json:
            game = self._game(asked)
            if "k" not in asked:
                return record_games(game, data)
            if not (asked["k"].isascii() and asked["k"].isdigit() and len(asked["k"]) < 19):
                raise WrongRequest("the number of a game is a whole number.")
            return record_game(game, data, int(asked["k"]))

        return JSONResponse(await run_in_threadpool(answer))

    async def move(self, body: Json) -> AsyncIterator[Json]:
        """The engine's move: with "level", "seconds" or "simulations"; "seed" of what a level draws."""
        line, engine = await run_in_threadpool(self._open, body)
        level = None if body.get("level") is None else whole(body, "level", 1, len(LEVELS))
        time = seconds(body, "seconds", MOST_SECONDS)
        simulations = None if time is not None else whole(body, "simulations", 0, MOST_SIMULATIONS, 400)
        return engine.move(_page(body), line, level, simulations, time, whole(body, "seed", 0, 2**31 - 1, 0))

    async def analyze(self, body: Json) -> AsyncIterator[Json]:
        """Deeper and deeper, up to "visits" of the position."""
        line, engine = await run_in_threadpool(self._open, body)
        return engine.analyze(_page(body), line, whole(body, "visits", 0, MOST_VISITS, 400))

    async def review(self, body: Json) -> AsyncIterator[Json]:
        """The whole game, with "simulations" a position."""
        line, engine = await run_in_threadpool(lambda: (self._line(body), self._engine(body)))
        return engine.review(line, whole(body, "simulations", 1, MOST_REVIEW, 200))

    def _game(self, body: Json) -> Game:
        return self.engines.game(text(body, "game"))

    def _line(self, body: Json) -> Line:
        return follow(self._game(body), optional_text(body, "start", MOST_TEXT), moves(body))

    def _engine(self, body: Json) -> Engine:
        return self.engines.engine(self._game(body), text(body, "model", MOST_TEXT))

    def _open(self, body: Json) -> tuple[Line, Engine]:
        line = self._line(body)
        if line.over:
            raise WrongRequest("the game is over: there is nothing to think about.")
        return line, self._engine(body)


def _page(body: Json) -> str:
    return text(body, "page", 64)
