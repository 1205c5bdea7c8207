"""Self-play: game k is a pure function of (model, search parameters, seed, k), independent of other games."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from az.engine.errors import Refused
from az.engine.game import ONGOING, Game
from az.engine.inference.evaluator import Evaluator
from az.engine.inference.precision import PRECISIONS
from az.engine.records.format import FinishedGame, Row
from az.engine.rng import below, stream
from az.engine.search.batch import BatchSearch
from az.engine.search.cache import Cache, make_cache
from az.engine.search.params import SearchParams
from az.engine.selfplay.checks import SearchFault, answer_cause, bad_answers, judge_game
from az.engine.selfplay.step import Play, begin_game, grow_slots, make_slots, play_moves
from az.engine.settings import key

YOUNGER: dict[str, Any] = {
    "row_value": "mean",
    "prove": 0,
    "adjudicate": 0.0,
}  # later keys: a header lacks them at these values
IDLE = 0.01  # seconds between two looks for a game where none is in flight


@dataclass(frozen=True)
class SelfplayConfig:
    """How games are made. The search's constants are explained in engine/search/params.py."""

    simulations: int = key(100, "simulations of a move that is recorded", 1, 1_000_000)
    fast_simulations: int = key(100, "simulations of the other moves (no noise, not recorded)", 1, 1_000_000)
    full_fraction: float = key(1.0, "share of moves searched in full and recorded; KataGo: 0.25; 1 = all", 0.001, 1.0)
    algorithm: str = key("puct", "search at the root", one_of=("puct", "gumbel"))
    c_puct: float = key(1.25, "exploration constant; AlphaZero: 1.25", 0.0, 100.0)
    fpu_reduction: float = key(0.0, "how much less than its parent an unvisited move is worth; KataGo: 0.2", 0.0, 2.0)
    noise_fraction: float = key(0.25, "share of Dirichlet noise at the root; AlphaZero: 0.25", 0.0, 1.0)
    noise_alpha: float = key(
        10.0, "the Dirichlet's alpha times the number of legal moves; AlphaZero: about 10", 1e-3, 1e6
    )
    root_temperature: float = key(1.0, "softmax temperature of the root's prior; KataGo: 1.25 early", 0.05, 20.0)
    gumbel_considered: int = key(16, "moves that sequential halving starts with; Danihelka et al. 2022: 16", 1, 10_000)
    gumbel_scale: float = key(
        1.0, "scale of the Gumbel noise in the first temperature_plies; Danihelka et al. 2022: 1", 0.0, 100.0
    )
    c_visit: float = key(50.0, "sigma(q) = (this + most visits) * c_scale * q; Danihelka et al. 2022", 0.0, 1e6)
    c_scale: float = key(1.0, "see c_visit", 0.0, 1e6)
    temperature: float = key(1.0, "moves are drawn from visits ** (1 / this); 0 = the most visited", 0.0, 20.0)
    temperature_plies: int = key(
        30, "plies played with that temperature or Gumbel noise, then the best move; AlphaZero: 30", 0, 100_000
    )
    opening_plies: int = key(0, "0 to this many random plies open a game (not recorded); Go-Exploit", 0, 1000)
    reuse_tree: bool = key(False, "keep the subtree of the move played (PUCT only); its visits are not simulations")
    skip_forced: bool = key(False, "an only move is played without search and not recorded: it teaches nothing")
    leaves: int = key(1, "leaves in flight in one tree (virtual loss); more changes the games", 1, 256)
    row_value: str = key(
        "mean",
        "value of the search in a row: mean of its walks, or of its moves by its policy (bad tries do not count)",
        one_of=("mean", "policy"),
    )
    solve: bool = key(False, "back up proven wins and losses exactly")
    prove: int = key(
        0, "positions of an exact search to the end for each simulation, near the end of a game (needs solve)", 0, 10**6
    )
    adjudicate: float = key(0.0, "share of games that end where the search proves their result (needs solve)", 0.0, 1.0)
    precision: str = key(
        "auto", "what the network computes with; auto: int8 where the CPU is faster with it", one_of=PRECISIONS
    )
    cache: bool = key(True, "remember the network's answers; changes the speed, never the games")
    slots: int = key(128, "games in flight a worker; changes the speed, never the games", 1, 65_536)
    in_flight: int = key(
        0, "batches of so many games that a run's worker has in flight; 0: one on a CPU, more on a GPU", 0, 64
    )
    gpu_batch: int = key(0, "positions of a call on a GPU, which may change its rounding; 0: measured", 0, 65_536)

    def search_params(self) -> SearchParams:
        """The search of a recorded move."""
        shared = {name: value for name, value in asdict(self).items() if name in SearchParams.__dataclass_fields__}
        return SearchParams(**shared)

    def header(self) -> dict[str, Any]:
        """What made a record: every parameter that can change a game (so not the games in flight, nor the cache).

        The precision is told by the model's id: an int8 file is a file of its own.
        """
        without = {"slots", "in_flight", "cache", "precision"} | ({"gpu_batch"} if not self.gpu_batch else set())
        without |= {name for name, usual in YOUNGER.items() if getattr(self, name) == usual}
        return {name: value for name, value in asdict(self).items() if name not in without}


class NoGameYet(Exception):
    """Raised by `next_game` where no game is to be begun now and more may come; the games in flight go on."""


class SelfplayBatch:
    """Plays many games at once on one thread, with one evaluation a step for each model in use."""

    def __init__(self, game: Game, config: SelfplayConfig, seed: int, slots: int) -> None:
        self.game = game
        self.config = config
        self.seed = seed
        budgets = [config.simulations, config.fast_simulations]
        self.search = BatchSearch(game, config.search_params(), slots, budgets)
        self.jobs: list[tuple[int, Evaluator] | None] = [None] * slots  # the number and the model of each game
        self.simulations = 0  # made so far, for the bench and the display
        self.faults: list[SearchFault] = []  # games stopped before a row was written; each is played again
        self._again: list[tuple[int, Evaluator]] = []
        self._stopped: set[int] = set()
        self._freed = False
        # Several leaves in flight see a known one at once and not later: the games would not be the same.
        self.use_cache = config.cache and config.leaves == 1
        self.no_cache = self.search.cache
        self.caches: dict[int, Cache] = {}  # one for each network in use
        self._slots = make_slots(game, slots)
        self._play = play_of(config, self.search)
        self._mask = np.zeros(game.num_actions, np.bool_)
        self._finished = np.zeros(slots, np.int64)
        self._begin, self._play_moves = begin_game[game.dtype], play_moves[game.dtype]

    def play(
        self, next_game: Callable[[], tuple[int, Evaluator] | None], pause: Callable[[], None] | None = None
    ) -> Iterator[FinishedGame]:
        """Yield games as they end. `next_game` gives (k, evaluator) for a free slot, None when there are no more."""
        for finished in self.steps(next_game, pause):
            yield from finished

    def steps(
        self, next_game: Callable[[], tuple[int, Evaluator] | None], pause: Callable[[], None] | None = None
    ) -> Iterator[list[FinishedGame]]:
        """The same, step by step: the games that ended in each (mostly none)."""
        more, changed = True, True
        groups: list[tuple[Evaluator, np.ndarray]] = []
        while True:
            if changed:
                changed = False
                try:
                    for b, job in enumerate(self.jobs):
                        if job is None and more:
                            more = self._fill(b, self._again.pop() if self._again else next_game())
                except NoGameYet:
                    changed = True  # asked again before the next step
                groups = self._groups()
                if self.use_cache:
                    self.caches = {id(e): self.caches.get(id(e)) or make_cache(self.game) for e, _ in groups}
            if not groups and not changed:
                return
            if pause is not None:
                pause()
            if not groups:
                time.sleep(IDLE)
                yield []
            for evaluator, active in groups:
                self.search.cache = self.caches.get(id(evaluator), self.no_cache)
                finished = self._step(evaluator, active)
                changed, self._freed = changed or self._freed, False
                more = more or bool(self._again)
                yield finished

    def _groups(self) -> list[tuple[Evaluator, np.ndarray]]:
        """The slots in use, by evaluator."""
        found: dict[int, tuple[Evaluator, list[int]]] = {}
        for b, job in enumerate(self.jobs):
            if job is not None:
                found.setdefault(id(job[1]), (job[1], []))[1].append(b)
        return [(evaluator, np.array(members, np.int64)) for evaluator, members in found.values()]

    def _fill(self, b: int, job: tuple[int, Evaluator] | None) -> bool:
        if job is None:
            return False
        self.jobs[b] = job
        random = stream(self.seed, "game", job[0])
        state, ply = self._opening(random)
        self.search.place(b, state, random)
        slots = self._slots
        slots.ply[b], slots.result[b] = ply, ONGOING
        slots.rows[b] = slots.entries[b] = 0
        self._begin(self.search.roots, slots, self._play, b, self._mask, self.search.rules[1])
        return True

    def _opening(self, random: np.ndarray) -> tuple[np.ndarray, int]:
        """A few random plies that do not end the game."""
        state = self.game.new_state()
        plies = int(below(random, self.config.opening_plies + 1)) if self.config.opening_plies else 0
        for ply in range(plies):
            legal = np.flatnonzero(self.game.mask(state))
            after = self.game.play(state, (int(legal[below(random, len(legal))]),))
            if self.game.outcome(after) != ONGOING:
                return state, ply
            state = after
        return state, plies

    def _step(self, evaluator: Evaluator, active: np.ndarray) -> list[FinishedGame]:
        search = self.search
        rows = search.gather(active)
        if rows:
            self._evaluate(evaluator, rows)
            active = np.array([b for b in active.tolist() if self.jobs[b] is not None], np.int64)
        while True:
            ended = self._play_moves(
                search.trees, search.scratch, search.roots, search.settings, self._slots, self._play,
                active, self._mask, search.policy, self._finished, *search.rules[:3],
            )  # fmt: skip
            if ended >= 0:
                break
            self._slots = grow_slots(self._slots, self.game.num_actions)
        games = [self._finish(b) for b in self._finished[:ended].tolist()]
        return [game for game, evaluator in games if self._is_sound(game, evaluator)]

    def _evaluate(self, evaluator: Evaluator, rows: int) -> None:
        """One evaluation; a game whose answer is non-finite is stopped, and the others go on unchanged."""
        leaves = self.search.leaves
        logits, values = leaves.logits[:rows], leaves.values[:rows]
        evaluator.evaluate(leaves.planes[:rows], logits, values)
        bad = bad_answers(logits, values, leaves.mask[:rows])
        for row in bad:
            b = int(leaves.tree[row])
            job = self.jobs[b]
            if job is not None:
                cause, text = answer_cause(
                    logits[row], leaves.mask[row], self._asked_again(evaluator, leaves.planes[row])
                )
                state = self.search.roots.state[b]
                self._stop(
                    SearchFault(cause, job[0], int(self._slots.ply[b]), job[1].model_id, state.tolist(), text), job
                )
                self._free(b)
            logits[row], values[row] = 0.0, 0.0  # the tree is given up; what is backed up does not matter
        self.search.expand(rows)
        if bad:
            self.caches = {}  # what was taken in for them must not answer anyone else

    def _asked_again(self, evaluator: Evaluator, planes: np.ndarray) -> np.ndarray | None:
        """What the model itself says to one position, without whatever stands before it."""
        inner = getattr(evaluator, "inner", evaluator)
        logits, values = np.empty((1, self.game.num_actions), np.float32), np.empty(1, np.float32)
        try:
            inner.evaluate(np.ascontiguousarray(planes[None]), logits, values)
        except Refused:
            return None
        return logits[0]

    def lost(self) -> list[SearchFault]:
        """The last faults of games that failed a second time: they will not come."""
        numbers = [fault.k for fault in self.faults]
        return [fault for fault in self.faults if numbers.count(fault.k) > 1]

    def _is_sound(self, game: FinishedGame, evaluator: Evaluator) -> bool:
        found = judge_game(game, self.config.simulations, self.config.temperature)
        if found is None:
            return True
        row, cause, text = found
        bad = game.rows[row]
        fault = SearchFault(cause, game.k, bad.ply, game.model_id, bad.state.tolist(), text)
        self._stop(fault, (game.k, evaluator))
        return False

    def _stop(self, fault: SearchFault, job: tuple[int, Evaluator]) -> None:
        """Remember the fault; the game, a pure function of its number, is played again."""
        self.faults.append(fault)
        if job[0] not in self._stopped:
            self._stopped.add(job[0])
            self._again.append(job)

    def walks(self) -> int:
        """Simulations begun so far, those of moves and games not finished yet included."""
        return self.simulations + int(self._slots.simulations.sum()) + int(self.search.roots.started.sum())

    def _free(self, b: int) -> None:
        slots = self._slots
        self.jobs[b], self._freed = None, True
        self.simulations += int(slots.simulations[b])
        slots.simulations[b] = self.search.roots.started[b] = self.search.roots.target[b] = 0

    def _finish(self, b: int) -> tuple[FinishedGame, Evaluator]:
        """Free the slot of a game that is over."""
        slots, job = self._slots, self.jobs[b]
        assert job is not None
        simulations = int(slots.simulations[b])
        self._free(b)
        last, result = int(self.search.roots.state[b, 0]), int(slots.result[b])
        count = int(slots.rows[b])
        ends = [0, *slots.end[b, :count].tolist()]
        states = slots.state[b, :count].copy()
        actions, policy = slots.action[b, : ends[-1]].copy(), slots.prob[b, : ends[-1]].copy()
        values, plies = slots.value[b, :count].tolist(), slots.row_ply[b, :count].tolist()
        parts = [slice(first, end) for first, end in pairwise(ends)]
        game = FinishedGame(
            k=job[0],
            model_id=job[1].model_id,
            plies=int(slots.ply[b]),
            outcome_first=result if last == 0 else -result,
            rows=[Row(states[i], actions[part], policy[part], values[i], plies[i]) for i, part in enumerate(parts)],
            outcomes=[result if player == last else -result for player in states[:, 0].tolist()],
            simulations=simulations,
        )
        return game, job[1]


def play_of(config: SelfplayConfig, search: BatchSearch) -> Play:
    """The scalars for the kernels."""
    return Play(
        simulations=config.simulations,
        fast_simulations=config.fast_simulations,
        schedule=search.schedule_of(config.simulations),
        fast_schedule=search.schedule_of(config.fast_simulations),
        forced_schedule=search.schedule_of(1),
        full_fraction=float(config.full_fraction),
        noise_fraction=float(config.noise_fraction),
        gumbel_scale=float(config.gumbel_scale),
        temperature=float(config.temperature),
        temperature_plies=config.temperature_plies,
        skip_forced=int(config.skip_forced),
        reuse=int(config.reuse_tree and config.algorithm == "puct"),
        keep_most=search.keep_most,
        policy_value=int(config.row_value == "policy"),
        adjudicate=float(config.adjudicate),
    )
