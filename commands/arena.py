"""`az arena`: a match that a person watches, or that a program reads."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from az.engine.arena.elo import Sprt, elo_difference
from az.engine.arena.match import Hall, MatchResult, play_match
from az.engine.errors import WrongRequest
from az.engine.game import Game, load_game
from az.engine.players import Player, is_model, make_player
from az.engine.terminal.console import console
from az.engine.terminal.progress import MatchDisplay


def game_of(a: str, b: str, game: str | None) -> Game:
    """The game of a match: the one asked for, or the one that the first model plays."""
    if game is not None:
        return load_game(game)
    for text in (a, b):
        if is_model(text):
            from az.engine.inference.model_resolver import load_evaluator

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


def hall_on(cluster: str | None, game: Game, say: Callable[[str], None]) -> AbstractContextManager[Hall | None]:
    """Where the matches of a command are played: on a Ray cluster, or None for here."""
    if cluster is None:
        return nullcontext()
    from az.train.cluster.matches import matches_on

    return matches_on(cluster, game, say)


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
    cluster: str | None = None,
) -> dict[str, Any]:
    """Play the match; returns its figures from A's side. cluster: a Ray cluster that plays it."""
    test = _sprt(sprt)
    if not 1 <= games <= 1_000_000:
        raise WrongRequest(f"--games is {games}: it must lie between 1 and 1000000.")
    if sims_b is not None and not is_model(b):
        raise WrongRequest(f"--sims-b is {sims_b}, and {b} is no model that takes simulations: leave it out.")
    loaded = game_of(a, b, game)
    of_b = sims if sims_b is None else sims_b
    first, second = _players(a, b, loaded, sims, of_b)
    about = {"a": a, "b": b, "game": loaded.name, "seed": seed}
    about |= {"sims": sims if is_model(a) else None, "sims_b": of_b if is_model(b) else None}
    if quiet:
        with hall_on(cluster, loaded, lambda text: print(text, file=sys.stderr)) as hall:
            return play_match(first, second, games, seed, sprt=test, hall=hall).to_json() | about
    screen = console()
    with (
        MatchDisplay(f"{first.name} – {second.name}", games, screen) as display,
        hall_on(cluster, loaded, screen.print) as hall,
    ):

        def show(_: int, wins: int, draws: int, losses: int) -> None:
            elo = elo_difference(wins, draws, losses)
            display.update(wins, draws, losses, (elo.low, elo.elo, elo.high))

        result = play_match(first, second, games, seed, on_progress=show, sprt=test, hall=hall)
        tally, elo = result.tally, result.elo  # by pairs, which a match that goes on has not: one interval at the end
        display.update(tally.wins, tally.draws, tally.losses, (elo.low, elo.elo, elo.high))
    screen.print(_sentence(result))
    return result.to_json() | about


def _sentence(result: MatchResult) -> str:
    tally, elo = result.tally, result.elo
    decision = f"; SPRT: {result.decision or 'undecided'}" if result.sprt else ""
    return (
        f"{result.a} against {result.b}: {tally.wins} won, {tally.draws} drawn, {tally.losses} lost of {tally.games}"
        f" ({tally.score:.1%}), Elo {elo.elo:+.0f} [{elo.low:+.0f}, {elo.high:+.0f}]{decision}"
    )
