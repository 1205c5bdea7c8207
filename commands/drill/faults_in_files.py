"""Faults of the drill that lie in record files, in memory and in the search."""

from __future__ import annotations

import io
import json
import random
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from az.commands.drill.runs import Fault, RunResult
from az.engine.game import ONGOING, Game
from az.engine.records.format import ARRAYS, array_digest, sealed
from az.engine.selfplay.batch import SelfplayBatch
from az.train.health import Incident
from az.train.run import deterministic, worker_pool
from az.train.run import loop as runs

Arrays = dict[str, Any]


@dataclass(frozen=True)
class Spot:
    """The row that is to be spoilt, in the arrays of its file."""

    game: Game
    arrays: Arrays
    row: int
    places: random.Random


Change = Callable[[Spot], None]


def rewrite(path: Path, change: Callable[[Arrays], None]) -> None:
    """Change a record file's arrays and give it the checksum that fits them: the writer itself was wrong."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
        header = json.loads(bytes(file["header"]))
        arrays = {name: file[name].copy() for name in ARRAYS}
    change(arrays)
    header["sha256"] = array_digest(arrays)
    data = io.BytesIO()
    text = json.dumps(header).encode()
    np.savez_compressed(data, header=np.frombuffer(text, np.uint8), **arrays)
    path.write_bytes(sealed(data.getvalue()))


def nan_target(spot: Spot) -> None:
    low, high = spot.arrays["policy_offsets"][spot.row : spot.row + 2]
    spot.arrays["policy_probs"][spot.places.randrange(low, high)] = np.nan


def illegal_mass(spot: Spot) -> None:
    arrays = spot.arrays
    low, high = arrays["policy_offsets"][spot.row : spot.row + 2].tolist()
    actions = arrays["policy_actions"][low:high]
    illegal = spot.places.choice([a for a in range(spot.game.num_actions) if a not in actions])
    at = low + int(np.searchsorted(actions, illegal))
    arrays["policy_probs"][low:high] *= 1 - 1e-3
    arrays["policy_actions"] = np.insert(arrays["policy_actions"], at, illegal)
    arrays["policy_probs"] = np.insert(arrays["policy_probs"], at, np.float32(1e-3))
    arrays["policy_offsets"][spot.row + 1 :] += 1


def no_legal_move(spot: Spot) -> None:
    game, state = spot.game, spot.game.new_state()
    while game.outcome(state) == ONGOING or game.mask(state).any():
        if game.outcome(state) != ONGOING:
            state = game.new_state()
        game.apply(state, spot.places.choice(np.flatnonzero(game.mask(state)).tolist()))
    spot.arrays["states"][spot.row] = state


def value_of(value: float) -> Change:
    def change(spot: Spot) -> None:
        spot.arrays["outcomes"][spot.row] = value

    return change


@contextmanager
def bad_file(result: RunResult, places: random.Random, damage: Callable[[Path, Game], None]) -> Generator[None]:
    """The file of one turn is bad when the run takes it in."""
    turn, original = places.randrange(1, 3), worker_pool.play_turn

    def play(folder: Any, game: Game, config: Any, model: Any, number: int, *more: Any) -> Any:
        played = original(folder, game, config, model, number, *more)
        if played is None:  # the drill was asked to stop
            return None
        name, stats = played
        if number == turn:
            result.truth |= {"file": name, "control": turn}
            damage(folder.records / name, game)
        return name, stats

    with patch.object(worker_pool, "play_turn", play):
        yield


@contextmanager
def without_the_file(result: RunResult) -> Generator[None]:
    """The control: that file never was."""
    original, name = runs.Run._take, result.truth["file"]  # pyright: ignore[reportPrivateUsage]

    def take(self: Any, given: str, stats: Any) -> None:
        if given == name:
            (self.folder.records / given).unlink()
        else:
            original(self, given, stats)

    with patch.object(runs.Run, "_take", take):
        yield


def bad_row(change: Change, full_rows: bool = False) -> Callable[[RunResult, random.Random], Any]:
    """One row of a file is bad and its checksum right."""

    def inject(result: RunResult, places: random.Random) -> Any:
        def damage(path: Path, game: Game) -> None:
            def one(arrays: Arrays) -> None:
                widths = np.diff(arrays["policy_offsets"])
                rows = np.flatnonzero(widths < game.num_actions) if full_rows else np.arange(len(widths))
                row = places.choice(rows.tolist())
                result.truth |= {"row": row, "game": int(arrays["games"][row]), "ply": int(arrays["plies"][row])}
                change(Spot(game, arrays, row, places))

            rewrite(path, one)

        return bad_file(result, places, damage)

    return inject


def flipped_bit(result: RunResult, places: random.Random) -> Any:
    """One bit of the stored file."""

    def damage(path: Path, _: Game) -> None:
        data = bytearray(path.read_bytes())
        at = places.randrange(len(data))
        before = bytes(data)
        data[at] ^= 1 << places.randrange(8)
        path.write_bytes(bytes(data))
        result.truth["row"] = first_changed(before, bytes(data), at)

    return bad_file(result, places, damage)


def first_changed(before: bytes, after: bytes, at: int) -> int | None:
    """The first row that a flipped byte changes, by unpacking the file as it was and as it is now; None: no row."""
    with zipfile.ZipFile(io.BytesIO(before)) as container:
        offsets = cast("NDArray[np.int64]", np.load(io.BytesIO(container.read("policy_offsets.npy"))))
        for info in container.infolist():
            head = info.header_offset + 30
            first = head + sum(int.from_bytes(before[head - k : head - k + 2], "little") for k in (2, 4))
            if first <= at < first + info.compress_size and info.filename[:-4] in ARRAYS:
                numbers = np.load(io.BytesIO(container.read(info)))
                size = info.compress_size
                good, bad = (unpacked(data[first : first + size]) for data in (before, after))
                bad = bad[: len(good)].ljust(len(good), b"\0")
                byte = next((i for i in range(len(good)) if good[i] != bad[i]), None)
                if byte is None or byte < len(good) - numbers.nbytes:
                    return None
                entry = (byte - (len(good) - numbers.nbytes)) // (numbers.nbytes // len(numbers))
                if info.filename == "policy_offsets.npy":
                    return max(0, entry - 1)
                if info.filename.startswith("policy"):
                    return int(cast("np.intp", np.searchsorted(offsets, entry, "right"))) - 1
                return entry
    return None


def unpacked(data: bytes) -> bytes:
    """As much of a raw deflate stream as comes out, byte by byte."""
    stream, out = zlib.decompressobj(-15), b""
    try:
        for byte in data:
            out += stream.decompress(bytes([byte]))
    except zlib.error:
        pass
    return out


def names_damage(result: RunResult, incident: Incident) -> bool:
    """The file, and the first row that is not what was written; no row where the byte belongs to none."""
    first = incident.rows[0] if incident.rows else None
    return incident.evidence.get("file") == result.truth["file"] and first == result.truth["row"]


def names_row(field: str) -> Callable[[RunResult, Incident], bool]:
    """Row, field, game, ply, model and seed are the true ones."""

    def exact(result: RunResult, incident: Incident) -> bool:
        origin, truth = incident.evidence.get("origin", {}), result.truth
        return (
            incident.rows == [truth["row"]]
            and incident.evidence.get("fields") == [field]
            and (origin["game"], origin["ply"], origin["seed"]) == (truth["game"], truth["ply"], result.seed)
            and bool(origin["model"])
        )

    return exact


@contextmanager
def plane_without_scale(result: RunResult, places: random.Random) -> Generator[None]:
    """A plane of one row in memory is 1e4 (or 1e20) times too large from some step on."""
    step, factor, original = places.randrange(4, 20), places.choice((1e4, 1e20)), runs.Run._step  # pyright: ignore[reportPrivateUsage]

    def take_step(self: Any) -> None:
        if result.steps == step and "row" not in result.truth:
            replay = self.ingest.replay
            at = places.randrange(len(replay))
            plane = replay._planes.data[replay._planes.head + at]
            channel = places.choice(np.flatnonzero(np.abs(plane).reshape(len(plane), -1).max(1) > 0).tolist())
            plane[channel] *= factor
            row = replay.first_row + at
            result.truth |= {"row": row, "step": step, "control": (row, step)}
            rng_draw(self, row)
        original(self)

    with patch.object(runs.Run, "_step", take_step):
        yield


def rng_draw(run: Any, row: int) -> None:
    """Make sure that the next batch holds the row: the fault must be met in a short run."""
    original = run.ingest.replay.sample

    def sample(batch: int, rng: Any, *rest: Any) -> Any:
        made = original(batch, rng, *rest)
        made.rows[0] = row
        run.ingest.replay.sample = original
        return run.ingest.replay.gather(made.rows, made.symmetry, run.config.learner.q_mix)

    run.ingest.replay.sample = sample


@contextmanager
def same_draw(result: RunResult) -> Generator[None]:
    """The control draws the same row at the same step, unharmed."""
    original, row, step = runs.Run._step, result.truth["row"], result.truth["step"]  # pyright: ignore[reportPrivateUsage]

    def take_step(self: Any) -> None:
        if self.learner.steps == step:
            rng_draw(self, row)
        original(self)

    with patch.object(runs.Run, "_step", take_step):
        yield


class Sharp:
    """A network whose illegal logits have run away in one position: finite numbers, legal mass 0."""

    def __init__(self, inner: Any, spot: dict[str, Any]) -> None:
        self.of, self.spot = inner, spot
        self.game, self.name, self.model_id = inner.game, inner.name, inner.model_id

    def evaluate(self, planes: Any, logits: Any, values: Any) -> None:
        self.of.evaluate(planes, logits, values)
        for row in range(len(values)):
            if self.spot.get("planes") == planes[row].tobytes():
                logits[row][occupied(planes[row])] += 300.0


class Naive:
    """A search's view of a network through a prior that is masked after its softmax and divided by what is left."""

    def __init__(self, inner: Any, spot: dict[str, Any], result: RunResult, places: random.Random) -> None:
        self.inner, self.spot, self.result = Sharp(inner, spot), spot, result
        self.call = places.randrange(3, 30)
        self.game, self.name, self.model_id = inner.game, inner.name, inner.model_id

    def evaluate(self, planes: Any, logits: Any, values: Any) -> None:
        self.call -= 1
        rows = [row for row in range(len(values)) if occupied(planes[row]).size]
        if self.call <= 0 and rows and "planes" not in self.spot:
            self.spot["planes"] = planes[rows[0]].tobytes()
            self.result.truth["struck"] = True
            self.spot["left"] = 1
        self.inner.evaluate(planes, logits, values)
        for row in rows:
            if self.spot.get("planes") == planes[row].tobytes() and self.spot.get("left"):
                self.spot["left"] = 0
                share = np.exp(logits[row] - logits[row].max(), dtype=np.float32)
                share[occupied(planes[row])] = 0.0
                with np.errstate(all="ignore"):
                    logits[row] = np.log(share / share.sum())


def occupied(planes: Any) -> Any:
    """Squares of tic-tac-toe that are taken: the illegal actions."""
    return np.flatnonzero(np.abs(planes[:2]).reshape(2, -1).max(0) > 0)


@contextmanager
def no_legal_mass(result: RunResult, places: random.Random) -> Generator[None]:
    """One position of one turn gets a prior whose legal mass is 0."""
    original, turn = deterministic.load_precision, places.randrange(0, 3)
    spot: dict[str, Any] = {}
    seen: list[int] = []

    def load(*arguments: Any) -> Any:
        evaluator, *rest = original(*arguments)
        seen.append(1)
        wrapped = Naive(evaluator, spot, result, places) if len(seen) == turn + 1 else evaluator
        return (wrapped, *rest)

    with patch.object(deterministic, "load_precision", load):
        yield


@contextmanager
def hot_power(result: RunResult, places: random.Random) -> Generator[None]:
    """One row's target is made as visits ** (1 / 0.05) in float32."""
    game_number, original = places.randrange(12, 30), SelfplayBatch._finish  # pyright: ignore[reportPrivateUsage]

    def finish(self: Any, b: int) -> Any:
        game, evaluator = original(self, b)
        if game.k == game_number and "row" not in result.truth:
            row = places.randrange(len(game.rows))
            result.truth |= {"row": row, "game": game.k, "ply": game.rows[row].ply}
            visits = (game.rows[row].policy * self.config.simulations).astype(np.float32)
            with np.errstate(all="ignore"):
                power = visits ** np.float32(1 / self.config.temperature)
                game.rows[row].policy[:] = power / power.sum()
        return game, evaluator

    with patch.object(SelfplayBatch, "_finish", finish):
        yield


def names_game(result: RunResult, incident: Incident) -> bool:
    """Game and ply of the row that was never written."""
    origin = incident.evidence["origin"]
    return (origin["game"], origin["ply"]) == (result.truth["game"], result.truth["ply"])


def names_memory(result: RunResult, incident: Incident) -> bool:
    """The row that went bad in memory (drawn first into the batch), and its field."""
    return incident.evidence.get("fields") == ["planes"] and 0 in incident.rows and "row" in result.truth


FAULTS = [
    Fault("D01", "a policy target NaN in a stored row", "data", ("batch-not-finite",), bad_row(nan_target),
          names_row("policy"), control=without_the_file),
    Fault("D02", "temperature 0.05, 800 visits, float32", "search", ("temperature-overflow",), hot_power, names_game,
          settings=("selfplay.algorithm=puct", "selfplay.simulations=800", "selfplay.fast_simulations=800",
                    "selfplay.temperature=0.05")),
    Fault("D03", "all prior mass on illegal moves", "search", ("no-legal-mass",), no_legal_mass,
          lambda result, incident: bool(result.truth.get("struck")) and "legal" in incident.evidence["text"][0]),
    Fault("D04", "1e-3 of the target on an illegal move", "data", ("target-on-illegal",), bad_row(illegal_mass, True),
          names_row("policy"), control=without_the_file),
    Fault("D05", "a stored position without a legal move", "data", ("empty-mask",), bad_row(no_legal_move),
          names_row("state"), control=without_the_file),
    Fault("D06", "a value target of 1e30", "data", ("value-out-of-range",), bad_row(value_of(1e30)),
          names_row("outcome"), control=without_the_file),
    Fault("D06b", "a value target of 1.7", "data", ("value-out-of-range",), bad_row(value_of(1.7)),
          names_row("outcome"), control=without_the_file),
    Fault("D07", "an input plane without its scale", "data", ("plane-out-of-range",), plane_without_scale, names_memory,
          control=same_draw),
    Fault("D08", "a bit flipped in a stored file", "storage", ("checksum", "unreadable"), flipped_bit,
          names_damage, control=without_the_file),
]  # fmt: skip
