"""`az arena`: a match that a person watches, or that a program reads."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from az.engine.arena import MatchResult, play_match
from az.engine.elo import Sprt, elo_difference
from az.engine.errors import WrongRequest
from az.engine.game import Game, load_game
from az.engine.players import Player, make_player
from az.engine.terminal.progress import MatchDisplay

NOT_MODELS = ("random", "rollouts", "minimax")


def is_model(text: str) -> bool:
    """Whether a player's text means a model."""
    return text.partition(":")[0] not in NOT_MODELS


def game_of(a: str, b: str, game: str | None) -> Game:
    """The game of a match: the one asked for, or the one that the first model plays."""
    if game is not None:
        return load_game(game)
    for text in (a, b):
        if is_model(text):
            from az.engine.models import load_evaluator

            return load_evaluator(text).game
    raise WrongRequest(f"neither {a} nor {b} is a model: name the game with --game.")


def _sprt(text: str | None) -> Sprt | None:
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        bounds = (float(low), float(high))
    except ValueError:
        bounds = None
    if not colon or bounds is None or not -1000 < bounds[0] < bounds[1] < 1000:
        raise WrongRequest(f"--sprt is '{text}': write ELO0:ELO1 with ELO0 below ELO1, such as 0:30.")
    return Sprt(*bounds)


def _players(a: str, b: str, game: Game, sims: int, sims_b: int) -> tuple[Player, Player]:
    first, second = make_player(a, game, sims), make_player(b, game, sims_b)
    if is_model(a):
        first.name = f"{first.name} at {sims}"
    if is_model(b):
        second.name = f"{second.name} at {sims_b}"
    if first.name == second.name:
        second.name += " (B)"
    return first, second


def match_command(
    a: str,
    b: str,
    games: int,
    sims: int,
    sims_b: int | None,
    seed: int,
    game: str | None,
    sprt: str | None,
    quiet: bool,
) -> dict[str, Any]:
    """Play the match; returns its figures from A's side."""
    test = _sprt(sprt)
    if not 1 <= games <= 1_000_000:
        raise WrongRequest(f"--games is {games}: it must lie between 1 and 1000000.")
    loaded = game_of(a, b, game)
    first, second = _players(a, b, loaded, sims, sims if sims_b is None else sims_b)
    if quiet:
        return play_match(first, second, games, seed, sprt=test).to_json()
    console = Console()
    with MatchDisplay(f"{first.name} – {second.name}", games, console) as display:

        def show(_: int, wins: int, draws: int, losses: int) -> None:
            elo = elo_difference(wins, draws, losses)
            display.update(wins, draws, losses, (elo.low, elo.elo, elo.high))

        result = play_match(first, second, games, seed, on_progress=show, sprt=test)
    console.print(_sentence(result), highlight=False)
    return result.to_json()


def _sentence(result: MatchResult) -> str:
    tally, elo = result.tally, result.elo
    verdict = f"; SPRT: {result.verdict or 'undecided'}" if result.sprt else ""
    return (
        f"{result.a} against {result.b}: {tally.wins} won, {tally.draws} drawn, {tally.losses} lost of {tally.games}"
        f" ({tally.score:.1%}), Elo {elo.elo:+.0f} [{elo.low:+.0f}, {elo.high:+.0f}]{verdict}"
    )
