"""`az doctor`: an incident explained, run again and drawn; or the health of a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from az.engine.errors import AzError, Refused, WrongRequest
from az.engine.game import load_game
from az.engine.printable import one_line, printable
from az.engine.system.files import write_atomic
from az.engine.system.safe_read import MB, read_json
from az.train.architecture import drawing
from az.train.doctor.html import incident_page, run_page
from az.train.doctor.replay import replay_step
from az.train.doctor.rows import RowReader
from az.train.doctor.trends import number, plain_trends, read_log, steps, trends, warnings
from az.train.run import bundle
from az.train.run import names as run_names
from az.train.run.bundle import Bundle
from az.train.run.folder import RUNS

MOST_TEXT = 2000  # characters of a text from a file
LAST_STEPS = 8  # of the log that are shown before an incident
TOLD = ("step", "total", "policy_loss", "value_loss", "grad_norm", "max_logit", "max_pre_tanh", "lr")
Facts = dict[str, Any]


def doctor(target: str, replay: bool, html: Path | None, say: Callable[[str], None]) -> Facts:
    """Look at a run or an incident; returns what was found and writes the page. Raises WrongRequest or Refused."""
    place, is_run = find(target)
    facts = run_facts(place) if is_run else incident_facts(place, replay, say)
    facts = clean(facts)
    page = html if html is not None or is_run else Path(facts["folder"]) / "page.html"
    facts["page"] = None if page is None else str(page)
    if page is not None:
        content = (run_page(facts) if is_run else incident_page(facts)).encode()
        try:
            write_atomic(page, content)
        except OSError:
            if html is not None:
                raise
            facts["page"] = None  # a folder that is only to be read: the words are there all the same
    return facts


def find(target: str) -> tuple[Path, bool]:
    """(folder, whether it is a run). TARGET is an incident's folder, a run's folder, or a name under runs/."""
    given = Path(target).expanduser()
    if given.name == "incident.json":
        return given, False
    for place in (given, RUNS / target):
        if target.strip() and (place / "incident.json").is_file():
            return place, False
        if target.strip() and (place / "config.toml").is_file():
            return place, True
    if given.exists():
        raise WrongRequest(f"'{target}' is neither a run nor an incident: give RUN, or RUN/health/incident-NNNN.")
    names = sorted(p.parent.name for p in RUNS.glob("*/config.toml"))
    near = get_close_matches(target, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"the runs are {', '.join(names)}." if names else "no runs here."
    raise WrongRequest(f"there is no run or incident '{target}': {hint}")


def clean(value: Any, name: str = "") -> Any:
    """The same as JSON knows it and as a terminal may show it: non-finite numbers become words, texts one line."""
    if isinstance(value, dict):
        items = cast("dict[object, Any]", value)
        return {one_line(str(key), 200): clean(item, str(key)) for key, item in items.items()}
    if isinstance(value, str):
        if name in ("folder", "run", "page"):  # paths, which are followed
            return value
        lines = value.splitlines()[:100] if name == "board" else [value]
        return "\n".join(printable(line) if name == "board" else one_line(line, MOST_TEXT) for line in lines)
    if isinstance(value, list | tuple):
        return [clean(item) for item in cast("Sequence[Any]", value)]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


# -- an incident -------------------------------------------------------------------------------------------------


def incident_facts(path: Path, replay: bool, say: Callable[[str], None]) -> Facts:
    """All that is known of an incident: its own words, the rows, the way there, and what happens when it runs again."""
    found = bundle.read(path)
    incident, folder = found.incident, found.path
    run = folder.parent.parent if folder.resolve().parent.name == "health" else None
    facts = {"kind": "incident", "folder": str(folder), **incident.to_json(), "words": incident.words()}
    facts |= {"about": found.about, "network": _network(found)}
    facts["timeline"] = [{name: number(line.get(name)) for name in TOLD} for line in steps(found.timeline)][
        -LAST_STEPS:
    ]
    facts["signs"], facts["numbers"] = trends(found.timeline), plain_trends(found.timeline)
    facts["warnings"] = warnings(found.timeline)
    facts["origins"] = _rows(found, run, replay, say)
    if replay:
        say("running the failing step again")
        facts["replay_now"] = replay_step(found, run)
    else:
        facts["replay_now"] = {"verdict": "not replayed", "text": "not run again: --no-replay"}
    return facts


def _network(found: Bundle) -> Facts:
    """What the picture draws: az's own network by its parts, or whatever modules the fault went through."""
    if found.state is not None and "stem.conv.weight" in found.state.weights:
        net = found.state.config.net
        return {"kind": "az", "blocks": net.blocks, "columns": drawing(net)}
    return {"kind": "other", "blocks": 0, "columns": []}


def _rows(found: Bundle, run: Path | None, replay: bool, say: Callable[[str], None]) -> list[Facts]:
    origins = [origin for origin in found.origins if origin]
    if not origins:
        return []
    try:
        game = load_game(str(found.about.get("game")))
    except AzError as error:
        return [{**origin, "file_says": f"cannot be looked at: {error}"} for origin in origins]
    if replay:
        say("playing the games of the guilty rows again")
    reader = RowReader(found, game, run, replay, say)
    return [reader.facts(origin) for origin in origins]


# -- a run -------------------------------------------------------------------------------------------------------


def run_facts(path: Path) -> Facts:
    """A run's health metrics, warnings, incidents and refused files. Reads only: the run may be going on."""
    lines, unreadable = read_log(path / "log.jsonl")
    told = steps(lines)
    facts: Facts = {"kind": "run", "run": str(path), "steps": max([told[-1]["step"] if told else 0, *_saved(path)])}
    facts["last"] = {name: number(told[-1].get(name)) for name in TOLD} if told else None
    facts |= {"signs": trends(lines), "numbers": plain_trends(lines), "unreadable_lines": unreadable}
    facts["warnings"] = warnings(lines)
    facts["incidents"] = [_brief(folder) for folder in incident_folders(path)]
    facts["quarantined"] = [_note(file) for file in sorted((path / "quarantine").glob("*.npz"))]
    return facts


def _saved(run: Path) -> list[int]:
    """The steps of the run's checkpoints: the log has every twentieth step alone."""
    names = [path.name.removeprefix("step-") for path in (run / "checkpoints").glob("step-*")]
    return [int(name) for name in names if name.isdecimal() and name.isascii() and len(name) < 16]


def incident_folders(run: Path) -> list[Path]:
    """The run's incidents, oldest first."""
    return [folder for _, folder in run_names.incident_folders(run / "health")]


def _brief(folder: Path) -> Facts:
    """One incident in a line, from incident.json alone: nothing is verified."""
    made: Facts = {"folder": str(folder)}
    try:
        incident = bundle.incident_in(folder)
        place = ", ".join(str(part) for part in (incident.phase, incident.op, incident.module) if part)
        made |= {"step": incident.first_bad_step, "cause": incident.cause, "plane": incident.stage}
        return made | {"words": incident.words(), "where": place, "rows": len(incident.rows)}
    except FileNotFoundError:
        return made | {"damaged": "it has no incident.json: it was not written to its end"}
    except Refused as error:
        return made | {"damaged": f"it cannot be read: {error}"}


def _note(file: Path) -> Facts:
    """A quarantined file and the reason beside it."""
    made: Facts = {"file": file.name, "reason": None, "time": None}
    with suppress(OSError, ValueError):
        note = read_json(file.with_name(f"{file.name}.json"), MB)
        if isinstance(note, dict):
            told = cast("dict[str, Any]", note)
            made |= {name: told[name] for name in ("reason", "time") if isinstance(told.get(name), str)}
    return made
