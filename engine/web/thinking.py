"""What an engine thinks of a position, step by step: its move, an analysis that goes on, a player's choice.

Every value is in [-1, +1], from the view of the player to move; shares and priors sum to 1.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from az.engine.game import Game, State
from az.engine.inference.evaluator import Evaluator
from az.engine.players.opponent import whole_move
from az.engine.players.slices import Stop
from az.engine.search.params import UNKNOWN, SearchParams
from az.engine.search.result import SearchResult
from az.engine.search.whole_moves import WholeResult, line_of, quiet, ranked, searcher, whole_results

if TYPE_CHECKING:  # they load the compiler: the page comes first
    from az.engine.players import Player
    from az.engine.search.tree_search import TreeSearch

Json = dict[str, Any]
SLICE = 64  # simulations between two looks at the clock and at other questions
FIRST_SLICE = 16
TELL_EVERY = 0.15  # seconds
AFTER_HOPS = 400  # simulations at most for a position in the middle of a multiple jump
LEAVES = 8
TREES = 4  # kept for that many pages: a page's next position is often in the tree of its last one
SHOWN_LINE = 16  # moves of a line


class Searcher:
    """One model's search for the pages that ask; used by one thread."""

    def __init__(self, game: Game, evaluator: Evaluator) -> None:
        self.game, self.evaluator = game, evaluator
        self.params = quiet(SearchParams(leaves=LEAVES), SLICE)
        self.search = searcher(game, evaluator, self.params)
        self._trees: OrderedDict[str, TreeSearch] = OrderedDict()

    def tree_of(self, page: str) -> TreeSearch:
        """The tree of a page; a new one for a page that has none."""
        from az.engine.search.tree_search import TreeSearch

        tree = self._trees.pop(page, None) or TreeSearch(self.game, self.evaluator, self.params)
        self._trees[page] = tree
        while len(self._trees) > TREES:
            self._trees.popitem(last=False)
        return tree

    def think(
        self,
        page: str,
        state: State,
        simulations: int | None = None,
        visits: int | None = None,
        seconds: float | None = None,
    ) -> Iterator[Json | None]:
        """Answers that deepen; the last has "done": True.

        simulations: new ones. visits: of the root in all, those of earlier questions too. seconds: to think. Exactly
        one of the three is given. Ends earlier where the result is proven.
        """  # fmt: skip
        tree = self.tree_of(page)
        begun = last = time.monotonic()
        made, piece, at_root = 0, FIRST_SLICE, 0
        while True:
            if simulations is not None:
                piece = min(piece, simulations - made)
            elif visits is not None:
                piece = max(0, min(piece, visits - at_root))
            result = tree.search(state, simulations=piece)
            made, at_root, now = made + piece, self._visits(result), time.monotonic()
            enough = (
                made >= simulations if simulations is not None
                else at_root >= visits if visits is not None
                else now - begun >= (seconds or 0)
            )  # fmt: skip
            done, piece = enough or bool(tree.is_settled()), SLICE
            if done or now - last >= TELL_EVERY or made <= FIRST_SLICE:
                last = now
                yield {**self.answer(tree, state, result), "seconds": now - begun, "done": done}
            else:
                yield None
            if done:
                return

    def _visits(self, result: SearchResult) -> int:
        return int(result.visits.sum())

    def answer(self, tree: TreeSearch, state: State, result: SearchResult) -> Json:
        """What a page shows of a search: every legal move, the best ones first."""
        whole = whole_results(self.game, [state], [result], self._after_hops)[0]
        found = told(whole, self._visits(result))
        lines = tree.lines()
        for move, told_move in zip(ranked(whole), found["moves"], strict=True):
            told_move["line"] = list(line_of(self.game, state, whole, move, lines)[:SHOWN_LINE])
        return {**found, "network": self.network_value(state)}

    def _after_hops(self, states: Sequence[State], simulations: int) -> list[SearchResult]:
        return self.search(states, min(simulations, AFTER_HOPS))

    def network_value(self, state: State) -> float:
        """The network's own value of a position, without a search."""
        planes = self.game.planes(state)[None]
        logits, values = np.zeros((1, self.game.num_actions), np.float32), np.zeros(1, np.float32)
        self.evaluator.evaluate(planes, logits, values)
        return float(values[0])

    def at_level(self, state: State, level: int, seed: int, ply: int) -> Iterator[Json | None]:
        """The move of a level; the same for the same seed and ply."""
        from az.engine.players.levels import LevelPlayer

        player = LevelPlayer(self.evaluator, level, self.params)
        return choice(player, state, seed, ply, player.params.simulations)


def choice(
    player: Player, state: State, seed: int, ply: int, simulations: int = 0, stop: Stop | None = None
) -> Iterator[Json | None]:
    """The move of any player, which says nothing about its chances; stop: as in `whole_move`."""
    begun = time.monotonic()
    hops = whole_move(player, state, seed, ply, stop=stop)
    text = next(text for text, found in player.game.moves(state).items() if found == hops)
    yield {
        "best": text, "moves": [], "visits": simulations, "value": None, "seconds": time.monotonic() - begun,
        "done": True,
    }  # fmt: skip


def told(whole: WholeResult, visits: int) -> Json:
    """A search's answer as JSON."""
    return {
        "best": whole.best.text,
        "value": whole.value,
        "proven": None if whole.proven == UNKNOWN else whole.proven,
        "visits": visits,
        "moves": [
            {
                "text": move.text, "share": move.share, "prior": move.prior, "value": move.value,
                "proven": None if move.proven == UNKNOWN else move.proven,
            }
            for move in ranked(whole)
        ],
    }  # fmt: skip
