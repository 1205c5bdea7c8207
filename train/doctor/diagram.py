"""A drawing of a training step, and how the NaN spread through it, from where it first appeared.

Forward runs left to right in the upper lane, backward right to left in the lower one; the optimizer stands below.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from az.train.architecture import box_of
from az.train.doctor.style import text

COLUMN, BOX, TALL = 104, 84, 40  # width of a column, of a box, its height
FORWARD, BACKWARD, BELOW = 74, 204, 306  # the middles of the lanes
APART = 36  # from the middle of a lane to the middle of a head
MOST_COLUMNS = 40


@dataclass
class Stop:
    """One place on the way; operations in it that follow each other are one stop."""

    node: str
    phase: str
    ops: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Node:
    """A box: its middle, and the words in it."""

    name: str
    label: str
    x: float
    y: float


def stops(facts: dict[str, Any]) -> list[Stop]:
    """How the NaN spread. One stop where the recorder knows the place only."""
    spread = [part for part in facts["evidence"].get("spread", []) if isinstance(part, dict)]
    if not spread:
        spread = [{"phase": facts["phase"], "module": facts["module"] or "", "op": facts["op"] or ""}]
    made: list[Stop] = []
    if facts["phase"] == "data" and spread[0].get("phase") != "data":
        made.append(Stop("batch", "data", [f"the batch: {', '.join(facts['evidence'].get('fields', []))}"]))
    last_forward = max((i for i, part in enumerate(spread) if part.get("phase") == "forward"), default=-1)
    for i, part in enumerate(spread):
        phase, module = str(part.get("phase")), str(part.get("module") or "")
        node = node_of(phase, module, facts["network"]["kind"] == "az")
        before = made[-1].node if made else ""
        if not module and before:  # between two modules, or the gradient on its way into a weight
            inside = phase == "backward" and before.startswith("b.")
            node = before if inside or (phase in ("loss", "forward", "data") and i < last_forward) else node
        if before != node:
            made.append(Stop(node, phase))
        made[-1].ops.append(": ".join(filter(None, (module, str(part.get("op") or "")))))
    if facts["phase"] == "buffers" and made[0].node != "buffers":  # the same operation wrote them
        made.insert(1, Stop("buffers", "buffers", ["the running averages"]))
    return made


def node_of(phase: str, module: str, is_az: bool) -> str:
    """The box that a module belongs to in a phase: `f.stem`, `b.blocks.2`, `loss`, `b.loss`, `optimizer`, …"""
    if phase in ("optimizer", "buffers"):
        return phase
    if phase == "data":
        return "batch"
    lane = "b." if phase == "backward" else "f."
    if not module:
        return "b.loss" if lane == "b." else "loss"
    return lane + (box_of(module) if is_az else module)


def columns(facts: dict[str, Any], way: list[Stop]) -> list[list[tuple[str, str]]]:
    """The boxes between batch and loss, column by column: (name without its lane, words)."""
    network = facts["network"]
    if network["kind"] == "az":
        return [[(name, words) for name, words in column] for column in network["columns"]]
    names = [stop.node[2:] for stop in way if stop.node[:2] in ("f.", "b.") and stop.node != "b.loss"]
    backward = bool(way) and way[0].node.startswith("b.")
    unique = list(dict.fromkeys(reversed(names) if backward else names))
    return [[(name, name if len(name) < 14 else "…" + name[-12:])] for name in unique[:MOST_COLUMNS]]


def picture(facts: dict[str, Any], way: list[Stop]) -> str:
    """The drawing as SVG; the boxes that the bad number reached are marked, numbered in the order of its way."""
    between = columns(facts, way)
    width = COLUMN * (len(between) + 2) + 24
    nodes, edges = _laid_out(between)
    first = {stop.node: number for number, stop in reversed(list(enumerate(way, 1)))}
    label = f"The training step; the bad number went through {len(way)} places, from {way[0].node} to {way[-1].node}."
    parts = [
        f'<svg id="picture" viewBox="0 0 {width} 344" width="{width}" height="344" role="img"'
        f' aria-label="{text(label)}">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="10" markerHeight="10"'
        ' markerUnits="userSpaceOnUse" orient="auto">'
        '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>',
        '<text class="lane" x="12" y="20">forward →</text>',
        f'<text class="lane" x="12" y="{BACKWARD - 44}">← backward: gradients</text>',
        f'<text class="lane" x="12" y="{BELOW - 28}">after it</text>',
    ]
    parts += [_edge(nodes[a], nodes[b]) for a, b in edges]
    parts += [_box(node, first.get(node.name), way[0].node == node.name) for node in nodes.values()]
    return "".join([*parts, "</svg>"])


def _laid_out(between: list[list[tuple[str, str]]]) -> tuple[dict[str, Node], list[tuple[str, str]]]:
    """All boxes and the arrows between them."""
    middle = [COLUMN * (i + 0.5) + 12 for i in range(len(between) + 2)]
    nodes = [Node("batch", "batch", middle[0], FORWARD), Node("loss", "loss", middle[-1], FORWARD),
             Node("b.loss", "of the loss", middle[-1], BACKWARD), Node("optimizer", "optimizer", middle[0], BELOW),
             Node("buffers", "buffers", middle[min(1, len(middle) - 1)] + 6, BELOW)]  # fmt: skip
    edges, before, behind = [], ["batch"], ["optimizer"]
    for i, column in enumerate(between, 1):
        for k, (name, label) in enumerate(column):
            shift = APART * (2 * k - len(column) + 1)
            nodes.append(Node(f"f.{name}", label, middle[i], FORWARD + shift))
            nodes.append(Node(f"b.{name}", label, middle[i], BACKWARD + shift))
        names = [name for name, _ in column]
        edges += [(a, f"f.{name}") for a in before for name in names]
        edges += [(f"b.{name}", b) for b in behind for name in names]
        before, behind = [f"f.{name}" for name in names], [f"b.{name}" for name in names]
    edges += [(a, "loss") for a in before] + [("loss", "b.loss")] + [("b.loss", b) for b in behind]
    return {node.name: node for node in nodes}, edges


def _edge(a: Node, b: Node) -> str:
    if abs(a.x - b.x) < 1:
        ends = (a.x, a.y + TALL / 2, b.x, b.y - TALL / 2 - 2)
    elif a.y < b.y and b.name == "optimizer":
        ends = (a.x - BOX / 2, a.y + 6, b.x + 16, b.y - TALL / 2 - 2)
    else:
        way = 1 if b.x > a.x else -1
        ends = (a.x + way * BOX / 2, a.y, b.x - way * (BOX / 2 + 2), b.y)
    x1, y1, x2, y2 = ends
    names = f'data-from="{text(a.name)}" data-to="{text(b.name)}"'
    return f'<line class="edge" {names} x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _box(node: Node, number: int | None, born: bool) -> str:
    kind = "node" + (" reached" if number else "") + (" born" if born else "")
    x, y = node.x - BOX / 2, node.y - TALL / 2
    parts = [
        f'<g class="{kind}" data-node="{text(node.name)}"><title>{text(node.name)}</title>',
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{BOX}" height="{TALL}" rx="6"/>',
        f'<text x="{node.x:.1f}" y="{node.y + (9 if born else 4):.1f}">{text(node.label)}</text>',
    ]
    if born:
        parts.append(f'<text class="birth" x="{node.x:.1f}" y="{node.y - 6:.1f}">born here</text>')
    if number:
        parts.append(f'<circle class="badge" cx="{x + BOX:.1f}" cy="{y:.1f}" r="9"/>')
        parts.append(f'<text class="number" x="{x + BOX:.1f}" y="{y + 3.5:.1f}">{number}</text>')
    return "".join([*parts, "</g>"])
