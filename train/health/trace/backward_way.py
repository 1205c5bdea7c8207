"""The chain of backward operations from the loss to one of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MOST = 200  # operations of a chain that are told
Key = tuple[str, int]  # name of an autograd node, its number


@dataclass
class _Met:
    """One autograd node of the watched step."""

    module: str | None
    source: str
    following: set[Key]  # the nodes that it hands gradients to
    operations: list[int] = field(default_factory=list[int])
    bad: bool = False  # one of its operations made something non-finite


class BackwardWay:
    """Remembers the autograd nodes in the order in which they ran."""

    def __init__(self) -> None:
        self._met: dict[Key, _Met] = {}

    def see(self, node: Any, operation: int, module: str | None, source: str, bad: bool) -> None:
        """An operation of a node has run."""
        key = _key(node)
        met = self._met.get(key)
        if met is None:
            following = {_key(after) for after, _ in node.next_functions if after is not None}
            met = self._met[key] = _Met(module, source, following)
        met.operations.append(operation)
        met.bad = met.bad or bad

    def to(self, operation: int) -> list[dict[str, Any]]:
        """From the loss to the node of this operation: op, module (None outside of the model), source, finite.

        Where several nodes hand a gradient on to one, the last that ran is taken. [] for no operation of backward.
        """
        keys = list(self._met)
        at = next((i for i, key in enumerate(keys) if operation in self._met[key].operations), None)
        chain: list[Key] = []
        while at is not None:
            chain.append(keys[at])
            at = next((i for i in range(at - 1, -1, -1) if keys[at] in self._met[keys[i]].following), None)
        return [self._told(key) for key in chain[:MOST][::-1]]

    def _told(self, key: Key) -> dict[str, Any]:
        met = self._met[key]
        return {"op": key[0], "module": met.module, "source": met.source or None, "finite": not met.bad}


def _key(node: Any) -> Key:
    """Nodes that add up the gradient of a parameter all have one number: it is told by the parameter."""
    return node.name(), id(node.variable) if hasattr(node, "variable") else node._sequence_nr()
