"""Matches: two players, paired colors, many games side by side.

Games 2i and 2i + 1 play the same opening with colors swapped. Every game is a pure function of (players, seed, its
number): the positions of all running games are put to a player together only because that is faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from az.engine.arena.elo import Elo, Sprt, elo_difference
from az.engine.arena.openings import Opening, opening_stream
from az.engine.errors import Refused, WrongRequest
from az.engine.game import ONGOING, Game
from az.engine.players import Player
from az.engine.rng import key_of

SIDE_BY_SIDE = 256  # games at once; even. More would only take memory: a batch is big enough for any network
SIDE_BY_SIDE_SPRT = 64  # the games of a chunk that come after the decision are thrown away

Progress = Callable[
    [int, int, int, int], None
]  # games finished (some may be dropped by a test), A's wins, draws, losses


@dataclass(frozen=True)
class GameRecord:
    """One finished game."""

    number: int  # in the match; number // 2 is the pair
    a_is: int  # A plays player 0 or player 1
    opening: int  # how many of the actions are the opening
    actions: tuple[int, ...]  # from the start position; hops, as the game counts them
    result: int  # A's: 1 won, 0 drawn, -1 lost


@dataclass(frozen=True)
class Tally:
    """Results from A's side."""

    wins: int = 0
    draws: int = 0
    losses: int = 0

    @property
    def games(self) -> int:
        return self.wins + self.draws + self.losses

    @property
    def score(self) -> float:
        """Points for each game, in [0, 1]; 0.5 without games."""
        return (self.wins + 0.5 * self.draws) / self.games if self.games else 0.5


@dataclass(frozen=True)
class MatchResult:
    """A match seen from A's side."""

    a: str
    b: str
    game: str
    seed: int
    records: tuple[GameRecord, ...]  # in the order of their numbers
    sprt: Sprt | None = None

    @property
    def tally(self) -> Tally:
        """All games."""
        return _tally(self.records)

    def tally_as(self, player: int) -> Tally:
        """The games in which A was that player (0 moves first)."""
        return _tally([record for record in self.records if record.a_is == player])

    @property
    def pairs(self) -> tuple[int, ...]:
        """[5] how many pairs of games scored 0, 1/2, 1, 3/2, 2 points for A."""
        return _pair_counts(self.records)

    @property
    def elo(self) -> Elo:
        """A's Elo over B's with its 95 % interval, from the pairs; always finite (see `elo_difference`)."""
        tally = self.tally
        return elo_difference(tally.wins, tally.draws, tally.losses, self.pairs)

    @property
    def mean_plies(self) -> float:
        """Actions for each game, openings included."""
        return sum(len(record.actions) for record in self.records) / len(self.records)

    @property
    def decision(self) -> str | None:
        """What the sequential test says: "H0", "H1", or None (open, or no test was asked for)."""
        return self.sprt.decision(self.pairs) if self.sprt else None

    @property
    def verdict(self) -> str | None:
        """The old name of `decision`, for one version."""
        return self.decision

    def to_json(self) -> dict[str, Any]:
        """The figures of the match, all from A's side; with a test also its state."""
        tally, elo = self.tally, self.elo
        figures: dict[str, Any] = {
            "games": tally.games,
            "wins": tally.wins,
            "draws": tally.draws,
            "losses": tally.losses,
            "score": tally.score,
            "elo": elo.elo,
            "elo_low": elo.low,
            "elo_high": elo.high,
        }
        if self.sprt:
            figures |= {"sprt": self.decision, "llr": self.sprt.llr(self.pairs)}
        return figures


Starts = Sequence[tuple[int, Opening]]  # number and opening of each game


class Hall(Protocol):
    """Where the games of matches are played, if not here: on other machines. That changes no game."""

    def most(self, test: bool) -> int:
        """Games in one call of `play`, even. test: a sequential one may drop the last of them."""
        ...

    def play(
        self, a: Player, b: Player, seed: int, starts: Starts, finished: Callable[[int], None]
    ) -> list[GameRecord]:
        """As `play_games`; several threads may call it."""
        ...


def play_games(
    a: Player, b: Player, seed: int, starts: Starts, finished: Callable[[int], None] = lambda _: None
) -> list[GameRecord]:
    """These games of a match, side by side, in their order. finished: hears A's result of each. Raises Refused."""
    return _Hall(a, b, seed, 1, None).play(starts, finished)


def play_match(
    a: Player,
    b: Player,
    games: int,
    seed: int,
    threads: int = 1,
    on_progress: Progress | None = None,
    sprt: Sprt | None = None,
    hall: Hall | None = None,
) -> MatchResult:
    """Play A against B; with `sprt` at most that many games.

    A is player 0 in even games. Of an odd number the last game has no partner. The same call gives the same games, and
    players put in the other way round give the same games with the results turned round (names must differ, `games` be
    even). A sequential test looks at the pairs in their order and the games after its decision are dropped, so the
    number of threads and of games side by side changes nothing.

    threads: how many calls of `choose` run at once. hall: other machines that play. Raises WrongRequest.
    """
    if games < 1:
        raise WrongRequest(f"a match of {games} games cannot be played; ask for 1 or more.")
    if threads < 1:
        raise WrongRequest(f"{threads} threads cannot play; ask for 1 or more.")
    if a.game.name != b.game.name:
        raise WrongRequest(
            f"{a.name} plays {a.game.name} and {b.name} plays {b.game.name}: choose players of one game."
        )
    records: list[GameRecord] = []
    starts = _numbered(opening_stream(a.game, seed), games)
    with ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        most = hall.most(bool(sprt)) if hall else SIDE_BY_SIDE_SPRT if sprt else SIDE_BY_SIDE
        here = _Hall(a, b, seed, threads, pool)
        while len(records) < games:
            chunk, counted = list(islice(starts, most)), _counted(on_progress, records)
            played = hall.play(a, b, seed, chunk, counted) if hall else here.play(chunk, counted)
            if sprt and (kept := _until_decided(records, played, sprt)) is not None:
                records += played[:kept]
                break
            records += played
    return MatchResult(a.name, b.name, a.game.name, seed, tuple(records), sprt)


def _until_decided(before: Sequence[GameRecord], played: Sequence[GameRecord], sprt: Sprt) -> int | None:
    """How many of the games just played the test needed for its decision; None while it is open."""
    counts = _pair_counts(before)
    for pair in range(len(played) // 2):
        more = _pair_counts(played[2 * pair : 2 * pair + 2])
        counts = tuple(n + m for n, m in zip(counts, more, strict=True))
        if sprt.decision(counts):
            return 2 * pair + 2
    return None


def _numbered(starts: Iterator[Opening], games: int) -> Iterator[tuple[int, Opening]]:
    """Number and opening of each game."""
    opening: Opening = ()
    for number in range(games):
        if number % 2 == 0:
            opening = next(starts)
        yield number, opening


def _tally(records: Sequence[GameRecord]) -> Tally:
    results = [record.result for record in records]
    return Tally(results.count(1), results.count(0), results.count(-1))


def _pair_counts(records: Sequence[GameRecord]) -> tuple[int, ...]:
    counts = [0] * 5
    for first, second in zip(records[0::2], records[1::2], strict=False):
        counts[first.result + second.result + 2] += 1
    return tuple(counts)


def _counted(on_progress: Progress | None, before: Sequence[GameRecord]) -> Callable[[int], None]:
    """Calls on_progress with the running totals, one finished game after another."""
    totals = [_tally(before).losses, _tally(before).draws, _tally(before).wins]

    def finished(result: int) -> None:
        totals[result + 1] += 1
        if on_progress:
            on_progress(sum(totals), totals[2], totals[1], totals[0])

    return finished


@dataclass
class _Table:
    """One running game. `stream` is its number as the keys know it."""

    number: int
    stream: int
    a_is: int
    opening: int
    actions: list[int]
    state: NDArray[Any]
    result: int = 0

    def record(self) -> GameRecord:
        return GameRecord(self.number, self.a_is, self.opening, tuple(self.actions), self.result)


class _Hall:
    """Where the games of a match run side by side."""

    def __init__(self, a: Player, b: Player, seed: int, threads: int, pool: ThreadPoolExecutor | None) -> None:
        self.players = (a, b)
        self.game: Game = a.game
        self.seed = seed
        self.threads = threads
        self.pool = pool

    def play(self, starts: Starts, finished: Callable[[int], None]) -> list[GameRecord]:
        """All these games, to their ends."""
        tables = [self._table(number, opening) for number, opening in starts]
        running = tables
        while running:
            for table, action in self._choices(running):
                self._apply(table, action)
            still = []
            for table in running:
                outcome = self.game.outcome(table.state)
                if outcome == ONGOING:
                    still.append(table)
                else:
                    table.result = int(outcome if table.state[0] == table.a_is else -outcome)
                    finished(table.result)
            running = still
        return [table.record() for table in tables]

    def _table(self, number: int, opening: Opening) -> _Table:
        """The two games of a pair need keys of their own that do not depend on who is called A: their order by name."""
        a, b = self.players
        a_is = number % 2
        turned = a.name > b.name
        state = self.game.play(self.game.new_state(), opening)
        return _Table(number, number ^ 1 if turned else number, a_is, len(opening), list(opening), state)

    def _choices(self, running: Sequence[_Table]) -> list[tuple[_Table, int]]:
        """The action of every game: each player is asked once for all of its positions (once a thread)."""
        asked: list[tuple[list[_Table], NDArray[np.int64] | Future[NDArray[np.int64]]]] = []
        for side, player in enumerate(self.players):
            tables = [table for table in running if (table.state[0] == table.a_is) == (side == 0)]
            size = max(1, -(-len(tables) // self.threads))
            for part in (tables[i : i + size] for i in range(0, len(tables), size)):
                states = np.array([table.state for table in part], self.game.dtype)
                keys = [key_of(self.seed, "arena", table.stream, len(table.actions)) for table in part]
                question = (states, np.array(keys, np.int64))
                asked.append(
                    (part, self.pool.submit(player.choose, *question) if self.pool else player.choose(*question))
                )
        chosen: list[tuple[_Table, int]] = []
        for part, answer in asked:
            actions = answer.result() if isinstance(answer, Future) else answer
            chosen += zip(part, (int(action) for action in actions), strict=True)
        return chosen

    def _apply(self, table: _Table, action: int) -> None:
        if not (0 <= action < self.game.num_actions and self.game.mask(table.state)[action]):
            mover = self.players[0 if table.state[0] == table.a_is else 1]
            raise Refused(
                f"{mover.name} chose action {action}, which is illegal, in {self.game.name} game {table.number}."
            )
        self.game.apply(table.state, action)
        table.actions.append(action)
        if len(table.actions) > self.game.max_plies:
            raise Refused(
                f"{self.game.name} game {table.number} is longer than the {self.game.max_plies} plies it allows."
            )
