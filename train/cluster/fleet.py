"""What the dispatcher needs of a cluster: nodes, players on them, questions and answers. Ray's, or a simulated one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

LOCAL = "local"  # the address of a cluster of this machine alone
GPU_THREADS = 2  # of a player on a GPU, so that a batch walks while another waits for the network


@dataclass(frozen=True)
class Node:
    """A machine of the cluster."""

    id: str
    name: str  # for people: host name and address
    cpus: int
    gpus: int = 0
    host: str = ""  # its address, the same for nodes of one machine; "": not known


@dataclass(frozen=True)
class Gone:
    """In the place of an answer: the player, or the way to it, has failed. text: for people."""

    text: str


class Fleet(Protocol):
    """No call waits for a player, except `answers`, which waits no longer than it is told."""

    def nodes(self) -> list[Node]:
        """The nodes that are alive."""
        ...

    def start(self, player: str, node: Node, gpu: bool) -> None:
        """Start a player of this name on the node; its first answer is that of `hello`."""
        ...

    def ask(self, player: str, orders: dict[str, Any]) -> None:
        """Send orders; one question a player is under way at most."""
        ...

    def answers(self, timeout: float) -> list[tuple[str, dict[str, Any] | Gone]]:
        """Answers that have come, waiting at most `timeout` seconds for the first."""
        ...

    def end(self, player: str) -> None:
        """End a player, whatever it does; no answer of it comes any more."""
        ...

    def put(self, data: bytes) -> Any:
        """Make a model's bytes known to all nodes; a handle that orders may carry."""
        ...

    def close(self) -> None:
        """End all players, leave the cluster."""
        ...
