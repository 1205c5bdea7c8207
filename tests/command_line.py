"""The command `az` inside this process (quick) or as a process of its own (honest)."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str


def run_az(*args: object, stdin: str = "") -> Answer:
    """`az ARGS` through az.cli.main in this process. What is no expected error comes out as an exception."""
    from az.cli import main

    out, err, code = io.StringIO(), io.StringIO(), 0
    given = io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8")
    with (
        mock.patch.object(sys, "argv", ["az", *map(str, args)]),
        mock.patch.object(sys, "stdin", given),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as left:
            code = left.code if isinstance(left.code, int) else -1
    return Answer(code, out.getvalue(), err.getvalue())


def start_az(
    *args: object, stdin: str = "", cwd: Path | None = None, env: dict[str, str] | None = None, timeout: float = 300
) -> Answer:
    """`az ARGS` as a real process."""
    done = subprocess.run(
        [sys.executable, "-m", "az.cli", *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        cwd=cwd,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **(env or {})},
        timeout=timeout,
        check=False,
    )
    return Answer(done.returncode, done.stdout, done.stderr)
