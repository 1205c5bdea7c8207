"""A network as the bytes of an ONNX file.

torch's own exporters take seconds to import and most of a second to run, and torch.fx swaps `Module.__call__` for the
whole process while it traces (a learner in another thread would be traced too). A run publishes often, so the graph
of `Network` is written here by hand: milliseconds, and the same bytes for the same weights. Parity proves it, and a
tensor that the graph does not use is an error.

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
from az.train.model import Network

OPSET, IR_VERSION = 17, 8  # old enough for every onnxruntime that az admits
NEGLIGIBLE = 1e-30  # a weight below this is written as 0


class _Graph:
    """The ONNX nodes and weights so far. Every method returns the name of the value that it adds."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, NDArray[Any]] = {}
        self.used: set[str] = set()  # names in the state dict that the graph accounts for
        self.violation: Violation | None = None

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def module(self, path: str) -> Any:
        """The module of that name; its tensors now count as used."""
        module = self.network.get_submodule(path)
        self.used |= {f"{path}.{name}" for name in module.state_dict()}
        return module

    def conv(self, conv_path: str, norm_path: str, source: str) -> str:
        """A convolution without bias and the batch norm behind it, as one."""
        conv, norm = self.module(conv_path), self.module(norm_path)
        assert isinstance(conv, nn.Conv2d)
        assert isinstance(norm, nn.BatchNorm2d)
        assert conv.bias is None
        assert norm.running_mean is not None
        assert norm.running_var is not None
        tensors = (conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
        kernel, gain, shift, mean, variance = (tensor.detach().numpy().astype(np.float64) for tensor in tensors)
        with np.errstate(all="ignore"):  # what is not finite is named below
            gain = gain / np.sqrt(variance + norm.eps)
            folded = {
                f"{conv_path}.weight": (kernel * gain[:, None, None, None]).astype(np.float32),
                f"{conv_path}.bias": (shift - mean * gain).astype(np.float32),
            }
        fault = first_non_finite(
            {f"{name} with {norm_path} folded in": torch.from_numpy(value) for name, value in folded.items()}
        )
        self.violation = self.violation or fault
        self.weights |= folded
        pads = [*conv.padding, *conv.padding]
        return self.node("Conv", [source, *folded], norm_path, kernel_shape=list(conv.kernel_size), pads=pads)

    def linear(self, path: str, source: str, output: str = "") -> str:
        layer = self.module(path)
        assert isinstance(layer, nn.Linear)
        mine = {f"{path}.{name}": tensor.detach().numpy() for name, tensor in layer.named_parameters()}
        self.weights |= mine
        return self.node("Gemm", [source, *mine], output or path, transB=1)

    def relu(self, source: str) -> str:
        return self.node("Relu", [source], f"{source}.relu")

    def stem(self, path: str, source: str) -> str:
        return self.relu(self.conv(f"{path}.conv", f"{path}.norm", source))

    def head(self, path: str, source: str) -> str:
        return self.node("Flatten", [self.stem(path, source)], f"{path}.flat", axis=1)


def _write(graph: _Graph) -> None:
    """Reads like `Network.heads` and `Network.forward`."""
    trunk = graph.stem("stem", "planes")
    for index in range(len(graph.network.blocks)):
        block = f"blocks.{index}"
        inner = graph.relu(graph.conv(f"{block}.conv1", f"{block}.norm1", trunk))
        inner = graph.conv(f"{block}.conv2", f"{block}.norm2", inner)
        trunk = graph.relu(graph.node("Add", [inner, trunk], f"{block}.sum"))
    graph.linear("policy_out", graph.head("policy_stem", trunk), "logits")
    value = graph.head("value_stem", trunk)
    if graph.network.value_hidden is not None:
        value = graph.relu(graph.linear("value_hidden", value))
    value = graph.node("Squeeze", [graph.linear("value_out", value), "one"], "value.flat")
    graph.node("Tanh", [value], "value")


def model_of(network: Network) -> onnx.ModelProto | Violation:
    """`network` on the CPU, in evaluation mode: planes [batch, C, H, W] -> logits [batch, A], value [batch].

    A Violation names the layer whose folded weights are not finite.
    """
    assert not network.training, "export in evaluation mode"
    graph = _Graph(network)
    _write(graph)
    lost = sorted(set(network.state_dict()) - graph.used)
    if lost:
        raise Refused(
            f"the ONNX graph does not use {', '.join(lost)}: write these layers into it (export/onnx_file.py)."
        )
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
        [numpy_helper.from_array(_flushed(a), name) for name, a in (graph.weights | {"one": np.array([1])}).items()],
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
