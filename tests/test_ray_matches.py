"""`az arena` and `az score` over real Ray nodes: the figures of one machine, also where a node is killed."""

from __future__ import annotations

import json
import time

import psutil
import pytest
from make_models import write_model
from processes import Marked
from ray_nodes import RayNodes
from run_tools import command, run_az

pytest.importorskip("ray", reason="ray is not installed: the extra `ray` brings it")
pytestmark = pytest.mark.integrations
END_SECONDS = 300.0


def test_a_match_over_nodes_of_which_one_is_killed_is_that_of_one_machine(tmp_path):
    write_model(tmp_path / "m.onnx", "tictactoe")
    words = ("arena", "m.onnx", "rollouts:3000", "--games", 200, "--sims", 50, "--seed", 3, "--json")
    alone = run_az(tmp_path, *words)
    assert alone.returncode == 0, alone.stderr
    with RayNodes(tmp_path) as nodes:
        there = [nodes.add(), nodes.add()]
        out = tmp_path / "out.json"
        with (
            out.open("w") as file,
            Marked(command(*words, "--cluster", nodes.address), tmp_path, stdout=file) as going,
        ):
            time.sleep(20.0)
            nodes.kill(there[0])
            nodes.add()
            assert going.main.wait(END_SECONDS) == 0
        assert json.loads(out.read_text()) == json.loads(alone.stdout)


def test_a_ladder_over_a_local_cluster_is_that_of_one_machine_and_leaves_no_process(tmp_path):
    write_model(tmp_path / "m.onnx", "tictactoe")
    words = ("score", "m.onnx", "--sims", "4", "--games", 4, "--json")
    alone = run_az(tmp_path, *words)
    out = tmp_path / "out.json"
    with out.open("w") as file, Marked(command(*words, "--cluster", "local"), tmp_path, stdout=file) as going:
        assert going.main.wait(END_SECONDS) == 0
        end = time.monotonic() + 60.0
        while going.others() and time.monotonic() < end:
            time.sleep(0.5)
        assert not going.others()
    assert json.loads(out.read_text()) == json.loads(alone.stdout)


def test_a_head_that_is_there_and_does_not_answer_ends_a_match_with_a_sentence(tmp_path):
    words = ("arena", "minimax:6", "minimax:7", "--game", "othello6", "--games", 100_000, "--json")
    with RayNodes(tmp_path) as nodes:
        nodes.add()
        heads = [one for one in psutil.process_iter(["name"]) if one.info["name"] == "gcs_server"]
        head = next(one for one in heads if nodes.marked.main.pid in [up.pid for up in one.parents()])
        said = tmp_path / "said.txt"
        with (
            said.open("w") as file,
            Marked(command(*words, "--cluster", nodes.address), tmp_path, stdout=file, stderr=file) as going,
        ):
            time.sleep(20.0)
            assert going.main.poll() is None, said.read_text()
            head.suspend()  # its port takes connections still
            try:
                assert going.main.wait(90.0) == 1
            finally:
                head.resume()
        last = said.read_text().splitlines()[-1]
        assert last.startswith(f"az: the head of the Ray cluster at {nodes.address} cannot be reached any more (it has")
