"""Self-play rows on disk: one immutable file for a number of games, checked before anyone uses it.

A file is an uncompressed-readable .npz (numpy's own container, no pickle): `header` holds JSON, the other members are
the arrays of `Records`. The header carries a SHA-256 over the arrays.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from az.engine.errors import Refused
from az.engine.game import Game, State
from az.engine.printable import one_line, quoted
from az.engine.records.container import MOST_PACKED, MOST_UNPACKED, check_seal, sealed, unpacked
from az.engine.records.container import SEAL as SEAL
from az.engine.records.forensics import ROW_SUMS, row_sums
from az.engine.records.header import check_header
from az.engine.system.disk_errors import is_passing
from az.engine.system.files import write_atomic
from az.engine.system.safe_read import parse_json, read_regular

FORMAT = "az-records"
FORMAT_VERSION = 1
SUM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Row:
    """One recorded position of a game."""

    state: State
    actions: NDArray[np.int32]  # [k] all legal actions, ascending
    policy: NDArray[np.float32]  # [k] sums to 1
    root_value: float  # of the search, view of the player to move
    ply: int


@dataclass(frozen=True)
class FinishedGame:
    """Game k, played to its end."""

    k: int
    model_id: str
    plies: int
    outcome_first: int  # LOSS, DRAW, WIN of player 0
    rows: list[Row]
    outcomes: list[int]  # of each row: LOSS, DRAW, WIN of its player to move
    simulations: int = 0  # that the searches of its moves made; no part of the file


def tally(games: Sequence[FinishedGame]) -> dict[str, int]:
    """What a run counts of finished games."""
    return {
        "games": len(games),
        "plies": sum(game.plies for game in games),
        "first_wins": sum(game.outcome_first == 1 for game in games),
        "draws": sum(game.outcome_first == 0 for game in games),
    }


@dataclass(frozen=True)
class Records:
    """The rows of one file; R rows, P policy entries (compressed rows: all legal actions, ascending, zeros too)."""

    states: NDArray[Any]  # [R, S] of the game's dtype
    policy_offsets: NDArray[np.int64]  # [R + 1]
    policy_actions: NDArray[np.int32]  # [P]
    policy_probs: NDArray[np.float32]  # [P]
    outcomes: NDArray[np.float32]  # [R] of the game, view of the player to move
    root_values: NDArray[np.float32]  # [R] of the search, view of the player to move
    games: NDArray[np.int64]  # [R] k
    plies: NDArray[np.int32]  # [R]
    models: NDArray[np.int32]  # [R] index into header["models"]
    header: dict[str, Any]
    path: Path

    def __len__(self) -> int:
        return len(self.outcomes)

    def origin(self, row: int) -> dict[str, Any]:
        """Where a row comes from, for people and for the doctor."""
        return {
            "file": str(self.path),
            "row": row,
            "game": int(self.games[row]),
            "ply": int(self.plies[row]),
            "model": self.header["models"][int(self.models[row])],
            "seed": self.header["seed"],
        }


def unpack(records: Records) -> list[FinishedGame]:
    """The games of a file, from which `pack` makes the same bytes."""
    offsets, found = records.policy_offsets.tolist(), list[FinishedGame]()
    of_game: dict[int, list[int]] = {}
    for row, k in enumerate(records.games.tolist()):
        of_game.setdefault(k, []).append(row)
    for k, plies, outcome, model in records.header["games"]:
        rows, outcomes = list[Row](), list[int]()
        for row in of_game.get(k, []):
            part = slice(offsets[row], offsets[row + 1])
            actions, policy = records.policy_actions[part], records.policy_probs[part]
            value, ply = float(records.root_values[row]), int(records.plies[row])
            rows.append(Row(records.states[row], actions, policy, value, ply))
            outcomes.append(int(records.outcomes[row]))
        found.append(FinishedGame(k, records.header["models"][model], plies, outcome, rows, outcomes))
    return found


DTYPES: dict[str, Any] = {  # of the arrays beside the states, which have the game's own
    "policy_offsets": np.int64,
    "policy_actions": np.int32,
    "policy_probs": np.float32,
    "outcomes": np.float32,
    "root_values": np.float32,
    "games": np.int64,
    "plies": np.int32,
    "models": np.int32,
}
ARRAYS = ("states", *DTYPES)
_ENTRY_SIZE = 8  # bytes of an action of the policy: its number and its probability
_ROW_SIZE = 4 + sum(np.dtype(kind).itemsize for kind in DTYPES.values())  # bytes of a row beside its state, or more
_GAME_SIZE = 64  # bytes of a game in the header's text, or fewer
_HEAD_SIZE = 1 << 20  # bytes of everything else, or fewer


def pack(game: Game, games: Sequence[FinishedGame], seed: int, search: dict[str, Any]) -> bytes:
    """The file's bytes for these games. search: the parameters that made them (they go into the header)."""
    rows = [(g, row, z) for g in games for row, z in zip(g.rows, g.outcomes, strict=True)]
    models = sorted({g.model_id for g in games})
    widths = [len(row.actions) for _, row, _ in rows]
    arrays = {
        "states": np.array([row.state for _, row, _ in rows], game.dtype).reshape(len(rows), game.state_size),
        "policy_offsets": np.concatenate([[0], np.cumsum(widths)]).astype(np.int64),
        "policy_actions": np.concatenate([np.empty(0), *(row.actions for _, row, _ in rows)]).astype(np.int32),
        "policy_probs": np.concatenate([np.empty(0), *(row.policy for _, row, _ in rows)]).astype(np.float32),
        "outcomes": np.array([z for _, _, z in rows], np.float32),
        "root_values": np.array([row.root_value for _, row, _ in rows], np.float32),
        "games": np.array([g.k for g, _, _ in rows], np.int64),
        "plies": np.array([row.ply for _, row, _ in rows], np.int32),
        "models": np.array([models.index(g.model_id) for g, _, _ in rows], np.int32),
    }
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "game": game.name,
        "game_version": game.version,
        "rows": len(rows),
        "seed": seed,
        "search": search,
        "models": models,
        "games": [[g.k, g.plies, g.outcome_first, models.index(g.model_id)] for g in games],
        "sha256": array_digest(arrays),
    }
    text = json.dumps(header, separators=(",", ":"), sort_keys=True)
    file = io.BytesIO()
    head = np.frombuffer(text.encode(), np.uint8)
    np.savez_compressed(file, header=head, **arrays, **{ROW_SUMS: row_sums(arrays)})  # pyright: ignore[reportArgumentType]
    return sealed(file.getvalue())


def write_records(path: Path, game: Game, games: Sequence[FinishedGame], seed: int, search: dict[str, Any]) -> None:
    """Write one file of finished games: beside its place, fsynced, renamed.

    Raises Refused for more games than a file can hold that `read_records` takes.
    """
    if not fits_a_file(game, games):
        raise Refused(
            f"{path} cannot be written: its {len(games)} games would unpack to more than {MOST_UNPACKED:,} bytes,"
            " which is the most that is read: put fewer games into a file."
        )
    write_atomic(path, pack(game, games, seed, search))


def fits_a_file(game: Game, games: Sequence[FinishedGame]) -> bool:
    """Whether one file can hold these games: no more bytes unpacked than its reader takes."""
    rows = [row for finished in games for row in finished.rows]
    row_size = game.state_size * game.dtype.itemsize + _ROW_SIZE
    entries = sum(len(row.actions) for row in rows)
    return len(rows) * row_size + entries * _ENTRY_SIZE + len(games) * _GAME_SIZE + _HEAD_SIZE <= MOST_UNPACKED


def array_digest(arrays: dict[str, NDArray[Any]]) -> str:
    """SHA-256 of the arrays in the order of ARRAYS, with their names, types and shapes."""
    digest = hashlib.sha256()
    for name in ARRAYS:
        digest.update(f"{name}{arrays[name].dtype.str}{arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def read_records(path: Path, game: Game) -> Records:
    """Read and verify one file. Raises Refused, naming the file and what is wrong with it."""
    try:
        data = read_regular(path, MOST_PACKED)
    except OSError as error:
        if is_passing(error):
            raise
        raise Refused(f"{path}: not a readable record file ({error.strerror or error}).") from None
    return parse_records(path, data, game)


def parse_records(path: Path, data: bytes, game: Game) -> Records:
    """Verify the bytes of a file; path: its name in messages. Raises Refused, as `read_records`."""
    header, arrays = _opened(path, data, ARRAYS)
    del data
    _check_fit(path, game, header, arrays)
    return Records(header=header, path=path, **arrays)


def parse_header(path: Path, data: bytes) -> dict[str, Any]:
    """The header alone of a file's bytes, its fields within bounds; the rows are not looked at. Raises Refused."""
    header, _ = _opened(path, data, ())
    if not isinstance(header, dict):
        raise Refused(f"{path}: not a readable record file (its header is no object).")
    found = cast("dict[str, Any]", header)
    check_header(path, found, np.empty(0, np.int64), np.empty(0, np.int32))
    return found


def _opened(path: Path, data: bytes, names: Sequence[str]) -> tuple[Any, dict[str, NDArray[Any]]]:
    try:
        check_seal(path, data)
        arrays = unpacked(data, ("header", *names))
        return parse_json(arrays.pop("header").tobytes()), arrays
    except Refused:
        raise
    except Exception as error:  # a damaged container raises whatever its reader trips over
        kind = type(error).__name__
        raise Refused(f"{path}: not a readable record file ({kind}: {one_line(str(error), 200)}).") from None


def _check_fit(path: Path, game: Game, header: Any, arrays: dict[str, NDArray[Any]]) -> None:
    expected = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "game": game.name,
        "game_version": game.version,
        "rows": len(arrays["outcomes"]) if arrays["outcomes"].ndim else 0,
    }
    for name, value in expected.items():
        found = header.get(name) if isinstance(header, dict) else None
        if found != value or type(found) is not type(value):
            shown = f"'{quoted(found)}'" if isinstance(found, str) else quoted(found)
            raise Refused(f"{path}: {name} is {shown}, expected {value!r}.")
    if header.get("sha256") != array_digest(arrays):
        raise Refused(f"{path}: the checksum does not match: the file was changed after it was written.")
    for name, dtype in {"states": game.dtype, **DTYPES}.items():
        if arrays[name].dtype != dtype:
            raise Refused(f"{path}: {name} holds {arrays[name].dtype}, expected {np.dtype(dtype)}.")
    rows, entries = expected["rows"], len(arrays["policy_probs"]) if arrays["policy_probs"].ndim else 0
    lengths = {"states": (rows, game.state_size), "policy_offsets": (rows + 1,), "policy_actions": (entries,)}
    fit = all(arrays[name].shape == lengths.get(name, (rows,)) for name in ARRAYS if name != "policy_probs")
    offsets, models, known = arrays["policy_offsets"], arrays["models"], header.get("models")
    if not (fit and arrays["policy_probs"].ndim == 1 and offsets[0] == 0 and offsets[-1] == entries):
        raise Refused(f"{path}: the arrays do not fit together.")
    if not isinstance(known, list) or (rows and not (models.min() >= 0 and models.max() < len(known))):
        raise Refused(f"{path}: a row names a model that the header does not list.")
    check_header(path, header, arrays["games"], arrays["plies"])
