"""What a player says, read as a stranger's: plain values within bounds, and nothing of it goes further otherwise.

So the learner's process never unpickles an object that a node has made: it gets bytes, whole numbers and short texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

from az.engine.printable import one_line
from az.engine.records.container import MOST_PACKED
from az.engine.records.format import parse_header
from az.engine.records.header import MOST_GAME, MOST_PLIES
from az.engine.selfplay.checks import SEARCH_CAUSES, SearchFault

MOST_FILES = 4  # in one answer; a player hands over one
MOST_COUNT = 10**12  # simulations of a file, or of a player since it began
MOST_ROWS = 10**7
MOST_FAULTS = 3  # of one answer that are read: a node is left out with so many
MOST_STATE = 10**5  # numbers of a position
MOST_TEXT = 300  # characters
MOST_LINES = 60  # of a traceback


@dataclass(frozen=True)
class File:
    """A record file's bytes, and what its player says of it beyond them."""

    data: Any
    rows: int
    simulations: int = 0


@dataclass(frozen=True)
class Answer:
    """What an exchange gives: as `Player.exchange`. refused, error: "" where all is well; error may be a traceback."""

    files: list[File]
    faults: list[dict[str, Any]]
    lost: list[int]
    want: int
    known: set[str]
    alive: int
    walks: int
    refused: str = ""
    error: str = ""


@dataclass(frozen=True)
class Contents:
    """What stands in a file's header. games: number and model of each; tally: what a run counts."""

    seed: int
    search: dict[str, Any]
    games: list[tuple[int, str]]
    tally: dict[str, int]


def read_answer(raw: object) -> Answer:
    """Raises ValueError for anything that a player of ours would not say."""
    if not isinstance(raw, dict):
        raise ValueError("it is no dictionary")
    found = cast("dict[str, Any]", raw)
    return Answer(
        files=[_file(one) for one in _list(found, "files", MOST_FILES)],
        faults=[_fault(one) for one in _list(found, "faults", MOST_COUNT)[:MOST_FAULTS]],
        lost=[_whole(k, MOST_GAME) for k in _list(found, "lost", MOST_COUNT)],
        want=_whole(found.get("want"), MOST_COUNT),
        known={_text(name) for name in _list(found, "known", MOST_COUNT)},
        alive=_whole(found.get("alive"), MOST_COUNT),
        walks=_whole(found.get("walks"), MOST_COUNT),
        refused=_text(found.get("refused", "")),
        error=_lines(found.get("error", found.get("crash", ""))),
    )


def read_facts(raw: object, names: Mapping[str, Any]) -> dict[str, str]:
    """The first word of a player: these of its facts, as texts for people. Raises ValueError."""
    if not isinstance(raw, dict):
        raise ValueError("it is no dictionary")
    found = cast("dict[str, Any]", raw)
    plain = {name: found.get(name) for name in names}
    return {name: _text(str(value)) if type(value) in (str, int) else "none" for name, value in plain.items()}


def contents_of(data: bytes) -> Contents:
    """What a file of a node says that it holds; its rows are looked at by the run. Raises Refused."""
    header = parse_header(Path("a file of a node"), data)
    games = header["games"]
    tally = {
        "games": len(games),
        "plies": sum(plies for _, plies, _, _ in games),
        "first_wins": sum(outcome == 1 for _, _, outcome, _ in games),
        "draws": sum(outcome == 0 for _, _, outcome, _ in games),
    }
    return Contents(header["seed"], header["search"], [(k, header["models"][m]) for k, _, _, m in games], tally)


def _list(found: dict[str, Any], name: str, most: int) -> list[Any]:
    value = found.get(name)
    if type(value) is not list or len(cast("list[Any]", value)) > most:
        raise ValueError(f"{name} is no list of at most {most:,}")
    return cast("list[Any]", value)


def _whole(value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"a number lies outside 0 to {most:,}")
    return value


def _text(value: object) -> str:
    if type(value) is not str:
        raise ValueError("a text is none")
    return one_line(value, MOST_TEXT)


def _lines(value: object) -> str:
    """The last lines of a text."""
    if type(value) is not str:
        raise ValueError("a text is none")
    lines = value[-MOST_LINES * MOST_TEXT :].strip().splitlines()[-MOST_LINES:]
    return "\n".join(one_line(line, MOST_TEXT) for line in lines)


def _file(value: object) -> File:
    if type(value) is not tuple or len(cast("tuple[Any, ...]", value)) != 2:
        raise ValueError("a file is not bytes with their counts")
    data, stats = cast("tuple[Any, Any]", value)
    if type(data) is not bytes or len(data) > MOST_PACKED or type(stats) is not dict:
        raise ValueError(f"a file is not at most {MOST_PACKED:,} bytes with their counts")
    counts = cast("dict[str, Any]", stats)
    return File(data, _whole(counts.get("rows"), MOST_ROWS), _whole(counts.get("simulations"), MOST_COUNT))


def _fault(value: object) -> dict[str, Any]:
    """A `SearchFault` as JSON."""
    names = {field.name for field in fields(SearchFault)}
    if type(value) is not dict or set(cast("dict[str, Any]", value)) != names:
        raise ValueError("a fault has other fields")
    found = cast("dict[str, Any]", value)
    state = _list(found, "state", MOST_STATE)
    if found["cause"] not in SEARCH_CAUSES or not all(type(one) is int and abs(one) < 1 << 64 for one in state):
        raise ValueError("a fault has another cause, or its position is none")
    return {
        "cause": str(found["cause"]), "k": _whole(found["k"], MOST_GAME), "ply": _whole(found["ply"], MOST_PLIES),
        "model_id": _text(found["model_id"]), "state": [*state], "text": _text(found["text"]),
    }  # fmt: skip
