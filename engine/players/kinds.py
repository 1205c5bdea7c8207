"""Every kind of player by its name: what `az arena`, `az play` and a run's matches know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from az.engine.errors import WrongRequest
from az.engine.game import Game
from az.engine.players.basic import ModelPlayer, Player, RandomPlayer
from az.engine.players.levels import LEVELS
from az.engine.search.params import SearchParams


@dataclass(frozen=True)
class Kind:
    """A kind of player: `name`, or `name:N` where it takes a number, or `name:N@MODEL` where it is a model's.

    make: (game, N, MODEL) → the player; N is 0 where it takes none, MODEL is "" where it is not given. Imports what is
    slow to import when it is called. number: what N is called and does; "" where there is none. most: the largest N.
    """

    make: Callable[[Game, int, str], Player]
    number: str = ""
    most: int = 0
    of_model: bool = False


def _rollouts(game: Game, games: int, _: str) -> Player:
    from az.engine.players.rollouts import RolloutPlayer

    return RolloutPlayer(game, games)


def _minimax(game: Game, depth: int, _: str) -> Player:
    from az.engine.players.minimax import MinimaxPlayer

    return MinimaxPlayer(game, depth)


def _level(game: Game, number: int, model: str) -> Player:
    from az.engine.inference.model_resolver import default_model, load_evaluator
    from az.engine.players.levels import LevelPlayer

    found = model or default_model(game.name)
    if found is None:
        raise WrongRequest(f"no model of {game.name} ships with az: write level:{number}@MODEL.")
    return LevelPlayer(load_evaluator(str(found), game), number)


def _random(game: Game, _number: int, _model: str) -> Player:
    return RandomPlayer(game)


KINDS = {
    "random": Kind(_random),
    "rollouts": Kind(_rollouts, "N with N random games for each move", 10_000_000),
    "minimax": Kind(_minimax, "D with D actions to look ahead", 1000),
    "level": Kind(_level, "L with a level of the shipped model, or level:L@MODEL", len(LEVELS), of_model=True),
}


def is_model(text: str) -> bool:
    """Whether a player's text means a model: whatever is no other kind."""
    return text.partition(":")[0] not in KINDS


def make_player(text: str, game: Game, simulations: int = 200, params: SearchParams | None = None) -> Player:
    """The player of that name: a key of KINDS with its number, such as "rollouts:100", or any model argument.

    simulations: of a model's search, for each move; 0 = the network alone. params: its other settings.
    Raises WrongRequest.
    """
    name, colon, number = text.partition(":")
    kind = KINDS.get(name)
    if kind is not None:
        model = ""
        if kind.of_model and not number.endswith("@"):
            number, _, model = number.partition("@")
        return kind.make(game, _number(text, name, colon, number), model)
    if simulations < 0:
        raise WrongRequest(f"{simulations} simulations are impossible; 0 is the network alone.")
    from az.engine.inference.model_resolver import load_evaluator

    return ModelPlayer(load_evaluator(text, game), replace(params or SearchParams(), simulations=simulations))


def _number(text: str, name: str, colon: str, number: str) -> int:
    kind = KINDS[name]
    if not kind.number:
        if colon:
            raise WrongRequest(f"'{text}' is no player: {name} takes no number.")
        return 0
    if not (number.isascii() and number.isdigit() and len(number) < 12 and 1 <= int(number) <= kind.most):
        form = f"{name}:{kind.number}"
        raise WrongRequest(f"'{text}' is no player: write {form}, a whole number from 1 to {kind.most}.")
    return int(number)
