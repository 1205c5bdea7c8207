"""`az bench` measures for real, in every form; what it finds is nobody's to assert."""

import json
import multiprocessing
import os

import numpy as np
import pytest
from command_line import run_az, start_az
from make_models import write_model

from az.engine.bench.meters import TreeMeter, answer_of, middle_positions, usual_length
from az.engine.errors import Refused
from az.engine.game import ONGOING, load_game
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.precision import variant_of
from az.engine.inference.raw_meter import RawMeter

NEEDED = ("raw_evals_per_s", "search_over_raw_nocache", "search_over_raw", "one_tree_over_raw", "learner_over_torch")


def test_the_command_gives_its_figures_as_json(tmp_path):
    model = write_model(tmp_path / "small.onnx", "tictactoe")
    done = start_az("bench", "tictactoe", "--model", str(model), "--repeats", "2", "--seconds", "0.1", "--json")
    assert done.code == 0, done.err
    values = json.loads(done.out)
    assert values["precision"] == "fp32"  # it has no variant
    assert values["raw_evals_per_s"]["fp32"] > 0
    assert all(values[name] > 0 for name in NEEDED[1:])
    assert 0 < values["cache_hit_rate"] < 1
    assert values["memory_bytes"] > 50e6
    assert values["spread"]["search_over_raw"]["runs"] == 2
    low, median, high = (values["spread"]["search_over_raw"][key] for key in ("low", "median", "high"))
    assert low <= median <= high


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("chess",), "there is no game 'chess'"),
        (("tictactoe", "--repeats", "0"), "--repeats is 0"),
        (("tictactoe", "--seconds", "0"), "--seconds is 0"),
        (("tictactoe", "--model", "nowhere.onnx"), "nowhere.onnx"),
    ],
)
def test_wrong_requests(arguments, sentence):
    done = run_az("bench", *arguments)
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err


def test_positions_are_from_every_part_of_a_game_and_none_is_over():
    game = load_game("connect4")
    states = middle_positions(game, 200, 1)
    assert all(game.outcome(state) == ONGOING for state in states)
    pieces = [int((game.planes(state) != 0).sum()) for state in states]
    assert min(pieces) < 8
    assert max(pieces) > 20
    assert 15 < usual_length(game) < 30


def test_a_tree_meter_counts_whole_searches(tmp_path):
    game = load_game("tictactoe")
    evaluator = OnnxEvaluator(write_model(tmp_path / "m.onnx", "tictactoe"))
    states = middle_positions(game, 20, 0)
    assert TreeMeter(game, evaluator, states).measure(0.05)["per_s"] > 0
    meter = RawMeter(evaluator, np.stack([game.planes(state) for state in states]))
    assert meter.rate(16, 0.02) > 0


def test_a_quantized_file_that_this_machine_refuses_is_left_out_and_said(tmp_path):
    model = write_model(tmp_path / "small.onnx", "tictactoe")
    variant_of(model, "int8").write_bytes(model.read_bytes()[:-20])
    done = start_az("bench", "tictactoe", "--model", str(model), "--repeats", "1", "--seconds", "0.05", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["precision"] == "fp32"
    said = [line for line in done.err.splitlines() if line.startswith("int8 is not measured: ")]
    assert len(said) == 1
    assert "small.int8.onnx is refused" in said[0]


def _ended(_):
    os._exit(9)


def _refused(pipe):
    pipe.send(Refused("model m.onnx is refused: it is broken."))


@pytest.mark.parametrize(("body", "words"), [(_ended, "ended with exit code 9"), (_refused, "m.onnx is refused")])
def test_a_measuring_process_that_fails_is_one_sentence(body, words):
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=body, args=(theirs,))
    process.start()
    theirs.close()
    with pytest.raises(Refused, match=words):
        answer_of(process, ours)
    process.join()


def test_a_model_that_measuring_processes_would_refuse_is_refused_before(tmp_path):
    model = write_model(tmp_path / "small.onnx", "tictactoe")
    model.write_bytes(model.read_bytes()[:-20])
    done = start_az("bench", "tictactoe", "--model", str(model))
    assert (done.code, done.out, len(done.err.splitlines())) == (1, "", 1)
