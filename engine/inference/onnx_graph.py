"""Which operators a model of az consists of, and what each may be applied to.

The shapes and types of all values are followed from the input planes to the two answers. So a model can neither loop
nor ask for memory or time out of proportion to its weights: a layer's answer is as wide as its weights say, on the
board that went in.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple, NoReturn

from numpy.typing import NDArray

from az.engine.inference.onnx_reader import MOST_NAME, ForeignModelError, Node, OnnxBytes

F32, F16, U8, I8, I32, I64 = "float32", "float16", "uint8", "int8", "int32", "int64"
CAST_TO = {1: F32, 10: F16}  # onnx.proto3's numbers
KERNELS = (1, 3, 5, 7)
MOST_CHANNELS, MOST_UNITS = 1024, 8192  # the most that a run's configuration allows
MICROSOFT = "com.microsoft"


class Value(NamedTuple):
    """What an operator gives, a row of the batch."""

    dtype: str
    shape: tuple[int, ...]


class _Checker:
    def __init__(self, content: OnnxBytes, planes_shape: tuple[int, ...]) -> None:
        self.weights: dict[str, NDArray[Any]] = content.weights
        self.values = {"planes": Value(F32, planes_shape)}
        self.node = Node("", "", "", [], [], {})
        self.used: set[str] = set()  # kernels

    def run(self, nodes: list[Node]) -> None:
        for node in nodes:
            self.node = node
            kind = _KINDS.get((node.domain, node.op))
            if kind is None:
                self.no("az writes no such operator")
            count, attributes, follow = kind
            if len(node.inputs) != count or len(node.outputs) != 1 or set(node.attributes) != attributes:
                self.no("it has other inputs, outputs or attributes than az writes")
            name = node.outputs[0]
            if not 0 < len(name) <= MOST_NAME or name in self.values or name in self.weights:
                self.no(f"its answer's name '{name}' is taken or none")
            self.values[name] = follow(self)

    def no(self, reason: str) -> NoReturn:
        where = f" '{self.node.name}'" if self.node.name else ""
        raise ForeignModelError(f"operator {self.node.op[:60] or 'without a name'}{where[:80]}: {reason}")

    def value(self, at: int = 0) -> Value:
        found = self.values.get(self.node.inputs[at])
        if found is None:
            self.no(f"its input '{self.node.inputs[at]}' comes from nowhere")
        return found

    def weight(self, at: int, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
        array = self.weights.get(self.node.inputs[at])
        if array is None or array.dtype != dtype or array.shape != shape:
            self.no(f"its input '{self.node.inputs[at]}' is no weight of {dtype}, {'×'.join(map(str, shape)) or 1}")
        return array

    def kernel(self, at: int, dims: int) -> tuple[int, ...]:
        """The shape of the kernel at that input; each is used once, so the work is in proportion to the weights."""
        name = self.node.inputs[at]
        array = self.weights.get(name)
        if array is None or array.ndim != dims or name in self.used:
            self.no(f"its input '{name}' is no kernel of its own with {dims} dimensions")
        if not 0 < array.shape[0] <= (MOST_CHANNELS if dims == 4 else MOST_UNITS):
            self.no(f"its answer is {array.shape[0]} wide")
        self.used.add(name)
        return array.shape

    def scales(self, *places: int) -> None:
        """A scale and, behind it, a zero point, each one number; the scale above 0."""
        for at in places:
            if not self.weight(at, F32, ()) > 0:
                self.no("a scale is not above 0")
            self.weight(at + 1, U8, ())

    def need(self, found: Value, *dtypes: str) -> Value:
        if found.dtype not in dtypes:
            self.no(f"it is applied to {found.dtype}")
        return found

    # -- the operators ------------------------------------------------------------------------------------------------

    def conv(self, dtype: str, kernel_dtype: str, kernel_at: int) -> tuple[int, ...]:
        """The shape of the answer: as many planes as the kernel says, on the same board."""
        shape, kernel = self.need(self.value(), dtype).shape, self.kernel(kernel_at, 4)
        side = kernel[2]
        same = self.node.attributes == {"kernel_shape": [side, side], "pads": [side // 2] * 4}
        if len(shape) != 3 or kernel != (kernel[0], shape[0], side, side) or side not in KERNELS or not same:
            self.no("its kernel does not fit what it is applied to")
        self.weight(kernel_at, kernel_dtype, kernel)
        return (kernel[0], *shape[1:])

    def float_conv(self) -> Value:
        dtype = self.need(self.value(), F32, F16).dtype
        shape = self.conv(dtype, dtype, 1)
        self.weight(2, dtype, shape[:1])
        return Value(dtype, shape)

    def int_conv(self) -> Value:
        shape = self.conv(U8, I8, 3)
        self.scales(1, 6)
        if not (self.weight(4, F32, shape[:1]) > 0).all():
            self.no("a scale is not above 0")
        self.weight(5, I8, shape[:1])
        self.weight(8, I32, shape[:1])
        return Value(U8, shape)

    def gemm(self) -> Value:
        found = self.need(self.value(), F32, F16)
        kernel = self.kernel(1, 2)
        if self.node.attributes != {"transB": 1} or found.shape != kernel[1:]:
            self.no("its weights do not fit what it is applied to")
        self.weight(1, found.dtype, kernel)
        self.weight(2, found.dtype, kernel[:1])
        return Value(found.dtype, kernel[:1])

    def same(self) -> Value:
        return self.need(self.value(), F32, F16)

    def relu(self) -> Value:
        return self.need(self.value(), F32, F16, U8)

    def add(self) -> Value:
        one, two = self.need(self.value(), F32, F16), self.value(1)
        if one != two:
            self.no("its two inputs are not alike")
        return one

    def int_add(self) -> Value:
        one, two = self.need(self.value(), U8), self.value(3)
        if one != two:
            self.no("its two inputs are not alike")
        self.scales(1, 4, 6)
        return one

    def flatten(self) -> Value:
        found = self.need(self.value(), F32, F16, U8)
        if self.node.attributes != {"axis": 1}:
            self.no("it flattens along another axis")
        return Value(found.dtype, (prod(found.shape),))

    def mean(self) -> Value:
        found = self.need(self.value(), F32, F16)
        if len(found.shape) != 3 or self.node.attributes != {"axes": [2, 3], "keepdims": 0}:
            self.no("it takes the mean of something else than a board")
        return Value(found.dtype, found.shape[:1])

    def unsqueeze(self) -> Value:
        found = self.need(self.value(), F32, F16)
        if len(found.shape) != 1 or self.weight(1, I64, (2,)).tolist() != [2, 3]:
            self.no("it adds other dimensions")
        return Value(found.dtype, (*found.shape, 1, 1))

    def mul(self) -> Value:
        """A board by a factor for each channel, or a value by a constant."""
        found = self.need(self.value(), F32, F16)
        if self.node.inputs[1] in self.weights:
            self.weight(1, found.dtype, ())
        elif len(found.shape) != 3 or self.value(1) != Value(found.dtype, (found.shape[0], 1, 1)):
            self.no("its factors do not fit what it is applied to")
        return found

    def softmax(self) -> Value:
        found = self.need(self.value(), F32, F16)
        if len(found.shape) != 1 or self.node.attributes != {"axis": 1}:
            self.no("it runs along another axis")
        return found

    def squeeze(self) -> Value:
        found = self.need(self.value(), F32, F16)
        if found.shape != (1,) or self.weight(1, I64, (1,))[0] != 1:
            self.no("it takes away another dimension")
        return Value(found.dtype, ())

    def cast(self) -> Value:
        found, to = self.need(self.value(), F32, F16), self.node.attributes["to"]
        if to not in (1, 10):
            self.no("it casts to another type")
        return Value(CAST_TO[int(to)], found.shape)

    def quantize(self) -> Value:
        found = self.need(self.value(), F32)
        self.scales(1)
        return Value(U8, found.shape)

    def dequantize(self) -> Value:
        found = self.need(self.value(), U8)
        self.scales(1)
        return Value(F32, found.shape)


# (domain, operator): (inputs, attributes, what it gives)
_KINDS: dict[tuple[str, str], tuple[int, set[str], Callable[[_Checker], Value]]] = {
    ("", "Conv"): (3, {"kernel_shape", "pads"}, _Checker.float_conv),
    ("", "Relu"): (1, set(), _Checker.relu),
    ("", "Add"): (2, set(), _Checker.add),
    ("", "Flatten"): (1, {"axis"}, _Checker.flatten),
    ("", "Gemm"): (3, {"transB"}, _Checker.gemm),
    ("", "Squeeze"): (2, set(), _Checker.squeeze),
    ("", "Tanh"): (1, set(), _Checker.same),
    ("", "Sigmoid"): (1, set(), _Checker.same),
    ("", "Softmax"): (1, {"axis"}, _Checker.softmax),
    ("", "ReduceMean"): (1, {"axes", "keepdims"}, _Checker.mean),
    ("", "Unsqueeze"): (2, set(), _Checker.unsqueeze),
    ("", "Mul"): (2, set(), _Checker.mul),
    ("", "Cast"): (1, {"to"}, _Checker.cast),
    ("", "QuantizeLinear"): (3, set(), _Checker.quantize),
    ("", "DequantizeLinear"): (3, set(), _Checker.dequantize),
    ("", "QLinearConv"): (9, {"kernel_shape", "pads"}, _Checker.int_conv),
    (MICROSOFT, "QLinearAdd"): (8, set(), _Checker.int_add),
}
OPERATORS = frozenset(_KINDS)


def check_graph(content: OnnxBytes, planes_shape: tuple[int, ...], num_actions: int) -> None:
    """Raises ForeignModelError, naming the operator, for a graph that az does not write for planes [C, H, W]."""
    checker = _Checker(content, planes_shape)
    checker.run(content.nodes)
    for name, shape in (("logits", (num_actions,)), ("value", ())):
        if checker.values.get(name) != Value(F32, shape):
            raise ForeignModelError(f"'{name}' is not what it gives for each position")
