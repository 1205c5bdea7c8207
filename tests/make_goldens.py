"""Writes the goldens of the games: `python tests/make_goldens.py [GAME ...]`. Read a new playthrough before you commit
it: no law and no test knows whether the right side has won.
"""

from __future__ import annotations

import sys
from pathlib import Path

from az.engine.conformance.laws import playthrough
from az.engine.conformance.perft import perft
from az.engine.game import Game, game_names, load_game

FOLDER = Path(__file__).resolve().parent / "goldens"
# games that show much and are soon over
SEEDS = {
    "checkers": 3,
    "connect4": 2,
    "othello": 8,
    "othello6": 1,
    "tictactoe": 3,
    "gomoku": 115,
    "gomoku9": 117,
    "hex": 70,
}
NODES = 20_000  # perft goes as deep as this many sequences allow


def perft_text(game: Game) -> str:
    """Lines of depth, whole moves, hops."""
    lines, state = [], game.new_state()
    for depth in range(1, 10):
        counts = perft(game, state, depth), perft(game, state, depth, hops=True)
        if counts[1] > NODES:
            break
        lines.append(f"{depth} {counts[0]} {counts[1]}\n")
    return "".join(lines)


def goldens(name: str) -> dict[str, str]:
    """File name -> text."""
    game = load_game(name)
    return {f"{name}.playthrough.txt": playthrough(game, SEEDS.get(name, 1)), f"{name}.perft": perft_text(game)}


def main() -> None:
    for name in sys.argv[1:] or game_names():
        for file, text in goldens(name).items():
            (FOLDER / file).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
