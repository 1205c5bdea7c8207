"""A run over real Ray nodes on this machine: killed, joined, resumed; the same bytes as one process."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Marked
from ray_nodes import RayNodes
from run_tools import command, digests, settings, start_az
from run_tools import run_az as run_az_in
from test_run import log_lines, rows_on_disk, wait_until

from az.engine.game import load_game
from az.engine.records.format import read_records
from az.train import checkpoint

pytest.importorskip("ray", reason="ray is not installed: the extra `ray` brings it")
pytestmark = pytest.mark.integrations
GAME = load_game("tictactoe")
GONE_SECONDS = 60.0


@pytest.fixture
def nodes(tmp_path) -> Iterator[RayNodes]:
    with RayNodes(tmp_path) as found:
        yield found


def kept(folder: Path) -> dict[str, str]:
    """What a deterministic run leaves, its event file of TensorBoard too."""
    return digests(folder)


def turns(run: Path) -> int:
    return len(list((run / "records").glob("[0-9]*.npz")))


def deterministic(folder: Path, nodes: RayNodes, seed: int, steps: int) -> dict[str, str]:
    """A deterministic run of three turns; in each a node is killed in mid-game, and another joins."""
    rng = random.Random(seed)
    there = [nodes.add(), nodes.add()]
    options = settings(selfplay__simulations=200, selfplay__fast_simulations=100, selfplay__precision="fp32")
    arguments = ("train", "tictactoe", "--run", "t", "--deterministic", "--steps", steps, *options)
    (folder / "cluster").mkdir()
    process = start_az(folder / "cluster", *arguments, "--cluster", nodes.address)
    run = folder / "cluster" / "runs" / "t"
    try:
        for turn in range(2):
            wait_until(process, lambda turn=turn: turns(run) >= turn, 200)
            time.sleep(rng.random() * 2.0)
            nodes.kill(there.pop(rng.randrange(len(there))))
            there.append(nodes.add())
        assert process.wait(200) == 0
    finally:
        end(process)
    for number in there:
        nodes.kill(number)
    return kept(run)


def end(process) -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


def alone(folder: Path, steps: int) -> dict[str, str]:
    (folder / "alone").mkdir()
    options = settings(selfplay__simulations=200, selfplay__fast_simulations=100, selfplay__precision="fp32")
    arguments = ("train", "tictactoe", "--run", "t", "--deterministic", "--steps", steps, *options)
    done = run_az_in(folder / "alone", *arguments)
    assert done.returncode == 0, done.stderr
    return kept(folder / "alone" / "runs" / "t")


def test_nodes_killed_and_joining_give_the_bytes_of_one_process(tmp_path, nodes):
    wanted = alone(tmp_path, 40)
    found = deterministic(tmp_path, nodes, 0, 40)
    records = {name: found[name] for name in found if name.startswith("records/")}
    assert records
    assert records == {name: wanted[name] for name in wanted if name.startswith("records/")}
    assert {n: d for n, d in found.items() if n != "log.jsonl"} == {n: d for n, d in wanted.items() if n != "log.jsonl"}


def no_game_twice(run: Path) -> int:
    numbers = [
        game[0] for path in (run / "records").glob("[0-9]*.npz") for game in read_records(path, GAME).header["games"]
    ]
    assert len(numbers) == len(set(numbers))
    return len(numbers)


def kill_nodes_and_heads(folder: Path, nodes: RayNodes, kills: int, heads: int, seed: int) -> int:
    """A run whose nodes are killed at random, and whose own process is killed and resumed; its games at the end."""
    rng = random.Random(seed)
    there = [nodes.add(), nodes.add()]
    run = folder / "runs" / "t"
    events = ["node"] * kills + ["head"] * heads
    rng.shuffle(events)
    begin = ("train", "tictactoe", "--run", "t", "--steps", 1_000_000, *settings(replay__window=200_000))
    going = Marked(command(*begin, "--cluster", nodes.address), folder)
    try:
        going.wait_for(lambda: (run / "log.jsonl").exists() and len(log_lines(run)) > 2, 200)
        for event in events:
            before, games = rows_on_disk(run), no_game_twice(run)
            time.sleep(rng.random() * 2.0)
            if event == "node":
                nodes.kill(there.pop(rng.randrange(len(there))))
                there.append(nodes.add())
            else:
                deadline = time.monotonic() + GONE_SECONDS
                left = going.left_after_kill()
                while left and time.monotonic() < deadline:
                    time.sleep(0.5)
                    left = [process for process in going.others() if process.is_running()]
                assert not left
                assert set(before) <= set(rows_on_disk(run))
                games = no_game_twice(run)  # so that the next ones are of the run resumed
                going = Marked(command("resume", "t", "--cluster", nodes.address), folder)
            going.wait_for(lambda games=games: no_game_twice(run) > games, 200)
            assert set(before) <= set(rows_on_disk(run))
        going.main.send_signal(signal.SIGINT)
        assert going.main.wait(90) == 0
        deadline = time.monotonic() + GONE_SECONDS
        while going.others() and time.monotonic() < deadline:
            time.sleep(0.5)
        assert not going.others()
    finally:
        going.__exit__()
    assert not list(run.glob("quarantine/*"))
    found, reasons = checkpoint.latest(run)
    assert (found is not None, reasons) == (True, [])
    return no_game_twice(run)


def test_a_run_goes_on_when_nodes_and_its_own_process_are_killed(tmp_path, nodes):
    kill_nodes_and_heads(tmp_path, nodes, 1, 1, 0)
    lines = [line for line in log_lines(tmp_path / "runs" / "t") if line["kind"] == "node"]
    assert {"joined", "writes"} <= {line["event"] for line in lines}


@pytest.mark.slow
def test_twenty_nodes_and_five_heads_killed(tmp_path, nodes):
    assert kill_nodes_and_heads(tmp_path, nodes, 20, 5, 1) > 25  # more came after every event


@pytest.mark.slow
def test_ten_times_the_bytes_of_one_process(tmp_path, nodes):
    wanted = alone(tmp_path, 40)
    for seed in range(1, 11):
        folder = tmp_path / str(seed)
        folder.mkdir()
        found = deterministic(folder, nodes, seed, 40)
        assert {n: d for n, d in found.items() if n != "log.jsonl"} == {
            n: d for n, d in wanted.items() if n != "log.jsonl"
        }


def test_a_local_cluster_leaves_no_process(tmp_path):
    begin = ("train", "tictactoe", "--run", "t", "--steps", 1_000_000, *settings(), "--cluster", "local")
    with Marked(command(*begin), tmp_path) as going:
        run = tmp_path / "runs" / "t"
        going.wait_for(lambda: list((run / "records").glob("[0-9]*.npz")), 200)
        left = going.left_after_kill()
        deadline = time.monotonic() + GONE_SECONDS
        while left and time.monotonic() < deadline:
            time.sleep(0.5)
            left = [" ".join(process.cmdline()) for process in going.others()]
        assert not left


def test_a_cluster_that_is_not_there_is_one_sentence(tmp_path):
    done = run_az_in(tmp_path, "train", "tictactoe", "--run", "t", *settings(), "--cluster", "127.0.0.1:9")
    assert done.returncode == 1
    assert "the Ray cluster at 127.0.0.1:9 cannot be joined" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_wrong_token_is_one_sentence(tmp_path, nodes, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 32)
    done = run_az_in(tmp_path, "train", "tictactoe", "--run", "t", *settings(), "--cluster", nodes.address)
    assert done.returncode == 1
    assert "cannot be joined" in done.stderr
    assert "Traceback" not in done.stderr
