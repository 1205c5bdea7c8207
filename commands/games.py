"""`az games`: the games there are, and those that cannot be used."""

from __future__ import annotations

from typing import Any

from az.engine.errors import Refused
from az.engine.game import game_names, load_game
from az.engine.inference.model_resolver import default_model


def list_games() -> dict[str, Any]:
    """The facts of every game, and the sentence of every one that cannot be loaded."""
    rows: list[dict[str, Any]] = []
    broken: list[dict[str, str]] = []
    for name in game_names():
        try:
            game = load_game(name)
        except Refused as refusal:
            broken.append({"game": name, "error": str(refusal)})
            continue
        model = default_model(name)
        rows.append(
            {"game": name, "version": game.version, "actions": game.num_actions, "planes": list(game.planes_shape),
             "model": model.name if model else None}
        )  # fmt: skip
    return {"games": rows, "broken": broken}


def games_text(found: dict[str, Any]) -> str:
    """A line for each game."""
    lines = [
        f"{row['game']:<12} {row['actions']:>4} actions, planes {'×'.join(map(str, row['planes']))}"
        + (", with a trained model" if row["model"] else "")
        for row in found["games"]
    ]
    return "\n".join(lines + [row["error"] for row in found["broken"]])
