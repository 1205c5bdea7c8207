"""What hypothesis puts in the place of what stood in a file: other types, other sizes, names that are paths."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

PATHS = [
    "../../victim.txt", "../../../victim.txt", "../../../../victim.txt", "/etc/passwd", "..", ".", "", "/", "a/b",
    "/dev/zero", "~", "victim.txt\0", "0001-000000-000.npz", "0001-000000-000.npz\n", "con", "x" * 300, "file:///x",
    "..\\..\\victim.txt", "{victim}",
]  # fmt: skip
LOUD = ["\x1b]0;owned\x07", "\x1b[2J\x1b[31m", "\u202eevil", "a\nb\nc", "\r", "\x00", "\ud800", "😀", "é" * 50]
NUMBERS = [
    0, 1, -1, 2, 7, 10, 255, 2**31 - 1, 2**31, 2**32, 2**53, 10**12, 2**63 - 1, 2**63, 2**64, -(2**63), 2**200, 10**400,
    0.0, -0.0, 0.5, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf"),
]  # fmt: skip

scalars = st.one_of(
    st.none(), st.booleans(), st.sampled_from(NUMBERS), st.integers(), st.floats(allow_subnormal=False),
    st.sampled_from(PATHS),
    st.sampled_from(LOUD), st.text(max_size=30), st.sampled_from(["x" * 10**5, "[" * 10**4, "9" * 5000, "tictactoe"]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
changes = st.fixed_dictionaries({
    "how": st.sampled_from(["set", "set", "set", "drop", "add", "double", "wrap", "text", "swap", "nest"]),
    "where": st.lists(st.integers(0, 10**6), min_size=1, max_size=5),
    "value": values,
})  # fmt: skip
bytes_changes = st.fixed_dictionaries({
    "how": st.sampled_from(["flip", "cut", "zeros", "insert", "repeat", "replace", "nothing", "random"]),
    "at": st.integers(0, 1000),
    "many": st.integers(1, 40),
    "with": st.binary(min_size=1, max_size=16),
})  # fmt: skip
kinds = st.sampled_from(
    ["missing", "empty", "folder", "pipe", "device", "full", "hole", "outside", "dangling", "self", "hardlink", "page"]
)


def mutated(value: Any, change: dict[str, Any]) -> Any:
    """The JSON value with one place in it changed as `change` says."""
    holder: Any = {"": value}
    key: Any = ""
    for step in change["where"]:
        inner = holder[key]
        if isinstance(inner, dict) and inner:
            holder, key = inner, sorted(inner)[step % len(inner)]
        elif isinstance(inner, list) and inner:
            holder, key = inner, step % len(inner)
        else:
            break
    root = {"": value} if key == "" else None
    target, new, how = (root if root is not None else holder), change["value"], change["how"]
    if how == "drop" and key != "":
        del target[key]
    elif how == "add":
        inner = target[key]
        if isinstance(inner, dict):
            inner[str(new)[:50]] = new
        elif isinstance(inner, list):
            inner.append(new)
        else:
            target[key] = new
    elif how == "double" and isinstance(target[key], list | str):
        target[key] = target[key] * (2 + change["where"][-1] % 200)
    elif how == "wrap":
        target[key] = [target[key]]
    elif how == "text":
        target[key] = json.dumps(target[key])[:1000]
    elif how == "nest":
        for _ in range(200):
            new = [new]
        target[key] = new
    else:
        target[key] = new
    return root[""] if root is not None else value


def mangled(data: bytes, change: dict[str, Any]) -> bytes:
    """The bytes with one place changed."""
    at, how, extra = change["at"] * len(data) // 1000, change["how"], change["with"]
    if how == "flip" and data:
        at = min(at, len(data) - 1)
        return data[:at] + bytes([data[at] ^ (extra[0] or 1)]) + data[at + 1 :]
    if how == "cut":
        return data[:at]
    if how == "zeros":
        return data[:at] + bytes(change["many"] * 1000) + data[at + change["many"] :]
    if how == "insert":
        return data[:at] + extra + data[at:]
    if how == "repeat":
        return data[:at] + data[max(0, at - 100) : at] * change["many"] + data[at:]
    if how == "replace":
        return data[:at] + extra + data[at + len(extra) :]
    if how == "random":
        return extra * change["many"]
    return data
