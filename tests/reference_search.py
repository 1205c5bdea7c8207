"""The search once more, slow and obvious: objects, recursion, one position at a time. Tests compare it with the real
one number by number, so it must be written from the papers and the design, never copied from the kernels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from az.engine.game import LOSS, ONGOING, WIN, Game, State
from az.engine.search.params import SearchParams

ONLY_MOVES = 16  # in a row, after which the network is asked all the same


@dataclass
class Edge:
    """One legal action of a node. Numbers are in the view of the node that it leaves."""

    action: int
    prior: float
    logit: float
    visits: int = 0
    total: float = 0.0
    proven: int | None = None
    child: Node | None = None

    @property
    def plies(self) -> int:
        """To the end of the game; of a proven move."""
        assert self.child is not None
        return self.child.plies

    def q(self, unvisited: float) -> float:
        if self.proven is not None:
            return float(self.proven)
        return self.total / self.visits if self.visits else unvisited


@dataclass
class Node:
    """A position. Numbers are in the view of its player to move."""

    state: State
    raw: float = 0.0
    visits: int = 0
    total: float = 0.0
    proven: int | None = None
    plies: int = 0  # to the end of the game, where proven
    edges: list[Edge] = field(default_factory=list)

    @property
    def player(self) -> int:
        return int(self.state[0])


class ReferenceSearch:
    """One tree. `root_priors` and `gumbel` hold the root's noise, by edge; it is given, not drawn."""

    def __init__(self, game: Game, evaluator, params: SearchParams, state: State, root_priors=None, gumbel=None):
        self.game, self.evaluator, self.params = game, evaluator, params
        self.root = Node(state.copy())
        self.judge(self.root)
        self.root.visits, self.root.total = 1, self.root.raw
        self.root_priors = root_priors if root_priors is not None else [e.prior for e in self.root.edges]
        self.gumbel = gumbel if gumbel is not None else [0.0] * len(self.root.edges)
        self.wanted = self.halving(min(params.gumbel_considered, len(self.root.edges)), params.simulations)
        for step in range(params.simulations):
            self.step = step
            self.walk(self.root)

    def judge(self, node: Node) -> None:
        """Ask the network; an edge for each legal action."""
        planes = self.game.planes(node.state)[None]
        logits, values = np.zeros((1, self.game.num_actions), np.float32), np.zeros(1, np.float32)
        self.evaluator.evaluate(planes, logits, values)
        actions = np.flatnonzero(self.game.mask(node.state)).tolist()
        top = max(float(logits[0, a]) for a in actions)
        mass = sum(math.exp(float(logits[0, a]) - top) for a in actions)
        for action in actions:
            logit = float(np.float32(float(logits[0, action]) - (top + math.log(mass))))
            prior = float(np.float32(math.exp(float(logits[0, action]) - top) / mass))
            node.edges.append(Edge(action, prior, logit))
        node.raw = float(values[0])

    def walk(self, node: Node) -> float:
        """One simulation through this node; what it is worth for the node's player."""
        if node is not self.root and node.proven is not None and (self.params.solve or not node.edges):
            value = float(node.proven)
            node.visits, node.total = node.visits + 1, node.total + value
            return value
        edge = self.choose(node)
        child = edge.child
        if child is None:
            child = edge.child = Node(self.game.play(node.state, (edge.action,)))
            value = self.first_visit(child)
        else:
            value = self.walk(child)
        return self.back_up(node, edge, child, value)

    def first_visit(self, node: Node, only_moves: int = 0) -> float:
        """What a new node is worth: its result, what its only move is worth, or what the network says."""
        result = int(self.game.outcome(node.state))
        actions = np.flatnonzero(self.game.mask(node.state)).tolist()
        if result == ONGOING and len(actions) == 1 and only_moves < ONLY_MOVES:
            edge = Edge(actions[0], 1.0, 0.0)
            node.edges.append(edge)
            edge.child = Node(self.game.play(node.state, (edge.action,)))
            value = self.first_visit(edge.child, only_moves + 1)
            node.raw = value if edge.child.player == node.player else -value
            return self.back_up(node, edge, edge.child, value)
        if result == ONGOING:
            self.judge(node)
            value = node.raw
        else:
            node.proven = result
            value = float(result)
        node.visits, node.total = 1, value
        return value

    def back_up(self, node: Node, edge: Edge, child: Node, value: float) -> float:
        """Add the child's value to the edge and the node; what the walk is worth for the node's player."""
        sign = 1 if child.player == node.player else -1
        value *= sign
        edge.visits, edge.total = edge.visits + 1, edge.total + value
        if self.params.solve and child.proven is not None and edge.proven is None:
            edge.proven = sign * child.proven
            if self.prove(node) and node.proven is not None:
                value = float(node.proven)
        node.visits, node.total = node.visits + 1, node.total + value
        return value

    def prove(self, node: Node) -> bool:
        wins = [e.plies for e in node.edges if e.proven == WIN]
        if wins:
            node.proven, node.plies = WIN, 1 + min(wins)
        elif len(proven := [e.proven for e in node.edges if e.proven is not None]) == len(node.edges):
            node.proven = max(proven)
            node.plies = 1 + max(e.plies for e in node.edges)
        return node.proven is not None

    def choose(self, node: Node) -> Edge:
        untried = [edge for edge in node.edges if not edge.visits]
        if node is self.root and node.proven == WIN and node.plies > 1 and untried:
            return untried[0]  # it may win at once
        for edge in node.edges:
            if edge.proven == WIN:
                return edge
        options = [e for e in node.edges if e.proven != LOSS] or node.edges
        if self.params.algorithm == "puct":
            return max(options, key=self.puct(node))
        if node is self.root:
            return self.halved(options)
        improved = dict(zip(map(id, node.edges), self.improved(node, node.edges), strict=True))
        total = sum(e.visits for e in node.edges)
        return max(options, key=lambda e: improved[id(e)] - e.visits / (1 + total))

    def puct(self, node: Node):
        priors = self.root_priors if node is self.root else [e.prior for e in node.edges]
        prior_of = {id(e): float(p) for e, p in zip(node.edges, priors, strict=True)}
        seen = sum(e.prior for e in node.edges if e.visits)
        unvisited = max(-1.0, node.total / node.visits - self.params.fpu_reduction * math.sqrt(seen))
        explore = self.params.c_puct * math.sqrt(node.visits)
        return lambda e: e.q(unvisited) + explore * prior_of[id(e)] / (1 + e.visits)

    @staticmethod
    def halving(considered: int, simulations: int) -> list[int]:
        """Of each simulation: the visits that the edge must have had (log2 m phases, an equal share to each)."""
        wanted: list[int] = []
        rounds, left = 0, considered
        phases = max(1, math.ceil(math.log2(considered)))
        while len(wanted) < simulations:
            if considered == 1:
                return list(range(simulations))
            extra = max(1, simulations // (phases * left))
            for _ in range(extra):
                wanted += [rounds] * left
                rounds += 1
            left = max(2, left // 2)
        return wanted[:simulations]

    def completed(self, node: Node) -> list[float]:
        """Each edge's q; of the unvisited the mixed value, Danihelka et al. 2022, equation 33."""
        tried = [e for e in node.edges if e.visits]
        mixed = node.raw
        mass = sum(e.prior for e in tried)
        if mass > 0:
            visits = sum(e.visits for e in tried)
            mixed = (node.raw + visits / mass * sum(e.prior * e.q(0.0) for e in tried)) / (1 + visits)
        return [e.q(mixed) for e in node.edges]

    def scores(self, node: Node) -> list[float]:
        """logit + sigma(q), q from [-1, +1] brought to half its range (the paper's is [0, 1])."""
        sigma = (self.params.c_visit + max(e.visits for e in node.edges)) * self.params.c_scale
        return [e.logit + sigma * q / 2 for e, q in zip(node.edges, self.completed(node), strict=True)]

    def improved(self, node: Node, options: list[Edge]) -> list[float]:
        """softmax of the scores over the options, 0 elsewhere."""
        chosen = {id(e) for e in options}
        scores = [s if id(e) in chosen else -math.inf for e, s in zip(node.edges, self.scores(node), strict=True)]
        top = max(scores)
        mass = sum(math.exp(s - top) for s in scores)
        return [math.exp(s - top) / mass for s in scores]

    def root_scores(self) -> dict[int, float]:
        scores = self.scores(self.root)
        scale = self.params.gumbel_scale
        return {id(e): scale * float(g) + s for e, g, s in zip(self.root.edges, self.gumbel, scores, strict=True)}

    def halved(self, options: list[Edge]) -> Edge:
        scores = self.root_scores()
        ripe = [e for e in options if e.visits == self.wanted[self.step]]
        if not ripe:
            fewest = min(e.visits for e in options)
            ripe = [e for e in options if e.visits == fewest]
        return max(ripe, key=lambda e: scores[id(e)])

    def playable(self) -> list[Edge]:
        """Wins only where there are some; no loss where there is anything else."""
        edges = self.root.edges
        return [e for e in edges if e.proven == WIN] or [e for e in edges if e.proven != LOSS] or edges

    def policy(self) -> list[float]:
        options = self.playable()
        if self.params.algorithm == "gumbel":
            return self.improved(self.root, options)
        chosen = {id(e) for e in options}
        visits = sum(e.visits for e in options)
        weight = (lambda e: e.visits) if visits else (lambda e: e.prior)
        total = sum(weight(e) for e in options)
        return [weight(e) / total if id(e) in chosen else 0.0 for e in self.root.edges]

    def best(self) -> Edge:
        options = self.playable()
        scores = self.root_scores()
        minor = (lambda e: scores[id(e)]) if self.params.algorithm == "gumbel" else (lambda e: e.prior)
        if options[0].proven == WIN:
            return max(options, key=lambda e: (-e.plies, e.prior))
        if all(e.proven == LOSS for e in options):
            return max(options, key=lambda e: (e.plies, e.prior))
        return max(options, key=lambda e: (e.visits, minor(e)))
