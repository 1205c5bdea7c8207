"""Games that other machines made: parts of a longer series, and record files that appear in a folder of a run."""

from __future__ import annotations

import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import run_az
from make_models import make_run, small_config
from run_tools import run_az as run_az_in
from run_tools import settings, start_az
from test_run import log_lines, wait_until

from az.engine.api import load_game
from az.engine.errors import WrongRequest
from az.engine.records.format import pack, parse_records, read_records, unpack
from az.engine.selfplay.batch import SelfplayConfig
from az.engine.selfplay.to_files import selfplay_to_files
from az.train.cluster.inbox import PATIENCE, Inbox, is_elsewhere
from az.train.run.folder import RunFolder
from az.train.run.ingest import Ingest

GAME = load_game("tictactoe")
CONFIG = SelfplayConfig(simulations=4, fast_simulations=4, slots=8)


class Uniform:
    """Every move alike."""

    game, model_id, name = GAME, "0123456789abcdef", "uniform"

    def evaluate(self, planes, logits, values):
        assert len(planes) == len(logits)
        logits[:], values[:] = 0.0, 0.0


def games_in(folder: Path) -> dict[int, bytes]:
    """Every game of a folder of record files, as the bytes of a file of its own."""
    found = {}
    for path in sorted(folder.glob("*.npz")):
        records = read_records(path, GAME)
        for game in unpack(records):
            assert game.k not in found
            found[game.k] = pack(GAME, [game], records.header["seed"], records.header["search"])
    return found


def play(out: Path, first: int | None, games: int, seed: int = 3) -> Path:
    selfplay_to_files(Uniform(), CONFIG, games, seed, out, 1, first=first)
    return out


def test_parts_are_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("az.engine.selfplay.to_files.GAMES_A_FILE", 5)
    whole = play(tmp_path / "whole", None, 24)
    for first in (0, 7, 14, 21):  # as an array job would, into one folder
        play(tmp_path / "parts", first, 7 if first < 21 else 3)
    assert games_in(tmp_path / "parts") == games_in(whole)
    play(tmp_path / "aligned", 5, 10)
    for path in (tmp_path / "aligned").iterdir():
        assert path.read_bytes() == (whole / path.name).read_bytes()
    with pytest.raises(WrongRequest, match="holds games 10 to 13 already"):
        play(tmp_path / "parts", 13, 1)
    with pytest.raises(WrongRequest, match="holds records already"):
        play(tmp_path / "parts", None, 1)


def test_first_on_the_command_line(tmp_path):
    done = run_az("selfplay", "tictactoe", "--first", 100, "--games", 3, "--sims", 2, "--out", tmp_path / "a", "--json")
    assert done.code == 0, done.err
    assert sorted(games_in(tmp_path / "a")) == [100, 101, 102]
    assert run_az("selfplay", "tictactoe", "--first", -1, "--games", 3, "--out", tmp_path / "b").code == 2
    assert not (tmp_path / "b").exists()


def test_unpacked_games_make_the_same_file(tmp_path):
    (path,) = play(tmp_path, None, 9).iterdir()
    records = read_records(path, GAME)
    assert pack(GAME, unpack(records), 3, CONFIG.header()) == path.read_bytes()


class Taking:
    """A run's folder with an inbox, as the loop uses it."""

    def __init__(self, tmp_path: Path) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.stats: list[dict[str, Any]] = []
        self.source = tmp_path / "source"
        self.source.mkdir(exist_ok=True)
        path = make_run(tmp_path / "run", config=replace(small_config(), game="tictactoe"))
        self.folder = RunFolder(path)
        self.ingest = Ingest(self.folder, GAME, 10_000, self.said.append)
        self.begin(1)

    def begin(self, session: int) -> None:
        """As a run that is started, or started again after a kill."""
        self.ingest.load_all(0, [])
        self.inbox = Inbox(self.source, self.folder, GAME, session, self.said.append, lambda: self.now)

    def take(self, name: str, stats: dict[str, Any]) -> bool:
        assert is_elsewhere(name)
        if not self.ingest.take(self.folder.records / name, stats["writer"]):
            return False
        self.stats.append(stats)
        return True

    def look(self, seconds: float = 10.0) -> int:
        self.now += seconds
        return self.inbox.look(self.take)


@pytest.fixture
def taking(tmp_path):
    return Taking(tmp_path)


def test_each_file_is_taken_once(taking, tmp_path):
    made = play(tmp_path / "made", 0, 20)
    assert taking.look() == 0
    (path,) = made.iterdir()
    shutil.copy(path, taking.source)
    shutil.copy(path, taking.source / "again.npz")
    assert taking.look() == 1
    rows = taking.ingest.total_rows
    assert rows == len(read_records(path, GAME))
    assert (taking.stats[0]["games"], len(taking.stats)) == (20, 1)
    assert taking.look() == 0
    os.utime(taking.source / path.name, (1, 1))  # rsync again
    assert taking.look() == 0
    taking.inbox.close()
    taking.begin(2)  # a resumed run remembers
    assert taking.ingest.total_rows == rows
    assert taking.look() == 0
    assert taking.ingest.total_rows == rows


def test_a_kill_between_the_file_and_its_line(taking, tmp_path):
    (path,) = play(tmp_path / "made", 0, 20).iterdir()
    shutil.copy(path, taking.source)
    assert taking.look() == 1
    rows = taking.ingest.total_rows
    taking.inbox.close()
    ledger = taking.folder.path / "taken.jsonl"
    ledger.write_bytes(ledger.read_bytes()[:40])  # torn
    taking.begin(2)
    assert taking.look() == 0
    assert taking.ingest.total_rows == rows
    assert len(ledger.read_bytes().splitlines()) == 2


def test_a_file_that_grows_is_waited_for(taking, tmp_path):
    (path,) = play(tmp_path / "made", 0, 20).iterdir()
    data, place = path.read_bytes(), taking.source / path.name
    for size in (0, 10, len(data) // 2, len(data) - 1):
        place.write_bytes(data[:size])
        assert taking.look(PATIENCE - 1) == 0
        assert not taking.ingest.quarantined
    place.write_bytes(data)
    assert taking.look() == 1
    (taking.source / ".games.npz.aB3d").write_bytes(data[:100])  # of rsync
    assert taking.look(PATIENCE + 1) == taking.look(PATIENCE + 1) == 0
    cut = taking.source / "cut.npz"
    cut.write_bytes(data[:-200])
    assert taking.look() == taking.look(PATIENCE + 1) == 0
    assert taking.ingest.quarantined == 1
    assert any("cut.npz" in text and "quarantined" in text for text in taking.said)


def test_no_game_twice(taking, tmp_path):
    shutil.copy(next(play(tmp_path / "a", 0, 20).iterdir()), taking.source / "a.npz")
    assert taking.look() == 1
    shutil.copy(next(play(tmp_path / "b", 15, 20).iterdir()), taking.source / "b.npz")
    assert taking.look() == 0
    assert any("b.npz was left out: its game 15 was taken before" in text for text in taking.said)
    shutil.copy(next(play(tmp_path / "c", 15, 20, seed=4).iterdir()), taking.source / "c.npz")  # other games
    assert taking.look() == 1


def test_strangers_files(taking, tmp_path):
    (path,) = play(tmp_path / "made", 0, 20).iterdir()
    records = parse_records(path, path.read_bytes(), GAME)
    games = unpack(records)
    bad = [replace(games[0], rows=[replace(games[0].rows[0], root_value=float("nan")), *games[0].rows[1:]])]
    (taking.source / "nan.npz").write_bytes(pack(GAME, bad, 3, CONFIG.header()))
    (taking.source / "huge.npz").write_bytes(pack(GAME, [replace(games[1], k=10**12)], 3, CONFIG.header()))
    othello = load_game("connect4")
    (taking.source / "other.npz").write_bytes(pack(othello, [], 3, {}))
    os.mkfifo(taking.source / "pipe.npz")
    (taking.source / "folder.npz").mkdir()
    (taking.source / "link.npz").symlink_to("nowhere")
    for _ in range(3):
        assert taking.look(PATIENCE + 1) == 0
    assert taking.ingest.total_rows == 0
    assert taking.ingest.quarantined == 2
    notes = [json.loads(note.read_text())["reason"] for note in taking.folder.quarantined.glob("*.json")]
    assert any("nan.npz of --records" in reason for reason in notes)
    assert any("huge.npz was left out: its game" in text for text in taking.said)
    assert taking.ingest.refused_by_writer == {"--records": 2}


def test_a_run_trains_on_files_of_others(tmp_path):
    source = tmp_path / "from-others"
    source.mkdir()
    options = ("--records", source, *settings(selfplay__precision="fp32"))
    process = start_az(tmp_path, "train", "tictactoe", "--run", "t", "--steps", 100_000, *options)
    run = tmp_path / "runs" / "t"
    try:
        wait_until(process, lambda: (run / "log.jsonl").exists() and len(log_lines(run)) > 1)
        model = run / "models" / "000000.onnx"
        if not model.exists():
            model = sorted((run / "models").glob("*.onnx"))[-1]
        shutil.copy(model, tmp_path / "m.onnx")
        made = run_az_in(tmp_path, "selfplay", "m.onnx", "--first", 5_000_000, "--games", 30, "--out", "made")
        assert made.returncode == 0, made.stderr
        for path in (tmp_path / "made").iterdir():
            shutil.copy(path, source)
        wait_until(process, lambda: any(is_elsewhere(path.name) for path in (run / "records").glob("*.npz")))
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(30)
    lines = (run / "taken.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["games"][0][1:] == [5_000_000, 5_000_029]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--records", "nowhere"), "there is no folder 'nowhere'"),
        (("--records", ".", "--deterministic"), "cannot take --records"),
        (("--cluster", "nowhere"), "is no address of a cluster: give HOST:PORT"),
        (("--cluster", "ray://a:1"), "is no address of a cluster: give HOST:PORT"),
        (("--cluster", "a:65536"), "is no address of a cluster: give HOST:PORT"),
        (("--cluster", "a:0"), "is no address of a cluster: give HOST:PORT"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path, options, said):
    done = run_az_in(tmp_path, "train", "tictactoe", *options)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "runs").exists()


def test_without_the_extra(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.chdir(tmp_path)
    done = run_az("train", "tictactoe", "--cluster", "local")
    assert done.code == 2
    assert "ray is not installed, and --cluster needs it: pip install '.[ray]'" in done.err
    assert not (tmp_path / "runs").exists()
