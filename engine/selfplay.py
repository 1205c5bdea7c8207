"""Self-play: game k is a pure function of (model, search parameters, seed, k), whoever plays beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from az.engine.evaluator import Evaluator
from az.engine.game import ONGOING, Game
from az.engine.precision import PRECISIONS
from az.engine.records import FinishedGame, Row
from az.engine.rng import below, stream, uniform
from az.engine.search.batch import BatchSearch
from az.engine.search.cache import Cache, make_cache
from az.engine.search.params import SearchParams
from az.engine.settings import key


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
    gumbel_scale: float = key(1.0, "scale of the Gumbel noise; Danihelka et al. 2022: 1", 0.0, 100.0)
    c_visit: float = key(50.0, "sigma(q) = (this + most visits) * c_scale * q; Danihelka et al. 2022", 0.0, 1e6)
    c_scale: float = key(1.0, "see c_visit", 0.0, 1e6)
    temperature: float = key(1.0, "moves are drawn from visits ** (1 / this); 0 = the most visited", 0.0, 20.0)
    temperature_plies: int = key(
        30, "plies played with that temperature, then the best move; AlphaZero: 30", 0, 100_000
    )
    opening_plies: int = key(0, "0 to this many random plies open a game (not recorded); Go-Exploit", 0, 1000)
    reuse_tree: bool = key(False, "keep the subtree of the move played (PUCT only); its visits are not simulations")
    skip_forced: bool = key(False, "an only move is played without search and not recorded: it teaches nothing")
    leaves: int = key(1, "leaves in flight in one tree (virtual loss); more changes the games", 1, 256)
    solve: bool = key(False, "back up proven wins and losses exactly")
    precision: str = key(
        "auto", "what the network computes with; auto: int8 where the CPU is made for it", one_of=PRECISIONS
    )
    cache: bool = key(True, "remember the network's answers; changes the speed, never the games")
    slots: int = key(128, "games in flight a worker; changes the speed, never the games", 1, 65_536)

    def search_params(self) -> SearchParams:
        """The search of a recorded move."""
        shared = {name: value for name, value in asdict(self).items() if name in SearchParams.__dataclass_fields__}
        return SearchParams(**shared)

    def header(self) -> dict[str, Any]:
        """What made a record: every parameter that can change a game (so not the games in flight, nor the cache).

        The precision is told by the model's id: an int8 file is a file of its own.
        """
        return {name: value for name, value in asdict(self).items() if name not in ("slots", "cache", "precision")}


class _Slot:
    """A game in the making."""

    def __init__(self, k: int, evaluator: Evaluator) -> None:
        self.k = k
        self.evaluator = evaluator
        self.ply = 0
        self.full = True
        self.rows: list[Row] = []
        self.players: list[int] = []


class SelfplayBatch:
    """Plays many games at once on one thread, with one evaluation a step for each model in use."""

    def __init__(self, game: Game, config: SelfplayConfig, seed: int, slots: int) -> None:
        self.game = game
        self.config = config
        self.seed = seed
        budgets = [config.simulations, config.fast_simulations]
        self.search = BatchSearch(game, config.search_params(), slots, budgets)
        self.slots: list[_Slot | None] = [None] * slots
        self.reuse = config.reuse_tree and config.algorithm == "puct"
        self.simulations = 0  # made so far, for the bench and the display
        # Several leaves in flight see a known one at once and not later: the games would not be the same.
        self.use_cache = config.cache and config.leaves == 1
        self.no_cache = self.search.cache
        self.caches: dict[int, Cache] = {}  # one for each network in use

    def play(
        self, next_game: Callable[[], tuple[int, Evaluator] | None], pause: Callable[[], None] | None = None
    ) -> Iterator[FinishedGame]:
        """Yield games as they end. `next_game` gives (k, evaluator) for a free slot, None when there are no more."""
        more = True
        while True:
            for b, slot in enumerate(self.slots):
                if slot is None and more:
                    more = self._fill(b, next_game())
            groups = self._groups()
            if not groups:
                return
            if pause is not None:
                pause()
            if self.use_cache:
                self.caches = {id(e): self.caches.get(id(e)) or make_cache(self.game) for e, _ in groups}
            for evaluator, active in groups:
                self.search.cache = self.caches.get(id(evaluator), self.no_cache)
                yield from self._step(evaluator, active)

    def _groups(self) -> list[tuple[Evaluator, np.ndarray]]:
        """The slots in use, by evaluator."""
        found: dict[int, tuple[Evaluator, list[int]]] = {}
        for b, slot in enumerate(self.slots):
            if slot is not None:
                found.setdefault(id(slot.evaluator), (slot.evaluator, []))[1].append(b)
        return [(evaluator, np.array(members, np.int64)) for evaluator, members in found.values()]

    def _fill(self, b: int, job: tuple[int, Evaluator] | None) -> bool:
        if job is None:
            return False
        k, evaluator = job
        slot = self.slots[b] = _Slot(k, evaluator)
        random = stream(self.seed, "game", k)
        state, slot.ply = self._opening(random)
        self.search.place(b, state, random)
        self._begin(b, slot)
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

    def _begin(self, b: int, slot: _Slot) -> None:
        config = self.config
        random = self.search.roots.random[b]
        slot.full = config.full_fraction >= 1.0 or uniform(random) < config.full_fraction
        if config.skip_forced and np.count_nonzero(self.game.mask(self.search.roots.state[b])) == 1:
            slot.full = False
            self.search.begin(b, 1)
        elif slot.full:
            self.search.begin(b, config.simulations, config.noise_fraction, config.gumbel_scale)
        else:
            self.search.begin(b, config.fast_simulations, 0.0, config.gumbel_scale)

    def _step(self, evaluator: Evaluator, active: np.ndarray) -> Iterator[FinishedGame]:
        search = self.search
        rows = search.gather(active)
        if rows:
            search.evaluate_and_expand(evaluator, rows)
        started, target = search.roots.started[active], search.roots.target[active]
        for b in active[started >= target]:
            finished = self._finish_move(int(b))
            if finished is not None:
                yield finished

    def _finish_move(self, b: int) -> FinishedGame | None:
        """Record the finished search, play its move, begin the next; the game, if that ended it."""
        search, config, slot = self.search, self.config, self.slots[b]
        assert slot is not None
        trees, state = search.trees, search.roots.state[b]
        self.simulations += int(search.roots.target[b])
        count = search.root_policy(b)
        temperature = config.temperature if slot.ply < config.temperature_plies else 0.0
        index = search.choose(b, temperature)
        if slot.full:
            first = int(trees.first_edge[b, 0])
            proven = int(trees.proven[b, 0])
            value = float(trees.value_sum[b, 0]) / int(trees.visits[b, 0]) if proven == 2 else float(proven)
            actions = trees.action[b, first : first + count].copy()
            policy = search.policy[:count].astype(np.float32)
            slot.rows.append(Row(state.copy(), actions, policy, value, slot.ply))
            slot.players.append(int(state[0]))
        search.advance(b, index, self.reuse)
        slot.ply += 1
        result = self.game.outcome(search.roots.state[b])
        if result == ONGOING:
            self._begin(b, slot)
            return None
        self.slots[b] = None
        last = int(search.roots.state[b, 0])
        return FinishedGame(
            k=slot.k,
            model_id=slot.evaluator.model_id,
            plies=slot.ply,
            outcome_first=int(result) if last == 0 else -int(result),
            rows=slot.rows,
            outcomes=[int(result) if player == last else -int(result) for player in slot.players],
        )
