"""A player of the arena as the opponent at the board: random, rollouts:N or minimax:D."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

from az.engine.game import Game, State
from az.engine.rng import key_of
from az.engine.search.params import UNKNOWN
from az.engine.search.whole_moves import Hops, WholeMove, WholeResult

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
        self.effort = f"{self.games} random games a move" if self.games else "a moment"
        if seconds is not None:
            self.effort = f"{seconds:g} seconds a move"

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
            self._choose(self.make(), self.game.new_state())

    def think(self, state: State) -> WholeResult:
        """The whole move that the player chooses, hop by hop."""
        self._asked += 1
        from az.engine.players.rollouts import RolloutPlayer

        begun, games = time.monotonic(), self.games
        hops = self._whole(self.make(), state)
        while self.seconds is not None and games < MOST_GAMES:
            if 3 * (time.monotonic() - begun) > self.seconds:  # twice as many would take too long
                break
            games *= 2
            hops = self._whole(RolloutPlayer(self.game, games), state)
        moves = [
            WholeMove(text, actions, float(actions == hops), 1.0, math.nan, UNKNOWN)
            for text, actions in self.game.moves(state).items()
        ]
        best = next(move for move in moves if move.actions == hops)
        return WholeResult(tuple(moves), best, math.nan, UNKNOWN, games, (best.text,))

    def _whole(self, player: Player, state: State) -> Hops:
        hops: Hops = ()
        options = set(self.game.moves(state).values())
        while hops not in options:
            hops += (self._choose(player, self.game.play(state, hops)),)
        return hops

    def _choose(self, player: Player, state: State) -> int:
        keys = np.array([key_of(0, "play", self._asked, 0)], np.int64)
        return int(player.choose(np.stack([state]), keys)[0])
