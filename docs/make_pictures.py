"""Draws the README's picture from a real game: `python docs/make_pictures.py`."""

from __future__ import annotations

import io
from pathlib import Path

from rich.console import Console

from az.engine.game import load_game
from az.engine.inference.model_resolver import load_evaluator
from az.engine.search.params import SearchParams
from az.engine.terminal.play import play

WIDTH = 72
TYPED = "4\nhint\n"


def main() -> None:
    """Play two moves against the shipped model and keep what the screen showed."""
    game = load_game("connect4")
    console = Console(
        record=True,
        force_terminal=True,
        force_interactive=False,
        width=WIDTH,
        file=io.StringIO(),
        color_system="truecolor",
    )
    play(
        game,
        load_evaluator("connect4", game),
        SearchParams(),
        simulations=400,
        stdin=io.StringIO(TYPED),
        console=console,
    )
    path = Path(__file__).with_name("play.svg")
    path.write_text(console.export_svg(title="az play connect4"), encoding="utf-8")


if __name__ == "__main__":
    main()
