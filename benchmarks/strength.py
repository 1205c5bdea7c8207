"""What a faster way of searching costs in strength: a match at equal simulations, from the side of the faster way.

    python benchmarks/strength.py int8 models/checkers.onnx --games 400 --sims 200
    python benchmarks/strength.py leaves models/connect4.onnx --games 600 --sims 1600

int8: the quantized variant against the float32 model. leaves: as many leaves in flight as az takes for so many
simulations, against one at a time; both in int8 where there is a variant.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from az.engine.arena.match import play_match
from az.engine.inference.model_resolver import load_evaluator
from az.engine.inference.precision import variant_of
from az.engine.players import ModelPlayer
from az.engine.search.params import SearchParams, leaves_for


def main() -> None:
    """Play the match; one JSON object on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("int8", "leaves"))
    parser.add_argument("model", type=Path)
    parser.add_argument("--games", type=int, default=400)
    parser.add_argument("--sims", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    plain = load_evaluator(str(asked.model))
    game, variant = plain.game, variant_of(asked.model, "int8")
    small = load_evaluator(str(variant), game) if variant.is_file() else plain
    one = SearchParams(simulations=asked.sims)
    if asked.what == "int8":
        a, b = ModelPlayer(small, one, "int8"), ModelPlayer(plain, one, "fp32")
    else:
        many = SearchParams(simulations=asked.sims, leaves=leaves_for(asked.sims))
        a, b = ModelPlayer(small, many, f"{many.leaves} leaves"), ModelPlayer(small, one, "1 leaf")
    begun = time.monotonic()
    result = play_match(a, b, asked.games, seed=asked.seed).to_json()
    about = {"a": a.name, "b": b.name, "model": asked.model.name, "simulations": asked.sims}
    print(json.dumps({**about, **result, "seconds": round(time.monotonic() - begun)}), flush=True)


if __name__ == "__main__":
    main()
