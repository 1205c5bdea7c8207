"""Record files whose checksums are right and whose contents lie, or that are no files at all: refused, never obeyed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile_values import changes, mutated, values
from hypothesis import given, settings
from hypothesis import strategies as st
from reseal import rewrite_records
from test_records import SEARCH, TICTACTOE, play_games

from az.engine.errors import Refused
from az.engine.records.container import MOST_UNPACKED, sealed
from az.engine.records.format import ARRAYS, read_records, write_records
from az.engine.records.row_checks import check_records


@pytest.fixture
def file(tmp_path) -> Path:
    path = tmp_path / "0001-000000-000.npz"
    write_records(path, TICTACTOE, play_games(TICTACTOE, 3), 3, SEARCH)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(Refused) as refused:
        read_records(path, TICTACTOE)
    sentence = str(refused.value)
    assert path.name in sentence
    assert sentence.isprintable()
    assert len(sentence) < 600
    return sentence


GONE = object()
HEADERS = [
    ("games", GONE), ("games", "xyz"), ("games", [[]]), ("games", [[0, 5, 1]]), ("games", {}), ("games", [7]),
    ("games", [[2**200, 5, 1, 0]]), ("games", [[2**63 - 1, 5, 1, 0]]), ("games", [[-1, 5, 1, 0]]), ("games", []),
    ("games", [["0", 5, 1, 0]]), ("games", [[0.0, 5, 1, 0]]), ("games", [[True, 5, 1, 0]]), ("games", [[0, 5, 7, 0]]),
    ("games", [[0, 5, 1, 9]]), ("games", [[0, -5, 1, 0]]), ("games", None), ("seed", GONE), ("seed", "3"), ("seed", -1),
    ("seed", 2**63), ("seed", 1.5), ("seed", True), ("search", GONE), ("search", []), ("search", {"simulations": []}),
    ("search", {"simulations": 10**400}), ("search", {"a": "x" * 10**6}), ("models", GONE), ("models", "hash"),
    ("models", [7]), ("models", [{}]), ("models", []), ("models", ["\x1b]0;owned\x07"]), ("models", ["x" * 10**6]),
    ("rows", True), ("rows", 2**70), ("rows", "1"), ("game", "\x1b[2J" * 10**6), ("format_version", 1.0),
    ("format", None),
]  # fmt: skip


@pytest.mark.nojit
@pytest.mark.parametrize(("field", "value"), HEADERS, ids=lambda value: "gone" if value is GONE else str(value)[:24])
def test_a_header_of_another_type_or_range(file, field, value):
    def change(header, _):
        header.pop(field)
        if value is not GONE:
            header[field] = value

    rewrite_records(file, change)
    assert refusal(file)


@pytest.mark.nojit
@pytest.mark.parametrize(
    "header", [b"", b"[]", b"null", b"7", b"[" * 10**6, b"\xff\xfe", b'{"format": NaN}'], ids=range(7)
)
def test_a_header_that_is_no_object_of_that_kind(file, header):
    rewrite_records(file, lambda *_: header)
    assert refusal(file)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> tuple[Path, bytes]:
    path = tmp_path_factory.mktemp("lies") / "0001-000000-000.npz"
    write_records(path, TICTACTOE, play_games(TICTACTOE, 3), 3, SEARCH)
    return path, path.read_bytes()


def faults_of_reading(path: Path, change: Callable[[dict[str, Any], dict[str, Any]], Any]) -> list[str]:
    """What is wrong with how the changed file is read; [] where it is refused in one sentence, or sound if it is read.

    Judging its rows never raises.
    """
    rewrite_records(path, change)
    try:
        found = read_records(path, TICTACTOE)
    except Refused:
        refusal(path)
        return []
    header = found.header
    holds = {
        "as many rows as the header says": header["rows"] == len(found),
        "a game": len(header["games"]) > 0,
        "models that the header lists": all(0 <= model < len(header["models"]) for *_, model in header["games"]),
        "printable faults": all(fault.reason.isprintable() for fault in check_records(TICTACTOE, found)),
    }
    return [law for law, kept in holds.items() if not kept]


@pytest.mark.nojit
@settings(max_examples=80, deadline=None, derandomize=True)
@given(changes)
def test_any_change_of_a_header_is_read_or_refused(good, change):
    path, data = good
    path.write_bytes(data)
    assert faults_of_reading(path, lambda header, _: mutated(header, change)) == []


@pytest.mark.nojit
@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(sorted({field for field, _ in HEADERS} | {"sha256", "game_version"})), values)
def test_any_value_of_a_header_is_read_or_refused(good, field, value):
    path, data = good
    path.write_bytes(data)
    assert faults_of_reading(path, lambda header, _: header.update({field: value})) == []


NUMBER_CHANGES = st.tuples(st.integers(0, 10**6), st.sampled_from([-1, 1, 100, 2**31 - 1, 2**62]) | st.integers(-9, 9))


@pytest.mark.nojit
@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.sampled_from(ARRAYS), st.lists(NUMBER_CHANGES, min_size=1, max_size=4))
def test_any_number_of_an_array_is_read_or_refused(good, name, places):
    path, data = good
    path.write_bytes(data)

    def spoil(_, arrays):
        flat = arrays[name].reshape(-1)
        for place, value in places:
            with np.errstate(over="ignore"):
                flat[place % flat.size] += np.array(value).astype(flat.dtype)

    assert faults_of_reading(path, spoil) == []


def judged(path: Path) -> str:
    """Why the file is refused, or what is wrong with the first row of one that can be read."""
    try:
        return str(check_records(TICTACTOE, read_records(path, TICTACTOE))[0])
    except Refused as refused:
        return str(refused)


@pytest.mark.nojit
@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("games", lambda a: a + 2**62), ("games", lambda a: a - 100), ("plies", lambda a: a - 1000),
        ("plies", lambda a: a + 2**30), ("models", lambda a: a - 1), ("policy_offsets", lambda a: a * 2),
        ("policy_offsets", lambda a: a[::-1]), ("policy_actions", lambda a: a + 10**6),
        ("states", lambda a: np.zeros((len(a), 0), a.dtype)), ("states", lambda a: np.asfortranarray(a)),
        ("states", lambda a: a.astype(np.complex64)), ("states", lambda a: a.astype(">i8")),
        ("outcomes", lambda _: np.array(1.0, np.float32)), ("outcomes", lambda a: a[:0]),
        ("policy_probs", lambda _: np.array(1.0, np.float32)), ("policy_probs", lambda a: a.astype("U5")),
        ("games", lambda a: a.astype("datetime64[s]")), ("plies", lambda a: a.astype([("a", np.int32)])),
    ],
    ids=range(18),
)  # fmt: skip
def test_arrays_that_lie(file, name, change):
    def spoil(_, arrays):
        arrays[name] = change(arrays[name])

    rewrite_records(file, spoil)
    assert judged(file).isprintable()


def bomb(path: Path, size: int, claim: int | None = None) -> None:
    """A record file whose states unpack to `size` bytes of zeros; its array's header claims `claim` numbers."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as container:
        for name in ("header", "states"):
            with container.open(f"{name}.npy", "w", force_zip64=True) as member:
                head = {"descr": "<i8", "fortran_order": False, "shape": (claim or size // 8,)}
                np.lib.format.write_array_header_1_0(member, head)
                for _ in range(size >> 20):
                    member.write(bytes(1 << 20))
    path.write_bytes(sealed(out.getvalue()))


@pytest.mark.nojit
def test_a_bomb_is_refused_by_what_it_says_and_by_what_it_holds(file, tmp_path):
    bomb(file, 2 * MOST_UNPACKED)
    assert file.stat().st_size < 4 << 20
    assert "unpack to" in refusal(file)
    bomb(file, 1 << 20, claim=10**15)
    assert "plain numbers" in refusal(file)
    data = bytearray(file.read_bytes())
    at = data.rindex(b"PK\1\2")  # the directory's last entry: it claims one size, the stream has another
    data[at + 24 : at + 28] = (1 << 10).to_bytes(4, "little")
    plain = bytes(data[: -74 - 2]) + b"\0\0"
    file.write_bytes(sealed(plain))
    refusal(file)
    many = tmp_path / "many.npz"
    with zipfile.ZipFile(many, "w") as container:
        for number in range(50_000):
            container.writestr(f"{number}", b"")
    many.write_bytes(sealed(many.read_bytes()))
    assert "directory" in refusal(many)


READER = """
import resource, sys
from pathlib import Path
from az.engine.errors import Refused
from az.engine.game import load_game
from az.engine.records.format import read_records
from az.train.run.ingest import _located
game, path = load_game("tictactoe"), Path(sys.argv[1])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_records(path, game)
except Refused as refused:
    _located(path, refused)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_bomb_takes_no_memory(file):
    """The largest that is not refused by its size alone, in a process of its own: well under a gigabyte."""
    bomb(file, MOST_UNPACKED // 2 - (1 << 20))
    done = subprocess.run([sys.executable, "-c", READER, str(file)], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 800_000  # kilobytes


@pytest.mark.nojit
def test_files_that_are_no_files(tmp_path, file):
    good = file.read_bytes()
    paths = {name: tmp_path / f"{name}.npz" for name in ("pipe", "zero", "loop", "folder", "hole", "link")}
    os.mkfifo(paths["pipe"])
    paths["zero"].symlink_to("/dev/zero")
    paths["loop"].symlink_to(paths["loop"])
    paths["folder"].mkdir()
    with paths["hole"].open("wb") as hole:
        hole.truncate(1 << 40)
    for name in ("pipe", "zero", "loop", "folder", "hole"):
        refusal(paths[name])
    paths["link"].symlink_to(file)  # reading through a link to a good file harms nothing
    assert len(read_records(paths["link"], TICTACTOE)) > 0
    assert file.read_bytes() == good
