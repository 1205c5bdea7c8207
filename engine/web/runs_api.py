"""The questions of the pages about runs. They read: a run that goes on is never waited for, and only the
doctor's page of an incident is written into it.

A page names a run under runs/ by its name; files in it by the names that az gives them. So no page opens another file.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from az.engine.errors import Refused, WrongRequest
from az.engine.printable import one_line, quoted
from az.engine.runs.folders import INCIDENT, RUNS, config_of, incidents, named_run, run_names
from az.engine.runs.log import read_on
from az.engine.runs.state import is_running
from az.engine.runs.summary import LogEnds, summarize
from az.engine.system.safe_read import MB, read_json, read_regular
from az.engine.web.asked import text, whole
from az.engine.web.engines import Engines
from az.engine.web.run_games import RunGames
from az.engine.web.server import ending, page, question

Json = dict[str, Any]
MOST_RUNS = 200  # in the list
MOST_INCIDENTS = 200
DOCTOR_TIME = 300  # seconds
MOST_POSITION = 2**53  # bytes; JavaScript counts no further
STYLE = re.compile(rb"<style[^>]*>(.*?)</style>", re.DOTALL)
TOLD = ("first_bad_step", "causal_step", "cause", "plane", "phase", "op", "module", "source", "fix", "replay")


class RunsApi:
    """The routes. metrics: name, warn, limit, words of the health metrics. causes: of incidents, with their words."""

    def __init__(self, engines: Engines, metrics: Sequence[Json], causes: Mapping[str, str], runs: Path = RUNS) -> None:
        self.runs, self.metrics, self.causes = runs, list(metrics), causes
        self.games = RunGames(engines)
        self._ends = LogEnds()
        self._writing = threading.Lock()
        self._doctor: subprocess.Popen[str] | None = None

    def routes(self) -> list[BaseRoute]:
        """The pages and their questions."""
        return [
            page("/runs", "runs.html"),
            page("/run", "run.html"),
            question("/api/runs", self.list),
            question("/api/run", self.about),
            question("/api/run/log", self.log),
            question("/api/run/files", lambda body: self.games.files(self._run(body))),
            question("/api/run/file", lambda body: self.games.games(self._run(body), _file(body))),
            question(
                "/api/run/game",
                lambda body: self.games.game(self._run(body), _file(body), whole(body, "k", 0, MOST_POSITION)),
            ),
            question("/api/run/doctor", self.doctor),
            Route("/doctor", self.doctors_page),
        ]

    def list(self, _: Json) -> Json:
        """The figures of every run."""
        names = run_names(self.runs)
        found = [summarize(self.runs / name, self._ends).to_json() for name in names[:MOST_RUNS]]
        return {"runs": found, "more": max(0, len(names) - MOST_RUNS)}

    def about(self, body: Json) -> Json:
        """What a page of a run shows beside its curves."""
        run = self._run(body)
        told: Json = {**summarize(run, self._ends).to_json(), "metrics": self.metrics}
        try:
            told["config"] = [[key, _shown(value)] for key, value in config_of(run).items()]
        except Refused:
            told["config"] = []
        told["incidents"] = [self._incident(folder) for folder in incidents(run)[-MOST_INCIDENTS:]]
        return told

    def log(self, body: Json) -> Json:
        """The lines of the log after byte "from" of the file "id", whether the run goes on, and its incidents."""
        run = self._run(body)
        piece = read_on(run / "log.jsonl", whole(body, "from", 0, MOST_POSITION), text(body, "id"))
        return {**asdict(piece), "running": is_running(run), "incidents": len(incidents(run))}

    def doctor(self, body: Json) -> Json:
        """Have `az doctor` write the page of an incident, in a process of its own: it needs torch."""
        folder = self._incident_folder(self._run(body), text(body, "incident"))
        if not (folder / "page.html").is_file():
            if not self._writing.acquire(blocking=False):  # one at a time, and none keeps a thread waiting
                raise WrongRequest("the doctor is writing another page: ask again when it is done.")
            try:
                said = self._written(folder)
            finally:
                self._writing.release()
            if not (folder / "page.html").is_file():
                raise Refused(f"the doctor wrote no page: {one_line(said, 300)}")
        return self._incident(folder)

    def close(self) -> None:
        """End the doctor, where it is at work."""
        doctor = self._doctor
        if doctor is not None:
            doctor.kill()

    def _written(self, folder: Path) -> str:
        """The last line that the doctor said. Raises Refused where it takes too long."""
        command = [sys.executable, "-m", "az.cli", "doctor", str(folder), "--no-replay"]
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as doctor:
            self._doctor = doctor
            if ending.is_set():
                doctor.kill()
            try:
                _, said = doctor.communicate(timeout=DOCTOR_TIME)
            except subprocess.TimeoutExpired:
                doctor.kill()
                raise Refused(f"the doctor took more than {DOCTOR_TIME // 60} minutes, so it was stopped.") from None
            finally:
                self._doctor = None
        return (said.strip().splitlines() or ["it said nothing."])[-1].removeprefix("az: ")

    async def doctors_page(self, request: Request) -> Response:
        """The page that `az doctor` has written of an incident. Its styles may apply, nothing in it may run."""
        asked = dict(request.query_params)

        def read() -> bytes:
            return read_regular(self._incident_folder(self._run(asked), text(asked, "incident")) / "page.html", 64 * MB)

        try:
            data = await run_in_threadpool(read)
        except OSError:
            raise WrongRequest("the doctor has written no page of this incident yet.") from None
        styles = [base64.b64encode(hashlib.sha256(found).digest()).decode() for found in STYLE.findall(data)[:10]]
        sources = " ".join(f"'sha256-{style}'" for style in styles) or "'none'"
        policy = f"default-src 'none'; style-src {sources}; base-uri 'none'; form-action 'none'; sandbox"
        headers = {"Content-Security-Policy": f"{policy}; frame-ancestors 'none'"}
        return Response(data, media_type="text/html", headers=headers)

    def _run(self, body: Json) -> Path:
        return named_run(text(body, "run"), self.runs)

    def _incident_folder(self, run: Path, name: str) -> Path:
        if not INCIDENT.fullmatch(name) or not (run / "health" / name).is_dir():
            raise WrongRequest(f"the run has no incident '{quoted(name)}'.")
        return run / "health" / name

    def _incident(self, folder: Path) -> Json:
        """One incident in words, from its incident.json alone."""
        told: Json = {"name": folder.name, "page": (folder / "page.html").is_file()}
        try:
            whole_file = read_json(folder / "incident.json", 16 * MB)
            found = cast("Json", whole_file).get("incident", whole_file) if isinstance(whole_file, dict) else None
        except (OSError, ValueError):
            found = None
        if not isinstance(found, dict):
            return {**told, "damaged": True}
        facts = cast("Json", found)
        told |= {name: _shown(facts[name]) for name in TOLD if facts.get(name) is not None}
        return {**told, "words": self.causes.get(str(facts.get("cause")), _shown(facts.get("cause")))}


def _shown(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else one_line(str(value), 500)


def _file(body: Json) -> str:
    return text(body, "file")
