"""A short deterministic run, killed or refused at each of its I/O events, resumed, compared with one left alone.

A process of its own: `python tests/io_fault_runs.py FOLDER KIND SECONDS` prints one JSON object. Cases are forked from
a parent that has everything imported, so that each begins at once. KIND: `kills`, `resumes` (a second kill while it is
resumed), `failures`. Cases are spread evenly over the events; SECONDS bounds them all together, but for the first few.
AZ_IO_CASES=FIRST:STEP takes of the spread cases number FIRST and every STEP-th after it, to do all of them in parts.
"""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import shutil
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from io_events import Event, Plan, Recorder, rebuilt
from run_tools import digests, settings

MORE = {"workers": 1, "games_per_turn": 12, "keep_checkpoints": 2, "replay__window": 128, "replay__window_start": 64,
        "replay__min_rows": 32, "replay__publish_every_steps": 6}  # fmt: skip
TRAIN = ["train", "tictactoe", "--run", "r", "--deterministic", "--steps", "21", "--seed", "5", *settings(**MORE)]
RESUME = ["resume", "r"]
FAILURES = (errno.EIO, errno.ENOSPC, errno.EMFILE)
MOST_SECONDS = 300  # of one process, on a machine that has much else to do
LEAST = 3  # cases that are tried however long they take


def warm() -> None:
    """Import and compile what a run needs; torch and onnxruntime start no pool of threads, or a fork could not live."""
    import torch
    import torch._inductor

    torch.set_num_threads(1)
    import az.commands.train
    import az.export.run_services
    import az.train.run.loop
    import az.train.run.tensorboard  # noqa: F401
    from az.engine.game import load_game
    from az.engine.selfplay.warmup import warm_up

    warm_up(load_game("tictactoe"), lambda _: None)


def forked(arguments: list[str], folder: Path, plan: Plan | None = None, reads: bool = False) -> tuple[int, str]:
    """`az ARGUMENTS` in a child: (exit code, negative for a signal; what it wrote to stderr)."""
    said = folder.with_name(f"{folder.name}.said")
    child = os.fork()
    if child == 0:
        _child(arguments, folder, plan, reads, said)
    deadline = time.monotonic() + MOST_SECONDS
    while not (done := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return 124, "it did not end"
        time.sleep(0.005)
    return os.waitstatus_to_exitcode(done[1]), said.read_text(errors="replace")


def _child(arguments: list[str], folder: Path, plan: Plan | None, reads: bool, said: Path) -> None:
    code = 70
    try:
        os.chdir(folder)
        out = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(out, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        os.environ |= {"NO_COLOR": "1", "TERM": "dumb"}
        recorder = None if plan is None else Recorder(folder / "runs", plan, reads)
        if recorder is not None:
            recorder.install()
        from az.cli import main

        sys.argv = ["az", *arguments]
        try:
            main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else 1
        sys.stderr.flush()
        if recorder is not None and plan is not None and plan.act is None:
            lines = [json.dumps({**asdict(e), "data": e.data.hex()}) for e in recorder.events]
            folder.with_name(f"{folder.name}.events").write_text("\n".join(lines))
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code)


class Cases:
    """The control, and every case against it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.wrong, self.count = folder, [], 0
        self.control = self._new("control")
        code, said = forked(TRAIN, self.control, Plan())
        assert code == 0, said
        self.events = self._read(self.control)
        self.all_events: list[Event] = []  # those that read too, for `fail`
        self.expected = digests(self.control)
        files = {
            str(p.relative_to(self.control / "runs")): p.read_bytes() for p in self.control.rglob("*") if p.is_file()
        }
        assert rebuilt(self.events) == files, "the recorder does not see every event"

    def _new(self, name: str) -> Path:
        place = self.folder / name
        shutil.rmtree(place, ignore_errors=True)
        (place / "runs").mkdir(parents=True)
        return place

    def _read(self, place: Path) -> list[Event]:
        lines = place.with_name(f"{place.name}.events").read_text().splitlines()
        return [Event(**{**value, "data": bytes.fromhex(value["data"])}) for value in map(json.loads, lines)]

    def kill(self, at: int, act: str) -> None:
        place = self._new("case")
        code, said = forked(TRAIN, place, Plan(at, act))
        self._check(f"{act} {self._name(at)}", place, [] if code == -signal.SIGKILL else [f"exit {code}: {said}"])

    def kill_twice(self, at: int, again: int) -> None:
        place = self._new("case")
        forked(TRAIN, place, Plan(at, "after"))
        arguments = RESUME if (place / "runs/r/config.toml").exists() else TRAIN
        forked(arguments, place, Plan(again, "after"))  # where it has fewer events, it ends
        self._check(f"after {self._name(at)}, then after event {again} of the resumed run", place, [])

    def fail(self, at: int, number: int) -> None:
        place = self._new("case")
        code, said = forked(TRAIN, place, Plan(at, number), reads=True)
        lines, faults = said.strip().splitlines(), []
        last = lines[-1] if lines else ""
        if code not in (0, 1, 2) or "Traceback" in said or (code and not last.startswith("az: ")):
            faults.append(f"exit {code}: {said}")
        if code and os.strerror(number) not in last:
            faults.append(f"does not say what happened: {last}")
        half = [str(p) for p in place.rglob("*") if ".tmp-" in p.name]
        if code and half:
            faults.append(f"left half-written: {half}")
        self._check(f"{errno.errorcode[number]} at {self._name(at, reads=True)}", place, faults)

    def _name(self, at: int, reads: bool = False) -> str:
        event = (self.all_events if reads else self.events)[at]
        return f"event {at} ({event.kind} {event.path}{' to ' + event.to if event.to else ''})"

    def _check(self, name: str, place: Path, faults: list[str]) -> None:
        """Resume to the end, and compare."""
        self.count += 1
        if not (place / "runs/r/config.toml").exists():
            code, said = forked(RESUME, place)
            if code != 2 or "there is no run 'r'" not in said:
                faults.append(f"resume of no run: exit {code}: {said}")
            code, said = forked(TRAIN, place)
        else:
            code, said = forked(RESUME, place)
        if not (code == 0 or (code == 2 and "is finished" in said)):
            faults.append(f"resumed: exit {code}: {said}")
        found = digests(place)
        for file in sorted(found.keys() | self.expected.keys()):
            if found.get(file) != self.expected.get(file):
                state = (
                    "differs" if file in found and file in self.expected else "is there" if file in found else "lacks"
                )
                faults.append(f"{file} {state}")
        if faults:
            self.wrong.append({"case": name, "faults": [fault[-600:] for fault in faults[:6]]})
            print(f"case {self.count}: {self.wrong[-1]}", file=sys.stderr, flush=True)


def all_cases(cases: Cases, kind: str) -> list[tuple[Any, ...]]:
    if kind == "kills":
        return [
            (cases.kill, at, act)
            for at, event in enumerate(cases.events)
            for act in ("before", "after", "torn")
            if (act != "torn" or len(event.data) > 1) and (act == "before" or event.kind != "failed")
        ]
    if kind == "resumes":
        dice = random.Random(1)
        return [(cases.kill_twice, dice.randrange(len(cases.events)), dice.randrange(60)) for _ in range(2000)]
    place = cases._new("reads")
    code, said = forked(TRAIN, place, Plan(), reads=True)
    assert code == 0, said
    cases.all_events = cases._read(place)
    return [(cases.fail, at, number) for at in range(len(cases.all_events)) for number in FAILURES]


def spread(count: int) -> list[int]:
    """0 … count - 1, so that any beginning of it is spread evenly."""
    step = next(k for k in itertools.count(int(count * 0.618) | 1) if _coprime(k, count)) if count > 1 else 1
    return [i * step % count for i in range(count)]


def _coprime(a: int, b: int) -> bool:
    while b:
        a, b = b, a % b
    return a == 1


def main() -> None:
    folder, kind, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    warm()
    cases = Cases(folder)
    found = all_cases(cases, kind)
    begun = time.monotonic()
    first, step = (int(part) for part in os.environ.get("AZ_IO_CASES", "0:1").split(":"))
    for number in spread(len(found))[first::step]:
        if time.monotonic() - begun > seconds and cases.count >= LEAST:
            break
        case, *arguments = found[number]
        case(*arguments)
    print(json.dumps({
        "kind": kind, "events": len(cases.events), "cases": len(found), "tried": cases.count,
        "wrong": cases.wrong, "seconds": time.monotonic() - begun,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
