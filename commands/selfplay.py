"""`az selfplay`: from a person's request to record files."""

from __future__ import annotations

import sys
import time
from dataclasses import fields, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from az.engine.errors import WrongRequest
from az.engine.inference.model_resolver import resolve_model
from az.engine.inference.onnx_evaluator import provider_line
from az.engine.inference.precision import load_precision
from az.engine.selfplay.batch import SelfplayConfig
from az.engine.selfplay.to_files import Progress, prepare_folder, selfplay_to_files
from az.engine.selfplay.warmup import warm_up
from az.engine.settings import parse_value


def configured(settings: list[str], simulations: int, batch: int) -> SelfplayConfig:
    """The parameters of self-play with settings such as "temperature=1" laid over them. Raises WrongRequest."""
    config = SelfplayConfig(simulations=simulations, fast_simulations=simulations, slots=batch)
    known = {item.name: item for item in fields(SelfplayConfig)}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        name = name.removeprefix("selfplay.")
        if not equals or name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]}=…?" if near else f"the keys are {', '.join(known)}."
            raise WrongRequest(f"'{setting}' is not a setting KEY=VALUE of self-play: {hint}")
        config = replace(config, **{name: parse_value(name, text, known[name])})
    if config.fast_simulations > config.simulations:
        raise WrongRequest(f"fast_simulations is {config.fast_simulations}: it must not be above --sims.")
    return config


def selfplay_command(
    model: str,
    games: int,
    seed: int,
    out: Path,
    threads: int,
    batch: int,
    simulations: int,
    settings: list[str],
    quiet: bool,
    start: int | None = None,
) -> dict[str, Any]:
    """Play and write; returns the figures. Progress goes to stderr. start: number of the first game, if not 0."""
    config = configured(settings, simulations, batch)
    path = resolve_model(model)
    first, why = load_precision(path, None, config.precision, batch=config.gpu_batch)
    prepare_folder(out, None if start is None else range(start, start + games))
    if not quiet:
        print(f"self-play in {why}; {provider_line(first)}", file=sys.stderr)
    warm_up(first.game, lambda text: print(text, file=sys.stderr))
    begun = shown = time.monotonic()

    def show(progress: Progress) -> None:
        nonlocal shown
        if not quiet and time.monotonic() - shown >= 5.0:
            shown = time.monotonic()
            print(f"{progress.games}/{games} games, {progress.rows} rows", file=sys.stderr)

    made = selfplay_to_files(first, config, games, seed, out, threads, show, start)
    seconds = time.monotonic() - begun
    return {
        "games": made.games,
        "rows": made.rows,
        "plies": made.plies,
        "simulations": made.simulations,
        "precision": first.precision,
        "first_wins": made.wins,
        "draws": made.draws,
        "seconds": seconds,
        "simulations_per_s": made.simulations / seconds,
        "files": len(made.files),
        "out": str(out),
    }
