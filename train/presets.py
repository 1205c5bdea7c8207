"""Named configurations. `seed` is the founding description to the letter; `quick` learns fast on two CPU cores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches

from az.engine.errors import WrongRequest
from az.engine.game import Game, load_game
from az.train.config import LearnerConfig, NetConfig, ReplayConfig, RunConfig, SelfplayConfig, check


def seed(game: Game) -> RunConfig:
    """The founding description: every record's defaults."""
    return RunConfig(game=game.name, preset="seed")


# (blocks, channels) of the games that are at hand; another game gets what its board's size suggests.
QUICK_NETS = {"tictactoe": (2, 32), "connect4": (4, 32), "othello6": (4, 32), "othello": (5, 48), "checkers": (5, 48)}
QUICK_PLIES = {"tictactoe": 4, "connect4": 12, "othello6": 12, "othello": 16, "checkers": 30}


def quick(game: Game) -> RunConfig:
    """Minutes on two CPU cores: a small network, cheap searches between recorded ones, every row used often."""
    _, height, width = game.planes_shape
    cells = height * width
    blocks, channels = QUICK_NETS.get(game.name, (2, 32) if cells <= 16 else (4, 32) if cells <= 42 else (5, 48))
    small = cells <= 16
    return RunConfig(
        game=game.name,
        preset="quick",
        minutes=2.0 if small else 20.0,
        net=NetConfig(channels, blocks, policy_channels=8, value_channels=4, value_hidden=32, bn_momentum=0.05),
        learner=LearnerConfig(
            batch=256 if small else 512,
            learning_rate=2e-3,
            warmup_steps=50,
            lr_final_fraction=0.05,
            masked_loss=True,
            symmetries=True,
            grad_clip=5.0,
        ),
        replay=ReplayConfig(
            window_start=10_000,
            window_exponent=0.65,
            min_rows=1_000 if small else 4_000,
            reuse=5.0,
            publish_every_steps=50 if small else 100,
        ),
        selfplay=SelfplayConfig(
            simulations=64 if small else 96,
            fast_simulations=16 if small else 24,
            full_fraction=0.25,
            c_puct=1.5,
            fpu_reduction=0.2,
            temperature_plies=QUICK_PLIES.get(game.name, max(4, cells // 4)),
            opening_plies=2 if small else 4,
            solve=True,
            slots=64,
        ),
    )


PRESETS: dict[str, Callable[[Game], RunConfig]] = {"quick": quick, "seed": seed}


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
