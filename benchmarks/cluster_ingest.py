"""How fast the head takes record files of a cluster: lease, checksum, every row judged, fsync, into the window.

    python benchmarks/cluster_ingest.py --game connect4 --seconds 20

The files are synthetic (random games, a uniform policy), as large as those of self-play; the way of each is that of a
run: `Dispatcher` over a fleet that answers at once, then the pool's and the loop's own calls. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from az.engine.game import ONGOING, Game, load_game
from az.engine.records.format import FinishedGame, Row, pack
from az.engine.selfplay.worker import ROWS_A_FILE, record_name
from az.engine.system.files import write_atomic
from az.train.cluster.answers import contents_of
from az.train.cluster.leases import Leases
from az.train.run.folder import RunFolder
from az.train.run.ingest import Ingest

SEED, MODEL = 0, "0123456789abcdef"


def random_game(game: Game, k: int, rng: np.random.Generator) -> FinishedGame:
    """A game of random moves, each recorded with a uniform policy."""
    state, rows, ply = game.new_state(), list[Row](), 0
    while game.outcome(state) == ONGOING:
        legal = np.flatnonzero(game.mask(state)).astype(np.int32)
        rows.append(Row(state.copy(), legal, np.full(len(legal), 1 / len(legal), np.float32), 0.0, ply))
        state = game.play(state, (int(rng.choice(legal)),))
        ply += 1
    return FinishedGame(k, MODEL, ply, 0, rows, [0] * len(rows))


def files_of(game: Game, count: int) -> list[tuple[bytes, int, int]]:
    """(bytes, games, rows) of `count` files of about ROWS_A_FILE rows; their numbers follow one another."""
    rng, found, k = np.random.default_rng(0), list[tuple[bytes, int, int]](), 0
    for _ in range(count):
        games, rows = list[FinishedGame](), 0
        while rows < ROWS_A_FILE:
            games.append(random_game(game, k, rng))
            rows += len(games[-1].rows)
            k += 1
        found.append((pack(game, games, SEED, {}), len(games), rows))
    return found


def measure(game: Game, seconds: float) -> dict[str, Any]:
    """Rows a second over many passes through the same files; each pass has its own leases."""
    files = files_of(game, 64)
    total, number, taken = sum(games for _, games, _ in files), 0, 0
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        folder.records.mkdir()
        ingest = Ingest(folder, game, 200_000, print)
        begun = time.perf_counter()
        while time.perf_counter() - begun < seconds:
            leases = Leases(0)
            leases.give("writer", total, MODEL)
            for data, _, rows in files:
                games = contents_of(data).games
                ticket = leases.arrived("writer", games)
                assert ticket is not None
                path = folder.records / record_name(1, 0, number)
                write_atomic(path, data)
                assert ingest.take(path) == rows
                leases.judged(ticket, True)
                taken, number = taken + rows, number + 1
            assert leases.left() is None
            folder.remove_records(ingest.left_window())
        spent = time.perf_counter() - begun
    return {
        "game": game.name, "rows_per_s": round(taken / spent), "files_per_s": round(number / spent, 1),
        "bytes_a_file": round(sum(len(data) for data, _, _ in files) / len(files)), "seconds": round(spent, 1),
    }  # fmt: skip


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--game", default="connect4")
    parser.add_argument("--seconds", type=float, default=20.0)
    chosen = parser.parse_args()
    print(json.dumps(measure(load_game(chosen.game), chosen.seconds)))


if __name__ == "__main__":
    main()
