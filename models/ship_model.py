"""Make a run's newest model the one that ships: `python models/ship_model.py RUN [--quick] [--goes-on]`.

Copies it to models/GAME.onnx and measures it in the arena and on solved positions; the card models/GAME.json says how
it was trained and how it did, with intervals. The floors that the project set itself are in FIGURES. The run's newest
checkpoint goes to models/checkpoints/GAME, from where `az train GAME --from` goes on; it is not part of the package.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from az.engine.arena.match import play_match
from az.engine.game import load_game
from az.engine.inference.model_resolver import load_evaluator, newest_model
from az.engine.inference.precision import variant_of
from az.engine.players import make_player
from az.engine.score.positions import shipped
from az.engine.score.solved import answers, by_phase
from az.engine.search.params import SearchParams
from az.train import checkpoint
from az.train.config import RunConfig
from az.train.presets import preset
from az.train.run.folder import run_path

MODELS = Path(__file__).resolve().parent
# (opponent, simulations of the model, games); "untrained" is the run's own first network, or the one that is given
FIGURES = [("random", 0, 200), ("untrained", 50, 100), ("rollouts:200", 50, 100), ("rollouts:400", 200, 100)]
SIMULATIONS = (0, 100, 800)  # of the solved positions
PERFECT = {"tictactoe": [("minimax:9", 50, 200)]}


def cpu_name() -> str:
    """The processor, as the system names it."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def measure(game_name: str, model: Path, untrained: Path, scale: float) -> list[dict[str, Any]]:
    """The figures of the card; each line is printed as soon as it is known."""
    game = load_game(game_name)
    figures = []
    for opponent, simulations, games in PERFECT.get(game_name, []) + FIGURES:
        a = make_player(str(model), game, simulations)
        b = make_player(str(untrained) if opponent == "untrained" else opponent, game, simulations)
        b.name = opponent
        result = play_match(a, b, max(2, int(games * scale)), seed=1).to_json()
        figures.append({"opponent": opponent, "simulations": simulations, **result})
        print(json.dumps(figures[-1]), flush=True)
    return figures


def settings_of(config: RunConfig, source: RunConfig | None) -> list[str]:
    """What differs from the preset, as --set takes it; of the network, from the one that the run began --from."""
    usual = asdict(preset(config.game, config.preset))
    if source is not None:
        usual["net"] = asdict(source.net)
    found = []
    for section, values in asdict(config).items():
        changed = values.items() if isinstance(values, dict) else ()
        found += [f"{section}.{key}={value}" for key, value in changed if value != usual[section][key]]
    return found


def solved(game_name: str, model: Path) -> dict[str, Any]:
    """By simulations: how often the result is given away in the solved positions that az has, by phase."""
    game = load_game(game_name)
    known, found = shipped(game), {}
    for simulations in SIMULATIONS if known else ():
        given = answers(game, load_evaluator(str(model), game), known, SearchParams(simulations=simulations))
        phases = by_phase(known, given)
        found[str(simulations)] = {phase: part.to_json() for phase, part in phases.items()}
        print(simulations, {phase: part.thrown.to_json()["share"] for phase, part in phases.items()}, flush=True)
    return found


def history(found: checkpoint.Checkpoint, beside: str, source: RunConfig | None) -> dict[str, Any]:
    """How the run was trained, for its card. source: the configuration that it began --from."""
    config, counts = found.config, found.extra
    command = f"az train {config.game} --preset {config.preset}"
    return {
        "trained_by": " --set ".join([command, *settings_of(config, source)]),
        "minutes": round(counts["elapsed"] / 60, 1),
        "machine": f"{os.cpu_count()} cores, {cpu_name()}, {beside}",
        "games": counts["games"],
        "positions": counts["plies"],
        "simulations": counts["simulations"],
        "starts": counts["session"],
    }


def added(before: dict[str, Any], now: dict[str, Any]) -> dict[str, Any]:
    """The history of a run that began from the network of an earlier card, with that card's."""
    return {
        key: f"{before[key]}; then {'--from that: ' if key == 'trained_by' else ''}{value}"
        if isinstance(value, str)
        else round(before[key] + value, 1)
        for key, value in now.items()
    }


def main() -> None:
    """Read the run, measure, write model and card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--quick", action="store_true", help="a quarter of the games")
    parser.add_argument("--goes-on", action="store_true", help="it began --from the network that ships now")
    parser.add_argument("--untrained", type=Path, help="a network without training, where the run began --from another")
    parser.add_argument("--beside", default="shared with other work", help="what else the machine did, for the card")
    arguments = parser.parse_args()
    run = run_path(arguments.run)
    newest = newest_model(run / "models")
    found, _ = checkpoint.latest(run)
    if newest is None or found is None:
        raise SystemExit(f"{run} has no model to ship.")
    card = json.loads(newest.with_suffix(".json").read_text())
    target = MODELS / f"{card['game']}.onnx"
    kept = MODELS / "checkpoints" / card["game"]
    source = checkpoint.load(kept).config if arguments.goes_on else None
    told = history(found, arguments.beside, source)
    if arguments.goes_on:
        told = added(json.loads(target.with_suffix(".json").read_text()), told)
    untrained = arguments.untrained or run / "models" / "000000.onnx"
    shutil.copyfile(newest, target)
    variant = variant_of(target, "int8")
    variant.unlink(missing_ok=True)
    if variant_of(newest, "int8").is_file():
        shutil.copyfile(variant_of(newest, "int8"), variant)
    card |= {
        "file": target.name,
        **told,
        "figures": measure(card["game"], target, untrained, 0.25 if arguments.quick else 1.0),
    }
    card["solved"] = solved(card["game"], target)
    target.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(found.path, kept)


if __name__ == "__main__":
    main()
