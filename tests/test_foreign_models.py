"""A model whose checksum is right holds what az writes and nothing else; whatever else, it is refused unread."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import run_az
from make_models import NET, OTHER_NET, candidate, model_bytes, small_network
from onnx import TensorProto, helper, numpy_helper

from az.engine.errors import AzError, Refused, WrongRequest
from az.engine.game import load_game
from az.engine.inference import onnx_reader as onnx_bytes
from az.engine.inference.model_file import ModelFile
from az.engine.inference.model_resolver import SHIPPED
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.onnx_graph import OPERATORS, check_graph
from az.engine.inference.onnx_reader import OPEN_SEAL, SEAL, ForeignModelError
from az.engine.inference.precision import VARIANTS
from az.export.calibration import watch
from az.export.fp16_file import halved
from az.export.int8_file import quantized
from az.export.onnx_file import model_of, sealed
from az.export.parity import random_positions
from az.export.pipeline import publish

GAME = load_game("tictactoe")
FLOAT = TensorProto.FLOAT


@pytest.fixture(scope="module")
def good() -> bytes:
    return model_bytes("tictactoe")


def resealed(model: onnx.ModelProto) -> bytes:
    return sealed(model, {entry.key: entry.value for entry in model.metadata_props} | {SEAL: OPEN_SEAL})


def weight(model: onnx.ModelProto, name: str = "policy_out.bias") -> onnx.TensorProto:
    return next(tensor for tensor in model.graph.initializer if tensor.name == name)


def node(model: onnx.ModelProto, op: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.op_type == op)


def refusal(data: bytes, kind: type[AzError] = Refused) -> str:
    """The sentence with which the engine refuses these bytes, before onnxruntime sees them."""
    with pytest.raises(kind) as refused:
        ModelFile("m.onnx", data).game(GAME)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 600
    return str(refused.value)


def test_every_shipped_model_is_of_the_operators_that_az_writes():
    found = sorted([*SHIPPED.glob("*.onnx"), *(SHIPPED / "bench").glob("*.onnx")])
    assert len(found) >= 8
    for path in found:
        ModelFile(path).game(None)


def test_freshly_exported_models_pass_in_every_precision_and_use_every_operator(tmp_path):
    used: set[tuple[str, str]] = set()
    for net in (NET, OTHER_NET):
        for number, variant in enumerate((None, *VARIANTS)):
            publish(replace(candidate("tictactoe", net=net), variant=variant), tmp_path / net.block, number)
        assert len(list((tmp_path / net.block).glob("*.onnx"))) == 3 + len(VARIANTS)
        for path in sorted((tmp_path / net.block).glob("*.onnx")):
            OnnxEvaluator(path)
        network, planes = small_network("tictactoe", net=net), random_positions(GAME, 32).planes
        graph = model_of(network)
        assert isinstance(graph, onnx.ModelProto)
        for made in (graph, quantized(graph, watch(network, planes)), halved(graph)):
            content = onnx_bytes.read(made.SerializeToString())
            check_graph(content, GAME.planes_shape, GAME.num_actions)
            used |= {(node.domain, node.op) for node in content.nodes}
    assert used == OPERATORS, "an operator that az does not write is not allowed"


def loop(model: onnx.ModelProto) -> None:
    """Loop 2^62 times at load: constant folding would run it."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["d"]), helper.make_node("Identity", ["x"], ["y"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("c", TensorProto.BOOL, []),
         helper.make_tensor_value_info("x", FLOAT, [9])],
        [helper.make_tensor_value_info("d", TensorProto.BOOL, []), helper.make_tensor_value_info("y", FLOAT, [9])],
    )  # fmt: skip
    bias = weight(model)
    model.graph.initializer.extend([
        numpy_helper.from_array(np.array(2**62), "times"), numpy_helper.from_array(np.array(True), "go"),
        numpy_helper.from_array(numpy_helper.to_array(bias), "start"),
    ])  # fmt: skip
    model.graph.initializer.remove(bias)
    model.graph.node.insert(0, helper.make_node("Loop", ["times", "go", "start"], [bias.name], body=body))


def branch(model: onnx.ModelProto) -> None:
    port = helper.make_empty_tensor_value_info("a")
    inner = helper.make_graph([helper.make_node("Relu", ["planes"], ["a"])], "g", [], [port])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    model.graph.node.insert(0, helper.make_node("If", ["yes"], ["b"], then_branch=inner, else_branch=inner))


def function(model: onnx.ModelProto) -> None:
    model.functions.append(
        helper.make_function("own", "F", ["x"], ["y"], [helper.make_node("Relu", ["x"], ["y"])], model.opset_import)
    )


def constant(model: onnx.ModelProto) -> None:
    bias = weight(model)
    model.graph.initializer.remove(bias)
    array = numpy_helper.from_array(np.full(9, np.nan, np.float32), "v")
    model.graph.node.insert(0, helper.make_node("Constant", [], [bias.name], value=array))


def encoded(kind: int, place: str, value: float) -> Callable[[onnx.ModelProto], None]:
    """A bias as another type or in another field than az writes, non-finite where only that field says so."""

    def change(model: onnx.ModelProto) -> None:
        tensor = weight(model)
        tensor.ClearField("raw_data")
        tensor.data_type = kind
        numbers = [value] * 9
        if place == "raw_data":
            wide = np.full(9, value, np.float32).view(np.uint32) >> 16
            tensor.raw_data = wide.astype(np.uint16).tobytes()
        elif place == "int32_data":
            tensor.int32_data.extend(np.array(numbers, np.float16).view(np.uint16).tolist())
        else:
            getattr(tensor, place).extend(numbers)

    return change


def external(model: onnx.ModelProto) -> None:
    tensor = weight(model)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.append(onnx.StringStringEntryProto(key="location", value="net.data"))


def attribute(op: str, name: str, value: object) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        found = node(model, op)
        kept = [one for one in found.attribute if one.name != name]
        del found.attribute[:]
        found.attribute.extend([*kept, helper.make_attribute(name, value)])

    return change


def replaced(name: str, array: np.ndarray) -> Callable[[onnx.ModelProto], None]:
    return lambda model: weight(model, name).CopyFrom(numpy_helper.from_array(array, name))


def renamed_input(op: str, at: int, name: str) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        node(model, op).input[at] = name

    return change


def sparse(model: onnx.ModelProto) -> None:
    model.graph.sparse_initializer.add()


def twice(model: onnx.ModelProto) -> None:
    model.graph.initializer.append(weight(model))


def shared(model: onnx.ModelProto) -> None:
    """One kernel many times: work and memory out of proportion to the file."""
    first = next(one for one in model.graph.node if one.input[1:2] == ["blocks.0.conv1.weight"])
    at = list(model.graph.node).index(first)
    for number in range(500):
        copy = onnx.NodeProto()
        copy.CopyFrom(first)
        copy.output[0] = f"again{number}"
        model.graph.node.insert(at + 1, copy)


def many(model: onnx.ModelProto) -> None:
    for number in range(5000):
        model.graph.node.append(helper.make_node("Tanh", ["value"], [f"t{number}"]))


NAN = float("nan")
CHANGES: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "loop": (loop, "a subgraph"),
    "if": (branch, "a subgraph"),
    "function": (function, "functions"),
    "constant": (constant, "a tensor"),
    "bf16": (encoded(TensorProto.BFLOAT16, "raw_data", NAN), "of a type"),
    "double": (encoded(TensorProto.DOUBLE, "double_data", NAN), "a field"),
    "float_data": (encoded(FLOAT, "float_data", NAN), "a field"),
    "half": (encoded(TensorProto.FLOAT16, "int32_data", NAN), "a field"),
    "finite_float_data": (encoded(FLOAT, "float_data", 0.0), "a field"),
    "external": (external, "another file"),
    "sparse": (sparse, "sparse weights"),
    "twice": (twice, "two weights"),
    "shared": (shared, "kernel of its own"),
    "many": (many, "more than"),
    "identity": (lambda m: setattr(node(m, "Relu"), "op_type", "Identity"), "no such operator"),
    "domain": (lambda m: setattr(node(m, "Relu"), "domain", "own"), "no such operator"),
    "pads": (attribute("Conv", "pads", [10**6] * 4), "does not fit"),
    "strides": (attribute("Conv", "strides", [1, 1]), "attributes than az writes"),
    "negative": (attribute("Flatten", "axis", -1), "another axis"),
    "alpha": (attribute("Gemm", "alpha", NAN), "a float"),
    "wide": (replaced("policy_out.weight", np.zeros((9000, 18), np.float32)), "wide"),
    "shape": (replaced("policy_out.weight", np.zeros((9, 19), np.float32)), "do not fit"),
    "kind": (replaced("policy_out.bias", np.zeros(9, np.int64)), "no weight of float32"),
    "nan": (replaced("policy_out.bias", np.full(9, np.nan, np.float32)), "not finite"),
    "inf": (replaced("policy_out.bias", np.full(9, -np.inf, np.float32)), "not finite"),
    "nowhere": (renamed_input("Relu", 0, "void"), "from nowhere"),
    "broadcast": (renamed_input("Add", 0, "planes"), "not alike"),
    "opset": (lambda m: setattr(m.opset_import[0], "version", 99), "version 99"),
    "ir": (lambda m: setattr(m, "ir_version", 99), "version 99"),
    "logits": (lambda m: node(m, "Tanh").output.__setitem__(0, "v"), "'value'"),
    "escape": (lambda m: setattr(node(m, "Relu"), "op_type", "\x1b]0;title\x07\n" * 10**5), "no such operator"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_resealed_model_of_anything_else_is_refused_before_the_runtime_sees_it(good, name):
    change, reason = CHANGES[name]
    model = onnx.load_model_from_string(good)
    change(model)
    assert reason in refusal(resealed(model))


def first_of(op: str, *inputs: str) -> Callable[[onnx.ModelProto], None]:
    """The first operator of that kind reads these values."""

    def change(model: onnx.ModelProto) -> None:
        found = node(model, op)
        del found.input[:]
        found.input.extend(inputs)

    return change


def added(name: str, array: np.ndarray, then: Callable[[onnx.ModelProto], None]) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        model.graph.initializer.append(numpy_helper.from_array(array, name))
        then(model)

    return change


BLOCK, GATE = "blocks.0.norm2", "blocks.0.scaled.factors"
OTHER_CHANGES: dict[str, tuple[Callable[[onnx.ModelProto], None], str]] = {
    "mean_axes": (attribute("ReduceMean", "axes", [1, 2]), "mean of something else"),
    "mean_all": (attribute("ReduceMean", "axes", [1, 2, 3]), "mean of something else"),
    "mean_rows": (attribute("ReduceMean", "axes", [0, 2]), "mean of something else"),
    "mean_negative": (attribute("ReduceMean", "axes", [-2, -1]), "mean of something else"),
    "mean_keeps": (attribute("ReduceMean", "keepdims", 1), "mean of something else"),
    "mean_flat": (first_of("ReduceMean", "policy_stem.flat"), "from nowhere"),
    "mean_weight": (first_of("ReduceMean", "blocks.0.conv1.weight"), "from nowhere"),
    "softmax_axis": (attribute("Softmax", "axis", 0), "another axis"),
    "softmax_last": (attribute("Softmax", "axis", -1), "another axis"),
    "softmax_board": (first_of("Softmax", BLOCK), "another axis"),
    "unsqueeze_axes": (replaced("board", np.array([0, 1])), "other dimensions"),
    "unsqueeze_long": (replaced("board", np.array([2, 3, 4])), "no weight of int64"),
    "unsqueeze_many": (replaced("board", np.array([2, 2**40])), "other dimensions"),
    "unsqueeze_kind": (replaced("board", np.array([2, 3], np.int32)), "no weight of int64"),
    "unsqueeze_board": (first_of("Unsqueeze", BLOCK, "board"), "other dimensions"),
    "mul_boards": (first_of("Mul", BLOCK, BLOCK), "do not fit"),
    "mul_planes": (first_of("Mul", "planes", GATE), "do not fit"),
    "mul_grows": (first_of("Mul", GATE, BLOCK), "do not fit"),
    "mul_flat": (first_of("Mul", BLOCK, "blocks.0.gate"), "do not fit"),
    "mul_tensor": (first_of("Mul", BLOCK, "blocks.0.squeeze.bias"), "no weight of float32, 1"),
    "mul_row": (added("f", np.ones((1, 1), np.float32), first_of("Mul", BLOCK, "f")), "no weight of float32, 1"),
    "mul_half": (added("f", np.array(1, np.float16), first_of("Mul", BLOCK, "f")), "no weight of float32, 1"),
    "mul_inf": (added("f", np.array(np.inf, np.float32), first_of("Mul", BLOCK, "f")), "not finite"),
    "sigmoid_gate": (lambda m: setattr(node(m, "Sigmoid"), "op_type", "HardSigmoid"), "no such operator"),
    "sigmoid_alpha": (attribute("Sigmoid", "alpha", 1), "attributes than az writes"),
    "weights_twice": (first_of("Gemm", "blocks.0.mean", "blocks.0.excite.weight", "blocks.0.excite.bias"), "not fit"),
}  # fmt: skip


@pytest.fixture(scope="module")
def other() -> bytes:
    return model_bytes("tictactoe", net=OTHER_NET)


@pytest.mark.parametrize("name", OTHER_CHANGES)
def test_the_operators_of_the_second_architecture_are_checked_as_strictly(other, name):
    change, reason = OTHER_CHANGES[name]
    model = onnx.load_model_from_string(other)
    change(model)
    assert reason in refusal(resealed(model))


def test_metadata_is_shown_on_one_line_and_cut(good):
    model = onnx.load_model_from_string(good)
    known = {entry.key: entry.value for entry in model.metadata_props} | {SEAL: OPEN_SEAL}
    loud = "\x1b]0;owned\x07\n\u202e" + "x" * 3_000_000
    for key in ("game", "format", "game_version", "planes_shape", "num_actions", "precision"):
        kind = WrongRequest if key == "game" else Refused  # a model of another game is a wrong request
        assert refusal(sealed(model, known | {key: loud}), kind)


MANY = 20_000_000
FILES = [b"", b"\0" * MANY, b"\x08\x01" * MANY, b"\x40\x01" * MANY, b"\x3a\x80\x80\x80\x80\x10", b"PK\3\4"]


@pytest.mark.parametrize("content", FILES, ids=range(len(FILES)))
def test_a_large_file_of_nothing_is_refused_at_once(content):
    begun = time.process_time()
    assert refusal(content)
    assert time.process_time() - begun < 30  # seconds, on any machine; it was a third of a second a megabyte


def test_files_that_are_no_files(tmp_path, good):
    """Links to good files are followed; a pipe or a device is never waited for, a hole of gigabytes never read."""
    (tmp_path / "link.onnx").symlink_to(tmp_path / "good.onnx")
    (tmp_path / "good.onnx").write_bytes(good)
    assert ModelFile(tmp_path / "link.onnx").data == good
    os.mkfifo(tmp_path / "pipe.onnx")
    (tmp_path / "zero.onnx").symlink_to("/dev/zero")
    (tmp_path / "self.onnx").symlink_to("self.onnx")
    with (tmp_path / "hole.onnx").open("wb") as file:
        file.truncate(1 << 40)
    for name in ("pipe", "zero", "self", "hole"):
        with pytest.raises(AzError, match=f"{name}.onnx"):
            ModelFile(tmp_path / f"{name}.onnx")
        answer = run_az("analyze", tmp_path / f"{name}.onnx", stdin='{"id": 1, "sims": 1}\n')
        assert (answer.code in (1, 2), answer.out, answer.err.count("\n")) == (True, "", 1)
        assert f"{name}.onnx" in answer.err


def test_parsing_never_reads_past_a_message():
    for data in (b"\x3a\x05\x08", b"\x72\x02\x0a\x7f", b"\x3a\x02\x2a\x05"):
        with pytest.raises((onnx_bytes.BrokenFileError, ForeignModelError)):
            onnx_bytes.read(data)


def test_models_of_others(tmp_path, monkeypatch):
    """microsoft/onnxruntime#6696 and #13148, onnx/onnx#3157; pointers of Git LFS and web pages saved as .onnx."""
    source = SHIPPED / "tictactoe.onnx"
    monkeypatch.chdir(tmp_path)
    cut = source.read_bytes()[: source.stat().st_size // 2]
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 9\n"
    for name, content in (("half", cut), ("empty", b""), ("page", b"<!DOCTYPE html>"), ("lfs", pointer.encode())):
        Path(f"{name}.onnx").write_bytes(content)
    Path("folder.onnx").mkdir()
    Path("external").mkdir()
    model = onnx.load(source)
    onnx.save_model(
        model, "external/net.onnx", save_as_external_data=True, location="net.data", size_threshold=0
    )  # fmt: skip
    shutil.copy("external/net.onnx", "alone.onnx")
    for field in ("ir_version", "opset"):
        model = onnx.load(source)
        setattr(*((model, "ir_version") if field == "ir_version" else (model.opset_import[0], "version")), 99)
        onnx.save(model, f"{field}.onnx")
    y = [helper.make_tensor_value_info("y", FLOAT, ["n", 7])]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", [helper.make_tensor_value_info("x", FLOAT, ["n", 7])], y
    )
    onnx.save(helper.make_model(graph), "foreign.onnx")
    names = [
        "external/net",
        "half",
        "empty",
        "page",
        "lfs",
        "folder",
        "alone",
        "ir_version",
        "opset",
        "foreign",
        "gone",
    ]
    for name in names:
        answer = run_az("analyze", f"{name}.onnx", stdin='{"id": 1, "sims": 1}\n')
        assert (answer.code in (1, 2), answer.out, answer.err.count("\n")) == (True, "", 1), name
        assert f"{name}.onnx" in answer.err
    good = tmp_path / "mit Leerzeichen é 棋" / "netz ü.onnx"
    good.parent.mkdir()
    shutil.copy(source, good)
    for path, folder in ((good, tmp_path), (good.name, good.parent), (good, "/")):
        monkeypatch.chdir(folder)
        answer = run_az("analyze", path, stdin='{"id": 1, "sims": 1}\n')
        assert "move" in json.loads(answer.out)
