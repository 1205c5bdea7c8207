"""The window of rows that training draws from, and how a batch is drawn.

Rows come from record files that were checked before. They keep their number since the beginning of the run and their
origin (file, row in it, game, ply), so that a bad batch leads back to the search that wrote it. Not thread-safe: the
one who trains also adds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numpy.typing import NDArray

from az.engine.errors import WrongRequest
from az.engine.game import Game
from az.engine.jit import kernel, state_kernel
from az.engine.records.format import Records
from az.train.config import ReplayConfig
from az.train.value_targets import value_targets

Floats = NDArray[np.float32]
Longs = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """n rows, ready for the learner; dense over the outputs."""

    planes: Floats  # [n, C, H, W]
    policy: Floats  # [n, A], sums to 1, 0 on illegal actions
    mask: NDArray[np.bool_]  # [n, A], True = legal
    value: Floats  # [n], in [-1, 1], for the player to move
    rows: Longs  # [n], row numbers since the beginning of the run: Replay.origin
    symmetry: Longs  # [n], index: 0 = as played, k = mapped by game.symmetries[k - 1]
    root_value: Floats | None = None  # [n], the search's value in [-1, 1]; only for a network that learns it

    @property
    def turns(self) -> Longs:
        """The old name of `symmetry`, for one version; still its key in a bundle's file."""
        return self.symmetry


def window_rows(config: ReplayConfig, total_rows: int) -> int:
    """How many of the last rows are drawn from: all at first, then a window that grows slower than the run."""
    start = config.window_start
    if total_rows <= start:
        return min(total_rows, config.window)
    return min(config.window, total_rows, int(start * (total_rows / start) ** config.window_exponent))


class Column:
    """An append-only array with a dead prefix: rows [0, head) are gone, [head, tail) live."""

    def __init__(self, dtype: Any, shape: tuple[int, ...] = ()) -> None:
        self.data: NDArray[Any] = np.empty((0, *shape), dtype)
        self.head = self.tail = 0

    def extend(self, count: int) -> NDArray[Any]:
        """A view of `count` new rows at the end, to be written by the caller."""
        if self.tail + count > len(self.data):
            self._make_room(count)
        self.tail += count
        return self.data[self.tail - count : self.tail]

    def _make_room(self, count: int) -> None:
        """Reclaim the dead prefix when that frees a third, else grow by half: either way amortised O(1) a row."""
        live = self.tail - self.head
        if live + count <= len(self.data) and 3 * self.head >= len(self.data):
            for begin in range(0, live, self.head):  # pieces no longer than the shift never overlap
                end = min(begin + self.head, live)
                self.data[begin:end] = self.data[self.head + begin : self.head + end]
        else:
            larger = np.empty((max(live + live // 2, live + count), *self.data.shape[1:]), self.data.dtype)
            larger[:live] = self.data[self.head : self.tail]
            self.data = larger
        self.head, self.tail = 0, live


class Replay:
    """The last `capacity` rows in memory. `first_row`: the number of the first row added (after a resume).

    root_values: batches carry the value of the search's root too. td_lambda: see `value_targets`.
    """

    def __init__(
        self, game: Game, capacity: int, first_row: int = 0, root_values: bool = False, td_lambda: float = 1.0
    ) -> None:
        self.game, self.capacity, self.root_values, self.td_lambda = game, capacity, root_values, td_lambda
        self.first_row = self.total_rows = first_row  # live rows are [first_row, total_rows)
        self._planes = Column(np.float32, game.planes_shape)
        self._rows = {
            "start": Column(np.int64),  # of the row's policy, counted over all entries ever added
            "end": Column(np.int64),
            "outcome": Column(np.float32),  # or the lambda-return of it
            "root_value": Column(np.float32),
            "file": Column(np.int32),
            "row_in_file": Column(np.int32),
            "game": Column(np.int64),
            "ply": Column(np.int32),
            "model": Column(np.int32),
        }
        self._actions, self._probs = Column(np.int32), Column(np.float32)
        self._first_entry = self._total_entries = 0
        self._files: dict[int, tuple[str, list[str], Any]] = {}  # path, models, seed
        self._next_file = 0
        identity = (np.arange(game.num_actions), np.arange(game.planes_shape[1] * game.planes_shape[2]))
        maps = [identity, *((s.actions, s.squares) for s in game.symmetries)]
        self._action_images = np.ascontiguousarray([actions for actions, _ in maps], np.int64)
        self._square_images = np.ascontiguousarray([squares for _, squares in maps], np.int64)

    def __len__(self) -> int:
        """Live rows."""
        return self.total_rows - self.first_row

    def add(self, records: Records) -> None:
        """Append the rows of one file; the oldest leave. The rows have been checked by engine/records/format.py."""
        count, entries = len(records.outcomes), len(records.policy_actions)
        states = np.ascontiguousarray(records.states, self.game.dtype)
        encode_states[self.game.dtype](states, self.game.encode, self._planes.extend(count))
        offsets = records.policy_offsets - records.policy_offsets[0] + self._total_entries
        values = {
            "start": offsets[:-1],
            "end": offsets[1:],
            "outcome": value_targets(records, self.td_lambda),
            "root_value": records.root_values,
            "file": self._next_file,
            "row_in_file": np.arange(count),
            "game": records.games,
            "ply": records.plies,
            "model": records.models,
        }
        for name, column in self._rows.items():
            column.extend(count)[:] = values[name]
        self._actions.extend(entries)[:] = records.policy_actions
        self._probs.extend(entries)[:] = records.policy_probs
        self._files[self._next_file] = (str(records.path), records.header["models"], records.header["seed"])
        self._next_file += 1
        self._total_entries += entries
        self.total_rows += count
        self._forget(len(self) - self.capacity)

    def sample(
        self, batch: int, rng: np.random.Generator, window: int, q_mix: float = 0.0, symmetries: bool = False
    ) -> Batch:
        """`batch` rows drawn uniformly, with replacement, from the last `window` rows."""
        window = min(window, len(self))
        if window < 1:
            raise WrongRequest("there are no rows to train on yet: play games first.")
        rows = rng.integers(self.total_rows - window, self.total_rows, batch)
        drawn = symmetries and len(self._action_images) > 1
        chosen = rng.integers(0, len(self._action_images), batch) if drawn else np.zeros(batch, np.int64)
        return self.gather(rows, chosen, q_mix)

    def gather(self, rows: Longs, symmetry: Longs, q_mix: float = 0.0) -> Batch:
        """The batch of exactly these rows, each mapped by its symmetry, so that what `sample` drew comes again."""
        outside = (rows < self.first_row) | (rows >= self.total_rows)
        if outside.any():
            raise self._gone(int(rows[outside][0]))
        if ((symmetry < 0) | (symmetry >= len(self._action_images))).any():
            raise WrongRequest(f"a row's symmetry must be an index from 0 to {len(self._action_images) - 1}.")
        n, columns = len(rows), self._rows
        places = rows - self.first_row + columns["start"].head
        made = Batch(
            planes=np.empty((n, *self.game.planes_shape), np.float32),
            policy=np.zeros((n, self.game.num_actions), np.float32),
            mask=np.zeros((n, self.game.num_actions), np.bool_),
            value=np.empty(n, np.float32),
            rows=rows,
            symmetry=symmetry,
            root_value=columns["root_value"].data[places] if self.root_values else None,
        )
        gather_rows(
            places,
            symmetry,
            float(q_mix),
            self._first_entry - self._actions.head,
            self._planes.data,
            columns["start"].data,
            columns["end"].data,
            self._actions.data,
            self._probs.data,
            columns["outcome"].data,
            columns["root_value"].data,
            self._action_images,
            self._square_images,
            made.planes,
            made.policy,
            made.mask,
            made.value,
        )
        return made

    def origin(self, row: int) -> dict[str, Any]:
        """Where a live row came from: file, row in it, game k, ply, the model that played it and the seed."""
        if not self.first_row <= row < self.total_rows:
            raise self._gone(row)
        at = row - self.first_row
        found = {name: int(c.data[c.head + at]) for name, c in self._rows.items()}
        path, models, seed = self._files[found["file"]]
        place = {name: found[name] for name in ("row_in_file", "game", "ply")}
        return {"row": int(row), "file": path, **place, "model": models[found["model"]], "seed": seed}

    def renew(self, row: int, records: Records) -> None:
        """Write the rows of a file again that are in memory already: `row` is one of them, `records` the whole file."""
        first = row - self.origin(row)["row_in_file"]
        skip = max(0, self.first_row - first)  # rows of the file that have left the window
        at = slice(self._rows["start"].head + first + skip - self.first_row,
                   self._rows["start"].head + first + len(records) - self.first_row)  # fmt: skip
        starts = self._rows["start"].data[at]
        shift = self._planes.head - self._rows["start"].head
        states = np.ascontiguousarray(records.states[skip:], self.game.dtype)
        planes = np.empty((len(states), *self.game.planes_shape), np.float32)
        encode_states[self.game.dtype](states, self.game.encode, planes)
        self._planes.data[at.start + shift : at.stop + shift] = planes
        for name, values in (("outcome", value_targets(records, self.td_lambda)), ("root_value", records.root_values)):
            column = self._rows[name]
            move = column.head - self._rows["start"].head
            column.data[at.start + move : at.stop + move] = values[skip:]
        low = int(records.policy_offsets[skip])
        place = int(starts[0]) - self._first_entry
        for column, values in ((self._actions, records.policy_actions), (self._probs, records.policy_probs)):
            begin = place + column.head
            column.data[begin : begin + len(values) - low] = values[low:]

    def _gone(self, row: int) -> WrongRequest:
        return WrongRequest(f"row {row} is not in the window: it holds rows {self.first_row} to {self.total_rows - 1}.")

    def _forget(self, count: int) -> None:
        if count <= 0:
            return
        starts, files = self._rows["start"], self._rows["file"]
        for column in (self._planes, *self._rows.values()):
            column.head += count
        self.first_row += count
        first = int(starts.data[starts.head]) if len(self) else self._total_entries
        for column in (self._actions, self._probs):
            column.head += first - self._first_entry
        self._first_entry = first
        oldest = int(files.data[files.head]) if len(self) else self._next_file
        for number in [n for n in self._files if n < oldest]:
            del self._files[number]


@state_kernel(lambda t: types.void(t.states, t.pointer("encode"), types.float32[:, :, :, ::1]))
def encode_states(states, encode, planes):
    for row in range(len(states)):
        encode(states[row], planes[row])


@kernel(
    types.void(
        types.int64[::1],
        types.int64[::1],
        types.float64,
        types.int64,
        types.float32[:, :, :, ::1],
        types.int64[::1],
        types.int64[::1],
        types.int32[::1],
        types.float32[::1],
        types.float32[::1],
        types.float32[::1],
        types.int64[:, ::1],
        types.int64[:, ::1],
        types.float32[:, :, :, ::1],
        types.float32[:, ::1],
        types.boolean[:, ::1],
        types.float32[::1],
    )
)
def gather_rows(
    places,
    symmetry,
    q_mix,
    entry_shift,
    all_planes,
    starts,
    ends,
    all_actions,
    all_probs,
    outcomes,
    root_values,
    action_images,
    square_images,
    planes,
    policy,
    mask,
    value,
):
    channels, height, width = planes.shape[1], planes.shape[2], planes.shape[3]
    for row in range(len(places)):
        at, chosen = places[row], symmetry[row]
        for channel in range(channels):
            for y in range(height):
                for x in range(width):
                    image = square_images[chosen, y * width + x]
                    planes[row, channel, image // width, image % width] = all_planes[at, channel, y, x]
        for entry in range(starts[at] - entry_shift, ends[at] - entry_shift):
            action = action_images[chosen, all_actions[entry]]
            policy[row, action] = all_probs[entry]
            mask[row, action] = True
        value[row] = outcomes[at]
        if q_mix > 0.0:  # a missing root value must not matter when it is not asked for: 0 * NaN is NaN
            value[row] = (1.0 - q_mix) * outcomes[at] + q_mix * root_values[at]
