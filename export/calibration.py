"""What flows through a network on real positions, and its channels balanced so that eight bits hold more of it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from az.engine.inference.evaluator import Float32
from az.export.recorded import recorded
from az.train.model import Network

LEAST = 0.02  # of the largest channel: a channel that was never awake is not blown up without end
FIXED = ""  # stands for the leader of what must keep its channels as they are
SHARES = np.arange(1.0, 0.2, -0.05)  # of a side's reach, tried for the best range


@dataclass(frozen=True)
class Seen:
    """One tensor [n, C, H, W] over the calibration positions."""

    lows: NDArray[np.float64]  # [C], least value of each channel
    tops: NDArray[np.float64]  # [C], greatest
    mean: NDArray[np.float64]  # [C, H, W], over the positions
    addends: tuple[Float32, Float32] | None = None  # [n, C, H, W] of it and of what is added to it before a ReLU

    def span(self) -> tuple[float, float]:
        """(least, greatest) that eight bits hold; 0 is between them. Before a sum with a ReLU it is the range that
        changes the sum least, in squares: what the ReLU swallows anyway is cut off, and peaks where that makes
        the rest finer by more than they lose.
        """
        low, high = min(float(self.lows.min()), 0.0), max(float(self.tops.max()), 0.0)
        if self.addends is None or not math.isfinite(high - low):  # what is not finite is for the gate to refuse
            return low, high
        one, other = self.addends
        exact = np.maximum(one + other, 0.0)

        def error(low: float, high: float) -> float:
            step = np.float32(max((high - low) / 255.0, 1e-8))
            held = np.clip(np.round(one / step), round(low / step), round(low / step) + 255) * step
            return float(np.square(np.maximum(held + other, 0.0) - exact).mean())

        cut = low * min(SHARES, key=lambda share: error(low * share, high))
        return cut, high * min(SHARES, key=lambda share: error(cut, high * share))


def watch(network: Network, planes: Float32) -> dict[str, Seen]:
    """Every tensor that is quantized, by its name in the exported graph.

    network: in evaluation mode on the CPU; planes: [n, C, H, W].
    """
    values, nodes, _ = recorded(network, planes)
    merged = merged_relus(nodes)
    seen = {name: _seen(array) for name, array in values.items() if array.ndim == 4 and name not in merged}
    allowed = np.ones(planes.shape[1])  # by the game contract
    seen["planes"] = replace(seen["planes"], lows=-allowed, tops=allowed)
    for node in nodes:
        if node.op_type == "Add" and node.output[0] in merged and node.input[0] in seen:
            one, other = (values[name] for name in node.input)
            seen[node.input[0]] = replace(seen[node.input[0]], addends=(one, other))
    return seen


def merged_relus(nodes: Iterable[onnx.NodeProto]) -> dict[str, str]:
    """value -> what its ReLU gives, where nothing else reads the value: in 8 bits the two are one."""
    nodes = list(nodes)
    readers = Counter(name for node in nodes for name in node.input)
    relus = (node for node in nodes if node.op_type == "Relu" and readers[node.input[0]] == 1)
    return {node.input[0]: node.output[0] for node in relus}


def _seen(array: Float32) -> Seen:
    lows, tops = array.min(axis=(0, 2, 3)), array.max(axis=(0, 2, 3))
    return Seen(lows.astype(np.float64), tops.astype(np.float64), array.mean(axis=0, dtype=np.float64))


def balanced(model: onnx.ModelProto, seen: dict[str, Seen]) -> tuple[onnx.ModelProto, dict[str, Seen]]:
    """The same function with channels of more equal reach: each is divided by the root of its share of the largest one,
    and multiplied again by the convolutions that read it. A ReLU lets positive factors through, an addition if both
    sides have the same. Source: Nagel et al. 2019, arXiv:1906.04721, §4.1; the root shares the error between the
    numbers and the weights, as in Xiao et al. 2022, arXiv:2211.10438, §4.
    """
    leader = _leaders(model)
    factors = {
        name: _factors([one for at, one in seen.items() if leader.get(at) == name]) for name in set(leader.values())
    }
    scaled = onnx.ModelProto()
    scaled.CopyFrom(model)
    weights = {item.name: item for item in scaled.graph.initializer}
    for node in scaled.graph.node:
        if node.op_type != "Conv":
            continue
        kernel, bias = (numpy_helper.to_array(weights[name]).astype(np.float64) for name in node.input[1:3])
        into, out = (factors.get(leader.get(name, ""), np.ones(1)) for name in (node.input[0], node.output[0]))
        kernel, bias = kernel * into[None, :, None, None] / out[:, None, None, None], bias / out
        for name, array in zip(node.input[1:3], (kernel, bias), strict=True):
            weights[name].CopyFrom(numpy_helper.from_array(array.astype(np.float32), name))
    return scaled, {name: _divided(one, factors.get(leader.get(name, ""))) for name, one in seen.items()}


def _leaders(model: onnx.ModelProto) -> dict[str, str]:
    """tensor -> the tensor whose channels' factors it must share; what others than convolutions read is in none."""
    leader: dict[str, str] = {}  # FIXED: no factors
    for node in model.graph.node:
        if node.op_type == "Conv":
            leader[node.output[0]] = node.output[0]
        elif node.op_type == "Relu" and node.input[0] in leader:
            leader[node.output[0]] = leader[node.input[0]]
        elif node.op_type == "Add":
            one, two = (leader.get(name, FIXED) for name in node.input)
            one, two = (two, one) if two == FIXED else (one, two)
            leader = {name: one if of == two else of for name, of in leader.items()}
            leader[node.output[0]] = one
    fixed = {
        leader[name] for node in model.graph.node if node.op_type not in ("Conv", "Relu", "Add") for name in node.input
        if name in leader
    }  # fmt: skip
    return {name: of for name, of in leader.items() if of not in fixed | {FIXED}}


def _factors(group: list[Seen]) -> NDArray[np.float64]:
    """[C], at most 1: of the tensors that share them, the largest share counts. What lies below 0 counts too: a channel
    that sleeps behind its ReLU may set the range before it."""
    reaches = [np.maximum(one.tops, -one.lows) for one in group]
    shares = [reach / max(reach.max(), 1e-12) for reach in reaches]
    return np.sqrt(np.clip(np.max(shares, axis=0), LEAST, 1.0))


def _divided(one: Seen, factors: NDArray[np.float64] | None) -> Seen:
    if factors is None:
        return one
    across = factors[:, None, None]
    addends = None
    if one.addends:
        addends = (one.addends[0] / across).astype(np.float32), (one.addends[1] / across).astype(np.float32)
    return Seen(one.lows / factors, one.tops / factors, one.mean / across, addends)
