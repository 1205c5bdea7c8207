"""The network, described once: every block, every head, and how they are put together.

A description is a plain function of `ops`, the values that it reads, and the settings `net`. What `ops` is decides
what comes of it: torch modules (`az.train.model.Declare`), a forward pass (`az.train.model.Run`), an ONNX file
(`az.export.onnx_file`, from which the int8 and fp16 files are made), every value by its ONNX name
(`az.export.recorded`), or shapes and boxes of a drawing (below).

To add a block, write a function such as `residual` and enter it in BLOCKS: `--set net.block=NAME` is then a choice.
Names become names of tensors in checkpoints and of nodes in ONNX files: keep those that exist. Nothing here imports
torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

V = TypeVar("V")  # a value that flows: a torch tensor, the name of an ONNX value, a shape
Shape = tuple[int, ...]  # of one row: (C, H, W) on the board, (n,) behind it, () for one number


class Net(Protocol):
    """What a description reads of the settings: az.train.config.NetConfig."""

    @property
    def channels(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def block(self) -> str: ...
    @property
    def policy_channels(self) -> int: ...
    @property
    def value_channels(self) -> int: ...
    @property
    def value_hidden(self) -> int: ...
    @property
    def value_head(self) -> str: ...
    @property
    def auxiliary(self) -> str: ...


class Ops(Protocol[V]):
    """The operations that a network may consist of. Board: a value [n, C, H, W]; flat: a value [n, k].

    A name is relative to the stage that it stands in: of a layer with weights, or of the result.
    """

    def stage(self, name: str, body: Stage, x: V, net: Net) -> V:
        """A part of the network with a name: a module of torch, a box in the drawing."""
        ...

    def training_only(self, name: str, body: Stage, x: V, net: Net) -> V | None:
        """A stage for the loss alone: None in evaluation mode, and not in the exported file."""
        ...

    def conv(self, conv: str, norm: str, x: V, channels: int, size: int) -> V:
        """Board → board: a size×size convolution without bias, padded to the same board, and batch norm."""
        ...

    def linear(self, name: str, x: V, units: int, output: str = "") -> V:
        """Flat → flat: a dense layer with bias. output: the result's name, where it is not the layer's."""
        ...

    def relu(self, x: V) -> V: ...

    def add(self, name: str, one: V, two: V) -> V: ...

    def flatten(self, name: str, x: V) -> V:
        """Board → flat."""
        ...

    def squeeze(self, name: str, x: V) -> V:
        """[n, 1] → [n]."""
        ...

    def mean(self, name: str, x: V) -> V:
        """Board → flat [n, C]: the mean over the board of each channel."""
        ...

    def scale(self, name: str, x: V, factors: V) -> V:
        """Board times flat [n, C]: every channel by its own factor."""
        ...

    def times(self, name: str, x: V, factor: float) -> V:
        """Any value times a constant."""
        ...

    def tanh(self, name: str, x: V) -> V: ...

    def sigmoid(self, name: str, x: V) -> V: ...

    def softmax(self, name: str, x: V) -> V:
        """Flat → flat."""
        ...

    def weighted_sum(self, name: str, x: V, weights: tuple[float, ...]) -> V:
        """Flat [n, k] → [n]: the sum with constant weights."""
        ...


Stage = Callable[[Any, Any, Net], Any]  # (ops, x, net) -> value


# -- blocks ------------------------------------------------------------------------------------------------------------


def residual(ops: Ops[V], x: V, net: Net) -> V:
    """Two 3×3 convolutions, the input added to their result. Source: He et al. 2015; Silver et al. 2017."""
    inner = ops.relu(ops.conv("conv1", "norm1", x, net.channels, 3))
    return ops.relu(ops.add("sum", ops.conv("conv2", "norm2", inner, net.channels, 3), x))


def squeeze_excite(ops: Ops[V], x: V, net: Net) -> V:
    """A residual block whose result is weighted by channel, from what the whole board looks like.

    Source: Hu et al. 2018, arXiv:1709.01507, §3, as in Leela Chess Zero's blocks, which also add a bias by channel.
    The hidden layer has a quarter of the channels: theirs, a sixteenth, is for hundreds of channels.
    """
    inner = ops.relu(ops.conv("conv1", "norm1", x, net.channels, 3))
    inner = ops.conv("conv2", "norm2", inner, net.channels, 3)
    hidden = ops.relu(ops.linear("squeeze", ops.mean("mean", inner), max(1, net.channels // 4)))
    gate = ops.sigmoid("gate", ops.linear("excite", hidden, net.channels))
    return ops.relu(ops.add("sum", ops.scale("scaled", inner, gate), x))


BLOCKS: dict[str, Stage] = {"residual": residual, "squeeze_excite": squeeze_excite}  # net.block


# -- heads -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ValueHead:
    """Which numbers the last layer of the value head gives, and how they become a value in [-1, 1]."""

    units: int
    value: Callable[[Any, Any], Any]  # (ops, what `Heads.raw` is) -> [n]


def scalar_value(ops: Ops[V], raw: V) -> V:
    """raw: [n]."""
    return ops.tanh("value", raw)


def wdl_value(ops: Ops[V], raw: V) -> V:
    """raw: [n, 3], logits of a win, a draw and a loss for the player to move. The value is P(win) - P(loss).

    Source: Leela Chess Zero's WDL head; KataGo (Wu 2019, arXiv:1902.10565) learns the outcome as classes likewise.
    """
    return ops.weighted_sum("value", ops.softmax("value.wdl", raw), (1.0, 0.0, -1.0))


def wdl_target(target: Any) -> tuple[Any, Any, Any]:
    """P(win), P(draw), P(loss) that stand for a value target in [-1, 1] (a tensor or an array): value = win - loss."""
    win, loss = target.clip(0.0, 1.0), (-target).clip(0.0, 1.0)
    return win, 1.0 - win - loss, loss


VALUE_HEADS = {"scalar": ValueHead(1, scalar_value), "wdl": ValueHead(3, wdl_value)}  # net.value_head


def root_value(ops: Ops[V], x: V, net: Net) -> V:
    """The value of the search's root, before tanh: a second target for the same features."""
    return ops.squeeze("flat", ops.linear("out", x, 1))


AUXILIARY: dict[str, Stage | None] = {"": None, "root_value": root_value}  # net.auxiliary


# -- the network -------------------------------------------------------------------------------------------------------


class Heads(NamedTuple, Generic[V]):
    """What the last layers give."""

    logits: V  # [n, A], of the policy
    raw: V  # the value before its last function: [n], or [n, 3] for net.value_head=wdl
    auxiliary: V | None  # [n], the root's value before tanh; None without it and in evaluation mode


def stem(ops: Ops[V], x: V, net: Net) -> V:
    """The first layer."""
    return ops.relu(ops.conv("conv", "norm", x, net.channels, 3))


def policy_stem(ops: Ops[V], x: V, net: Net) -> V:
    return ops.relu(ops.conv("conv", "norm", x, net.policy_channels, 1))


def value_stem(ops: Ops[V], x: V, net: Net) -> V:
    return ops.relu(ops.conv("conv", "norm", x, net.value_channels, 1))


def heads(ops: Ops[V], planes: V, net: Net, actions: int) -> Heads[V]:
    """planes: float32 [n, C, H, W]. Stem, blocks, policy head, value head."""
    trunk = ops.stage("stem", stem, planes, net)
    for index in range(net.blocks):
        trunk = ops.stage(f"blocks.{index}", BLOCKS[net.block], trunk, net)
    policy = ops.flatten("policy_stem.flat", ops.stage("policy_stem", policy_stem, trunk, net))
    logits = ops.linear("policy_out", policy, actions, "logits")
    value = ops.flatten("value_stem.flat", ops.stage("value_stem", value_stem, trunk, net))
    if net.value_hidden:
        value = ops.relu(ops.linear("value_hidden", value, net.value_hidden))
    units = VALUE_HEADS[net.value_head].units
    raw = ops.linear("value_out", value, units)
    raw = ops.squeeze("value.flat", raw) if units == 1 else raw
    extra = AUXILIARY[net.auxiliary]
    return Heads(logits, raw, ops.training_only("value_auxiliary", extra, value, net) if extra else None)


def network(ops: Ops[V], planes: V, net: Net, actions: int) -> tuple[V, V]:
    """planes [n, C, H, W] -> logits [n, A] and values [n] in [-1, 1], both for the player to move."""
    found = heads(ops, planes, net, actions)
    return found.logits, VALUE_HEADS[net.value_head].value(ops, found.raw)


# -- what a description says without torch -----------------------------------------------------------------------------


class Shapes:
    """Ops on the shapes of one row. Counts weights, and the numbers that convolutions give."""

    def __init__(self) -> None:
        self.prefix = ""
        self.weights = self.numbers = 0

    def path(self, name: str) -> str:
        """The name in the whole network."""
        return f"{self.prefix}{name}"

    def stage(self, name: str, body: Stage, x: Shape, net: Net) -> Shape:
        before, self.prefix = self.prefix, f"{self.prefix}{name}."
        try:
            return body(self, x, net)
        finally:
            self.prefix = before

    def training_only(self, name: str, body: Stage, x: Shape, net: Net) -> Shape:
        return self.stage(name, body, x, net)

    def conv(self, conv: str, norm: str, x: Shape, channels: int, size: int) -> Shape:
        self.weights += channels * x[0] * size * size
        self.numbers += channels * prod(x[1:])
        return (channels, *x[1:])

    def linear(self, name: str, x: Shape, units: int, output: str = "") -> Shape:
        self.weights += units * x[0]
        return (units,)

    def relu(self, x: Shape) -> Shape:
        return x

    def add(self, name: str, one: Shape, two: Shape) -> Shape:
        assert one == two, f"{self.path(name)}: {one} and {two} cannot be added"
        return one

    def flatten(self, name: str, x: Shape) -> Shape:
        return (prod(x),)

    def squeeze(self, name: str, x: Shape) -> Shape:
        return x[:-1]

    def mean(self, name: str, x: Shape) -> Shape:
        return x[:1]

    def scale(self, name: str, x: Shape, factors: Shape) -> Shape:
        assert factors == x[:1], f"{self.path(name)}: {x} has other channels than {factors}"
        return x

    def times(self, name: str, x: Shape, factor: float) -> Shape:
        return x

    def tanh(self, name: str, x: Shape) -> Shape:
        return x

    def sigmoid(self, name: str, x: Shape) -> Shape:
        return x

    def softmax(self, name: str, x: Shape) -> Shape:
        return x

    def weighted_sum(self, name: str, x: Shape, weights: tuple[float, ...]) -> Shape:
        return ()


def block_size(net: Net, height: int, width: int) -> tuple[int, int]:
    """(weights of a block's layers, numbers that its convolutions give for a row)."""
    ops = Shapes()
    ops.stage("block", BLOCKS[net.block], (net.channels, height, width), net)
    return ops.weights, ops.numbers


class _Outline(Shapes):
    """Notes the boxes at the top of the network, in order, and how many lie before each."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes: dict[str, None] = {}

    def stage(self, name: str, body: Stage, x: Shape, net: Net) -> Shape:
        self.boxes[box_of(self.path(name))] = None
        return super().stage(name, body, x, net)

    def linear(self, name: str, x: Shape, units: int, output: str = "") -> Shape:
        self.boxes[box_of(self.path(name))] = None
        return super().linear(name, x, units, output)


def box_of(path: str) -> str:
    """The box that a module belongs to in a drawing: `blocks.1.conv1` → `blocks.1`, `policy_stem.norm` → `policy`."""
    first, *rest = path.split(".")
    return f"{first}.{rest[0]}" if rest and rest[0].isdecimal() else first.partition("_")[0]


def drawing(net: Net) -> list[list[tuple[str, str]]]:
    """The network as columns of boxes, left to right: (name, words). The heads share the last column."""
    ops = _Outline()
    heads(ops, (1, 1, 1), net, 1)
    trunk = [name for name in ops.boxes if name == "stem" or "." in name]
    after = [name for name in ops.boxes if name not in trunk]
    words = {name: name.replace("blocks.", "block ") for name in trunk} | {name: f"{name} head" for name in after}
    return [*([(name, words[name])] for name in trunk), [(name, words[name]) for name in after]]
