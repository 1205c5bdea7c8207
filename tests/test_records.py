"""Records: what is written is read, what is damaged is refused, what is wrong in a row is found."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from az.engine.errors import Refused
from az.engine.game import load_game
from az.engine.games import checkers
from az.engine.inference.evaluator import HashEvaluator
from az.engine.records import format as records
from az.engine.records.container import unpacked
from az.engine.records.format import (
    ARRAYS,
    SEAL,
    FinishedGame,
    array_digest,
    fits_a_file,
    pack,
    read_records,
    write_records,
)
from az.engine.records.row_checks import check_records
from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig

TICTACTOE, CONNECT4 = load_game("tictactoe"), load_game("connect4")
CONFIG = SelfplayConfig(simulations=8, slots=2)
SEARCH = {"simulations": 8}


def play_games(game, number, config=CONFIG, seed=3):
    evaluator = HashEvaluator(game)
    jobs = iter([(k, evaluator) for k in range(number)])
    games = SelfplayBatch(game, config, seed, 2).play(lambda: next(jobs, None))
    return sorted(games, key=lambda finished: finished.k)


@pytest.fixture(scope="module")
def games():
    return play_games(TICTACTOE, 3)


@pytest.fixture(scope="module")
def one_game(tmp_path_factory, games):
    """A path, and the bytes of a good file."""
    path, data = tmp_path_factory.mktemp("flips") / "flipped.npz", pack(TICTACTOE, games[:1], 3, SEARCH)
    path.write_bytes(data)
    read_records(path, TICTACTOE)
    assert len(data) == 2570  # places are drawn from so many
    return path, data


@pytest.fixture
def file(tmp_path, games):
    path = tmp_path / "games.npz"
    write_records(path, TICTACTOE, games, 3, SEARCH)
    return path


def equal(one, other):
    pairs = [(getattr(one, name), getattr(other, name)) for name in ARRAYS]
    return one.header == other.header and all(
        np.array_equal(mine, theirs) and mine.dtype == theirs.dtype for mine, theirs in pairs
    )


@pytest.mark.nojit
def test_round_trip(file, games):
    found = read_records(file, TICTACTOE)
    rows = [(g, row, z) for g in games for row, z in zip(g.rows, g.outcomes, strict=True)]
    assert len(found) == len(rows) == sum(g.plies for g in games) > 14
    for i, (g, row, z) in enumerate(rows):
        block = slice(found.policy_offsets[i], found.policy_offsets[i + 1])
        assert found.states[i].tolist() == row.state.tolist()
        assert found.policy_actions[block].tolist() == row.actions.tolist()
        assert found.policy_probs[block].tolist() == row.policy.tolist()
        assert (found.outcomes[i], found.games[i], found.plies[i]) == (z, g.k, row.ply)
        assert found.root_values[i] == np.float32(row.root_value)
        assert found.origin(i) == {
            "file": str(file), "row": i, "game": g.k, "ply": row.ply, "model": "hash", "seed": 3,
        }  # fmt: skip
    assert check_records(TICTACTOE, found) == []


@pytest.mark.nojit
def test_rows_hold_the_games_they_come_from(games):
    """Each state follows from the one before by one legal action; the outcome is seen by the player to move."""
    for game in games:
        assert game.rows[0].state.tolist() == TICTACTOE.new_state().tolist()
        for before, after in zip(game.rows, game.rows[1:], strict=False):
            assert any(TICTACTOE.play(before.state, (int(a),)).tolist() == after.state.tolist() for a in before.actions)
        for row, outcome in zip(game.rows, game.outcomes, strict=True):
            assert outcome == (game.outcome_first if row.state[0] == 0 else -game.outcome_first)
            assert row.actions.tolist() == np.flatnonzero(TICTACTOE.mask(row.state)).tolist()


@pytest.mark.nojit
def test_header(file, games):
    header = read_records(file, TICTACTOE).header
    assert header.pop("sha256")
    assert header == {
        "format": "az-records", "format_version": 1, "game": "tictactoe", "game_version": 1, "seed": 3,
        "rows": sum(g.plies for g in games), "search": SEARCH, "models": ["hash"],
        "games": [[g.k, g.plies, g.outcome_first, 0] for g in games],
    }  # fmt: skip


@pytest.mark.nojit
def test_equal_games_are_equal_bytes_without_a_pickle(file, games):
    assert pack(TICTACTOE, games, 3, SEARCH) == file.read_bytes()
    assert pack(TICTACTOE, games[:2], 3, SEARCH) != file.read_bytes()
    with np.load(file, allow_pickle=False) as members:
        assert {members[name].dtype.kind for name in members} <= set("iuf")


@pytest.mark.nojit
def test_a_file_without_rows(tmp_path):
    path = tmp_path / "empty.npz"
    write_records(path, TICTACTOE, [FinishedGame(0, "m", 5, 1, [], [])], 3, SEARCH)
    found = read_records(path, TICTACTOE)
    assert len(found) == 0
    assert check_records(TICTACTOE, found) == []


def check_flip(path, data, place, mask):
    """One byte changed to any other value: refused, whatever it stood for."""
    damaged = bytearray(data)
    damaged[place] ^= mask
    path.write_bytes(damaged)
    with pytest.raises(Refused, match=r"flipped\.npz"):
        read_records(path, TICTACTOE)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(place=st.integers(0, 2569), mask=st.integers(1, 255))
def test_a_flipped_byte_is_refused(one_game, place, mask):
    path, good = one_game
    check_flip(path, good, place, mask)


@pytest.mark.slow
@settings(max_examples=2, deadline=None, derandomize=True)
@given(st.data())
def test_every_flipped_byte_is_refused(one_game, data):
    path, good = one_game
    for place, mask in enumerate(data.draw(st.binary(min_size=len(good), max_size=len(good)))):
        check_flip(path, good, place, mask or 1)


@pytest.mark.nojit
def test_a_file_of_before_the_seals_is_read(file):
    expected, data = read_records(file, TICTACTOE), file.read_bytes()
    size = len(SEAL) + 64
    file.write_bytes(data[: -size - 2] + b"\0\0")
    assert equal(read_records(file, TICTACTOE), expected)


@pytest.mark.nojit
def test_truncated_files_are_refused(file):
    data = file.read_bytes()
    for length in range(0, len(data), 50):
        file.write_bytes(data[:length])
        with pytest.raises(Refused):
            read_records(file, TICTACTOE)
    file.unlink()
    with pytest.raises(Refused):
        read_records(file, TICTACTOE)


@pytest.mark.nojit
@pytest.mark.parametrize("content", [b"", b"text", b"PK\x03\x04", b"\x93NUMPY"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other.npz"
    path.write_bytes(content)
    with pytest.raises(Refused, match=r"other\.npz"):
        read_records(path, TICTACTOE)


@pytest.mark.nojit
def test_a_pickle_is_refused(tmp_path):
    path = tmp_path / "pickle.npz"
    np.savez(path, header=np.array([{"a": 1}], object))
    with pytest.raises(Refused):
        read_records(path, TICTACTOE)


@pytest.mark.nojit
def test_another_game_or_version_is_refused(file):
    with pytest.raises(Refused, match="game is 'tictactoe', expected 'connect4'"):
        read_records(file, CONNECT4)
    with pytest.raises(Refused, match="game_version is 1, expected 2"):
        read_records(file, replace(TICTACTOE, version=2))


def rewrite(path: Path, change_header=None, **arrays):
    """The file again with another header or other arrays."""
    with np.load(path) as old:
        members = {name: old[name] for name in old}
    header = json.loads(bytes(members.pop("header")))
    if change_header is not None:
        header.update(change_header)
    out = io.BytesIO()
    np.savez(out, header=np.frombuffer(json.dumps(header).encode(), np.uint8), **{**members, **arrays})
    path.write_bytes(out.getvalue())


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format is 'other'"),
        ({"format_version": 2}, "format_version is 2, expected 1"),
        ({"rows": 1}, "rows is 1"),
        ({"sha256": "0" * 64}, "checksum"),
    ],
)
def test_header_that_does_not_fit(file, change, message):
    rewrite(file, change)
    with pytest.raises(Refused, match=message):
        read_records(file, TICTACTOE)


@pytest.mark.nojit
@pytest.mark.parametrize("name", ARRAYS)
def test_changed_arrays_are_refused(file, name):
    array = getattr(read_records(file, TICTACTOE), name).copy()
    array.flat[-1] += 1
    rewrite(file, **{name: array})
    with pytest.raises(Refused, match="checksum"):
        read_records(file, TICTACTOE)


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("outcomes", lambda a: a.astype(np.float64), "outcomes holds float64, expected float32"),
        ("policy_actions", lambda a: a.astype(np.int64), "policy_actions holds int64, expected int32"),
        ("states", lambda a: a.astype(np.int32), "states holds int32, expected int64"),
        ("plies", lambda a: a[:-1], "do not fit together"),
        ("games", lambda a: a[:, None], "do not fit together"),
        ("policy_actions", lambda a: a[:-1], "do not fit together"),
        ("policy_probs", lambda a: a[:, None], "do not fit together"),
        ("models", lambda a: a + 1, "a row names a model that the header does not list"),
        ("models", lambda a: a - 1, "a row names a model that the header does not list"),
    ],
)
def test_arrays_of_the_wrong_kind_are_refused_whatever_the_checksum_says(file, name, change, message):
    records = read_records(file, TICTACTOE)
    arrays = {each: getattr(records, each) for each in ARRAYS}
    arrays[name] = change(arrays[name])
    rewrite(file, {"sha256": array_digest(arrays)}, **arrays)
    with pytest.raises(Refused, match=message):
        read_records(file, TICTACTOE)


# faults in rows

ROW = 4  # the row that is spoiled


def spoiled(records, field, change):
    array = getattr(records, field).copy()
    change(array, int(records.policy_offsets[ROW]), int(records.policy_offsets[ROW + 1]))
    return replace(records, **{field: array})


def set_to(value):
    """Write a value into the row, or into the row's first policy entry."""

    def change(array, first, _last):
        array[first if len(array) > 30 else ROW] = value

    return change


def over(array, _first, _last):
    """X has three in a row: no legal moves are left."""
    array[ROW] = [1, 1, 1, 1, 2, 2, 0, 0, 0, 0]


def scale(array, first, last):
    array[first:last] *= 0.9


def to_illegal(array, first, last):
    """Some action of the row that its position does not have."""
    array[first] = next(a for a in range(9) if a not in array[first:last].tolist())
    array[first:last].sort()


def twice(array, first, _last):
    array[first + 1] = array[first]


def backwards(array, _first, _last):
    array[ROW + 1] = array[ROW] - 1


def shorter(array, _first, _last):
    """One entry of the row goes to the next: a legal action is missing."""
    array[ROW + 1] -= 1


def player_7(array, _first, _last):
    array[ROW, 0] = 7


CASES = {
    "player 7": ("states", player_7, "state", "player"),
    "empty mask": ("states", over, "state", "empty mask"),
    "illegal action": ("policy_actions", to_illegal, "policy", "not legal"),
    "action twice": ("policy_actions", twice, "policy", "not legal"),
    "action -1": ("policy_actions", set_to(-1), "policy", "not legal"),
    "action 9": ("policy_actions", set_to(9), "policy", "not legal"),
    "action missing": ("policy_offsets", shorter, "policy", "misses"),
    "offsets backwards": ("policy_offsets", backwards, "policy", "backwards"),
    "nan target": ("policy_probs", set_to(np.nan), "policy", "not finite"),
    "infinite target": ("policy_probs", set_to(np.inf), "policy", "not finite"),
    "target 1e30": ("policy_probs", set_to(1e30), "policy", "not finite"),
    "negative": ("policy_probs", set_to(-0.5), "policy", "negative"),
    "sum 0.9": ("policy_probs", scale, "policy", "sum"),
    "value 1.7": ("outcomes", set_to(1.7), "outcome", "outside"),
    "value 1e30": ("outcomes", set_to(1e30), "outcome", "outside"),
    "nan value": ("outcomes", set_to(np.nan), "outcome", "not finite"),
    "nan root value": ("root_values", set_to(np.nan), "root_value", "not finite"),
    "root value -1.01": ("root_values", set_to(-1.01), "root_value", "outside"),
}


@pytest.mark.nojit
@pytest.mark.parametrize("case", CASES)
def test_faults_are_found_with_row_and_field(file, case):
    array, change, field, reason = CASES[case]
    faults = check_records(TICTACTOE, spoiled(read_records(file, TICTACTOE), array, change))
    assert faults
    assert (faults[0].row, faults[0].field) == (ROW, field)
    assert reason in faults[0].reason
    assert len(faults) <= (2 if case == "action missing" else 1)


def test_a_plane_that_is_out_of_range_is_found(tmp_path):
    """Checkers divides its counter of quiet plies by 80: -100 makes a plane of -1.25."""
    game = load_game("checkers")
    finished = play_games(game, 1, SelfplayConfig(simulations=2, temperature_plies=400))[0]
    finished.rows[ROW].state[checkers.QUIET] = -100
    path = tmp_path / "bent.npz"
    write_records(path, game, [finished], 3, SEARCH)
    assert [(fault.row, fault.field) for fault in check_records(game, read_records(path, game))] == [(ROW, "planes")]


@pytest.mark.nojit
def test_sound_rows_of_every_game_pass(tmp_path):
    for name in ("tictactoe", "connect4"):
        game = load_game(name)
        path = tmp_path / f"{name}.npz"
        write_records(path, game, play_games(game, 2, replace(CONFIG, simulations=4)), 3, SEARCH)
        assert check_records(game, read_records(path, game)) == []


@pytest.mark.nojit
def test_games_that_make_a_file_too_large_are_split_or_refused(tmp_path, monkeypatch):
    """What one file may hold is what its reader takes."""
    games = play_games(TICTACTOE, 3)
    size = {}
    for n in (1, 3):
        arrays = unpacked(pack(TICTACTOE, games[:n], 3, SEARCH), (*ARRAYS, "header", "row_sums"))
        size[n] = sum(array.nbytes for array in arrays.values())
    monkeypatch.setattr(records, "_HEAD_SIZE", 2000)
    for bound, count, fits in ((size[3] - 1, 3, False), (size[3] + 3000, 3, True), (size[1] - 1, 1, False)):
        monkeypatch.setattr(records, "MOST_UNPACKED", bound)
        assert fits_a_file(TICTACTOE, games[:count]) == fits
    with pytest.raises(Refused, match="its 3 games would unpack to more than"):
        write_records(tmp_path / "a.npz", TICTACTOE, games, 3, SEARCH)
    assert not (tmp_path / "a.npz").exists()
