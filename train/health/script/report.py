"""What is said of a fault in a script, and the edit that would let the script undo it."""

from __future__ import annotations

import ast
import linecache
from types import FrameType
from typing import Any

from torch import nn

from .watch import Fault


def told(fault: Fault, package: str) -> str:
    """The fault in lines for a person; the script has been stopped."""
    lines = [f"{package}: step {fault.step} of {type(fault.optimizer).__name__}: {fault.what}"]
    place = [f"in {fault.phase}", f"operation {fault.op}" if fault.op else "", fault.source or ""]
    place.insert(2, f"module {fault.module}" if fault.module else "")
    lines.append("  " + ", ".join(filter(None, place)))
    if fault.source:
        file, _, number = fault.source.rpartition(":")
        lines += [f"    {text}" for text in [linecache.getline(file, int(number)).strip()] if text]
    lines += [f"  {text}" for text in fault.text]
    written = "was written already" if fault.phase == "optimizer" else "was not written: the weights are good"
    lines.append(f"  the script was stopped at this step, which {written}")
    return "\n".join([*lines, *edit(fault, package)])


def edit(fault: Fault, package: str) -> list[str]:
    """The lines to add around the loop, with the script's own names."""
    frame = fault.frame
    model, optimizer = "model", "optimizer"
    loop = None
    while frame is not None and loop is None:
        loop = _loop_of(frame)
        if loop is None:
            frame = frame.f_back
    if frame is not None:
        names = {**frame.f_globals, **frame.f_locals}
        optimizer = next((n for n, v in names.items() if v is fault.optimizer), optimizer)
        model = _models(names, fault.optimizer) or model
    said = ["", "  To undo such a step, have its cause named by a second run, and go on:"]
    said += [f"    from {package} import FlightRecorder", f"    recorder = FlightRecorder({model}, {optimizer})"]
    if frame is None or loop is None:
        return [*said, "    and `with recorder.step(batch):` around the lines of one step"]
    first, last, batch, text = loop
    said.append(
        f"  before the loop at {frame.f_code.co_filename}:{first}, and in it, around lines {first + 1} to {last}:"
    )
    return [*said, f"    {text}", f"        with recorder.step({batch}):"]


def _models(names: dict[str, Any], optimizer: Any) -> str:
    """Names of the modules whose parameters the optimizer has; a list where there are several."""
    own = {id(p) for group in optimizer.param_groups for p in group["params"]}
    found = [(len({id(p) for p in value.parameters()} & own), name)
             for name, value in names.items() if isinstance(value, nn.Module)]  # fmt: skip
    found = [one for one in found if one[0]]
    whole = [name for count, name in found if count == len(own)]
    return whole[0] if whole else f"[{', '.join(name for _, name in found)}]" if found else ""


def _loop_of(frame: FrameType) -> tuple[int, int, str, str] | None:
    """(first line, last line, the names of its batch, its text) of the innermost loop around where a frame is."""
    text = "".join(linecache.getlines(frame.f_code.co_filename))
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return None
    start = frame.f_code.co_firstlineno
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For | ast.While)
             and start <= node.lineno < frame.f_lineno <= (node.end_lineno or 0)]  # fmt: skip
    if not loops:
        return None
    node = max(loops, key=lambda one: one.lineno)
    batch = "None"
    if isinstance(node, ast.For):
        batch = ast.unparse(node.target)
        source = ast.unparse(node.iter.func) if isinstance(node.iter, ast.Call) else ""
        if source == "range":
            batch = "None"
        elif source == "enumerate":
            batch = batch.partition(",")[2].strip(" )") or batch
        batch = f"({batch})" if "," in batch and not batch.startswith("(") else batch
    return node.lineno, node.end_lineno or node.lineno, batch, text.splitlines()[node.lineno - 1].strip()
