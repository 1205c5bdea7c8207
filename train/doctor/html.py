"""The doctor's page: one HTML file that needs nothing but a browser, from the disk as well as from a server.

It opens with the answer. Whatever comes from a run is escaped; the page may load nothing and says so to the browser.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from az.train.doctor.diagram import Stop, picture, stops
from az.train.doctor.style import SCRIPT, STYLE, text
from az.train.doctor.text import answer, file_line, incident_line, row_name, row_words
from az.train.doctor.text import sentence as one_sentence
from az.train.doctor.trends import svg_curve

Facts = dict[str, Any]
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def section(head: str, body: str) -> str:
    """One part of a page; nothing where there is nothing to say."""
    return f"<section><h2>{text(head)}</h2>{body}</section>" if body else ""


def table(heads: Iterable[Any], lines: Iterable[str]) -> str:
    """lines: rows of cells, escaped."""
    top = "".join(f"<th>{text(head)}</th>" for head in heads)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="card wide"><table><tr>{top}</tr>{body}</table></div>'


def incident_page(facts: Facts) -> str:
    """The page of one incident."""
    way = stops(facts)
    parts = [_answer(facts), _way(facts, way), _operands(facts), _rows(facts), _curves(facts, "before it")]
    title = f"{facts['cause']} at step {facts['first_bad_step']}"
    return document(title, [*parts, _before(facts), _raw(facts)], SCRIPT)


def run_page(facts: Facts) -> str:
    """The page of a run."""
    well = not facts["incidents"] and not facts["warnings"] and not facts["quarantined"]
    count = len(facts["incidents"])
    what = f"{count} incident{'' if count == 1 else 's'}, {len(facts['warnings'])} warnings"
    head = f"{facts['run']}: {'no incident and no warning' if well else what} in {facts['steps']} steps."
    rows = [("record files put aside", len(facts["quarantined"]))]
    rows += [("look at one", f"az doctor {facts['incidents'][-1]['folder']}")] if count else []
    body = [f'<section class="card answer{" well" if well else ""}"><h1>{text(head)}</h1>{_list(rows)}</section>']
    body.append(_bullets("Incidents, the newest last", map(incident_line, facts["incidents"])))
    body.append(_curves(facts, "over the run"))
    body.append(_bullets("Warnings", (line.get("text") for line in facts["warnings"])))
    body.append(_bullets("Record files put aside", map(file_line, facts["quarantined"])))
    return document(f"{facts['run']}: health", [*body, _raw(facts)])


def document(title: str, body: Iterable[str], script: str = "") -> str:
    """A whole page."""
    code = f"<script>{script}</script>" if script else ""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/><title>{text(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}"/>'
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(filter(None, body)) + f"\n{code}</body></html>\n"
    )


# -- the parts of an incident's page --------------------------------------------------------------------------------


def _answer(facts: Facts) -> str:
    rows = [("cause", f"{facts['plane']}: {facts['cause']}"), *answer(facts)]
    rows.append(("the step, run again", facts["replay_now"]["text"]))
    return f'<section class="card answer"><h1>{text(one_sentence(facts))}</h1>{_list(rows)}</section>'


def _list(rows: Sequence[tuple[str, Any]]) -> str:
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in rows) + "</dl>"


def _bullets(head: str, lines: Iterable[Any]) -> str:
    items = "".join(f"<li>{text(line)}</li>" for line in lines)
    return section(head, f"<ul>{items}</ul>" if items else "")


def _way(facts: Facts, way: list[Stop]) -> str:
    """The picture, its buttons, and the same way in words."""
    items = []
    for stop in way:
        words = stop.phase if stop.node == stop.phase else f"{stop.phase}, {_name(stop.node)}"
        ops = "; ".join(dict.fromkeys(filter(None, stop.ops)))
        items.append(
            f'<li data-node="{text(stop.node)}" data-words="{text(words)}">{text(words)}'
            f"{f'<br/><small>{text(ops)}</small>' if ops else ''}</li>"
        )
    buttons = (("first", "First"), ("back", "◀ Back"), ("play", "Play"), ("next", "Next ▶"), ("last", "Last"))
    made = "".join(f'<button type="button" id="{name}">{words}</button>' for name, words in buttons)
    controls = (
        f'<div class="controls" id="controls" hidden="hidden">{made}<span id="told" aria-live="polite"></span></div>'
    )
    words = f'<ol id="way">{"".join(items)}</ol><small>Arrow keys step through it; Home and End jump.</small>'
    drawn = f'<div class="card"><div class="wide">{picture(facts, way)}</div>{controls}{words}</div>'
    return section("How the NaN spread", drawn)


def _name(node: str) -> str:
    """`b.blocks.1` → `blocks.1`, `b.loss` → `the loss`."""
    if node in ("batch", "loss", "b.loss"):
        return "the batch" if node == "batch" else "the loss"
    return node[2:] if node[:2] in ("f.", "b.") else f"the {node}"


def _operands(facts: Facts) -> str:
    operands = facts["evidence"].get("operands") or []
    told = "".join(f"<li>{text(line)}</li>" for line in facts["evidence"].get("text", []))
    head = f"The first bad operation: {facts['op']}" if facts["op"] else "What was found"
    if not operands:
        return section(head, f"<ul>{told}</ul>" if told else "")
    lines = []
    for one in operands:
        shape = "×".join(map(str, one.get("shape") or [])) or "one number"
        cells = [one.get("name") or one.get("role"), shape, *(_short(one.get(n)) for n in ("dtype", "low", "high"))]
        bad = [f'<td class="{"bad" if one.get(name) else ""}">{text(one.get(name))}</td>' for name in ("nans", "infs")]
        lines.append(
            "".join([*(f"<td>{text(cell)}</td>" for cell in cells), *bad, f"<td>{text(one.get('zeros'))}</td>"])
        )
    source = f"<p><code>{text(facts['source'])}</code></p>" if facts["source"] else ""
    heads = ("tensor", "shape", "type", "least", "greatest", "NaN", "infinite", "zero")
    return section(head, source + table(heads, lines))


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    return "–" if value is None else str(value)


def _rows(facts: Facts) -> str:
    made = []
    for row in facts["origins"]:
        board = f"<pre>{text(row['board'])}</pre>" if row.get("board") else ""
        words = "".join(f"<li>{text(word)}</li>" for word in row_words(row))
        made.append(f'<div class="card"><h3>{text(row_name(row))}</h3>{board}<ul>{words}</ul></div>')
    more = len(facts["rows"]) - len(made)
    tail = f"<p>{more} more rows are not shown.</p>" if more > 0 else ""
    return section("The rows", f'<div class="rows">{"".join(made)}</div>{tail}' if made else "")


def _curves(facts: Facts, when: str) -> str:
    made = []
    for trend in [*facts["signs"], *facts["numbers"]]:
        span = f"last {trend['last']:.4g}, {trend['least']:.4g} to {trend['greatest']:.4g}"
        warns = f"; warns above {trend['threshold']:g}" if trend["threshold"] is not None else ""
        head = f"{trend['name']}{' — above its threshold' if trend['above'] else ''}"
        made.append(
            f'<div class="card"><h3>{text(head)}</h3>{svg_curve(trend)}<p>{text(trend["words"])}</p>'
            f"<p>{text(span + warns)}</p></div>"
        )
    return section(f"Early signs {when}", f'<div class="curves">{"".join(made)}</div>' if made else "")


def _before(facts: Facts) -> str:
    lines = facts["timeline"]
    names = [name for name in (lines[0] if lines else {}) if any(line[name] is not None for line in lines)]
    if not names:
        return ""
    rows = ("".join(f"<td>{text(_short(line[name]))}</td>" for name in names) for line in lines)
    warnings = _bullets("Warnings before it", (line.get("text") for line in facts["warnings"]))
    return section("The last steps of the log", table(names, rows)) + warnings


def _raw(facts: Facts) -> str:
    content = json.dumps({name: value for name, value in facts.items() if name != "page"}, indent=1)
    return (
        f"<section><h2>Everything</h2><details><summary>As JSON</summary><pre>{text(content)}</pre></details></section>"
    )
