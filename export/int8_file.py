"""The int8 variant of an exported network: convolutions and sums of them in int8, all else in fp32.

Static quantization: activations are unsigned with one scale a tensor, measured on real positions; weights are signed
with one scale an output channel. A ReLU costs nothing: its outputs begin at the zero point and the rest saturates.

Weights reach from -64 to 64 and not to 127. Without VNNI, onnxruntime's x86 kernels add pairs of products in 16 bits,
and 255 * 64 * 2 is the most that fits: one file gives the same answers on every CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from az.engine.inference.precision import cpu_flags
from az.export.calibration import Seen, balanced, merged_relus
from az.export.onnx_file import IR_VERSION, OPSET


def quantized(model: onnx.ModelProto, seen: dict[str, Seen]) -> onnx.ModelProto:
    """The int8 model of an fp32 model that `onnx_file.model_of` wrote. seen: what `calibration.watch` saw in it."""
    return _Quantizer(*balanced(model, seen)).run()


WEIGHT_LIMIT = 64  # largest magnitude of a stored weight: 255 * 64 * 2 < 2**15


class _Quantizer:
    """Walks the fp32 graph in order; what is quantized stands in `here` under its fp32 name."""

    def __init__(self, model: onnx.ModelProto, seen: dict[str, Seen]) -> None:
        self.model, self.seen = model, seen
        self.weights = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.here: dict[str, list[str]] = {}  # fp32 name -> [quantized tensor, scale, zero point]
        self.relu_of = merged_relus(model.graph.node)
        self.floats: set[str] = {"planes"}

    def run(self) -> onnx.ModelProto:
        for node in self.model.graph.node:
            if node.op_type == "Conv":
                self.conv(node)
            elif node.op_type == "Add" and self.relu_of.get(node.output[0], node.output[0]) in self.seen:
                self.add(node)
            elif not (node.op_type == "Relu" and node.output[0] in self.here):
                self.keep(node)
        graph = helper.make_graph(
            self.nodes,
            "network",
            list(self.model.graph.input),
            list(self.model.graph.output),
            [numpy_helper.from_array(array, name) for name, array in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="az")

    def constant(self, name: str, array: NDArray[Any]) -> str:
        self.constants[name] = array
        return name

    def scale(self, name: str) -> list[str]:
        """[scale, zero point] of a tensor, so that 0 is exact."""
        low, high = self.seen[name].span()
        step = np.float32(max((high - low) / 255.0, 1e-8))
        zero = np.uint8(np.clip(np.round(-low / float(step)), 0, 255))
        return [self.constant(f"{name}.scale", np.array(step)), self.constant(f"{name}.zero", np.array(zero))]

    def quantize(self, name: str) -> list[str]:
        """A tensor in 8 bits, made from its float form where it is not there yet."""
        if name not in self.here:
            scale = self.scale(name)
            self.nodes.append(helper.make_node("QuantizeLinear", [name, *scale], [f"{name}.int8"]))
            self.here[name] = [f"{name}.int8", *scale]
        return self.here[name]

    def result(self, output: str) -> list[str]:
        """Name, scale and zero point of a node's result; with the ReLU behind it where there is one."""
        name = self.relu_of.get(output, output)
        self.here[name] = [f"{name}.int8", *self.scale(name)]
        return self.here[name]

    def conv(self, node: onnx.NodeProto) -> None:
        source = self.quantize(node.input[0])
        name, bias_name = node.input[1], node.input[2]
        kernel, bias = self.weights[name].astype(np.float64), self.weights[bias_name].astype(np.float64)
        zero = weight_zero_point(kernel.shape[1])
        scale = np.maximum(np.abs(kernel).max(axis=(1, 2, 3)) / (WEIGHT_LIMIT - zero), 1e-12)
        # A bias is a whole number of in-step times scale: a channel of next to no weights keeps it too.
        scale = np.maximum(scale, 1.5 * np.abs(bias) / (float(self.constants[source[1]]) * 2.0**30))
        whole = np.round(kernel / scale[:, None, None, None]) + zero  # the largest of a channel is the limit itself
        rounded = (whole - zero) * scale[:, None, None, None]
        bias = bias - _mean_output(self.seen[node.input[0]].mean, rounded - kernel)
        in_sums = np.round(bias / (float(self.constants[source[1]]) * scale)).clip(-(2**31), 2**31 - 1)
        output = self.result(node.output[0])
        inputs = [
            *source,
            self.constant(f"{name}.int8", whole.astype(np.int8)),
            self.constant(f"{name}.scale", scale.astype(np.float32)),
            self.constant(f"{name}.zero", np.full(len(scale), zero, np.int8)),
            *output[1:],
            self.constant(f"{bias_name}.int32", in_sums.astype(np.int32)),
        ]
        kept = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        self.nodes.append(helper.make_node("QLinearConv", inputs, output[:1], name=node.name, **kept))

    def add(self, node: onnx.NodeProto) -> None:
        inputs = [*self.quantize(node.input[0]), *self.quantize(node.input[1])]
        output = self.result(node.output[0])
        inputs += output[1:]
        self.nodes.append(helper.make_node("QLinearAdd", inputs, output[:1], name=node.name, domain="com.microsoft"))

    def keep(self, node: onnx.NodeProto) -> None:
        """A node that stays in fp32; what it reads in 8 bits is turned back first."""
        for name in node.input:
            if name in self.weights:
                self.constants[name] = self.weights[name]
            elif name in self.here and name not in self.floats:
                self.floats.add(name)
                self.nodes.append(helper.make_node("DequantizeLinear", self.here[name], [name]))
        self.nodes.append(node)
        self.floats.update(node.output)


def _mean_output(mean: NDArray[np.float64], kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """[C_out] what a convolution gives on average: its share that rounding added is taken off the bias.

    mean: [C, H, W] of its input. Source: Nagel et al. 2019, arXiv:1906.04721, §4.2.
    """
    height, width, reach = *mean.shape[1:], kernel.shape[2] // 2
    padded = np.pad(mean, ((0, 0), (reach, reach), (reach, reach)))
    sides = range(kernel.shape[2])
    under = [[padded[:, y : y + height, x : x + width].mean(axis=(1, 2)) for x in sides] for y in sides]  # [k, k, C]
    return np.einsum("ocyx,yxc->o", kernel, np.array(under))


def weight_zero_point(channels: int) -> int:
    """What the weights' zero is stored as: 0, or 1 where that makes onnxruntime take its matrix kernels.

    The arithmetic is the same. With zero points of 0 onnxruntime uses a convolution of its own that knows no AMX; with
    others it multiplies matrices, which does: 1.0 to 1.3 times as fast with 64 channels, slower with 32 and 48
    (docs/log.md).
    """
    return 1 if "amx_int8" in cpu_flags() and channels % 64 == 0 else 0
