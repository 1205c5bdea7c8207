"""Named configurations: `seed` is the founding description to the letter; `quick` is for minutes on two CPU cores,
`long` for hours there, `gpu` for a machine with a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from az.engine.errors import WrongRequest
from az.engine.game import Game, load_game
from az.train.config import ArenaConfig, LearnerConfig, NetConfig, ReplayConfig, RunConfig, SelfplayConfig, check


def seed(game: Game) -> RunConfig:
    """The founding description: every record's defaults."""
    return RunConfig(game=game.name, preset="seed")


@dataclass(frozen=True)
class Quick:
    """What preset `quick` chooses for a game by its size, or by measurement where docs/log.md says so."""

    blocks: int
    channels: int
    minutes: float
    batch: int
    simulations: int
    opening_plies: int
    noisy_plies: int = 30
    c_scale: float = 0.25
    prove: int = 0
    row_value: str = "mean"
    td_lambda: float = 1.0
    average: float = 0.0


SHARP: dict[str, Any] = {"c_scale": 1.0, "row_value": "policy", "td_lambda": 0.95, "average": 0.99}

QUICK = {
    "tictactoe": Quick(blocks=2, channels=32, minutes=1.5, batch=128, simulations=16, opening_plies=2),
    "connect4": Quick(
        blocks=4,
        channels=32,
        minutes=5.0,
        batch=128,
        simulations=32,
        opening_plies=20,
        noisy_plies=10,
        c_scale=0.5,
        prove=30,
        row_value="policy",
        td_lambda=0.9,
        average=0.999,
    ),
    "othello6": Quick(blocks=4, channels=32, minutes=15.0, batch=128, simulations=32, opening_plies=4, **SHARP),
    "othello": Quick(blocks=5, channels=48, minutes=30.0, batch=256, simulations=40, opening_plies=6, **SHARP),
    "checkers": Quick(blocks=5, channels=48, minutes=60.0, batch=256, simulations=24, opening_plies=6),
    "gomoku9": Quick(blocks=5, channels=48, minutes=60.0, batch=256, simulations=32, opening_plies=6),
    "hex": Quick(blocks=5, channels=48, minutes=90.0, batch=256, simulations=32, opening_plies=4, **SHARP),
    "gomoku": Quick(blocks=5, channels=48, minutes=240.0, batch=256, simulations=32, opening_plies=6),
}


def quick_choice(game: Game) -> Quick:
    """The choice for a game; one that is not listed gets that of a listed game with a board of its size."""
    cells = game.planes_shape[1] * game.planes_shape[2]
    like = "tictactoe" if cells <= 16 else "connect4" if cells <= 42 else "othello"
    opening = min(QUICK[like].opening_plies, game.max_plies // 10)  # how many a game bears is known of the listed ones
    return QUICK.get(game.name, replace(QUICK[like], opening_plies=opening))


def quick(game: Game) -> RunConfig:
    """Minutes on two CPU cores: a small network, few simulations for every move, every row used three times.

    Gumbel search learns from every move of a game already at 16 to 40 simulations (Danihelka et al. 2022), which made
    seven times the rows a second of PUCT with 96 simulations on a quarter of the moves (docs/log.md).
    """
    choice = quick_choice(game)
    return RunConfig(
        game=game.name,
        preset="quick",
        minutes=choice.minutes,
        net=NetConfig(
            choice.channels, choice.blocks, policy_channels=8, value_channels=4, value_hidden=32, bn_momentum=0.05
        ),
        learner=LearnerConfig(
            batch=choice.batch,
            learning_rate=2e-3,
            warmup_steps=50,
            lr_final_fraction=0.05,
            masked_loss=True,
            symmetries=True,
            q_mix=0.2,
            td_lambda=choice.td_lambda,
            average=choice.average,
            grad_clip=5.0,
            precision="auto",
        ),
        replay=ReplayConfig(
            window_start=10_000,
            window_exponent=0.65,
            min_rows=1_500,
            reuse=3.0,
            publish_every_steps=100,
        ),
        selfplay=SelfplayConfig(
            simulations=choice.simulations,
            fast_simulations=choice.simulations,
            algorithm="gumbel",
            c_scale=choice.c_scale,
            fpu_reduction=0.2,
            opening_plies=choice.opening_plies,
            temperature_plies=choice.noisy_plies,
            row_value=choice.row_value,
            solve=True,
            prove=choice.prove,
            skip_forced=True,
            slots=32,
        ),
        arena=ArenaConfig(games=20, simulations=25, opponent="rollouts:100", per_run=4),
    )


LONG_MINUTES = 600.0


def long(game: Game) -> RunConfig:
    """Hours on two CPU cores: the settings of the shipped connect four (docs/decisions.md), for the other games too.

    A larger network, proofs, averaged weights, each row used four times. Measured on connect four alone.
    """
    config, choice = quick(game), quick_choice(game)
    learner = replace(config.learner, batch=256, learning_rate=1.5e-3, td_lambda=0.9, average=0.999)
    selfplay = replace(
        config.selfplay,
        simulations=32,
        fast_simulations=32,
        c_scale=0.5,
        prove=60,
        row_value="policy",
        temperature_plies=10,
        opening_plies=max(choice.opening_plies, min(20, game.max_plies // 4)),
    )
    small = game.planes_shape[1] * game.planes_shape[2] <= 16
    return replace(
        config,
        preset="long",
        minutes=LONG_MINUTES,
        net=replace(config.net, channels=32, blocks=4) if small else NetConfig(64, 5, 8, 4, 64, bn_momentum=0.05),
        learner=learner,
        replay=replace(config.replay, reuse=4.0, publish_every_steps=200),
        selfplay=selfplay,
        arena=replace(config.arena, games=0, per_run=0),
    )


def gpu(game: Game) -> RunConfig:
    """A GPU beside many cores: `long` with larger batches on both sides. Not measured yet: no GPU was to be had."""
    config = long(game)
    return replace(
        config,
        preset="gpu",
        minutes=60.0,
        net=replace(config.net, channels=96, blocks=6),
        learner=replace(config.learner, batch=1024, learning_rate=2e-3),
        selfplay=replace(config.selfplay, slots=256),
    )


PRESETS: dict[str, Callable[[Game], RunConfig]] = {"quick": quick, "long": long, "gpu": gpu, "seed": seed}


def preset(game_name: str, preset_name: str) -> RunConfig:
    """The preset's configuration for that game. Raises WrongRequest naming the games or the presets there are."""
    game = load_game(game_name)
    if preset_name not in PRESETS:
        near = get_close_matches(preset_name, PRESETS, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise WrongRequest(f"there is no preset '{preset_name}': {hint}the presets are {', '.join(PRESETS)}.")
    config = replace(PRESETS[preset_name](game), game=game_name)
    check(config)
    return config
