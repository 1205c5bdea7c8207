"""A ladder: known players and versions of a network, neighbors against each other, on one Elo scale."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

from az.engine.arena.match import Hall, Tally, play_match
from az.engine.players import Player
from az.engine.score.ratings import Rating, ratings

Done = Callable[[str, int], None]  # (the match that is played, its games so far)


@dataclass(frozen=True)
class Match:
    """One match of the ladder, from A's side."""

    a: str
    b: str
    wins: int
    draws: int
    losses: int


@dataclass(frozen=True)
class Ladder:
    """The ratings, weakest known player first, and the matches behind them."""

    ratings: list[Rating]
    matches: list[Match]


def climb(
    rungs: Sequence[Player], versions: Sequence[Player], games: int, seed: int, done: Done, hall: Hall | None = None
) -> Ladder:
    """Rate `versions` (oldest first) on the scale of `rungs`, whose first player has Elo 0.

    Neighboring rungs meet, every version meets every rung, and neighboring versions meet: `games` games each.
    hall: other machines that play, all the matches at once; the ladder is the same.
    """
    players = [*rungs, *versions]
    places = {id(player): i for i, player in enumerate(players)}
    pairs = [*pairwise(rungs), *((one, rung) for one in versions for rung in rungs)]
    pairs += [(newer, older) for older, newer in pairwise(versions)]

    def play(pair: tuple[Player, Player]) -> Tally:
        def told(count: int, *_: object) -> None:
            done(f"{pair[0].name} – {pair[1].name}", count)

        return play_match(*pair, games, seed, on_progress=told, hall=hall).tally

    tallies = [play(pair) for pair in pairs] if hall is None else _at_once(play, pairs)
    matches: list[Match] = []
    results: dict[tuple[int, int], tuple[float, int]] = {}
    for (a, b), tally in zip(pairs, tallies, strict=True):
        matches.append(Match(a.name, b.name, tally.wins, tally.draws, tally.losses))
        results[places[id(a)], places[id(b)]] = (tally.wins + 0.5 * tally.draws, tally.games)
    return Ladder(ratings([player.name for player in players], results), matches)


def _at_once(play: Callable[[tuple[Player, Player]], Tally], pairs: Sequence[tuple[Player, Player]]) -> list[Tally]:
    pool = ThreadPoolExecutor(max(1, len(pairs)))
    try:
        return list(pool.map(play, pairs))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # an interrupt does not wait for the rest
