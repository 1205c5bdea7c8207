"""A cable that is cut between a run's machines: the run goes on, and takes the lost node again when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from ray_partition import TwoMachines, why_not
from run_tools import command, settings
from test_ray import GONE_SECONDS, no_game_twice
from test_run import log_lines

pytest.importorskip("ray", reason="ray is not installed: the extra `ray` brings it")
pytestmark = [pytest.mark.integrations, pytest.mark.skipif(bool(why_not()), reason=why_not() or "none")]
AT_NODE = "10.77.0.2"


def events(run: Path, event: str) -> list[str]:
    """Names of the nodes of which the log has such a line."""
    lines = log_lines(run) if (run / "log.jsonl").exists() else []
    return [line["node"] for line in lines if line["kind"] == "node" and line["event"] == event]


def wait(machines: TwoMachines, reached: Callable[[], object], seconds: float = 240.0) -> None:
    """Wait for something that the run does. Fails where it ends before, or takes longer."""
    deadline = time.monotonic() + seconds
    while not reached():
        assert machines.ended() is None, machines.said()
        assert time.monotonic() < deadline, machines.said()
        time.sleep(0.5)


def go_on_without_the_node(folder: Path, quick: bool, seconds: float) -> str:
    """What such a run says; it has ended well, and no game was played twice."""
    run = folder / "runs" / "t"
    with TwoMachines(folder, quick) as machines:
        begin = ("train", "tictactoe", "--run", "t", "--steps", 1_000_000, *settings(replay__window=200_000))
        machines.train("head", *command(*begin, "--cluster", machines.address))
        wait(machines, lambda: len(events(run, "writes")) == 2)
        machines.say("cut")
        cut, games = time.monotonic(), no_game_twice(run)
        wait(machines, lambda: events(run, "left"))
        assert AT_NODE in events(run, "left")[0]
        wait(machines, lambda: no_game_twice(run) > games + 50)
        wait(machines, lambda: time.monotonic() - cut >= seconds, seconds + 60)
        machines.say("mend")
        wait(machines, lambda: len(events(run, "writes")) == 3)
        assert AT_NODE in events(run, "writes")[2]
        machines.say("stop")
        deadline = time.monotonic() + 90
        while machines.ended() is None and time.monotonic() < deadline:
            time.sleep(0.5)
        assert machines.ended() == 0
        deadline = time.monotonic() + GONE_SECONDS
        while machines.say("players") and time.monotonic() < deadline:
            time.sleep(0.5)
        assert machines.say("players") == 0
        said = machines.said()
    no_game_twice(run)
    assert not list(run.glob("quarantine/*"))
    assert "raylet" not in said  # Ray's own pages about it stay in its logs
    assert "Traceback" not in said
    return said


def test_a_node_that_cannot_reach_the_head_is_done_without_and_taken_again(tmp_path):
    assert "left the cluster" in go_on_without_the_node(tmp_path, True, 0.0)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_node_that_cannot_reach_the_head_for_ten_minutes(tmp_path):
    assert "left the cluster" in go_on_without_the_node(tmp_path, False, 600.0)


@pytest.mark.timeout(900)
def test_a_learner_that_cannot_reach_the_head_joins_again(tmp_path):
    run = tmp_path / "runs" / "t"
    with TwoMachines(tmp_path) as machines:
        begin = ("train", "tictactoe", "--run", "t", "--steps", 1_000_000, *settings(replay__window=200_000))
        machines.train("node", *command(*begin, "--cluster", machines.address))
        wait(machines, lambda: len(events(run, "writes")) == 2)
        machines.say("cut")
        wait(machines, lambda: events(run, "cluster lost"))
        machines.say("mend")
        games = no_game_twice(run)
        wait(machines, lambda: no_game_twice(run) > games + 50)
        machines.say("stop")
        deadline = time.monotonic() + 90
        while machines.ended() is None and time.monotonic() < deadline:
            time.sleep(0.5)
        assert machines.ended() == 0, machines.said()
        said = machines.said()
    no_game_twice(run)
    assert f"the Ray cluster at {machines.address} was lost" in said
    assert "joining it again" in said
    assert "raylet" not in said


@pytest.mark.timeout(600)
def test_a_match_that_loses_the_head_ends_with_a_sentence(tmp_path):
    """Ray itself would end the process after a minute, without a word."""
    with TwoMachines(tmp_path) as machines:
        words = ("arena", "minimax:6", "minimax:7", "--game", "othello6", "--games", 100_000, "--json")
        machines.train("node", *command(*words, "--cluster", machines.address))
        wait(machines, lambda: machines.say("players"))
        machines.say("cut")
        deadline = time.monotonic() + 120
        while machines.ended() is None and time.monotonic() < deadline:
            time.sleep(0.5)
        assert machines.ended() == 1
        said = machines.said().splitlines()
        gone = f"the head of the Ray cluster at {machines.address} cannot be reached any more"
        assert said[-1].startswith(f"az: {gone}")
