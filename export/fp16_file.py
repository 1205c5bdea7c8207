"""A network in half precision: the same graph with its weights and everything between planes and answers as float16.

Planes come in and answers go out as float32, so that the engine need not know. Weights beyond 65,504, the largest
number of half precision, are refused by name; what overflows on the way shows in the answers, which the gate looks at.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from az.engine.errors import Refused

LARGEST = 65504.0
OUTSIDE = ("planes", "logits", "value")  # float32 on the outside
INSIDE = ".half"


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph of `az.export.onnx_file.model_of` in float16. Raises Refused naming a weight that does not fit."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32:
            most = float(np.abs(array).max(initial=0.0))
            if not most <= LARGEST:
                raise Refused(f"fp16 cannot hold the weight '{tensor.name}', which reaches {most:.3g}")
            tensor.CopyFrom(numpy_helper.from_array(array.astype(np.float16), tensor.name))
    for node in graph.node:
        for names in (node.input, node.output):
            for i, name in enumerate(names):
                names[i] = f"{name}{INSIDE}" if name in OUTSIDE else name
    before = helper.make_node("Cast", ["planes"], [f"planes{INSIDE}"], name="planes.to_half", to=TensorProto.FLOAT16)
    after = [
        helper.make_node("Cast", [f"{name}{INSIDE}"], [name], name=f"{name}.to_float", to=TensorProto.FLOAT)
        for name in OUTSIDE[1:]
    ]
    nodes = [before, *graph.node, *after]
    del graph.node[:]
    graph.node.extend(nodes)
    return made
