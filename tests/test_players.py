"""Random, rollouts, minimax and models: they see wins, they keep the sign when a player moves twice, they repeat."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from az.engine.arena.openings import openings
from az.engine.errors import WrongRequest
from az.engine.game import LOSS, ONGOING, WIN, Game, load_game
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.jit import Rules
from az.engine.players import ModelPlayer, Player, make_player
from az.engine.players.minimax import look_ahead
from az.engine.rng import key_of
from az.engine.search.params import SearchParams

rules = Rules(np.int8)


@rules.start
def start(state):
    state[0], state[1], state[2] = 0, 15, 1


@rules.apply
def apply(state, action):
    """Take action + 1 stones; who takes two moves again; who takes the last one wins. state: mover, heap, last."""
    state[1] -= action + 1
    state[2] = state[0]
    if action != 1:
        state[0] = 1 - state[0]


@rules.legal
def legal(state, mask):
    for action in range(3):
        mask[action] = action < state[1]


@rules.outcome
def outcome(state):
    if state[1] > 0:
        return ONGOING
    return WIN if state[2] == state[0] else LOSS


@rules.encode
def encode(state, planes):
    planes[0, 0, 0] = state[1] / 20.0


def _no_text(text):
    raise NotImplementedError(text)


def _moves(state):
    return {str(action + 1): (action,) for action in range(min(3, int(state[1])))}


NIM = Game(
    name="again",
    version=1,
    dtype=rules.dtype,
    state_size=3,
    num_actions=3,
    planes_shape=(1, 1, 1),
    max_plies=20,
    start=start,
    apply=apply,
    legal=legal,
    outcome=outcome,
    encode=encode,
    render=str,
    moves=_moves,
    parse_position=_no_text,
    position_text=lambda state: " ".join(map(str, state)),
)


@cache
def worth(mover: int, heap: int, last: int) -> int:
    """For player 0, by the rules as they are told: 1 or -1."""
    if heap == 0:
        return 1 if last == 0 else -1
    values = [worth(mover if take == 2 else 1 - mover, heap - take, mover) for take in (1, 2, 3) if take <= heap]
    return max(values) if mover == 0 else min(values)


def good_takes(mover: int, heap: int) -> set[int]:
    best = worth(mover, heap, 0)
    takes = [take for take in (1, 2, 3) if take <= heap]
    return {take - 1 for take in takes if worth(mover if take == 2 else 1 - mover, heap - take, mover) == best}


def keys(n: int, seed: int = 1) -> np.ndarray:
    return np.array([key_of(seed, i) for i in range(n)], np.int64)


def position(game: Game, text: str) -> np.ndarray:
    return game.parse_position(text)[None]


HEAPS = [(mover, heap) for mover in (0, 1) for heap in range(1, 10)]


@pytest.mark.nojit
def test_minimax_keeps_the_sign_when_a_player_moves_twice():
    states = np.array([[mover, heap, 1 - mover] for mover, heap in HEAPS], np.int8)
    chosen, values = look_ahead(NIM, states, keys(len(states)), 10)
    for (mover, heap), action, value in zip(HEAPS, chosen, values, strict=True):
        assert np.sign(value) == (worth(mover, heap, 0) if mover == 0 else -worth(mover, heap, 0))
        assert action in good_takes(mover, heap)
    assert any(take == 1 and len(good_takes(m, h)) == 1 for m, h in HEAPS for take in good_takes(m, h))


@pytest.mark.nojit
def test_minimax_values_say_how_soon():
    states = np.array([[0, 2, 1], [0, 3, 1], [1, 4, 0]], np.int8)
    _, values = look_ahead(NIM, states, keys(3), 5)
    assert list(values) == [5, 5, 4]  # take two; take three; take two, then two: the second action wins


def test_rollouts_keep_the_sign_when_a_player_moves_twice():
    states = np.array([[mover, heap, 1 - mover] for mover, heap in HEAPS], np.int8)
    for (mover, heap), action in zip(HEAPS, make_player("rollouts:3000", NIM).choose(states, keys(18)), strict=True):
        assert action in good_takes(mover, heap), (mover, heap)


@pytest.mark.nojit
@pytest.mark.parametrize("name", ["rollouts:150", "minimax:1", "minimax:3"])
@pytest.mark.parametrize(("text", "square"), [("1425", 3), ("14259", 6), ("5123", 8)])
def test_wins_in_one_at_tictactoe(name: str, text: str, square: int):
    game = load_game("tictactoe")
    assert make_player(name, game).choose(position(game, text), keys(1))[0] == square - 1


@pytest.mark.parametrize("name", ["rollouts:300", "minimax:1", "minimax:4"])
@pytest.mark.parametrize(("text", "column"), [("112233", 4), ("7172731", 4), ("717273", 7)])
def test_wins_in_one_at_connect4(name: str, text: str, column: int):
    game = load_game("connect4")
    chosen = make_player(name, game).choose(position(game, text).repeat(8, 0), keys(8))
    assert set(chosen) == {column - 1}


@pytest.mark.nojit
def test_equals_are_drawn_evenly():
    game = load_game("tictactoe")
    n = 450
    for name in ("random", "minimax:1"):  # all nine first moves are equal
        chosen = make_player(name, game).choose(game.new_state()[None].repeat(n, 0), keys(n))
        counts = np.bincount(chosen, minlength=9)
        assert ((counts - n / 9) ** 2 / (n / 9)).sum() < 26.1  # chi squared, 8 degrees of freedom, 99.9 %


@pytest.mark.nojit
@pytest.mark.parametrize("name", ["random", "rollouts:20", "minimax:2"])
def test_an_answer_depends_on_its_row_and_key_alone(name: str):
    game = load_game("tictactoe")
    player = make_player(name, game)
    states = np.concatenate([position(game, text) for text in ("", "5", "51", "159")] * 2)
    together = player.choose(states, keys(8))
    alone = [player.choose(states[i : i + 1], keys(8)[i : i + 1])[0] for i in range(8)]
    assert list(together) == alone
    for state, action in zip(states, together, strict=True):
        assert game.mask(state)[action]


def test_models_play_through_the_search():
    game = load_game("tictactoe")
    player: Player = ModelPlayer(UniformEvaluator(game), SearchParams(simulations=64))
    assert player.name == "uniform"
    assert player.choose(position(game, "1425"), keys(1))[0] == 2
    alone = ModelPlayer(UniformEvaluator(game), SearchParams(simulations=0))
    assert game.mask(position(game, "1425")[0])[alone.choose(position(game, "1425"), keys(1))[0]]


@pytest.mark.nojit
@pytest.mark.parametrize(
    "text",
    [
        *("rollouts:x", "rollouts:", "rollouts", "rollouts:0", "rollouts:-5", "rollouts:99999999999999999999"),
        *(
            "minimax:-1",
            "minimax:0",
            "minimax:1.5",
            "minimax:²",
            "random:3",
            "level:0",
            "level:11",
            "level",
            "level:3@",
        ),
    ],
)
def test_bad_names_get_a_sentence(text: str):
    with pytest.raises(WrongRequest) as error:
        make_player(text, load_game("tictactoe"))
    assert f"'{text}'" in str(error.value)
    assert str(error.value).endswith(".")


@pytest.mark.nojit
def test_good_names():
    game = load_game("tictactoe")
    assert [make_player(text, game).name for text in ("random", "rollouts:7", "minimax:2")] == [
        "random",
        "rollouts:7",
        "minimax:2",
    ]
    with pytest.raises(WrongRequest):
        make_player("some-model", game, simulations=-1)


@pytest.mark.parametrize("name", ["tictactoe", "connect4", "checkers"])
def test_openings_are_distinct_open_and_repeat(name: str):
    game = load_game(name)
    found = openings(game, 40, 5)
    assert len(set(found)) == 40
    assert found[:10] == openings(game, 10, 5)
    assert found != openings(game, 40, 6)
    for actions in found:
        state = game.play(game.new_state(), actions)
        assert game.outcome(state) == ONGOING
        assert look_ahead(game, state[None], keys(1), 3)[1][0] == 0


def test_openings_end_with_a_whole_move():
    found = openings(NIM, 12, 1)
    assert any(1 in actions for actions in found)  # who takes two has not finished the move
    for actions in found:
        assert not actions or actions[-1] != 1


def test_openings_of_a_tiny_game_come_again():
    found = openings(load_game("tictactoe"), 300, 2)
    assert 100 < len(set(found)) < 300
    assert len(found) == 300
