"""Self-play of connect four with mctx and pgx, on the CPU: simulations a second of both cores together.

The search is `mctx.muzero_policy`, because it is PUCT with Dirichlet noise at the root like az's preset `seed`
(`gumbel_muzero_policy` is another algorithm). It searches the real game: the step function plays the move in pgx's own
connect four, changes the sign of the value (discount -1) and asks the network about the position reached. Games that
end start again. A whole move of all games is one compiled call. Compiling and one call are not timed.

A simulation is one call of the step function for one game, the network's included: mctx calls it beyond the end of a
game too. The evaluation of the root is not counted.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import time
from typing import Any

# JAX reads these when it is imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import mctx
import pgx
from report import median, show

CHANNELS, BLOCKS, BN_EPSILON = 64, 5, 1e-5
ENV = pgx.make("connect_four")
ACTIONS = ENV.num_actions
HEIGHT, WIDTH, PLANES = ENV.observation_shape
OPENING_PLIES = 30  # random ones, with restarts, so that the games in flight are at different plies

Params = dict[str, Any]
Array = jax.Array


def stem_params(key: Array, inputs: int, outputs: int, size: int) -> Params:
    """A convolution without bias and its batch norm."""
    kernel = jax.nn.initializers.glorot_uniform()(key, (size, size, inputs, outputs))
    norm = {"scale": jnp.ones(outputs), "offset": jnp.zeros(outputs)}
    return {"kernel": kernel, **norm, "mean": jnp.zeros(outputs), "variance": jnp.ones(outputs)}


def dense_params(key: Array, inputs: int, outputs: int) -> Params:
    """A dense layer with its bias."""
    return {"kernel": jax.nn.initializers.glorot_uniform()(key, (inputs, outputs)), "bias": jnp.zeros(outputs)}


def network_params(key: Array) -> Params:
    """The network of az's preset `seed` with random weights."""
    keys = iter(jax.random.split(key, 5 + 2 * BLOCKS))
    cells = HEIGHT * WIDTH
    return {
        "stem": stem_params(next(keys), PLANES, CHANNELS, 3),
        "blocks": [[stem_params(next(keys), CHANNELS, CHANNELS, 3) for _ in range(2)] for _ in range(BLOCKS)],
        "policy_stem": stem_params(next(keys), CHANNELS, 2, 1),
        "policy_out": dense_params(next(keys), 2 * cells, ACTIONS),
        "value_stem": stem_params(next(keys), CHANNELS, 1, 1),
        "value_out": dense_params(next(keys), cells, 1),
    }


def trainable(params: Params) -> int:
    """The number of parameters, without the running averages of batch norm."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return sum(leaf.size for path, leaf in leaves if path[-1].key not in ("mean", "variance"))


def convolve(p: Params, x: Array) -> Array:
    """Convolution and batch norm with its running averages."""
    x = jax.lax.conv_general_dilated(x, p["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    factor = p["scale"] * jax.lax.rsqrt(p["variance"] + BN_EPSILON)
    return x * factor + (p["offset"] - p["mean"] * factor)


def network(params: Params, observation: Array) -> tuple[Array, Array]:
    """[n, 6, 7, 2] -> logits [n, 7], values [n] from the view of the player to move."""
    x = jax.nn.relu(convolve(params["stem"], observation.astype(jnp.float32)))
    for first, second in params["blocks"]:
        x = jax.nn.relu(convolve(second, jax.nn.relu(convolve(first, x))) + x)
    policy = jax.nn.relu(convolve(params["policy_stem"], x)).reshape(len(x), -1)
    value = jax.nn.relu(convolve(params["value_stem"], x)).reshape(len(x), -1)
    logits = policy @ params["policy_out"]["kernel"] + params["policy_out"]["bias"]
    value = value @ params["value_out"]["kernel"] + params["value_out"]["bias"]
    return logits, jnp.tanh(value[:, 0])


def judge(params: Params, state: pgx.State) -> tuple[Array, Array]:
    """The network's answer with the moves that are not legal masked out."""
    logits, value = network(params, state.observation)
    return jnp.where(state.legal_action_mask, logits, jnp.finfo(jnp.float32).min), value


def search_step(params: Params, _: Array, action: Array, state: pgx.State) -> tuple[mctx.RecurrentFnOutput, pgx.State]:
    """One ply in the tree, of every game."""
    mover = state.current_player
    state = jax.vmap(ENV.step)(state, action)
    logits, value = judge(params, state)
    output = mctx.RecurrentFnOutput(
        reward=state.rewards[jnp.arange(len(mover)), mover],
        discount=jnp.where(state.terminated, 0.0, -1.0),
        prior_logits=logits,
        value=jnp.where(state.terminated, 0.0, value),
    )
    return output, state


def play(state: pgx.State, action: Array, key: Array) -> pgx.State:
    """One ply of every game; those that it ends start again."""
    state = jax.vmap(ENV.step)(state, action)
    fresh = jax.vmap(ENV.init)(jax.random.split(key, len(action)))

    def choose(new: Array, old: Array) -> Array:
        return jnp.where(state.terminated.reshape((-1,) + (1,) * (old.ndim - 1)), new, old)

    return jax.tree.map(choose, fresh, state)


@functools.partial(jax.jit, static_argnames="games")
def start(key: Array, games: int) -> pgx.State:
    """Games at different plies."""
    key, first = jax.random.split(key)

    def random_ply(_: int, carry: tuple[pgx.State, Array]) -> tuple[pgx.State, Array]:
        state, key = carry
        key, choice, reset = jax.random.split(key, 3)
        logits = jnp.where(state.legal_action_mask, 0.0, -jnp.inf)
        return play(state, jax.random.categorical(choice, logits), reset), key

    state = jax.vmap(ENV.init)(jax.random.split(first, games))
    return jax.lax.fori_loop(0, OPENING_PLIES, random_ply, (state, key))[0]


@functools.partial(jax.jit, static_argnames="simulations")
def selfplay_move(params: Params, state: pgx.State, key: Array, simulations: int) -> tuple[pgx.State, Array, Array]:
    """Search and play one move of every game: the state after it, the policy targets and the next key."""
    key, search_key, reset_key = jax.random.split(key, 3)
    logits, value = judge(params, state)
    output = mctx.muzero_policy(
        params=params,
        rng_key=search_key,
        root=mctx.RootFnOutput(prior_logits=logits, value=value, embedding=state),
        recurrent_fn=search_step,
        num_simulations=simulations,
        invalid_actions=~state.legal_action_mask,
    )
    return play(state, output.action, reset_key), output.action_weights, key


def measure(games: int, simulations: int, seconds: float, repeats: int) -> list[float]:
    """Simulations a second, once for each repetition of at least `seconds`."""
    params = network_params(jax.random.PRNGKey(0))
    state, key = start(jax.random.PRNGKey(1), games), jax.random.PRNGKey(2)
    state, weights, key = jax.block_until_ready(selfplay_move(params, state, key, simulations))
    runs = []
    for _ in range(repeats):
        moves, before = 0, time.perf_counter()
        while time.perf_counter() - before < seconds:
            state, weights, key = jax.block_until_ready(selfplay_move(params, state, key, simulations))
            moves += 1
        runs.append(round(moves * games * simulations / (time.perf_counter() - before), 1))
    if not bool(jnp.isfinite(weights).all()):
        raise SystemExit("the search answered with numbers that are not finite")
    return runs


def main() -> None:
    """Measure every number of games in flight; the best median is the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", default="16,64,256", help="numbers of games in flight to try, with commas")
    parser.add_argument("--simulations", type=int, default=100, help="simulations a move")
    parser.add_argument("--seconds", type=float, default=4.0, help="at least this long for a repetition")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    tried = {}
    for games in map(int, arguments.games.split(",")):
        tried[games] = measure(games, arguments.simulations, arguments.seconds, arguments.repeats)
        print(f"{games} games in flight: {median(tried[games]):,} simulations/s", file=sys.stderr)
    best = max(tried, key=lambda games: median(tried[games]))
    show(
        "mctx.muzero_policy + pgx connect_four",
        ("jax", "jaxlib", "mctx", "pgx"),
        network_parameters=trainable(network_params(jax.random.PRNGKey(0))),
        games_in_flight=best,
        simulations_per_move=arguments.simulations,
        simulations_per_s=median(tried[best]),
        runs=tried[best],
        tried={games: median(runs) for games, runs in tried.items()},
    )


if __name__ == "__main__":
    main()
