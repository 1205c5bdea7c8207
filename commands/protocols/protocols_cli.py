"""Options of the commands that speak a protocol: `az hub`, `az nboard`, `az gtp`."""

from __future__ import annotations

from typing import Annotated

import typer

Model = Annotated[str | None, typer.Option(help="A model or a player; default: the shipped model, or rollouts:400.")]
Sims = Annotated[int | None, typer.Option(help="Simulations a move, where the other program sets no limit; 400.")]
Seconds = Annotated[float | None, typer.Option(help="Seconds a move, in place of --sims.")]
Level = Annotated[int, typer.Option(help="1 for a beginner … 10; 0 = full strength.")]


def hub(model: Model = None, sims: Sims = None, seconds: Seconds = None, level: Level = 0) -> None:
    """Speak HUB, version 2: checkers in draughts programs."""
    _speak("hub", None, model, sims, seconds, level)


def nboard(model: Model = None, sims: Sims = None, seconds: Seconds = None, level: Level = 0) -> None:
    """Speak NBoard's protocol: Othello in NBoard."""
    _speak("nboard", None, model, sims, seconds, level)


def gtp(
    game: Annotated[str | None, typer.Argument(help="See az games; default: the model's.")] = None,
    model: Model = None,
    sims: Sims = None,
    seconds: Seconds = None,
    level: Level = 0,
) -> None:
    """Speak GTP, version 2: any game, in programs that drive Go engines."""
    _speak("gtp", game, model, sims, seconds, level)


def _speak(
    protocol: str, game: str | None, model: str | None, sims: int | None, seconds: float | None, level: int
) -> None:
    from az.commands.protocols.command import protocol_command

    raise typer.Exit(protocol_command(protocol, game, model, sims, seconds, level))
