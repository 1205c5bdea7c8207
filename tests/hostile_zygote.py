"""Runs `az` on hostile files, one child a case, forked from a process in which everything is loaded and compiled.

Reads a JSON object a line: {"argv", "cwd", "stdin", "real"}; answers {"code", "out", "err", "cpu", "wall", "grown"}.
`grown`: bytes by which the child's resident memory rose over the parent's. real: the command itself, not a fork.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

WALL, WALL_REAL = 60.0, 240.0  # seconds after which a case counts as hanging; the machine may be busy
MOST_ADDRESSES = 6 << 30  # bytes of address space that a child may add: a guard for the machine, not the measure
SHOWN = 20_000  # characters of what a child printed that are kept


def warm(stock: Path) -> None:
    """Everything that the cases need, once."""
    import torch

    torch.set_num_threads(1)
    import onnxruntime  # noqa: F401
    from command_line import run_az

    import az.commands.doctor
    import az.commands.train
    import az.export.pipeline
    import az.export.run_services
    import az.train.run.loop  # noqa: F401
    from az.engine.game import load_game
    from az.engine.selfplay.warmup import warm_up

    os.chdir(stock)
    for game in ("tictactoe", "connect4", "checkers"):
        warm_up(load_game(game), lambda _: None)
        run_az("perft", game, "2")
    for words in (("resume", "run"), ("doctor", "run", "--no-replay"), ("games",), ("resume", "nowhere")):
        run_az(*words)
    for model in ("model.onnx", "connect4", "checkers"):
        run_az("analyze", model, stdin='{"id": 1, "sims": 2}\n')
    run_az("export", "runs/run", "--out", "exported.onnx")
    run_az("doctor", "runs/run/health/incident-0001", "--no-replay")


def resident() -> int:
    """Bytes of this process's own memory, which a child begins with; pages of files do not count."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))


def child(request: dict[str, Any], out: int, err: int, given: int) -> None:
    """The body of a forked child; never returns."""
    os.setsid()
    for target, source in ((0, given), (1, out), (2, err)):
        os.dup2(source, target)
    os.chdir(request["cwd"])
    size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    most = size + MOST_ADDRESSES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(0, encoding="utf-8", errors="surrogateescape"),
        os.fdopen(1, "w", encoding="utf-8"),
        os.fdopen(2, "w", encoding="utf-8"),
    )
    sys.argv = ["az", *request["argv"]]
    code = 99
    try:
        from az.cli import main

        main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 98
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def real(request: dict[str, Any], out: int, err: int, given: int) -> int:
    command = [sys.executable, "-m", "az.cli", *request["argv"]]
    started = subprocess.Popen(
        command, stdin=given, stdout=out, stderr=err, cwd=request["cwd"], start_new_session=True,
        env={**os.environ, "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    return started.pid


def wait_for(pid: int, most: float) -> tuple[int | None, Any]:
    """(exit status, None where it hung; its resources)"""
    end, pause = time.monotonic() + most, 0.001
    while True:
        found, status, used = os.wait4(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status), used
        if time.monotonic() > end:
            os.killpg(pid, signal.SIGKILL)
            return None, os.wait4(pid, 0)[2]
        time.sleep(pause)
        pause = min(0.02, pause * 1.3)


def run(request: dict[str, Any]) -> dict[str, Any]:
    folder = Path(request["streams"])
    given_path = folder / "stdin"
    given_path.write_bytes(request.get("stdin", "").encode("utf-8", "surrogateescape"))
    flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC
    out, err = (os.open(folder / name, flags) for name in ("stdout", "stderr"))
    given = os.open(given_path, os.O_RDONLY)
    base, begun = (0 if request["real"] else resident()), time.monotonic()
    if request["real"]:
        pid = real(request, out, err, given)
    else:
        pid = os.fork()
        if pid == 0:
            child(request, out, err, given)
    code, used = wait_for(pid, WALL_REAL if request["real"] else WALL)
    for descriptor in (out, err, given):
        os.close(descriptor)
    texts = [(folder / name).read_bytes().decode("utf-8", "replace") for name in ("stdout", "stderr")]
    return {
        "code": code,
        "out": texts[0] if len(texts[0]) < 50 * SHOWN else texts[0][:SHOWN],
        "err": texts[1][:SHOWN],
        "cpu": used.ru_utime + used.ru_stime,
        "wall": time.monotonic() - begun,
        "grown": used.ru_maxrss * 1024 - base,
    }


def main() -> None:
    warm(Path(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    print(json.dumps({"ready": True, "threads": len(os.listdir("/proc/self/task"))}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
