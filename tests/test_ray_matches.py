"""`az arena` and `az score` over real Ray nodes: the figures of one machine, also where a node is killed."""

from __future__ import annotations

import json
import time

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
