"""A cluster of 10 to 10,000 players, simulated: where the learner, the head's ingest or the window is the limit.

    python benchmarks/cluster_scale.py --plot docs/cluster-scale.svg

What is real: `Dispatcher` and `Leases` of train/cluster/, asked and answered as in a run, and timed as they go. What is
simulated, on a virtual clock: players (a player is a core) that play games at a measured rate, answer after a delay of
the network, and are lost at random; the ingest, which takes one file after another; the learner, which falls behind and
has self-play paused. Measured rates are arguments; their defaults were taken on two cores that others used too:

--rows       rows a second of a player: half of docs/benchmarks.md's self-play of connect four, 391 on two cores
--ingest     rows a second that the head validates and stores: `benchmarks/cluster_ingest.py`, connect four, load 18
--learner    rows a second that the learner trains on: docs/benchmarks.md, connect four on two cores

The network's delay and the losses are assumed. The CPU of the scheduling has the simulated players' own in it.
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from az.train.cluster.answers import Answer, Contents, File
from az.train.cluster.dispatcher import Dispatcher, Model
from az.train.cluster.fleet import Gone, Node

ROWS_A_GAME = 20  # about those of cluster_ingest's games
GAMES_A_FILE = 30  # 600 rows
SECONDS_A_FILE = 4.0
CORES_A_NODE = 10
AHEAD, SPARE = 4.0, 4  # of train/cluster/player.py: seconds of play, and numbers besides
BACKLOG = 2.0  # the learner's: files under way, in seconds of its ingest, at which self-play is paused
SEED = 0
MOST_SLOW = 100  # players beyond which a slow learner only waits for the first burst to be over


@dataclass(frozen=True)
class Rates:
    """What was measured, and what is assumed."""

    rows: float
    ingest: float
    learner: float
    reuse: float
    window: int
    delay: float  # seconds there and back
    hours_between_losses: float  # of one player


@dataclass
class Simulated:
    """One player: games come at its rate, and are handed over as `Player` hands them over."""

    node: Node
    number: int
    begun: float
    queue: deque[tuple[int, str]] = field(default_factory=deque)
    played: list[tuple[int, str]] = field(default_factory=list)
    credit: float = 0.0
    at: float = 0.0
    flushed: float = 0.0
    walks: int = 0


class SimulatedFleet:
    """A `Fleet` on a virtual clock."""

    def __init__(self, count: int, rates: Rates, rng: random.Random) -> None:
        self.rates, self.rng, self.now = rates, rng, 0.0
        self._nodes = [Node(f"n{i}", f"n{i}", CORES_A_NODE) for i in range(max(1, count // CORES_A_NODE))]
        self.players: dict[str, Simulated] = {}
        self._coming: list[tuple[float, int, str, Any]] = []
        self._number = 0
        self.lost = 0
        self.speed = rates.rows / ROWS_A_GAME  # games a second

    def nodes(self) -> list[Node]:
        return self._nodes

    def start(self, player: str, node: Node, gpu: bool) -> None:
        assert not gpu
        begun = self.now + self.rng.uniform(3.0, 10.0)  # a process, its imports, its compiled code
        self.players[player] = Simulated(node, self._number, begun, at=begun, flushed=begun)
        self._send(begun, player, {})

    def ask(self, player: str, orders: dict[str, Any]) -> None:
        one = self.players[player]
        for lease in orders["leases"]:
            one.queue.extend((k, lease.model) for k in range(lease.first, lease.first + lease.count))
        wait = orders["wait"] if one.queue or not orders["more"] else 0.0
        at = self.now + self.rates.delay + wait
        if self.rng.random() < (at - self.now) / 3600.0 / self.rates.hours_between_losses:
            self.lost += 1
            self._send(at, player, Gone("ended"))
        else:
            self._send(at, player, {"paused": orders["paused"]})

    def _send(self, at: float, player: str, answer: Any) -> None:
        self._number += 1
        heapq.heappush(self._coming, (at, self._number, player, answer))

    def answers(self, timeout: float) -> list[tuple[str, Any]]:
        end, found = self.now + timeout, list[tuple[str, Any]]()
        while self._coming and self._coming[0][0] <= end:
            at, _, player, answer = heapq.heappop(self._coming)
            if player in self.players:
                if answer and not isinstance(answer, Gone):
                    answer = self._played(self.players[player], at, answer["paused"])
                found.append((player, answer))
        self.now = end
        return found

    def _played(self, one: Simulated, at: float, paused: bool) -> Answer:
        seconds, one.at = at - one.at, at
        one.credit = 0.0 if paused else min(one.credit + seconds * self.speed, len(one.queue) + 1.0)
        done = min(int(one.credit), len(one.queue))
        one.credit -= done
        one.played += [one.queue.popleft() for _ in range(done)]
        files = list[File]()
        if one.played and (len(one.played) >= GAMES_A_FILE or at - one.flushed >= SECONDS_A_FILE):
            files, one.played, one.flushed = [File(one.played, len(one.played) * ROWS_A_GAME)], [], at
        want = max(0, int(self.speed * AHEAD) + SPARE - len(one.queue))
        return Answer(files, [], [], want, {"m"}, 1, one.walks)

    def end(self, player: str) -> None:
        self.players.pop(player, None)

    def put(self, data: bytes) -> Any:
        return data

    def close(self) -> None:
        self.players.clear()


@dataclass(frozen=True)
class Seen:
    """Of one size of cluster. Rows and steps are those of the virtual clock, cpu that of this machine."""

    players: int
    wanted: float  # rows a second that the players could make
    ingested: float  # rows a second
    paused: float  # share of the time in which self-play was paused
    scheduling: float  # seconds of this machine's CPU for a virtual second
    again: int  # games that were lent again
    lost: int
    window_seconds: float | None  # in which the window's rows are all new ones
    limit: str


def simulate(count: int, rates: Rates, seconds: float, begin: float) -> Seen:
    """Run the scheduling for so many virtual seconds, from `begin` on: the players have come, a first burst is over."""
    fleet = SimulatedFleet(count, rates, random.Random(SEED))
    waiting: deque[tuple[int, int]] = deque()  # ticket and rows of files that have come and are not taken yet

    def tell(kind: str, *rest: Any) -> None:
        if kind == "file":
            waiting.append((rest[0], rest[4]["rows"]))

    dispatcher = Dispatcher(
        fleet, {}, SEED, tell, clock=lambda: fleet.now, read=lambda answer: answer,
        peek=lambda games: Contents(SEED, {}, games, {}),
    )  # fmt: skip
    dispatcher.model(Model("m", "m", b""))
    dispatcher.supply(0)
    taken, credit, paused, steps, behind = 0, 0.0, 0.0, 0.1, 0.0
    spent = 0.0
    while fleet.now < begin + seconds:
        before = time.process_time()
        dispatcher.step(steps)
        spent += (time.process_time() - before) if fleet.now > begin else 0.0
        credit = min(credit + rates.ingest * steps, rates.ingest)
        behind = max(0.0, behind - rates.learner / rates.reuse * steps)
        while waiting and credit >= waiting[0][1]:
            ticket, rows = waiting.popleft()
            credit -= rows
            behind += rows
            taken += rows if fleet.now > begin else 0
            dispatcher.judged(ticket, True)
        late = sum(rows for _, rows in waiting) > rates.ingest * BACKLOG
        dispatcher.paused = late or behind > rates.learner / rates.reuse * BACKLOG
        paused += steps if dispatcher.paused and fleet.now > begin else 0.0
    wanted, per_second = count * rates.rows, taken / seconds
    limits = {"players": wanted, "learner": rates.learner / rates.reuse, "ingest": rates.ingest}
    limit = min(limits, key=lambda name: limits[name])
    if spent / seconds > 1.0:
        limit = "scheduling"
    return Seen(
        count, wanted, per_second, min(1.0, paused / seconds), spent / seconds, dispatcher.leases.again, fleet.lost,
        rates.window / per_second if per_second else None, limit,
    )  # fmt: skip


def table(found: list[Seen]) -> str:
    """For people."""
    lines = [
        "| players | could make, rows/s | taken, rows/s | paused | scheduling, CPU | lost | again | window | limit |"
    ]
    lines.append("|---" * 9 + "|")
    for one in found:
        cells = (
            f"{one.players:,}", f"{one.wanted:,.0f}", f"{one.ingested:,.0f}", f"{one.paused:.0%}",
            f"{one.scheduling:.1%}", f"{one.lost:,}", f"{one.again:,}",
            "–" if one.window_seconds is None else f"{one.window_seconds:,.0f} s", one.limit,
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(path: str, fast: list[Seen], slow: list[Seen], rates: Rates) -> None:
    """Rows taken by players, with a learner that keeps up and with the measured one."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "az"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    players = [one.players for one in fast]
    axes.loglog(players, [one.wanted for one in fast], ":", color="gray", label="what the players could make")
    axes.loglog(players, [one.ingested for one in fast], "o-", label="taken, a learner that keeps up")
    axes.loglog(
        players[: len(slow)],
        [one.ingested for one in slow],
        "s-",
        label=f"taken, a learner of {rates.learner:,.0f} rows/s",
    )
    axes.axhline(rates.ingest, linestyle="--", color="tab:red", label=f"ingest as measured, {rates.ingest:,.0f} rows/s")
    axes.set_xlabel("players (cores)")
    axes.set_ylabel("rows a second")
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--players", type=int, nargs="+", default=[10, 100, 1_000, 10_000])
    parser.add_argument("--seconds", type=float, default=60.0, help="of the virtual clock")
    parser.add_argument("--rows", type=float, default=195.0)
    parser.add_argument("--ingest", type=float, default=25_346.0)
    parser.add_argument("--learner", type=float, default=1_340.0)
    parser.add_argument("--reuse", type=float, default=4.0)
    parser.add_argument("--window", type=int, default=1_000_000)
    parser.add_argument("--delay", type=float, default=0.02, help="seconds of the network, there and back (assumed)")
    parser.add_argument("--hours", type=float, default=10.0, help="between two losses of one player (assumed)")
    parser.add_argument("--plot", help="FILE.svg")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    sizes = asked.reuse, asked.window, asked.delay, asked.hours
    slow_rates = Rates(asked.rows, asked.ingest, asked.learner, *sizes)
    fast_rates = Rates(asked.rows, asked.ingest, 1e9, *sizes)
    fast = [simulate(count, fast_rates, asked.seconds, 20.0) for count in asked.players]
    few = [count for count in asked.players if count <= MOST_SLOW]
    slow = [simulate(count, slow_rates, asked.seconds, 6 * asked.seconds) for count in few]
    if asked.json:
        print(json.dumps({"fast": [vars(one) for one in fast], "slow": [vars(one) for one in slow]}))
    else:
        print("A learner that keeps up:\n" + table(fast))
        print(f"\nA learner of {asked.learner:,.0f} rows/s, each row {asked.reuse:g} times:\n" + table(slow))
    if asked.plot:
        plot(asked.plot, fast, slow, slow_rates)


if __name__ == "__main__":
    main()
