"""A game of OpenSpiel as a game of az: `GAME = game_from("hex(board_size=5)", "spiel_hex5")` in a file of its own.

OpenSpiel's states are objects, and az's are arrays: here a state is the history, [player to move, number of actions,
the actions], and every rule asks OpenSpiel about the position that this history leads to. Positions seen lately are
kept, so that a rule costs one copy of an OpenSpiel state at most; it runs in Python and holds the GIL (what that costs:
docs/decisions.md). Imports pyspiel (package open_spiel, extra `adapters`).
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numba import objmode

from az.engine.errors import Refused, WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, WIN, Game, Mask, Planes, State
from az.engine.jit import Rules
from az.engine.printable import quoted

pyspiel: Any = import_module("pyspiel")  # so, since az is checked by types without it too

PLAYER, PLIES, ACTIONS = 0, 1, 2  # words of a state
MOST_KEPT = 20_000  # positions


def game_from(spiel: str, name: str, version: int = 1) -> Game:
    """The game that OpenSpiel calls `spiel`, such as `hex(board_size=5)`, as az's game `name`.

    Two players who move in turn, no chance, nothing hidden, one's gain the other's loss. What the network sees is
    OpenSpiel's observation tensor and one more plane, which is 1 where player 1 is to move. Only who wins counts: a
    return above 0 is a win. Raises Refused for another kind of game, and for one that OpenSpiel does not have.
    """
    try:
        made = pyspiel.load_game(spiel)
    except pyspiel.SpielError as error:
        raise Refused(f"OpenSpiel cannot make the game '{quoted(spiel)}': {str(error).splitlines()[0]}") from None
    if fault := _fault_of(made.get_type(), made.num_players()):
        raise Refused(f"OpenSpiel's '{quoted(spiel)}' cannot be a game of az: {fault}.")
    of = _SpielGame(made)
    game = Game(
        name=name,
        version=version,
        state_size=ACTIONS + made.max_game_length(),
        num_actions=made.num_distinct_actions(),
        planes_shape=(of.tensor_shape[0] + 1, of.tensor_shape[1], of.tensor_shape[2]),
        max_plies=made.max_game_length(),
        render=lambda state: str(of.at(state)),
        moves=of.moves,
        normalize_move=of.normalize_move,
        parse_position=_reader(lambda: game),
        position_text=of.position_text,
        **_rules_of(of),
    )
    return game


def _fault_of(kind: Any, players: int) -> str | None:
    """Why a game of this type is none of az's, or None."""
    demands = (
        (players == 2, f"it has {players} players, and az plays games of two"),
        (kind.dynamics == pyspiel.GameType.Dynamics.SEQUENTIAL, "its players do not move in turn"),
        (kind.chance_mode == pyspiel.GameType.ChanceMode.DETERMINISTIC, "it has chance"),
        (kind.information == pyspiel.GameType.Information.PERFECT_INFORMATION, "its players do not see everything"),
        (kind.utility == pyspiel.GameType.Utility.ZERO_SUM, "one's gain is not the other's loss"),
        (kind.provides_observation_tensor, "it has no observation tensor for a network to see"),
    )
    return next((fault for holds, fault in demands if not holds), None)


class _SpielGame:
    """The rules and texts of one game, over histories."""

    def __init__(self, game: Any) -> None:
        self.game = game
        shape = list(game.observation_tensor_shape())
        self.tensor_shape = shape if len(shape) == 3 else [1] * (3 - len(shape)) + shape
        self.known: dict[bytes, Any] = {}

    def at(self, state: State) -> Any:
        """OpenSpiel's state for this history; not to be changed."""
        history = state[ACTIONS : ACTIONS + int(state[PLIES])]
        key = history.tobytes()
        found = self.known.get(key)
        if found is None:
            found = self.game.new_initial_state()
            for action in history:
                found.apply_action(int(action))
            self._keep(key, found)
        return found

    def _keep(self, key: bytes, found: Any) -> None:
        if len(self.known) >= MOST_KEPT:
            self.known.clear()
        self.known[key] = found

    # The rules.

    def start(self, state: State) -> None:
        state[:] = 0
        state[PLAYER] = self.at(state).current_player()

    def apply(self, state: State, action: int) -> None:
        after = self.at(state).clone()
        after.apply_action(int(action))
        state[ACTIONS + state[PLIES]] = action
        state[PLIES] += 1
        state[PLAYER] = 1 - state[PLAYER] if after.is_terminal() else after.current_player()
        self._keep(state[ACTIONS : ACTIONS + int(state[PLIES])].tobytes(), after)

    def legal(self, state: State, mask: Mask) -> None:
        mask[:] = False
        found = self.at(state)
        if not found.is_terminal():
            mask[found.legal_actions()] = True

    def outcome(self, state: State) -> int:
        found = self.at(state)
        if not found.is_terminal():
            return ONGOING
        gain = found.returns()[int(state[PLAYER])]
        return WIN if gain > 0 else LOSS if gain < 0 else DRAW

    def encode(self, state: State, planes: Planes) -> None:
        tensor = self.at(state).observation_tensor(int(state[PLAYER]))
        planes[:-1] = np.asarray(tensor, np.float32).reshape(self.tensor_shape)
        planes[-1] = state[PLAYER]

    # For people.

    def moves(self, state: State) -> dict[str, tuple[int, ...]]:
        """OpenSpiel's texts without blanks; where two actions have the same, the action's number follows."""
        found, texts = self.at(state), dict[str, tuple[int, ...]]()
        if found.is_terminal():
            return texts
        for action in found.legal_actions():
            text = "".join(found.action_to_string(int(state[PLAYER]), action).split())
            texts[text if text and text not in texts else f"{text}#{action}"] = (int(action),)
        return texts

    def normalize_move(self, state: State, text: str) -> str:
        """A text in any case, where that is one move."""
        legal, text = self.moves(state), "".join(text.split())
        alike = [move for move in legal if move.lower() == text.lower()]
        return alike[0] if text not in legal and len(alike) == 1 else text

    def position_text(self, state: State) -> str:
        """The moves from the start."""
        at, texts = np.zeros_like(state), list[str]()
        self.start(at)
        for action in state[ACTIONS : ACTIONS + int(state[PLIES])]:
            texts.append(next(text for text, (move,) in self.moves(at).items() if move == action))
            self.apply(at, int(action))
        return " ".join(texts)


def _reader(game: Callable[[], Game]) -> Callable[[str], State]:
    def parse_position(text: str) -> State:
        """The moves from the start, parted by blanks. Raises WrongRequest naming the wrong one."""
        state = game().new_state()
        for number, move in enumerate(text.split(), 1):
            try:
                state = game().play(state, game().parse_move(state, move))
            except WrongRequest as error:
                raise WrongRequest(f"{game().name} position '{quoted(text)}', move {number}: {error}") from None
        return state

    return parse_position


def _rules_of(of: _SpielGame) -> dict[str, Any]:
    """The five rules as compiled functions that call Python."""
    rules = Rules(np.int64, in_python=True)
    py_start, py_apply, py_legal, py_outcome, py_encode = of.start, of.apply, of.legal, of.outcome, of.encode

    @rules.start
    def start(state: State) -> None:
        with objmode():
            py_start(state)

    @rules.apply
    def apply(state: State, action: int) -> None:
        with objmode():
            py_apply(state, action)

    @rules.legal
    def legal(state: State, mask: Mask) -> None:
        with objmode():
            py_legal(state, mask)

    @rules.outcome
    def outcome(state: State) -> int:
        with objmode(found="int64"):
            found = py_outcome(state)
        return found  # noqa: RET504  # objmode hands over variables only

    @rules.encode
    def encode(state: State, planes: Planes) -> None:
        with objmode():
            py_encode(state, planes)

    return {
        "dtype": rules.dtype,
        "start": start,
        "apply": apply,
        "legal": legal,
        "outcome": outcome,
        "encode": encode,
    }
