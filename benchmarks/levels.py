"""Rate the ten levels of a game: every level plays the next one, and random; one Elo scale.

.venv/bin/python benchmarks/levels.py connect4 --games 200
.venv/bin/python benchmarks/levels.py checkers --games 200 --model runs/mine/models/000012.onnx
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from itertools import pairwise

from az.engine.arena.elo import elo_difference
from az.engine.game import load_game
from az.engine.players import RandomPlayer, make_player
from az.engine.players.levels import LEVELS
from az.engine.score.ladder import climb


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("game")
    parser.add_argument("--games", type=int, default=200, help="of each match")
    parser.add_argument("--model", default="", help="a model, where not the shipped one")
    parser.add_argument("--first", type=int, default=1, help="level")
    parser.add_argument("--last", type=int, default=len(LEVELS), help="level")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    game, at = load_game(options.game), f"@{options.model}" if options.model else ""
    numbers = range(options.first, options.last + 1)
    players = [RandomPlayer(game), *(make_player(f"level:{number}{at}", game) for number in numbers)]
    made = climb(players, [], options.games, options.seed, lambda *_: None)
    if options.json:
        print(json.dumps({"ratings": [asdict(r) for r in made.ratings], "matches": [asdict(m) for m in made.matches]}))
        return
    steps = {b: elo_difference(m.losses, m.draws, m.wins) for m in made.matches for b in (m.b,)}
    for below, above in pairwise(made.ratings):
        step = steps[above.name]
        print(f"{above.name}: {above.elo:+.0f} above random, {step.elo:+.0f} [{step.low:+.0f}, {step.high:+.0f}]"
              f" above {below.name}")  # fmt: skip


if __name__ == "__main__":
    main()
