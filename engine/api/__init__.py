"""The functions behind `from az.engine import …` (docs/api.md): load, evaluate, search, play, read.

Every value is in [-1, +1], from the view of the player to move. Expected errors are `az.engine.errors.WrongRequest`
(the request was wrong) and `Refused` (a file or a model is not as it must be); both are an `AzError` of one sentence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from az.engine.errors import Refused, WrongRequest
from az.engine.game import DRAW, ONGOING, Game, State, load_game
from az.engine.inference.evaluator import Evaluator
from az.engine.players import ModelPlayer, Player, make_player
from az.engine.records.format import Records
from az.engine.records.format import read_records as read_file
from az.engine.rng import key_of
from az.engine.search.params import SearchParams
from az.engine.search.result import SearchResult

if TYPE_CHECKING:  # onnxruntime takes a quarter of a second to import
    from az.engine.inference.onnx_evaluator import OnnxEvaluator


@dataclass(frozen=True)
class PlayedGame:
    """One finished game of `play_game`."""

    moves: tuple[str, ...]  # whole moves in the game's notation, from the start position
    actions: tuple[int, ...]  # the same as actions; a move of several hops is several actions
    outcome: int  # of player 0: 1 won, 0 drawn, -1 lost
    final: State  # [state_size] the last position


def load_model(model: str | Path, game: Game | None = None, threads: int = 1) -> OnnxEvaluator:
    """Load and check a model: the path of an ONNX file, a run (its newest model), or the name of a shipped model.

    game: the game that is wanted; None: the model's own. threads: of onnxruntime.
    Raises WrongRequest where there is no such model, Refused where a check fails: checksum, finite weights, game and
    version, shapes, and the answers to stored positions.
    """
    from az.engine.inference.model_resolver import load_evaluator

    return load_evaluator(str(model), game, threads)


def evaluate(model: Evaluator, states: Sequence[State] | NDArray[np.integer]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # fmt: skip  # noqa: E501
    """Ask the network alone, without a search.

    states: [n, state_size], of the game's dtype; one state [state_size] counts as n = 1. None of them is over.
    Returns (policies float32 [n, num_actions], each sums to 1 with 0 on illegal actions; values float32 [n]).
    Raises WrongRequest for states of another shape or of finished games, Refused for a non-finite answer.
    """
    rows = _unfinished(model.game, states)
    planes = np.zeros((len(rows), *model.game.planes_shape), np.float32)
    policies = np.zeros((len(rows), model.game.num_actions), np.float32)
    values = np.zeros(len(rows), np.float32)
    for state, plane in zip(rows, planes, strict=True):
        model.game.encode(state, plane)
    model.evaluate(planes, policies, values)
    for state, policy in zip(rows, policies, strict=True):
        legal = model.game.mask(state)
        policy[~legal] = -np.inf
        policy[:] = np.exp(policy - policy.max())
        policy /= policy.sum()
    return policies, values


def search_position(model: Evaluator, state: State, params: SearchParams | None = None, seed: int = 0) -> SearchResult:
    """Search one position; the answer is a pure function of the four arguments.

    state: [state_size], of the game's dtype, not over. params: None is SearchParams(): 200 simulations of PUCT, no
    noise. seed: of noise, where the parameters ask for some.
    Raises WrongRequest for a state of another shape or of a finished game, Refused for a non-finite answer of the
    network. The first search of a process loads the compiled search; the first ever compiles it, half a minute.
    """
    from az.engine.search.many import search_many

    rows = _unfinished(model.game, state)
    if len(rows) != 1:
        raise WrongRequest(f"search_position takes one state, and was given {len(rows)}.")
    return search_many(model.game, model, rows, params or SearchParams(), [key_of(seed, "position")])[0]


def play_game(
    first: Evaluator | Player | str, second: Evaluator | Player | str, game: Game | None = None, simulations: int = 100,
    seed: int = 0,
) -> PlayedGame:  # fmt: skip
    """Play one game from the start position; the same call gives the same game.

    first, second: a loaded model, or a player as `az arena` names it ("random", "rollouts:100", "connect4"); first is
    player 0. game: needed where neither is loaded. simulations: of each model's move; 0 is the network alone.
    seed: of random players and rollouts.
    Raises WrongRequest for an unknown player, for players of two games, or where no game is named.
    """
    known = game or next((one.game for one in (first, second) if not isinstance(one, str)), None)
    if known is None:
        raise WrongRequest("neither player is loaded: give the game, such as game=load_game('connect4').")
    players = [_player(one, known, simulations) for one in (first, second)]
    for player in players:
        if player.game.name != known.name:
            raise WrongRequest(f"{player.name} plays {player.game.name}, not {known.name}: give players of one game.")
    state, actions = known.new_state(), list[int]()
    while known.outcome(state) == ONGOING:
        if len(actions) == known.max_plies:
            raise Refused(f"{known.name} has not ended after its {known.max_plies} plies.")
        key = np.array([key_of(seed, "game", len(actions))], np.int64)
        actions.append(int(players[int(state[0])].choose(state[None], key)[0]))
        known.apply(state, actions[-1])
    outcome = int(known.outcome(state))
    signed = outcome if outcome == DRAW or state[0] == 0 else -outcome
    return PlayedGame(_move_texts(known, actions), tuple(actions), signed, state)


def read_records(path: str | Path, game: Game | str) -> Records:
    """Read one file of self-play rows, as `az selfplay` and a run write them (RUN/records/*.npz).

    Raises Refused, naming the file and what is wrong with it: unreadable, another game or version, a wrong checksum,
    an array of the wrong type or shape.
    """
    return read_file(Path(path), load_game(game) if isinstance(game, str) else game)


def _player(given: Evaluator | Player | str, game: Game, simulations: int) -> Player:
    if isinstance(given, str):
        return make_player(given, game, simulations)
    if hasattr(given, "choose"):
        return given  # pyright: ignore[reportReturnType]
    return ModelPlayer(given, SearchParams(simulations=simulations))  # pyright: ignore[reportArgumentType]


def _unfinished(game: Game, states: Sequence[State] | NDArray[np.integer]) -> NDArray[np.integer]:
    """[n, state_size]. Raises WrongRequest."""
    rows = np.atleast_2d(np.asarray(states))
    if rows.ndim != 2 or rows.shape[1] != game.state_size or rows.dtype != game.dtype:
        raise WrongRequest(
            f"states of {game.name} are {game.dtype} [n, {game.state_size}]; these are {rows.dtype} {list(rows.shape)}."
        )
    for number, row in enumerate(rows):
        if game.outcome(row) != ONGOING:
            raise WrongRequest(f"the game of state {number} is over: there is nothing to choose.")
    return rows


def _move_texts(game: Game, actions: Sequence[int]) -> tuple[str, ...]:
    """The whole moves that these actions are."""
    state, texts, at = game.new_state(), list[str](), 0
    while at < len(actions):
        moves = game.moves(state).items()
        text, hops = next((text, hops) for text, hops in moves if tuple(actions[at : at + len(hops)]) == hops)
        texts.append(text)
        state, at = game.play(state, hops), at + len(hops)
    return tuple(texts)
