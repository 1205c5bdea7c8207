"""A player of the arena as the opponent at the board: random, rollouts:N or minimax:D."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from az.engine.errors import WrongRequest
from az.engine.game import Game, State
from az.engine.players.slices import Stop
from az.engine.rng import key_of
from az.engine.search.params import UNKNOWN
from az.engine.search.whole_moves import Hops, SearchStates, WholeMove, WholeResult

if TYPE_CHECKING:  # they load the compiler: the board comes first
    from az.engine.players import Player

FIRST_GAMES = 100  # random games of the first look, where a thinking time was given
MOST_GAMES = 10_000_000


class PlayerEngine:
    """Moves as the player does; it knows its move, and no chance to win (value NaN)."""

    loading = False

    def __init__(self, game: Game, player: str, seconds: float | None = None) -> None:
        self.game, self.text, self.seconds, self._asked = game, player, seconds, 0
        self._player: Player | None = None
        self.name = "rollouts" if seconds is not None else player
        kind, _, number = player.partition(":")
        self.games = int(number) if kind == "rollouts" and number.isdecimal() else 0  # random games a move
        self.effort = f"thinks for {self.games} random games a move" if self.games else "thinks for a moment"
        if seconds is not None:
            self.effort = f"thinks for {seconds:g} seconds a move"

    def make(self) -> Player:
        """The player. Raises WrongRequest for a text that means none."""
        from az.engine.players import make_player

        if self._player is None:
            self._player = make_player(self.text, self.game)
        return self._player

    def begin(self) -> None:
        """Nothing is loaded ahead: a player without a network is compiled at its first move."""

    def prepare(self) -> None:
        """Compile what the first move needs, before its time is taken."""
        if not self._asked:
            whole_move(self.make(), self.game.new_state(), 0, stop=lambda: True)

    def think(self, state: State) -> WholeResult:
        """The whole move that the player chooses, hop by hop."""
        self._asked += 1
        from az.engine.players.rollouts import RolloutPlayer

        begun, games = time.monotonic(), self.games
        hops = whole_move(self.make(), state, self._asked)
        while self.seconds is not None and games < MOST_GAMES:
            if 3 * (time.monotonic() - begun) > self.seconds:  # twice as many would take too long
                break
            games *= 2
            hops = whole_move(RolloutPlayer(self.game, games), state, self._asked)
        return without_opinion(self.game, state, hops, games)

    def advise(self, state: State) -> WholeResult:
        """What it would play itself."""
        return self.think(state)

    def searcher(self) -> SearchStates:
        """Raises WrongRequest: a review needs a model's values."""
        raise WrongRequest(f"{self.name} does not judge positions: a review needs a model, az play --model MODEL.")

    def at_level(self, _level: int | None, _seed: int, /) -> None:
        """Raises WrongRequest: levels are a model's."""
        raise WrongRequest(f"{self.name} has no levels: only models have.")


def whole_move(player: Player, state: State, *parts: int, stop: Stop | None = None) -> Hops:
    """The hops of the move that a player chooses; `parts` make its key.

    stop: asked about ten times a second where the player can be stopped; once it is true, the best move so far.
    """
    from az.engine.players.basic import StoppablePlayer

    hops: Hops = ()
    options = set(player.game.moves(state).values())
    key = key_of(0, "play", *parts, 0)
    while hops not in options:
        here = player.game.play(state, hops)
        if stop is not None and isinstance(player, StoppablePlayer):
            hops += (player.choose_until(here, key, stop),)
        else:
            hops += (int(player.choose(np.stack([here]), np.array([key], np.int64))[0]),)
    return hops


def without_opinion(game: Game, state: State, hops: Hops, simulations: int) -> WholeResult:
    """The answer of a player that knows its move and no chance to win (value NaN)."""
    moves = [
        WholeMove(text, actions, float(actions == hops), 1.0, math.nan, UNKNOWN)
        for text, actions in game.moves(state).items()
    ]
    best = next(move for move in moves if move.actions == hops)
    return WholeResult(tuple(moves), best, math.nan, UNKNOWN, simulations, (best.text,))
