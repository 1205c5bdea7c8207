"""A caller may close stdin, stdout and stderr before a command starts: no traceback, no line in another file."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

posix = pytest.mark.skipif(os.name == "nt", reason="streams closed by a shell")
COMMANDS = {
    "games": "othello6",
    "perft tictactoe 2": "72",
    "analyze tictactoe": "",
    "play tictactoe --sims 2": "Goodbye",
    "arena random random --game tictactoe --games 2": "1 won",
    "--help": "analyze",
}


def run(words: str, closing: str, folder) -> subprocess.CompletedProcess[str]:
    """`az` from a shell that closes streams."""
    line = f'exec "$@" {closing}'
    return subprocess.run(
        ["sh", "-c", line, "sh", sys.executable, "-m", "az.cli", *words.split()],
        capture_output=True, text=True, cwd=folder, timeout=120, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


@posix
@pytest.mark.parametrize("words", COMMANDS)
def test_all_streams_closed(tmp_path, words):
    done = run(words, "<&- >&- 2>&-", tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@posix
@pytest.mark.parametrize(
    ("words", "closing"),
    [("analyze tictactoe", "<&-"), ("play tictactoe --sims 2", "<&-"), ("games", ">&-"), ("games", "2>&-")],
)
def test_one_stream_closed(tmp_path, words, closing):
    done = run(words, closing, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "" if closing == ">&-" else COMMANDS[words] in done.stdout


@posix
def test_a_wrong_request_says_so_where_it_can(tmp_path):
    done = run("perft nosuch 2", "<&- >&-", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert run("perft nosuch 2", "<&- >&- 2>&-", tmp_path).returncode == 2


@posix
def test_a_file_that_is_opened_does_not_get_the_number_of_a_closed_stream(tmp_path):
    """Self-play with every stream closed: what it prints must not end in a record."""
    words = "selfplay tictactoe --games 2 --sims 2 --out o --threads 1"
    assert run(words, "<&- >&- 2>&-", tmp_path).returncode == 0
    from az.engine.game import load_game
    from az.engine.records.format import read_records

    (file,) = (tmp_path / "o").glob("*.npz")
    assert read_records(file, load_game("tictactoe")).header["games"]
