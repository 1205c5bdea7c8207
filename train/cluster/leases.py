"""Who plays which games: numbers are lent to players, taken once, and lent again where a player was lost.

A number stays bound to the model that it was first lent with, so a game that is played again is the same game.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

MOST_LENT = 65_536  # numbers that one player may hold, whatever it says that it wants


@dataclass(frozen=True)
class Lease:
    """Games first … first + count - 1, to be played with one model."""

    first: int
    count: int
    model: str


@dataclass
class _Player:
    lent: dict[int, str] = field(default_factory=dict)  # number: model
    sent: dict[int, dict[int, str]] = field(default_factory=dict)  # by ticket: not yet judged by the run
    ended: bool = False


class Leases:
    """first: the lowest number; count: how many there are, None for a run that goes on."""

    def __init__(self, first: int, count: int | None = None) -> None:
        self._next, self._end = first, None if count is None else first + count
        self._players: dict[str, _Player] = {}
        self._lost: dict[int, str] = {}  # to be played again: number: model
        self._failed: dict[int, str] = {}  # of these: the node that could not play it
        self._models: Counter[str] = Counter()  # numbers that are bound to each
        self._tickets: dict[int, str] = {}  # whose file it is
        self._ticket = 0
        self.again = 0  # numbers that were lent a second time

    def give(self, player: str, want: int, model: str, node: str = "", alone: bool = False) -> list[Lease]:
        """Up to `want` numbers: first those that were lost, with their own models, then new ones with `model`.

        node: the player's; it does not get what it could not play, except where it is alone.
        """
        lent = self._players.setdefault(player, _Player()).lent
        leases: list[Lease] = []
        want = max(0, min(want, MOST_LENT - len(lent)))
        lost = sorted(k for k in self._lost if alone or self._failed.get(k) != node or not node) if self._lost else []
        for k in lost[:want]:
            bound = self._lost.pop(k)
            lent[k] = bound
            self.again += 1
            last = leases[-1] if leases else None
            if last is not None and last.model == bound and last.first + last.count == k:
                leases[-1] = Lease(last.first, last.count + 1, bound)
            else:
                leases.append(Lease(k, 1, bound))
        count = want - sum(lease.count for lease in leases)
        if self._end is not None:
            count = min(count, self._end - self._next)
        if count > 0:
            lent.update(dict.fromkeys(range(self._next, self._next + count), model))
            leases.append(Lease(self._next, count, model))
            self._models[model] += count
            self._next += count
        return leases

    @property
    def next_number(self) -> int:
        """Every number below it has been lent."""
        return self._next

    def left(self) -> int | None:
        """Numbers that no player has at this moment; None: as many as are wanted."""
        return None if self._end is None else self._end - self._next + len(self._lost)

    def over(self) -> bool:
        """Whether every number of a limited set has been played, and judged."""
        return self.left() == 0 and not any(player.lent or player.sent for player in self._players.values())

    def arrived(self, player: str, games: Iterable[tuple[int, str]]) -> int | None:
        """A file of these games (number, model) came from a player; its ticket, None where they were not its to play.

        So the late games of a player that was given up are known: their numbers belong to another, or to none.
        """
        mine, wanted = self._players.get(player), list(games)
        if mine is None or not wanted or len({k for k, _ in wanted}) < len(wanted):
            return None
        if any(mine.lent.get(k) != model for k, model in wanted):
            return None
        self._ticket += 1
        mine.sent[self._ticket] = {k: mine.lent.pop(k) for k, _ in wanted}
        self._tickets[self._ticket] = player
        return self._ticket

    def judged(self, ticket: int, accepted: bool) -> None:
        """What the run said of a file; the games of one that it refused are played again."""
        name = self._tickets.pop(ticket, "")
        player = self._players.get(name)
        games = player.sent.pop(ticket, {}) if player is not None else {}
        if player is not None and player.ended and not player.sent:
            del self._players[name]
        if accepted:
            self._models.subtract(games.values())
            for k in self._failed.keys() & games.keys():
                del self._failed[k]
        else:
            self._lost |= games

    def failed(self, player: str, k: int, node: str) -> bool:
        """A player could not play this game. It is lent again; whether it is given up, for it failed there too."""
        mine = self._players.get(player)
        if mine is None or k not in mine.lent:
            return False
        model = mine.lent.pop(k)
        if k in self._failed:
            del self._failed[k]
            self._models[model] -= 1
            return True
        self._failed[k], self._lost[k] = node, model
        return False

    def has(self, player: str, k: int) -> bool:
        """Whether a player has this number, and has not played it."""
        mine = self._players.get(player)
        return mine is not None and k in mine.lent

    def end(self, player: str) -> int:
        """A player is given up: how many numbers are lent to others for it. What it sent before is still judged."""
        mine = self._players.get(player)
        if mine is None:
            return 0
        lost, mine.lent, mine.ended = mine.lent, {}, True
        self._lost |= lost
        if not mine.sent:
            del self._players[player]
        return len(lost)

    def lent(self, player: str) -> int:
        """Numbers that a player has and has not played."""
        mine = self._players.get(player)
        return len(mine.lent) if mine is not None else 0

    def holds(self, player: str) -> bool:
        """Whether a player has numbers that it has not played."""
        mine = self._players.get(player)
        return mine is not None and bool(mine.lent)

    def models(self) -> set[str]:
        """Models that some number is bound to."""
        self._models += Counter()  # drops those at zero
        return set(self._models)
