"""Compiled code is kept where only its user can write, and a damaged file of it is as good as a missing one."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest
from command_line import ROOT, Answer, start_az

from az.engine.jit.cache_folder import cache_folder

POSIX = pytest.mark.skipif(os.name == "nt", reason="modes and owners of POSIX")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A cache that `perft` has filled."""
    folder = tmp_path_factory.mktemp("cache")
    assert perft(folder).out == "504\n"
    assert list(folder.rglob("*.nbi"))
    return folder


def perft(folder: Path) -> Answer:
    return start_az("perft", "tictactoe", "3", env={"AZ_CACHE_DIR": str(folder)})


def damaged(data: bytes, how: str) -> bytes:
    middle = len(data) // 2
    return {
        "empty": b"",
        "ten bytes": data[:10],
        "a hundred bytes": data[:100],
        "half": data[:middle],
        "zeros": bytes(len(data)),
        "longer": data + b"\0",
        "one bit": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
        "another pickle": b"\x80\x04N." + data[4:],
    }[how]


@pytest.mark.parametrize("how", ["ten bytes", "one bit", "zeros"])
def test_damaged_files_are_compiled_again(compiled, tmp_path, how):
    shutil.copytree(compiled, tmp_path / "c")
    files = [path for pattern in ("*.nbi", "*.nbc") for path in (tmp_path / "c").rglob(pattern)]
    whole = {path: path.read_bytes() for path in files}
    for path in files:
        path.write_bytes(damaged(whole[path], how))
    assert perft(tmp_path / "c") == Answer(0, "504\n", "")
    assert all(len(path.read_bytes()) >= len(whole[path]) // 2 for path in files)  # and they are whole again


@pytest.mark.slow
@pytest.mark.parametrize("how", ["empty", "a hundred bytes", "half", "longer", "another pickle"])
@pytest.mark.parametrize("which", ["*.nbi", "*.nbc"])
def test_damage_of_every_kind_to_one_kind_of_file(compiled, tmp_path, how, which):
    shutil.copytree(compiled, tmp_path / "c")
    for path in (tmp_path / "c").rglob(which):
        path.write_bytes(damaged(path.read_bytes(), how))
    assert perft(tmp_path / "c") == Answer(0, "504\n", "")


def test_many_processes_mend_a_damaged_cache_together(compiled, tmp_path):
    shutil.copytree(compiled, tmp_path / "c")
    for path in [*(tmp_path / "c").rglob("*.nbi"), *(tmp_path / "c").rglob("*.nbc")]:
        path.write_bytes(path.read_bytes()[:50])
    command = [sys.executable, "-m", "az.cli", "perft", "tictactoe", "3"]
    environment = {**os.environ, "AZ_CACHE_DIR": str(tmp_path / "c")}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    several = [subprocess.Popen(command, env=environment, **streams) for _ in range(3)]
    assert [process.communicate() for process in several] == [("504\n", "")] * 3
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.nbc")}
    assert perft(tmp_path / "c").out == "504\n"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "c").rglob("*.nbc")} == before  # it is used


ADDRESSES = """
import sys
from az.engine.game import load_game
from az.engine.jit.pointers import address
games = [load_game(name) for name in sys.argv[1:]]
rules = [rule for game in games for rule in (game.apply, game.legal, game.outcome, game.encode)]
for rule in rules:  # all of them before the first address, as a server does that looks at two games
    rule.compile()
print(len({str(address(rule)) for rule in rules}))
"""


def rules_of(folder: Path, *games: str) -> int:
    """How many different rules a process finds that is given these games."""
    done = subprocess.run(
        [sys.executable, "-c", ADDRESSES, *games], capture_output=True, text=True, check=True,
        env={**os.environ, "AZ_CACHE_DIR": str(folder)},
    )  # fmt: skip
    return int(done.stdout)


def test_two_sizes_of_a_board_that_two_processes_compiled_stay_apart(tmp_path):
    """numba counts what it compiles from 1 in each process: both games' rules had the same names."""
    assert rules_of(tmp_path, "gomoku9") == 4
    assert rules_of(tmp_path, "gomoku") == 4
    assert rules_of(tmp_path, "gomoku9", "gomoku") == 8
    assert rules_of(tmp_path, "othello6") == 4
    assert rules_of(tmp_path, "othello") == 4
    assert rules_of(tmp_path, "othello", "othello6") == 8


@pytest.fixture
def no_other_place(monkeypatch, tmp_path):
    """Neither a cache folder, nor a home, nor a folder for temporary files but the test's own."""
    for name in ("AZ_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


@POSIX
def test_without_a_home_a_private_temporary_folder_serves(no_other_place):
    folder = cache_folder("x")
    assert folder is not None
    assert folder == no_other_place / f"az-{os.geteuid()}" / "numba" / "x"
    for path in (folder, folder.parent, folder.parent.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert not Path("/nonexistent").exists()


@POSIX
def test_a_home_that_cannot_be_told_is_no_obstacle(no_other_place, monkeypatch):
    monkeypatch.delenv("HOME")

    def unknown() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", unknown)  # what a user number without an entry gets
    assert cache_folder("x") == no_other_place / f"az-{os.geteuid()}" / "numba" / "x"


@POSIX
def test_a_place_that_cannot_be_written_is_passed_over(no_other_place, monkeypatch):
    (no_other_place / "file").write_text("")
    for name in ("AZ_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(no_other_place / "file" / "below"))
    assert cache_folder("x") == no_other_place / f"az-{os.geteuid()}" / "numba" / "x"
    monkeypatch.setenv("XDG_CACHE_HOME", str(no_other_place / "xdg"))
    assert cache_folder("x") == no_other_place / "xdg" / "az" / "numba" / "x"


@POSIX
def test_a_link_in_the_temporary_folder_is_not_followed(no_other_place):
    (no_other_place / "elsewhere").mkdir()
    (no_other_place / f"az-{os.geteuid()}").symlink_to(no_other_place / "elsewhere")
    folder = cache_folder("x")
    assert folder is None or no_other_place not in folder.parents
    assert list((no_other_place / "elsewhere").iterdir()) == []


@POSIX
def test_a_folder_of_another_user_is_not_used(no_other_place, monkeypatch):
    mine = os.geteuid()
    (no_other_place / f"az-{mine + 1}").mkdir()  # made by this user, seen with the eyes of another
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    folder = cache_folder("x")
    assert folder is None or no_other_place not in folder.parents


@POSIX
def test_files_that_others_may_have_left_are_deleted(no_other_place, monkeypatch):
    monkeypatch.setenv("AZ_CACHE_DIR", str(no_other_place / "c"))
    folder = cache_folder("x")
    assert folder is not None
    (folder / "sub").mkdir()
    (folder / "sub" / "kernel.nbi").write_bytes(b"theirs")
    folder.chmod(0o777)
    assert cache_folder("x") == folder
    assert list(folder.iterdir()) == []
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.slow
@POSIX
@pytest.mark.skipif(os.name != "nt" and os.geteuid() != 0, reason="only root can become another user")
def test_a_service_account_with_a_read_only_copy_plays():
    """No home, nothing to write to but a folder for temporary files."""
    packages = sysconfig.get_path("purelib")
    home = Path(tempfile.mkdtemp(prefix="az-test-"))
    try:
        copy = home / "src" / "az"
        left_out = shutil.ignore_patterns(".venv", ".git", "runs", "__pycache__", "tests", "docs", ".typecheck")
        shutil.copytree(ROOT, copy, ignore=left_out)
        for folder, _, names in os.walk(home / "src"):
            os.chmod(folder, 0o555)
            for name in names:
                os.chmod(Path(folder, name), 0o444)
        os.chmod(home, 0o755)
        paths = [str(copy.parent), packages, *(path for path in sys.path if path.endswith("site-packages"))]
        room = home / "tmp"
        room.mkdir(mode=0o777)
        room.chmod(0o777)
        environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "TMPDIR": str(room)}
        environment |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}

        def run(python: str, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [python, *words], capture_output=True, text=True, cwd="/", timeout=300, check=False,
                env=environment, user=65534, group=65534, extra_groups=[], **more,  # pyright: ignore[reportCallIssue, reportArgumentType]
            )  # fmt: skip

        pythons = [os.path.realpath(sys.executable), f"/usr/bin/python3.{sys.version_info[1]}"]
        for python in pythons:
            try:
                usable = run(python, "-c", "import numba, onnxruntime").returncode == 0
            except OSError:
                usable = False
            if usable:
                break
        else:
            pytest.skip("no Python that this user may start")
        question = '{"id": 1, "position": "445", "sims": 4}\n'
        done = run(python, "-m", "az.cli", "analyze", "connect4", input=question)
        assert '"move"' in done.stdout, done.stderr
        made = room / "az-65534"
        assert stat.S_IMODE(made.stat().st_mode) == 0o700
        assert list(made.rglob("*.nbc"))
    finally:
        for folder, _, _ in os.walk(home):
            os.chmod(folder, 0o700)
        shutil.rmtree(home)
