"""The doctor's words for the terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from az.engine.printable import counted
from az.train.doctor.trends import trend_lines

Facts = dict[str, Any]
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal would obey instead of showing it
HIT = {"weights": "the weight", "gradients": "the gradient of", "buffers": "the buffer", "optimizer": "the optimizer's",
       "also": "the extra state's"}  # fmt: skip
PHASES = ("forward", "loss", "backward", "optimizer", "buffers")  # of a step
OUTSIDE = ("storage", "search", "engine", "export")  # stages outside of a step
BOARDS = 3  # that are drawn
INCIDENTS = 40  # that are listed


def text_of(facts: Facts, plain: bool = False) -> str:
    """What `az doctor` prints. plain: the terminal knows no block elements."""
    lines = run_lines(facts, plain) if facts["kind"] == "run" else incident_lines(facts, plain)
    return CONTROL.sub("\ufffd", "\n".join(lines))


# -- an incident -------------------------------------------------------------------------------------------------


def incident_lines(facts: Facts, plain: bool) -> list[str]:
    """An incident for a person: the answer first, then where it shows, then what led there."""
    lines = [sentence(facts), *(f"  {name + ': ' if name else ''}{line}" for name, line in answer(facts)), ""]
    lines += _operation(facts)
    lines += _rows(facts)
    lines += _timeline(facts, plain)
    again = facts["replay_now"]
    lines += ["The step, run again", f"  {again['text']}", ""]
    lines.append(f"The whole story as a page: {facts['page']}" if facts["page"] else "The page could not be written.")
    return lines


def sentence(facts: Facts) -> str:
    """The incident in one sentence."""
    return f"Step {facts['first_bad_step']}: {facts['words']} ({facts['plane']}: {facts['cause']})."


def story(facts: Facts) -> list[str]:
    """Where the first non-finite number was made and the state that the run goes on with, in sentences."""
    made = f"It was found in {facts['phase']}"
    if facts["op"]:
        made = f"The first non-finite value was made in {facts['phase']}, by the operation {facts['op']}"
    made += f", in the module {facts['module'] or 'of the whole model'}" if facts["module"] is not None else ""
    lines = [made + (f", at {facts['source']}." if facts["source"] else ".")]
    kind, _, name = str(facts["evidence"].get("tensor") or "").partition(": ")
    lines += [f"The tensor that was hit is {HIT.get(kind, kind)} {name}."] if name else []
    if facts["phase"] in PHASES and facts["plane"] not in OUTSIDE and facts["cause"] != "not-made-again":
        bad = "rewind" in facts["evidence"]
        lines.append(f"The state is that of before the step{', which was bad already' if bad else ''}.")
    return lines


def place(facts: Facts) -> str:
    """Where it lies, as far as it lies in one place."""
    parts = [f"in {facts['phase']}"]
    parts += [f"operation {facts['op']}"] if facts["op"] else []
    parts += [f"module {facts['module']}"] if facts["module"] else []
    return ", ".join([*parts, *([facts["source"]] if facts["source"] else [])])


def answer(facts: Facts) -> list[tuple[str, str]]:
    """Place, rows, repair, and what trying it gave."""
    lines = [("place", place(facts))]
    if facts["causal_step"] != facts["first_bad_step"]:
        lines.append(("", f"caused at step {facts['causal_step']}, showed at step {facts['first_bad_step']}"))
    if facts["rows"]:
        lines.append((f"rows of the {'file' if 'file' in facts['evidence'] else 'batch'}", _some(facts["rows"])))
    lines += [("repair", facts["fix"]), ("tried", counterfactual(facts))]
    return [*lines, *(("", str(note)) for note in facts["notes"])]


def counterfactual(facts: Facts) -> str:
    """What the recorder found when it tried a repair."""
    tried = facts["counterfactual"]
    if tried is None:
        return "nothing, on this step"
    went = "stayed finite" if tried.get("finite") else "did not stay finite"
    return f"{tried.get('repair')}: the step {went}"


def _some(rows: Sequence[int]) -> str:
    more = f" and {len(rows) - 12} more" if len(rows) > 12 else ""
    return ", ".join(map(str, rows[:12])) + more


def _operation(facts: Facts) -> list[str]:
    told = facts["evidence"].get("text", [])
    if not told:
        return []
    head = f"The first bad operation: {facts['op']}" if facts["op"] else "What was found"
    return [head, *(f"  {line}" for line in told), ""]


def _rows(facts: Facts) -> list[str]:
    lines = []
    for row in facts["origins"][:BOARDS]:
        lines += row_lines(row)
    if len(facts["origins"]) > BOARDS:
        lines.append(f"  ({len(facts['origins']) - BOARDS} more rows: see the page, or --json)")
    return ["The rows", *lines, ""] if lines else []


def row_name(row: Facts) -> str:
    """`row 5 of the batch: game 214, ply 5, seed 0, model 7879…`"""
    head = f"row {row['batch_row']} of the batch: " if "batch_row" in row else ""
    return head + ", ".join(f"{name} {row[name]}" for name in ("game", "ply", "seed", "model") if name in row)


def row_words(row: Facts) -> list[str]:
    """What is known of a row, a line each."""
    words = list(row.get("differs") or [])
    if row.get("differs") == []:
        words.append("the batch holds exactly what this row should be")
    words.append(str(row.get("file_says")))
    if "game_again" in row:
        words.append(row["game_again"]["text"])
    should = row.get("should")
    if should:
        moves = ", ".join(f"{move} {share:.3g}" for move, share in should["policy"].items())
        more = (
            f", and {should['moves'] - len(should['policy'])} more" if should["moves"] > len(should["policy"]) else ""
        )
        words.append(
            f"the row should be: player {should['player'] + 1} to move, who ends with {should['outcome']:+g},"
            f" the search's value {should['root_value']:+.4g}; policy {moves}{more}"
        )
    return words


def row_lines(row: Facts) -> list[str]:
    """One row with its board."""
    lines = [f"  {row_name(row)}"]
    lines += [f"      {line}".rstrip() for line in (row.get("board") or "").splitlines()]
    return [*lines, *(f"    {word}" for word in row_words(row))]


def _timeline(facts: Facts, plain: bool) -> list[str]:
    lines = []
    if facts["timeline"]:
        names = [name for name in facts["timeline"][0] if any(line[name] is not None for line in facts["timeline"])]
        lines += ["Before it", "  " + "".join(f"{name:>13}" for name in names)]
        lines += ["  " + "".join(f"{_cell(line[name]):>13}" for name in names) for line in facts["timeline"]]
    lines += trend_lines(facts["signs"], plain)
    lines += [f"  {line.get('text')}" for line in facts["warnings"][-5:]]
    return [*lines, ""] if lines else []


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)


# -- a run -------------------------------------------------------------------------------------------------------


def run_lines(facts: Facts, plain: bool) -> list[str]:
    """A run for a person."""
    count = len(facts["incidents"])
    health = counted(count, "incident") if count else "no incident"
    steps, warnings = counted(facts["steps"], "step"), counted(len(facts["warnings"]), "warning")
    aside = counted(len(facts["quarantined"]), "record file")
    lines = [f"{facts['run']}: {steps}, {health}, {warnings}, {aside} put aside.", ""]
    if count > INCIDENTS:
        lines.append(f"The last {INCIDENTS} of {count} incidents:")
    lines += [f"  {incident_line(one)}" for one in facts["incidents"][-INCIDENTS:]]
    if count:
        lines += [f"Look at one: az doctor {facts['incidents'][-1]['folder']}", ""]
    if facts["signs"]:
        lines.append(f"  {'health metric':<17}{'last':>10}  least to greatest")
        lines += trend_lines(facts["signs"], plain)
    else:
        lines.append("The log has no health metrics yet: they are written every 20 steps.")
    lines += ["", *(f"{line.get('text')}" for line in facts["warnings"])] if facts["warnings"] else []
    lines += ["", *(f"put aside: {file_line(file)}" for file in facts["quarantined"])] if facts["quarantined"] else []
    if facts["unreadable_lines"]:
        lines.append(f"{facts['unreadable_lines']} lines of the log could not be read.")
    return [*lines, *(["", f"As a page: {facts['page']}"] if facts["page"] else [])]


def incident_line(one: Facts) -> str:
    """One incident in a line."""
    name = one["folder"].replace("\\", "/").rpartition("/")[2]
    if "damaged" in one:
        return f"{name}  {one['damaged']}"
    rows = f", {one['rows']} rows" if one["rows"] > 1 else ""
    return f"{name}  step {one['step']}: {one['words']} ({one['cause']}; {one['where']}{rows})"


def file_line(file: Facts) -> str:
    """A quarantined file in a line."""
    return f"{file['file']}: {file['reason'] or 'no reason was recorded'}"
