"""The hostile corpus: cases drawn by hypothesis, made into files, run and judged; the same slice is always the same."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import hostile_files as files
from hostile_values import PATHS, bytes_changes, changes, kinds, mangled, mutated, values
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

MOST_CPU, MOST_GROWN = 10.0, 1 << 30  # seconds, bytes
RECORDS_A_RUN, LINES_A_PROCESS = 16, 60
RECORD = "0001-{:06d}-000.npz"
TOLD = ("running the failing step", "playing the games", "compiling", "network on", "loading")  # progress, on stderr
GAMES = {
    "tictactoe": ["", "1", "14253", "159"], "connect4": ["", "4", "4453", "1122334455"],
    "checkers": ["B:W21,22,23,24:B1,2,3,4", "W:W31,K14:B9,10,17,18,26,25"],
}  # fmt: skip
CHECKPOINT_FILES = ["state.json"] * 4 + [
    "manifest.json", "weights.safetensors", "optimizer.safetensors", "random.safetensors",
]  # fmt: skip

some_changes = st.lists(changes, min_size=1, max_size=2)
arrays = st.fixed_dictionaries({
    "which": st.integers(0, 10), "number": st.integers(-(2**63), 2**63 - 1),
    "how": st.sampled_from(["dtype", "cut", "longer", "shape", "scalar", "bytes", "values", "values", "values"]),
    "dtype": st.sampled_from(["<f4", "<f8", "<i4", "<i8", "|u1", ">i8", "U3", "<c8", "|b1", "<f2"]),
})  # fmt: skip
onnx_steps = st.fixed_dictionaries({
    "how": st.sampled_from([
        "op", "domain", "attribute", "attribute", "input", "output", "dims", "type", "raw", "nan", "field", "external",
        "metadata", "metadata", "drop", "copy", "opset", "ir", "port", "port_type",
    ]),
    "number": st.integers(0, 2**63 - 1), "other": st.integers(0, 2**31),
    "text": st.sampled_from(PATHS) | st.text(max_size=20) | st.just("x" * 10**5) | st.just("\x1b]0;owned\x07\n"),
    "noise": st.binary(min_size=1, max_size=8),
})  # fmt: skip
file_change = st.fixed_dictionaries({
    "how": st.sampled_from(["json", "json", "json", "bytes", "kind"]), "changes": some_changes, "bytes": bytes_changes,
    "kind": kinds, "noise": st.sampled_from([b"", b"", b"\xff", b"\0", b"\0\0\xc0\x7f"]), "seal": st.integers(0, 5),
    "file": st.integers(0, 10**6), "command": st.integers(0, 10**6),
    "name": st.sampled_from(PATHS) | st.text(max_size=12),
})  # fmt: skip
record_change = st.fixed_dictionaries({
    "how": st.sampled_from(["inside"] * 4 + ["bytes", "kind"]), "changes": st.lists(changes, max_size=2),
    "arrays": st.lists(arrays, max_size=2), "bytes": bytes_changes, "kind": kinds,
})  # fmt: skip
model_change = st.fixed_dictionaries({
    "how": st.sampled_from(["proto"] * 5 + ["sealed", "sealed", "bytes", "kind"]),
    "steps": st.lists(onnx_steps, min_size=1, max_size=3), "bytes": bytes_changes, "kind": kinds,
    "command": st.integers(0, 10**6),
})  # fmt: skip
line = st.fixed_dictionaries({
    "how": st.sampled_from(["fields", "json", "position", "position", "text"]), "change": changes,
    "bytes": bytes_changes,
    "position": st.integers(0, 100), "sims": st.sampled_from([0, 0, 1, 8, -1, 2**64, 0.5, "8", None]), "value": values,
    "text": st.text(max_size=60),
    "moves": st.lists(st.text(max_size=5) | st.sampled_from(["1", "11-15", "4"]), max_size=4),
})  # fmt: skip
KINDS = {  # strategy, how many a slice
    "checkpoint": (file_change, 24), "incident": (file_change, 60), "names": (file_change, 24),
    "log": (file_change, 20), "config": (file_change, 16), "model": (model_change, 120),
    "records": (st.lists(record_change, min_size=RECORDS_A_RUN, max_size=RECORDS_A_RUN), 12),
    "lines": (st.lists(line, min_size=LINES_A_PROCESS, max_size=LINES_A_PROCESS), 10),
}  # fmt: skip


def cases(number: int, share: float = 1.0) -> Iterator[tuple[str, Any]]:
    """(kind, case) of one slice."""
    for kind, (strategy, count) in KINDS.items():
        for case in drawn(strategy, 1_000_003 * number + sum(kind.encode()), max(1, round(count * share))):
            yield kind, case


def drawn(strategy: Any, start: int, count: int) -> list[Any]:
    """The same cases for the same start."""
    found: list[Any] = []

    @seed(start)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    @given(strategy)
    def draw(case: Any) -> None:
        found.append(case)

    draw()
    return found


def weight(kind: str) -> int:
    """How many hostile files or lines one case is."""
    return {"records": RECORDS_A_RUN, "lines": LINES_A_PROCESS}.get(kind, 1)


class Zygote:
    """The process that the children are forked from."""

    def __init__(self, stock: Path, work: Path) -> None:
        shutil.copytree(stock, work / "warm", symlinks=True)
        command = [sys.executable, str(Path(__file__).parent / "hostile_zygote.py"), str(work / "warm" / "place")]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "NO_COLOR": "1", "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"},
        )  # fmt: skip
        self.ready = json.loads(self._answer())

    def _answer(self) -> str:
        assert self.process.stdout is not None
        while not (text := self.process.stdout.readline()).startswith('{"'):
            assert text, "the warmed process has gone"
        return text

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self._answer())

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def snapshot(root: Path, without: Path) -> dict[str, str]:
    """Everything below `root` but for the run: kind, and contents or target."""
    found = {}
    for folder, names, members in os.walk(root):
        here = Path(folder)
        names[:] = [name for name in names if here / name != without]
        for name in [*names, *members]:
            path = here / name
            if path == without or "streams" in path.parts:
                continue
            mode = path.lstat().st_mode
            content = ""
            if stat.S_ISREG(mode):
                size = path.stat().st_size
                content = hashlib.sha256(path.read_bytes()).hexdigest() if size < 1 << 28 else str(size)
            elif stat.S_ISLNK(mode):
                content = os.readlink(path)
            found[str(path.relative_to(root))] = f"{stat.S_IFMT(mode)} {content}"
    return found


class Bench:
    """Makes a case's files in a folder of its own, has it run and judges what happened."""

    def __init__(self, stock: Path, work: Path) -> None:
        self.stock, self.work = stock, work
        self.real_share = 0.1
        self.zygote = Zygote(stock, work)
        self.count: Counter[str] = Counter()
        self.codes: Counter[str] = Counter()  # exit codes by kind
        self.walls: Counter[str] = Counter()  # seconds by kind
        self.failures: list[str] = []
        self.worst = {"cpu": 0.0, "grown": 0}
        self.real = random.Random(7)

    def run(self, kind: str, case: Any, name: str) -> None:
        root = self.work / "case"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self.stock, root, symlinks=True)
        (root / "streams").mkdir()
        place, run = root / "place", root / "place" / "runs" / "run"
        argv, stdin, allowed = getattr(self, kind)(case, place, run, root / "victim.txt")
        without = place / allowed if allowed else place / "nothing"
        before, real = snapshot(root, without), self.real.random() < self.real_share
        request = {"argv": argv, "cwd": str(place), "stdin": stdin, "streams": str(root / "streams"), "real": real}
        answer = self.zygote.ask(request)
        after = snapshot(root, without)
        faults = list(self.judged(kind, answer, stdin, real))
        out = {"exported.onnx", "exported.json"} if argv[0] == "export" else set()
        changed = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
        changed -= {f"place/{one}" for one in out}
        if changed:
            faults.append(f"changed outside: {sorted(changed)[:5]}")
        self.count[kind] += weight(kind)
        self.count["real"] += real
        self.count["processes"] += 1
        self.codes[f"{kind} {'real ' * real}{answer['code']}"] += 1
        self.walls[f"{kind}{' real' * real}"] += answer["wall"]
        self.worst["cpu"] = max(self.worst["cpu"], 0 if real else answer["cpu"])
        self.worst["grown"] = max(self.worst["grown"], 0 if real else answer["grown"])
        if faults:
            told = f"{name} {' '.join(argv)}: {'; '.join(faults)}\n  code {answer['code']}, {answer['err'][-1500:]}"
            self.failures.append(told)
            print(f"FAILED {told}", flush=True)
            kept = self.work / "failures" / name
            shutil.rmtree(kept, ignore_errors=True)
            shutil.copytree(
                root,
                kept,
                symlinks=True,
                ignore=lambda folder, names: [n for n in names if not _plain(Path(folder) / n)],
            )

    def judged(self, kind: str, answer: dict[str, Any], stdin: str, real: bool) -> Iterator[str]:
        err, out = answer["err"], answer["out"]
        if answer["code"] not in (0, 1, 2):
            yield f"exit {answer['code']} ({'hung' if answer['code'] is None else 'not 0, 1 or 2'})"
        if "Traceback" in err or "Traceback" in out:
            yield "a traceback"
        lines = [one for one in err.splitlines() if not one.startswith(TOLD)]
        if len(lines) > 1 or (answer["code"] in (1, 2) and len(lines) != 1) or any(len(one) > 1500 for one in lines):
            yield f"{len(lines)} lines on stderr"
        for text in (err, out):
            strange = next((c for c in text if not c.isprintable() and c != "\n"), None)
            if strange is not None:
                yield f"printed {strange!r}"
        if answer["cpu"] > MOST_CPU + (20 if real else 0):
            yield f"{answer['cpu']:.1f} s"
        if answer["grown"] > MOST_GROWN + ((600 << 20) if real else 0):
            yield f"{answer['grown'] >> 20} MB"
        if kind == "lines" and answer["code"] == 0:
            asked = sum(bool(one.strip()) for one in stdin.encode("utf-8", "surrogateescape").split(b"\n"))
            if len(out.splitlines()) != asked:
                yield f"{len(out.splitlines())} answers to {asked} lines"

    # -- the kinds: what to run, its stdin, what it may change ---------------------------------------------------

    def change(self, case: dict[str, Any], path: Path, outside: Path) -> None:
        """One file changed inside, or put in place of another kind."""
        try:
            if case["how"] == "kind":
                files.replaced_by(path, case["kind"], outside)
            elif case["how"] == "bytes":
                path.write_bytes(mangled(path.read_bytes(), case["bytes"]))
            elif path.suffix == ".safetensors":
                files.change_safetensors(path, case["changes"] if not case["noise"] else [], case["noise"])
            elif path.suffix == ".jsonl":
                files.change_lines(path, case["changes"])
            elif path.suffix == ".json":
                files.change_json(path, case["changes"])
            elif path.suffix == ".toml":
                files.change_toml(path, case["changes"])
            else:
                path.write_bytes(mangled(path.read_bytes(), case["bytes"]))
        except (OSError, ValueError, OverflowError, TypeError):  # a mutation that cannot be written
            path.write_bytes(b"garbage") if not path.exists() else None

    def checkpoint(self, case: dict[str, Any], place: Path, run: Path, outside: Path) -> tuple[list[str], str, str]:
        folder = run / "checkpoints" / "step-000000002"
        self.change(case, folder / CHECKPOINT_FILES[case["file"] % len(CHECKPOINT_FILES)], outside)
        if case["seal"]:
            files.reseal_folder(folder)
        if case["command"] % 3 == 0:
            return ["export", str(folder.relative_to(place)), "--out", "exported.onnx"], "", "runs/run"
        return ["resume", "run"], "", "runs/run"

    def incident(self, case: dict[str, Any], place: Path, run: Path, outside: Path) -> tuple[list[str], str, str]:
        folder = run / "health" / "incident-0001"
        names = ["incident.json"] * 5 + ["timeline.jsonl", "batch.safetensors", "state.json", "weights.safetensors"]
        name = names[case["file"] % len(names)]
        inner = next((folder / "checkpoints").iterdir())
        self.change(case, (inner if name in ("state.json", "weights.safetensors") else folder) / name, outside)
        if case["seal"]:
            files.reseal_folder(inner)
            if name != "incident.json" or case["how"] == "json":
                with suppress(OSError, ValueError, TypeError, OverflowError):
                    files.reseal_incident(folder)
        more = [[], ["--no-replay"], ["--no-replay", "--json"], ["--no-replay"]][case["command"] % 4]
        return ["doctor", str(folder.relative_to(place)), *more], "", "runs/run"

    def log(self, case: dict[str, Any], _: Path, run: Path, outside: Path) -> tuple[list[str], str, str]:
        names = ["log.jsonl"] * 3 + ["quarantine/0000-000000-000.npz.json", "health/incident-0001/incident.json"]
        self.change(case, run / names[case["file"] % len(names)], outside)
        return ["doctor", "runs/run", *([], ["--json"])[case["command"] % 2], "--no-replay"], "", "runs/run"

    def config(self, case: dict[str, Any], _: Path, run: Path, outside: Path) -> tuple[list[str], str, str]:
        path = run / "config.toml"
        if case["how"] == "kind" and case["kind"] in ("hardlink",):
            case = {**case, "kind": "empty"}
        self.change(case, path, outside)
        text = path.read_bytes().decode("utf-8", "replace") if files.ordinary(path) else ""
        if files.ordinary(path) and ("deterministic = true" not in text or "workers = 0" not in text):
            path.write_bytes(b"deterministic = true\nworkers = 0\n" + path.read_bytes())  # no pool of real processes
        return [["resume", "run", "--steps", "1"], ["doctor", "runs/run"]][case["command"] % 5 == 0], "", "runs/run"

    def names(self, case: dict[str, Any], place: Path, run: Path, outside: Path) -> tuple[list[str], str, str]:
        """Any member of the run in another kind, or again under another name."""
        members = sorted(path for path in run.rglob("*"))
        path = members[case["file"] % len(members)]
        name = case["name"].replace("/", "_").replace("\0", "0").encode("utf-8", "replace").decode()[:80] or "x"
        if case["how"] in ("json", "bytes") and name not in (".", ".."):
            target = path.with_name(name)
            if not target.exists() and not target.is_symlink():
                shutil.copytree(path, target) if path.is_dir() else shutil.copy(path, target)
        else:
            files.replaced_by(path, case["kind"], outside)
        inside = str((run / "health" / "incident-0001").relative_to(place))
        words = [
            ["resume", "run"], ["resume", "run"], ["doctor", "runs/run"], ["doctor", inside, "--no-replay"],
            ["export", "runs/run", "--out", "exported.onnx"], ["analyze", "run"],
            ["arena", "run", "random", "--games", "2"],
        ]  # fmt: skip
        return words[case["command"] % len(words)], '{"id": 1, "sims": 0}\n', "runs/run"

    def model(self, case: dict[str, Any], place: Path, _: Path, outside: Path) -> tuple[list[str], str, str]:
        path = place / "model.onnx"
        if case["command"] // 3 % 2:
            (place / "other.onnx").replace(path)
        data = path.read_bytes()
        if case["how"] == "proto":
            path.write_bytes(files.change_onnx(data, case["steps"]))
        elif case["how"] == "sealed":
            path.write_bytes(files.resealed_bytes(data, case["bytes"]))
        elif case["how"] == "bytes":
            path.write_bytes(mangled(data, case["bytes"]))
        else:
            files.replaced_by(path, case["kind"], outside)
        words = ["analyze model.onnx", "arena model.onnx random --games 2 --sims 0", "analyze ./model.onnx"]
        return words[case["command"] % 3].split(), '{"id": 1, "sims": 2}\n', ""

    def records(self, case: list[dict[str, Any]], _: Path, run: Path, outside: Path) -> tuple[list[str], str, str]:
        good = run / "records" / RECORD.format(0)
        for number, one in enumerate(case, 1):
            path = run / "records" / RECORD.format(number)
            shutil.copy(good, path)
            try:
                if one["how"] == "kind":
                    files.replaced_by(path, one["kind"], outside)
                elif one["how"] == "bytes":
                    path.write_bytes(mangled(path.read_bytes(), one["bytes"]))
                else:
                    files.change_records(path, one["changes"], one["arrays"])
            except (ValueError, TypeError, OverflowError, KeyError, AttributeError, IndexError):
                path.write_bytes(b"garbage")
        return ["resume", "run"], "", "runs/run"

    def lines(self, case: list[dict[str, Any]], *_: Path) -> tuple[list[str], str, str]:
        game = sorted(GAMES)[len(case[0]["text"]) % len(GAMES)]
        made = [self.line(one, GAMES[game]) for one in case]
        text = b"\n".join(made).replace(b"\r", b" ") + b"\n"
        return ["analyze", "model.onnx" if game == "tictactoe" else game], text.decode("utf-8", "surrogateescape"), ""

    def line(self, one: dict[str, Any], texts: list[str]) -> bytes:
        position = texts[one["position"] % len(texts)]
        good: Any = {"id": 1, "position": position, "moves": [], "sims": 4}
        if one["how"] == "fields":
            good |= {"id": one["value"], "sims": one["sims"], "moves": one["moves"]}
        elif one["how"] == "json":
            good = mutated(good, one["change"])
        elif one["how"] == "position":
            good["position"] = mangled(position.encode(), one["bytes"]).decode("utf-8", "replace")
            good["sims"] = 0
        else:
            return one["text"].encode("utf-8", "replace").replace(b"\n", b" ")
        if isinstance(good, dict) and isinstance(good.get("sims"), int) and 50 < good["sims"] <= 10**6:
            good["sims"] = 50
        return files.dumped(good).replace(b"\n", b" ")


def _plain(path: Path) -> bool:
    mode = path.lstat().st_mode
    return stat.S_ISDIR(mode) or stat.S_ISLNK(mode) or (stat.S_ISREG(mode) and path.stat().st_size < 1 << 26)
