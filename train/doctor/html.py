"""The doctor's page: one HTML file that needs nothing but a browser, from the disk as well as from a server.

It opens with the answer. Whatever comes from a run is escaped by the templates; the page may load nothing and says so
to the browser.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from az.train.doctor.diagram import Stop, picture, stops
from az.train.doctor.style import printable_xml
from az.train.doctor.text import answer, file_line, incident_line, row_name, row_words, story
from az.train.doctor.text import sentence as one_sentence
from az.train.doctor.trends import svg_curve

Facts = dict[str, Any]
BUTTONS = (("first", "First"), ("back", "◀ Back"), ("play", "Play"), ("next", "Next ▶"), ("last", "Last"))


@cache
def _templates() -> Environment:
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates", encoding="utf-8"),
        autoescape=True,
        undefined=StrictUndefined,  # a name that is misspelt in a template is an error
        finalize=lambda value: value if isinstance(value, Markup) else printable_xml(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"short": _short, "number": lambda value: f"{value:g}", "curve": lambda t: Markup(svg_curve(t))}
    return made


def _page(name: str, facts: Facts, **values: Any) -> str:
    raw = json.dumps({key: value for key, value in facts.items() if key != "page"}, indent=1)
    trends = [*facts["signs"], *facts["numbers"]]
    return _templates().get_template(name).render(raw=raw, trends=trends, **values)


def incident_page(facts: Facts) -> str:
    """The page of one incident."""
    way, evidence, lines = stops(facts), facts["evidence"], facts["timeline"]
    rows = [("cause", f"{facts['plane']}: {facts['cause']}"), *answer(facts)[1:]]
    fields = ("name", "role", "shape", "dtype", "low", "high", "nans", "infs", "zeros")
    return _page(
        "incident.html",
        facts,
        title=f"{facts['cause']} at step {facts['first_bad_step']}",
        head=one_sentence(facts),
        story=story(facts),
        backward=backward(facts),
        rows=[*rows, ("the step, run again", facts["replay_now"]["text"])],
        picture=Markup(picture(facts, way)),
        buttons=BUTTONS,
        way=[_told(stop) for stop in way],
        found=f"The first bad operation: {facts['op']}" if facts["op"] else "What was found",
        source=facts["source"],
        operands=[{name: one.get(name) for name in fields} for one in evidence.get("operands") or []],
        told=evidence.get("text", []),
        origins=[
            {"name": row_name(row), "board": row.get("board"), "words": row_words(row)} for row in facts["origins"]
        ],
        more=len(facts["rows"]) - len(facts["origins"]),
        timeline=lines,
        names=[name for name in (lines[0] if lines else {}) if any(line[name] is not None for line in lines)],
        warnings=[line.get("text") for line in facts["warnings"]],
    )


def backward(facts: Facts) -> list[dict[str, Any]]:
    """The way from the loss to the first bad operation of backward; [] where the fault lies elsewhere."""
    if facts["phase"] != "backward":
        return []
    way: list[Facts] = facts["evidence"].get("backward") or []
    first = next((i for i, one in enumerate(way) if not one.get("finite", True)), len(way))
    return [
        {"op": one.get("op"), "source": one.get("source"), "place": _place(one), "bad": i >= first, "first": i == first}
        for i, one in enumerate(way)
    ]


def _place(one: Facts) -> str:
    module = one.get("module")
    return "in the loss" if module is None else f"in {module}" if module else "in the model itself"


def run_page(facts: Facts) -> str:
    """The page of a run."""
    incidents, files = facts["incidents"], facts["quarantined"]
    well = not incidents and not facts["warnings"] and not files
    count = len(incidents)
    what = f"{count} incident{'' if count == 1 else 's'}, {len(facts['warnings'])} warnings"
    rows = [("record files put aside", len(files))]
    rows += [("look at one", f"az doctor {incidents[-1]['folder']}")] if count else []
    return _page(
        "run.html",
        facts,
        title=f"{facts['run']}: health",
        head=f"{facts['run']}: {'no incident and no warning' if well else what} in {facts['steps']} steps.",
        well=well,
        rows=rows,
        incidents=[incident_line(one) for one in incidents],
        warnings=[line.get("text") for line in facts["warnings"]],
        files=[file_line(one) for one in files],
    )


def _told(stop: Stop) -> dict[str, Any]:
    words = stop.phase if stop.node == stop.phase else f"{stop.phase}, {_name(stop.node)}"
    return {"node": stop.node, "words": words, "ops": list(dict.fromkeys(filter(None, stop.ops)))}


def _name(node: str) -> str:
    """`b.blocks.1` → `blocks.1`, `b.loss` → `the loss`."""
    if node in ("batch", "loss", "b.loss"):
        return "the batch" if node == "batch" else "the loss"
    return node[2:] if node[:2] in ("f.", "b.") else f"the {node}"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return "–" if value is None else str(value)
