"""Whole moves from a search that thinks in hops.

In checkers a multiple jump is one action per hop. The root of a search knows the shares of the first hops only, so
where a jump branches later the position after the hop is searched again, with the simulations the hop received, and
the shares of the hops are multiplied. Games with one action per move pass through unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from az.engine.game import Game, State
from az.engine.inference.evaluator import Evaluator
from az.engine.search.params import UNKNOWN, SearchParams
from az.engine.search.result import SearchResult

Hops = tuple[int, ...]
SearchStates = Callable[[Sequence[State], int], list[SearchResult]]  # (positions, simulations for each) -> answers


@dataclass(frozen=True)
class WholeMove:
    """One legal whole move of the root; all figures in the view of the player to move."""

    text: str
    actions: Hops
    share: float  # of the visits
    prior: float  # the network's probability
    value: float  # in [-1, +1]
    proven: int  # LOSS, DRAW, WIN or UNKNOWN


@dataclass(frozen=True)
class WholeResult:
    """What a search answers in whole moves: the game's order, shares and priors sum to 1."""

    moves: tuple[WholeMove, ...]
    best: WholeMove
    value: float
    proven: int
    simulations: int  # walks from the root; the searches after a hop are not counted
    pv: tuple[str, ...]  # whole moves, beginning with `best`


def quiet(params: SearchParams, simulations: int) -> SearchParams:
    """The same search without noise and without randomness."""
    return replace(params, simulations=simulations, noise_fraction=0.0, gumbel_scale=0.0)


def searcher(game: Game, evaluator: Evaluator, params: SearchParams) -> SearchStates:
    """Searches of many positions at once, without noise, each in a fresh tree."""

    def search(states: Sequence[State], simulations: int) -> list[SearchResult]:
        from az.engine.search.many import search_many  # late: the search compiles or loads kernels

        keys = [0] * len(states)  # nothing is drawn at random, so the keys do not matter
        return search_many(game, evaluator, np.stack(states), quiet(params, simulations), keys)

    return search


def whole_results(
    game: Game, roots: Sequence[State], results: Sequence[SearchResult], search: SearchStates
) -> list[WholeResult]:
    """One answer in whole moves for each root; `search` looks at the positions in the middle of a branching jump."""
    trees = [_HopTree(game, root, result, game.moves(root)) for root, result in zip(roots, results, strict=True)]
    while wanted := [(tree, hops, budget) for tree in trees for hops, budget in tree.wanted()]:
        for simulations in sorted({budget for _, _, budget in wanted}):
            group = [(tree, hops) for tree, hops, budget in wanted if budget == simulations]
            answers = search([game.play(tree.root, hops) for tree, hops in group], simulations)
            for (tree, hops), answer in zip(group, answers, strict=True):
                tree.results[hops] = answer
    return [tree.answer() for tree in trees]


def whole_result_of(
    game: Game,
    root: State,
    result: SearchResult,
    moves: Mapping[str, Hops],
    after: Callable[[Hops, int], SearchResult],
) -> WholeResult:
    """The answer for a root of which only these moves may be played; after: (hops, simulations) -> a search there."""
    tree = _HopTree(game, root, result, moves)
    while wanted := tree.wanted():
        for hops, budget in wanted:
            tree.results[hops] = after(hops, budget)
    return tree.answer()


def whole_texts(game: Game, state: State, actions: Hops) -> tuple[str, ...]:
    """Whole moves along a line of actions; a last move that the line leaves unfinished is dropped."""
    texts: list[str] = []
    while actions:
        found = next(((t, hops) for t, hops in game.moves(state).items() if actions[: len(hops)] == hops), None)
        if found is None:
            break
        text, hops = found
        texts.append(text)
        state, actions = game.play(state, hops), actions[len(hops) :]
    return tuple(texts)


def ranked(whole: WholeResult) -> list[WholeMove]:
    """The moves, the best one first, then by their shares."""
    return sorted(whole.moves, key=lambda move: (move is not whole.best, -move.share, -move.prior))


def line_of(
    game: Game, state: State, whole: WholeResult, move: WholeMove, lines: Mapping[int, Hops]
) -> tuple[str, ...]:
    """The line that a search expects after a move of its answer, beginning with it; `lines`: of each tried action."""
    line = lines.get(move.actions[0], ())
    if move is whole.best:
        return whole.pv
    if line[: len(move.actions)] == move.actions:
        return whole_texts(game, state, line)
    return (move.text,)


def _shares(result: SearchResult) -> NDArray[np.float64]:
    total = int(result.visits.sum())
    raw = result.visits.astype(np.float64) if total else result.policy.astype(np.float64)
    return raw / raw.sum()


@dataclass
class _HopTree:
    """The whole moves of one root as a tree of hops; `results` holds a search for every place where it branches."""

    game: Game
    root: State
    first: SearchResult
    moves: Mapping[str, Hops]  # those that may be played
    options: dict[Hops, list[int]] = field(init=False)  # hops so far -> the next hops
    results: dict[Hops, SearchResult] = field(init=False)

    def __post_init__(self) -> None:
        self.options = {}
        for hops in self.moves.values():
            for length in range(len(hops)):
                following = self.options.setdefault(hops[:length], [])
                if hops[length] not in following:
                    following.append(hops[length])
        self.results = {(): self.first}

    def wanted(self) -> list[tuple[Hops, int]]:
        """Branchings not searched yet whose branchings above are known, with the simulations each deserves."""
        found: list[tuple[Hops, int]] = []
        for hops, following in self.options.items():
            if len(following) < 2 or hops in self.results:
                continue
            above = self._last_branch(hops)
            if above in self.results:
                found.append((hops, self._budget(above, hops[len(above)])))
        return found

    def _last_branch(self, hops: Hops) -> Hops:
        lengths = range(len(hops) - 1, 0, -1)
        return next((hops[:length] for length in lengths if len(self.options[hops[:length]]) > 1), ())

    def _budget(self, above: Hops, action: int) -> int:
        if not self.first.visits.any():
            return 0  # the network alone was asked
        result = self.results[above]
        return max(1, int(result.visits[_index(result, action)]))

    def _whole(self, text: str, hops: Hops) -> WholeMove:
        share = prior = 1.0
        value, proven = self.first.value, UNKNOWN
        for length in range(len(hops)):
            result = self.results.get(hops[:length])
            if result is None:
                continue  # a hop without a choice: probability 1, the value above holds
            index = _index(result, hops[length])
            share *= float(_shares(result)[index])
            prior *= float(result.priors[index])
            value, proven = float(result.values[index]), int(result.proven[index])
        return WholeMove(text, hops, share, prior, value, proven)

    def answer(self) -> WholeResult:
        moves = [self._whole(text, hops) for text, hops in self.moves.items()]
        shares, priors = sum(m.share for m in moves), sum(m.prior for m in moves)
        moves = [replace(m, share=_part(m.share, shares, moves), prior=_part(m.prior, priors, moves)) for m in moves]
        best, line = self._best_line()
        chosen = next(m for m in moves if m.actions == best)
        pv = whole_texts(self.game, self.root, line)
        return WholeResult(
            tuple(moves), chosen, float(self.first.value), int(self.first.root_proven), int(self.first.simulations), pv
        )

    def _best_line(self) -> tuple[Hops, Hops]:
        """The best whole move, hop by hop, and the longest line known that begins with it."""
        hops: Hops = ()
        line = tuple(int(action) for action in self.first.pv)
        while hops in self.options:
            result = self.results.get(hops)
            hops += (int(result.best),) if result is not None else (self.options[hops][0],)
            if result is not None and result is not self.first:
                line = hops[:-1] + tuple(int(action) for action in result.pv)
            if line[: len(hops)] != hops:
                line = hops
        return hops, line


def _part(amount: float, total: float, moves: Sequence[WholeMove]) -> float:
    """A share of exactly 1 in all: float32 priors sum to 1 only nearly."""
    return amount / total if total > 0 else 1 / len(moves)


def _index(result: SearchResult, action: int) -> int:
    return int(np.flatnonzero(result.actions == action)[0])
