"""Every value of a network on given positions, by the name that it has in the exported file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import onnx
import torch
from torch import Tensor, nn

from az.engine.inference.evaluator import Float32
from az.export.onnx_file import Graph
from az.train.architecture import Net, Stage
from az.train.architecture import network as describe
from az.train.model import Network, Run


class Recorded(NamedTuple):
    """What flowed, and the graph that it flowed through."""

    values: dict[str, Float32]  # by the name of the node that gives it; `planes`, `logits` and `value` too
    nodes: list[onnx.NodeProto]
    layers: dict[str, str]  # value -> the module that it belongs to


class _Value(NamedTuple):
    name: str
    tensor: Tensor


class _Recorder:
    """Ops that write the ONNX graph and run torch in lockstep: so the names are those of the file."""

    def __init__(self, network: Network) -> None:
        self.graph, self.run = Graph(network), Run(network)
        self.values: dict[str, Tensor] = {}

    def stage(self, name: str, body: Stage, x: _Value, net: Net) -> _Value:
        before, self.run = self.run, Run(self.run.layer(name))
        prefix, self.graph.prefix = self.graph.prefix, f"{self.graph.path(name)}."
        try:
            return body(self, x, net)
        finally:
            self.run, self.graph.prefix = before, prefix

    def training_only(self, *_: Any) -> None:
        return None

    def __getattr__(self, operation: str) -> Callable[..., _Value]:
        def both(*arguments: Any, **named: Any) -> _Value:
            made = _Value(*(
                getattr(ops, operation)(*(_side(a, i) for a in arguments), **{k: _side(a, i) for k, a in named.items()})
                for i, ops in enumerate((self.graph, self.run))
            ))  # fmt: skip
            self.values[made.name] = made.tensor
            return made

        return both


def _side(argument: Any, which: int) -> Any:
    return argument[which] if isinstance(argument, _Value) else argument


def recorded(network: Network, planes: Float32) -> Recorded:
    """network: in evaluation mode on the CPU; planes: float32 [n, C, H, W].

    On one thread: the int8 file is made from these numbers, and its bytes must not depend on the machine's cores.
    """
    recorder: Any = _Recorder(network)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            board = torch.from_numpy(planes)  # pyright: ignore[reportUnknownMemberType]
            describe(recorder, _Value("planes", board), network.config, network.num_actions)
    finally:
        torch.set_num_threads(threads)
    values = {name: tensor.numpy() for name, tensor in recorder.values.items()}
    return Recorded({"planes": planes, **values}, recorder.graph.nodes, _modules(network, recorder.graph.layers))


def _modules(network: Network, layers: dict[str, str]) -> dict[str, str]:
    """The innermost module that a value's name lies in; for `logits` and `value` the layer that it came through."""
    modules = cast("Iterable[tuple[str, nn.Module]]", network.named_modules())
    known = {path for path, _ in modules if path}

    def of(name: str) -> str:
        path = name
        while path and path not in known:
            path = path.rpartition(".")[0]
        return path or layers[name]

    return {name: of(name) for name in layers}
