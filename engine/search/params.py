"""What a search depends on besides the model, the position with its history, and the seed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SearchParams:
    """Defaults are for playing strength: no noise, no randomness."""

    simulations: int = 200  # new walks from the root for each move; 0 = the network alone
    algorithm: str = "puct"  # "puct" or "gumbel"
    c_puct: float = 1.5  # exploration constant; Silver et al. 2017
    fpu_reduction: float = 0.2  # an unvisited move is worth the node's value minus this times sqrt(prior mass visited)
    noise_fraction: float = 0.0  # share of Dirichlet noise in the root's priors; AlphaZero: 0.25
    noise_alpha: float = 10.0  # the Dirichlet's alpha is this divided by the number of legal moves
    root_temperature: float = 3.0  # softmax temperature of the root's prior in PUCT; measured: docs/decisions.md
    gumbel_considered: int = 16  # moves that sequential halving starts with; Danihelka et al. 2022
    gumbel_scale: float = 0.0  # 1 in self-play (sampling without replacement), 0 in play
    c_visit: float = 50.0  # Danihelka et al. 2022: sigma(q) = (c_visit + max visits) * c_scale * q
    c_scale: float = 1.0
    leaves: int = 1  # leaves in flight in one tree (virtual loss)
    solve: bool = True  # proven wins and losses are backed up exactly
    prove: int = 100  # positions of an exact search to the end for each simulation, near the end of a game; 0 = off


UNKNOWN = 2  # not proven; LOSS, DRAW, WIN (-1, 0, 1) are proven


def leaves_for(simulations: int) -> int:
    """Leaves in flight where one tree alone must fill a batch: one for every fifty simulations, 32 at most."""
    return min(32, max(1, simulations // 50))
