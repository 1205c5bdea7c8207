"""Every game keeps the laws, and the laws notice games that do not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import make_goldens
import numpy as np
import pytest

from az.engine.conformance.laws import LAWS, check_game
from az.engine.errors import WrongRequest
from az.engine.game import DRAW, ONGOING, Symmetry, game_names, load_game

FOLDER = Path(__file__).resolve().parent / "goldens"
TICTACTOE = load_game("tictactoe")
CONNECT4 = load_game("connect4")
BOARD = CONNECT4.board
assert BOARD is not None


@pytest.mark.parametrize("name", game_names())
def test_game_conforms(name):
    assert check_game(load_game(name), games=20, seed=1) == []


@pytest.mark.nojit
@pytest.mark.parametrize("name", game_names())
def test_one_game_conforms(name):
    assert check_game(load_game(name), games=1, seed=2) == []


@pytest.mark.parametrize("name", game_names())
def test_goldens(name):
    for file, text in make_goldens.goldens(name).items():
        path = FOLDER / file
        assert path.exists(), f"{name} has no golden {file}: run tests/make_goldens.py and read what it wrote"
        assert path.read_text(encoding="utf-8") == text


def start_leaves_a_word(state):
    state[:-1] = 0


def apply_forgets_the_player(state, action):
    TICTACTOE.apply(state, action)
    state[0] = 2


def apply_with_memory():
    seen = []

    def apply(state, action):
        TICTACTOE.apply(state, action)
        seen.append(action)
        state[1 + action] = 1 + len(seen) % 2

    return apply


def legal_leaves_entries(state, mask):
    whole = TICTACTOE.mask(state)
    mask[whole] = True


def encode_plays(state, planes):
    TICTACTOE.encode(state, planes)
    state[9] = 2


def encode_leaves_entries(state, planes):
    planes[0] = TICTACTOE.planes(state)[0]


def encode_out_of_range(state, planes):
    TICTACTOE.encode(state, planes)
    planes *= 2


def encode_not_finite(state, planes):
    TICTACTOE.encode(state, planes)
    planes[0, 0, 0] = np.inf


def outcome_never_ends(state):  # noqa: ARG001
    return ONGOING


def outcome_ends_at_once(state):  # noqa: ARG001
    return DRAW


def outcome_unknown(state):
    return 5 if TICTACTOE.outcome(state) == ONGOING else DRAW


def moves_leave_one_out(state):
    return dict(list(TICTACTOE.moves(state).items())[1:])


def moves_play_twice(state):
    return {text: (*hops, *hops) for text, hops in TICTACTOE.moves(state).items()}


def moves_nobody_can_type(state):
    return {f"Q{text}": hops for text, hops in TICTACTOE.moves(state).items()}


def position_text_forgets(state):  # noqa: ARG001
    return ""


def parse_position_fails(text):
    return TICTACTOE.parse_position(str(int(text or "0")).strip("0"))


def start_beyond_the_state(state):
    TICTACTOE.start(state)
    state[10] = 0


def legal_fails(state, mask):  # noqa: ARG001
    raise ZeroDivisionError("division by zero")


def nothing(*_):
    return None


def parse_position_of_a_list(text):
    return TICTACTOE.parse_position(text).tolist()


def identity(size):
    return np.arange(size)


SHIFTED = Symmetry(np.roll(np.arange(9), 1), np.roll(np.arange(9), 1))
SQUARES_ONLY = Symmetry(identity(7), CONNECT4.symmetries[0].squares)
NO_PERMUTATION = Symmetry(np.zeros(9, np.int64), identity(9))

ONE_PLAYER = replace(
    TICTACTOE,
    apply=lambda state, action: state.__setitem__(1 + action, 1),
    legal=lambda state, mask: np.equal(state[1:], 0, out=mask) * 0,
    outcome=lambda state: ONGOING if (state[1:] == 0).any() else DRAW,
    moves=lambda state: {str(a + 1): (int(a),) for a in np.flatnonzero(state[1:] == 0)},
    position_text=lambda state: "".join(str(a + 1) for a in np.flatnonzero(state[1:])),
    parse_position=lambda text: one_player_position(text),
    symmetries=(),
)


def one_player_position(text):
    if not set(text) <= set("123456789"):
        raise WrongRequest(f"'{text}' cannot be read.")
    state = TICTACTOE.new_state()
    for square in text:
        state[int(square)] = 1
    return state


BROKEN = [
    ("bounds", replace(TICTACTOE, start=start_beyond_the_state)),
    ("no-error", replace(TICTACTOE, legal=legal_fails)),
    ("no-error", replace(TICTACTOE, outcome=lambda: DRAW)),
    ("turn", ONE_PLAYER),
    ("outcome", replace(TICTACTOE, outcome=nothing)),
    ("moves-shape", replace(TICTACTOE, moves=nothing)),
    ("moves-text", replace(TICTACTOE, normalize_move=nothing)),
    ("text", replace(TICTACTOE, render=nothing)),
    ("text", replace(TICTACTOE, position_text=nothing)),
    ("position-state", replace(TICTACTOE, parse_position=parse_position_of_a_list)),
    ("start", replace(TICTACTOE, start=start_leaves_a_word)),
    ("player", replace(TICTACTOE, apply=apply_forgets_the_player)),
    ("length", replace(TICTACTOE, max_plies=4)),
    ("key", replace(TICTACTOE, key_words=9)),  # the last square is left out
    ("outcome", replace(TICTACTOE, outcome=outcome_unknown)),
    ("ongoing", replace(TICTACTOE, outcome=outcome_never_ends)),
    ("ongoing", replace(TICTACTOE, outcome=outcome_ends_at_once)),
    ("legal-writes", replace(TICTACTOE, legal=legal_leaves_entries)),
    ("encode-writes", replace(TICTACTOE, encode=encode_leaves_entries)),
    ("read-only", replace(TICTACTOE, encode=encode_plays)),
    ("planes", replace(TICTACTOE, encode=encode_out_of_range)),
    ("planes", replace(TICTACTOE, encode=encode_not_finite)),
    ("apply", replace(TICTACTOE, apply=apply_with_memory())),
    ("moves-cover", replace(TICTACTOE, moves=moves_leave_one_out)),
    ("moves-hops", replace(TICTACTOE, moves=moves_play_twice)),
    ("moves-text", replace(TICTACTOE, moves=moves_nobody_can_type)),
    ("position-text", replace(TICTACTOE, position_text=position_text_forgets)),
    ("position-wrong", replace(TICTACTOE, parse_position=parse_position_fails)),
    ("symmetry-shape", replace(TICTACTOE, symmetries=(NO_PERMUTATION,))),
    ("symmetry", replace(TICTACTOE, symmetries=(SHIFTED,))),
    ("symmetry", replace(CONNECT4, symmetries=(SQUARES_ONLY,))),
    ("board", replace(CONNECT4, board=replace(BOARD, column_labels="123456"))),
    ("board", replace(CONNECT4, board=replace(BOARD, counts=nothing))),
]


@pytest.mark.nojit
@pytest.mark.parametrize(("law", "game"), BROKEN, ids=[f"{law}-{i}" for i, (law, _) in enumerate(BROKEN)])
def test_broken_game_is_caught(law, game):
    said = check_game(game, games=5, seed=1)
    assert any(f"breaks '{law}'" in sentence for sentence in said), said


@pytest.mark.nojit
def test_every_law_is_seen_broken():
    assert {law for law, _ in BROKEN} == set(LAWS)
