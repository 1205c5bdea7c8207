"""A network as the bytes of an ONNX file.

torch's own exporters take seconds to import and most of a second to run, and torch.fx swaps `Module.__call__` for the
whole process while it traces (a learner in another thread would be traced too). A run publishes often, so the graph
is written here from the description of the network: milliseconds, and the same bytes for the same weights. Parity
proves it, and a tensor that the graph does not use is an error.

A batch norm behind a convolution is folded into it in double precision: onnxruntime would fold it anyway, and here
the layer where that overflows can be named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from az.engine.errors import Refused
from az.engine.inference.onnx_reader import OPEN_SEAL, SEAL, seal_digest
from az.export.finite import Violation, first_non_finite
from az.train.architecture import Net, Stage
from az.train.architecture import network as describe
from az.train.model import Network

OPSET, IR_VERSION = 17, 8  # old enough for every onnxruntime that az admits
NEGLIGIBLE = 1e-30  # a weight below this is written as 0


class Graph:
    """Ops that write ONNX nodes and weights. A value is its name in the file; weights keep their torch names."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self.used: set[str] = set()  # names in the state dict that the graph accounts for
        self.layers: dict[str, str] = {}  # value -> the last layer that it went through
        self.violation: Violation | None = None
        self.prefix = ""

    def node(self, kind: str, inputs: list[str], output: str, layer: str = "", **attributes: Any) -> str:
        """Append an operator; returns its output."""
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        self.layers[output] = layer or self.layers.get(inputs[0], "")
        return output

    def path(self, name: str) -> str:
        """The name in the whole network."""
        return f"{self.prefix}{name}"

    def module(self, path: str) -> Any:
        """The module of that name; its tensors now count as used."""
        module = self.network.get_submodule(path)
        self.used |= {f"{path}.{name}" for name in module.state_dict()}
        return module

    def constant(self, name: str, array: NDArray[Any]) -> str:
        """A weight that no layer has. Equal ones share their name."""
        self.weights[name] = array
        return name

    def stage(self, name: str, body: Stage, x: str, net: Net) -> str:
        before, self.prefix = self.prefix, f"{self.path(name)}."
        try:
            return body(self, x, net)
        finally:
            self.prefix = before

    def training_only(self, name: str, body: Stage, x: str, net: Net) -> None:
        self.module(self.path(name))

    def conv(self, conv: str, norm: str, x: str, channels: int, size: int) -> str:
        """A convolution without bias and the batch norm behind it, as one."""
        conv, norm = self.path(conv), self.path(norm)
        layer, average = self.module(conv), self.module(norm)
        assert isinstance(layer, nn.Conv2d)
        assert isinstance(average, nn.BatchNorm2d)
        assert layer.bias is None
        assert average.running_mean is not None
        assert average.running_var is not None
        tensors = (layer.weight, average.weight, average.bias, average.running_mean, average.running_var)
        kernel, gain, shift, mean, variance = (tensor.detach().numpy().astype(np.float64) for tensor in tensors)
        with np.errstate(all="ignore"):  # what is not finite is named below
            gain = gain / np.sqrt(variance + average.eps)
            folded = {
                f"{conv}.weight": (kernel * gain[:, None, None, None]).astype(np.float32),
                f"{conv}.bias": (shift - mean * gain).astype(np.float32),
            }
        checked = {name: torch.from_numpy(value) for name, value in folded.items()}  # pyright: ignore[reportUnknownMemberType]
        fault = first_non_finite({f"{name} with {norm} folded in": tensor for name, tensor in checked.items()})
        self.violation = self.violation or fault
        self.weights |= folded
        pads = [*layer.padding, *layer.padding]
        return self.node("Conv", [x, *folded], norm, norm, kernel_shape=list(layer.kernel_size), pads=pads)

    def linear(self, name: str, x: str, units: int, output: str = "") -> str:
        path = self.path(name)
        layer = self.module(path)
        assert isinstance(layer, nn.Linear)
        mine = {f"{path}.{name}": tensor.detach().numpy() for name, tensor in layer.named_parameters()}
        self.weights |= mine
        return self.node("Gemm", [x, *mine], self.path(output or name), path, transB=1)

    def relu(self, x: str) -> str:
        return self.node("Relu", [x], f"{x}.relu")

    def add(self, name: str, one: str, two: str) -> str:
        return self.node("Add", [one, two], self.path(name))

    def flatten(self, name: str, x: str) -> str:
        return self.node("Flatten", [x], self.path(name), axis=1)

    def squeeze(self, name: str, x: str) -> str:
        return self.node("Squeeze", [x, self.constant("one", np.array([1]))], self.path(name))

    def mean(self, name: str, x: str) -> str:
        return self.node("ReduceMean", [x], self.path(name), axes=[2, 3], keepdims=0)

    def scale(self, name: str, x: str, factors: str) -> str:
        board = self.constant("board", np.array([2, 3]))
        factors = self.node("Unsqueeze", [factors, board], f"{self.path(name)}.factors")
        return self.node("Mul", [x, factors], self.path(name))

    def times(self, name: str, x: str, factor: float) -> str:
        path = self.path(name)
        return self.node("Mul", [x, self.constant(f"{path}.factor", np.array(factor, np.float32))], path)

    def tanh(self, name: str, x: str) -> str:
        return self.node("Tanh", [x], self.path(name))

    def sigmoid(self, name: str, x: str) -> str:
        return self.node("Sigmoid", [x], self.path(name))

    def softmax(self, name: str, x: str) -> str:
        return self.node("Softmax", [x], self.path(name), axis=1)

    def weighted_sum(self, name: str, x: str, weights: tuple[float, ...]) -> str:
        path = self.path(name)
        constants = (np.array([weights], np.float32), np.zeros(1, np.float32))
        names = [self.constant(f"{path}.{of}", array) for of, array in zip(("weights", "zero"), constants, strict=True)]
        return self.squeeze(name, self.node("Gemm", [x, *names], f"{path}.sum", transB=1))


def model_of(network: Network) -> onnx.ModelProto | Violation:
    """`network` on the CPU, in evaluation mode: planes [batch, C, H, W] -> logits [batch, A], value [batch].

    A Violation names the layer whose folded weights are not finite.
    """
    assert not network.training, "export in evaluation mode"
    graph = Graph(network)
    describe(graph, "planes", network.config, network.num_actions)
    lost = sorted(set(network.state_dict()) - graph.used)
    if lost:
        raise Refused(f"the ONNX graph does not use {', '.join(lost)}: describe these layers in train/architecture.py.")
    if graph.violation is not None:
        return graph.violation
    floats = TensorProto.FLOAT
    proto = helper.make_graph(
        graph.nodes,
        "network",
        [helper.make_tensor_value_info("planes", floats, ["batch", *network.planes_shape])],
        [
            helper.make_tensor_value_info("logits", floats, ["batch", network.num_actions]),
            helper.make_tensor_value_info("value", floats, ["batch"]),
        ],
        [numpy_helper.from_array(_flushed(array), name) for name, array in graph.weights.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(proto, opset_imports=opset, ir_version=IR_VERSION, producer_name="az")


def _flushed(array: NDArray[Any]) -> NDArray[Any]:
    """The weights with those that no answer can feel set to 0.

    L2 drives the kernels of outputs that are never legal into the denormal range, where a CPU multiplies many times
    slower (measured: the whole network at 0.58 of its speed after 2,400 steps of checkers).
    """
    return np.where(np.abs(array) < NEGLIGIBLE, np.zeros_like(array), array)


def sealed(model: onnx.ModelProto, metadata: Mapping[str, str]) -> bytes:
    """The file's bytes, with this metadata and the checksum over all of them."""
    del model.metadata_props[:]
    helper.set_model_props(model, dict(sorted({**metadata, SEAL: OPEN_SEAL}.items())))
    data = model.SerializeToString(deterministic=True)
    assert data.count(OPEN_SEAL.encode()) == 1, "the seal's place must be unique"
    return data.replace(OPEN_SEAL.encode(), seal_digest(data, OPEN_SEAL).encode())
