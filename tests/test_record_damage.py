"""A record file changed on the disk: which rows are not what was written."""

from __future__ import annotations

import io
import random
import zipfile

import numpy as np
import pytest
from test_records import CONNECT4, SEARCH, TICTACTOE, play_games

from az.engine.errors import Refused
from az.engine.records.forensics import Damage, find_damage
from az.engine.records.format import ARRAYS, read_records, write_records
from az.train.run.ingest import _located


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "games.npz"
    write_records(path, TICTACTOE, play_games(TICTACTOE, 3), 3, SEARCH)
    return path


def flipped(data, at, bit):
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def arrays_in(data):
    """[(first byte, end)] of the arrays' packed bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as container:
        infos = [info for info in container.infolist() if info.filename.removesuffix(".npy") in ARRAYS]
    lengths = [[int.from_bytes(data[info.header_offset + i :][:2], "little") for i in (26, 28)] for info in infos]
    firsts = [info.header_offset + 30 + sum(both) for info, both in zip(infos, lengths, strict=True)]
    return [(first, first + info.compress_size) for first, info in zip(firsts, infos, strict=True)]


def test_rows_that_a_flipped_bit_changed_are_named_wherever_it_falls(tmp_path):
    """Never an exception, no sound file is accused, no wrong origin; in an array's bytes most flips name a row."""
    path, places = tmp_path / "games.npz", random.Random(5)
    write_records(path, CONNECT4, play_games(CONNECT4, 20), 3, SEARCH)
    data, whole = path.read_bytes(), read_records(path, CONNECT4)
    assert find_damage(data) == Damage([], [], {})
    named, inside, spans = 0, 0, arrays_in(data)
    for _ in range(500):
        at = places.randrange(len(data))
        found = find_damage(flipped(data, at, places.randrange(8)))
        in_array = any(first <= at < end for first, end in spans)
        inside += in_array
        if found is None or not found.rows:
            continue
        assert in_array
        named += 1
        assert found.members
        assert 0 <= found.rows[0] <= found.rows[-1] < len(whole)
        assert found.origin.items() <= whole.origin(found.rows[0]).items()
    assert named > 0.8 * inside > 200  # the others fall on an array's own header


def test_a_number_changed_under_the_checksum_names_its_row_alone(file):
    """The members packed again with one number changed: only its row is not what was written."""
    with np.load(file) as found:
        arrays = dict(found)
    at = int(arrays["policy_offsets"][5])
    arrays["policy_probs"][at] += 0.25
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    found = find_damage(packed.getvalue())  # no checksum of a member knows of it
    assert found is not None
    assert (found.members, found.rows) == ([], [5])
    assert found.origin.items() <= read_records(file, TICTACTOE).origin(5).items()


@pytest.mark.parametrize(
    "change",
    [
        {"policy_offsets": np.int64(3)},
        {"policy_offsets": np.full(1_000_001, np.nan)},
        {"policy_offsets": np.zeros(5_000_000, np.int64)},
        {"games": np.zeros(1, np.int64)},
        {"models": np.full(4, 99, np.int32)},
        {"row_sums": np.array([b"x", b"y"])},
        {"states": np.array(["a", None], object)},
        {"header": np.frombuffer(b"[1, 2]", np.uint8)},
        {"header": np.frombuffer(b"{}", np.uint8)},
    ],
    ids=str,
)
def test_garbled_files_are_looked_at_without_an_exception(file, change):
    whole = len(read_records(file, TICTACTOE))
    with np.load(file) as members:
        arrays = {**members, **change}
    packed = io.BytesIO()
    np.savez_compressed(packed, **arrays)
    data = bytearray(packed.getvalue())
    for at in (None, data.index(b"states.npy") + 60):
        if at is not None:
            data[at] ^= 1
        found = find_damage(bytes(data))
        assert found is None or set(found.rows) <= set(range(whole))


def test_a_file_that_is_gone_when_it_is_looked_at_again_keeps_its_refusal(tmp_path):
    gone = tmp_path / "games.npz"
    with pytest.raises(Refused, match="not a readable record file") as refused:
        read_records(gone, TICTACTOE)
    assert _located(gone, refused.value) is refused.value
