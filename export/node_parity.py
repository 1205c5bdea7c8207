"""Where an ONNX graph and the network that it was made from part: every node's answer beside torch's own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper

from az.engine.inference.evaluator import Float32
from az.engine.inference.onnx_evaluator import all_answers
from az.export.recorded import recorded
from az.train.model import Network
from az.train.run.incidents import BadModel

SHARE = 1e-4  # of the largest number in torch's answer (or of 1): more than rounding in another order of summation


@dataclass(frozen=True)
class Parting:
    """The first node, in the graph's order, that answers something else than the layer it stands for."""

    node: str  # its name: the path of a module, with `.relu`, `.sum` or `.flat` where it is what follows one
    op: str  # the ONNX operator that stands there
    error: float  # largest difference; NaN where an answer is not finite
    position: int  # row of the planes where it is
    scale: float  # largest number of torch's answer
    module: str | None = None  # that the node belongs to

    def __str__(self) -> str:
        if math.isnan(self.error):
            return f"node {self.node} ({self.op}) is the first whose answer is not finite, position {self.position}"
        size = f"by {self.error:.2g} of up to {self.scale:.2g}"
        return f"they part at node {self.node} ({self.op}), {size}, position {self.position}"

    def refused(self, text: str) -> BadModel:
        """The refusal of a model for that reason, with this node named."""
        return BadModel(f"{text.rstrip('.')}: {self}", node=self.node, op=f"onnx::{self.op}", module=self.module)


def parting(network: Network, graph: onnx.ModelProto, planes: Float32) -> Parting | None:
    """The first node that differs on these planes [n, C, H, W]; None when each one agrees or none can be run.

    The nodes are run as they are written, without onnxruntime's own rewriting: where none differs here and the whole
    still does, the rewriting is at fault.
    """
    expected, _, modules = recorded(network, planes)
    try:
        found = all_answers(_telling(graph).SerializeToString(), planes)
    except Exception:  # onnxruntime's own errors share no base class; the caller has a refusal already
        return None
    for node in graph.graph.node:
        name = node.output[0]
        if name not in expected:
            continue
        wanted = expected[name].reshape(len(planes), -1).astype(np.float64)
        got = found[name].reshape(len(planes), -1).astype(np.float64)
        scale = float(np.abs(wanted).max(initial=0.0))
        with np.errstate(invalid="ignore"):
            errors = np.where(np.isfinite(got), np.abs(got - wanted), np.nan).max(axis=1)
        if not (errors <= SHARE * max(1.0, scale)).all():  # so written, a NaN parts
            worst = int(np.argmax(errors))  # argmax takes the first NaN for the largest
            return Parting(name, node.op_type, float(errors[worst]), worst, scale, modules[name])
    return None


def _telling(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph, every node's answer an output."""
    telling = onnx.ModelProto()
    telling.CopyFrom(graph)
    known = {port.name for port in telling.graph.output}
    names = [name for node in telling.graph.node for name in node.output if name not in known]
    telling.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return telling
