"""How long a command's screen stands still: run it in a terminal and report the longest times without news.

    python benchmarks/screen_gaps.py --until 'step +[5-9]' -- make train

News is a changed count, stage, name or size. A spinner, a bar, a clock and a percentage (which may be one of time) are
removed before two screens are compared. Needs Linux or macOS, and pyte.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from contextlib import suppress
from dataclasses import dataclass

import pyte

NO_NEWS = re.compile(
    r"[⠀-⣿━╸╺─═█▏▎▍▌▋▊▉◐◓◑◒◜◝◞◟⣾⣽⣻⢿⡿⣟⣯⣷]"  # spinners and bars
    r"|\b\d+:\d\d(:\d\d)?\b|\b\d+(\.\d+)? ?(s|sec|seconds?|min|minutes?|eta)\b"  # clocks
    r"|\b\d+(\.\d+)? ?%"
    r"|(?<!\S)[-|/\\](?!\S)"  # the plain spinner
)


def news_of(screen: pyte.Screen) -> str:
    """What the screen tells, without what moves by itself."""
    return "\n".join(" ".join(NO_NEWS.sub(" ", line).split()) for line in screen.display).strip()


@dataclass
class Gap:
    """A time without news. begin: seconds after the start; text: what stood there."""

    seconds: float
    begin: float
    text: str


def record(
    command: list[str], until: str | None, columns: int, rows: int, limit: float
) -> tuple[list[Gap], float, bool]:
    """(the gaps, longest first; the whole time in seconds; whether `until` was seen). The command is then stopped."""
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    child, terminal = pty.fork()
    if child == 0:
        os.environ.pop("NO_COLOR", None)
        os.environ["TERM"] = "xterm-256color"
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    begun = last = time.monotonic()
    shown, gaps, seen = "", [], False
    try:
        while time.monotonic() - begun < limit:
            ready, _, _ = select.select([terminal], [], [], 0.5)
            if not ready:
                continue
            try:
                data = os.read(terminal, 65536)
            except OSError:  # the command has ended
                data = b""
            now = time.monotonic()
            stream.feed(data)
            news = news_of(screen)
            if news != shown or not data:
                gaps.append(Gap(now - last, last - begun, shown))
                shown, last = news, now
            seen = until is not None and re.search(until, news) is not None
            if seen or not data:
                break
        else:
            gaps.append(Gap(time.monotonic() - last, last - begun, shown))
    finally:
        _stop(child)
        os.close(terminal)
    return sorted(gaps, key=lambda gap: -gap.seconds), time.monotonic() - begun, seen


def _stop(child: int) -> None:
    """Ctrl-C, then the end, for the command and everything that it started in its session."""
    for number, patience in ((signal.SIGINT, 20.0), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        with suppress(ProcessLookupError):
            os.killpg(child, number)
        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                if os.waitpid(child, os.WNOHANG)[0]:
                    return
            except ChildProcessError:
                return
            time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--until", help="stop when this regular expression is on the screen")
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds")
    parser.add_argument("--show", type=int, default=8, help="so many gaps")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("command", nargs="+")
    given = parser.parse_args()
    gaps, whole, seen = record(given.command, given.until, given.columns, given.rows, given.limit)
    longest = gaps[0].seconds if gaps else whole
    if given.json:
        rows = [[round(gap.seconds, 2), round(gap.begin, 2), gap.text] for gap in gaps[: given.show]]
        print(json.dumps({"longest_s": round(longest, 2), "whole_s": round(whole, 1), "seen": seen, "gaps": rows}))
    else:
        print(
            f"\n{whole:.1f} s, {len(gaps)} changes, the longest time without news {longest:.2f} s, until seen: {seen}"
        )
        for gap in gaps[: given.show]:
            told = [line for line in gap.text.splitlines() if line][-4:]
            print(f"{gap.seconds:7.2f} s from {gap.begin:7.2f} s: {' / '.join(told)[-240:]}")
    sys.exit(0 if seen or given.until is None else 1)


if __name__ == "__main__":
    main()
