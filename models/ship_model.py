"""Make a run's newest model the one that ships: `python models/ship_model.py RUN [--quick]`.

Copies it to models/GAME.onnx and measures it in the arena; the card models/GAME.json says how it was trained and how
it did, with intervals. The floors that the project set itself are in FIGURES.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from az.engine.arena.match import play_match
from az.engine.game import load_game
from az.engine.inference.model_resolver import newest_model
from az.engine.inference.precision import variant_of
from az.engine.players import make_player
from az.train import checkpoint
from az.train.run.folder import run_path

MODELS = Path(__file__).resolve().parent
# (opponent, simulations of the model, games); "untrained" is the run's own first network
FIGURES = [("random", 0, 200), ("untrained", 50, 100), ("rollouts:200", 50, 100), ("rollouts:400", 200, 100)]
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


def main() -> None:
    """Read the run, measure, write model and card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("--quick", action="store_true", help="a quarter of the games")
    arguments = parser.parse_args()
    run = run_path(arguments.run)
    newest = newest_model(run / "models")
    found, _ = checkpoint.latest(run)
    if newest is None or found is None:
        raise SystemExit(f"{run} has no model to ship.")
    card = json.loads(newest.with_suffix(".json").read_text())
    target = MODELS / f"{card['game']}.onnx"
    shutil.copyfile(newest, target)
    variant = variant_of(target, "int8")
    variant.unlink(missing_ok=True)
    if variant_of(newest, "int8").is_file():
        shutil.copyfile(variant_of(newest, "int8"), variant)
    card |= {
        "file": target.name,
        "trained_by": f"az train {card['game']} --preset {card['preset']}",
        "minutes": round(found.extra["elapsed"] / 60, 1),
        "machine": f"{os.cpu_count()} cores, {cpu_name()}, shared with other work",
        "games": found.extra["games"],
        "positions": found.extra["plies"],
        "simulations": found.extra["simulations"],
        "starts": found.extra["session"],
        "figures": measure(card["game"], target, run / "models" / "000000.onnx", 0.25 if arguments.quick else 1.0),
    }
    target.with_suffix(".json").write_text(json.dumps(card, indent=1) + "\n")


if __name__ == "__main__":
    main()
