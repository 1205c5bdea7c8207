"""A child process ends with its parent, from its first instruction on."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest
from processes import Marked

from az.engine.system.child import Child, end_of

HERE = Path(__file__).resolve().parent
PARENT = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from az.engine.system.child import Child
import slow_to_start
if __name__ == "__main__":
    Path("ready").touch()
    child = Child(slow_to_start.rest, (Path.cwd(),))
    child.start()
    time.sleep(60)
"""


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.2, 1.0])
def test_killed_while_the_child_starts(tmp_path: Path, delay: float) -> None:
    """The child needs three seconds to import its target: all of these are long before its body begins."""
    (tmp_path / "parent.py").write_text(PARENT)
    with Marked([sys.executable, "parent.py", str(HERE)], tmp_path) as parent:
        parent.wait_for((tmp_path / "ready").exists)
        time.sleep(delay)
        assert parent.left_after_kill() == []
    assert not (tmp_path / "there").exists()


def test_killed_while_the_child_works(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    with Marked([sys.executable, "parent.py", str(HERE)], tmp_path) as parent:
        parent.wait_for((tmp_path / "there").exists)
        assert parent.others()
        assert parent.left_after_kill() == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads what a process blocks from /proc")
def test_ctrl_c_while_the_child_starts_is_the_parents(tmp_path: Path) -> None:
    """Python prints a traceback for a Ctrl-C that comes before the child can ignore it, while it starts up."""
    (tmp_path / "parent.py").write_text(PARENT)
    script = "import signal; signal.signal(signal.SIGINT, lambda *_: None); exec(open('parent.py').read())"
    with (tmp_path / "said").open("wb") as said:
        arguments = [sys.executable, "-c", script, str(HERE)]
        with Marked(arguments, tmp_path, stderr=said) as parent:
            parent.wait_for((tmp_path / "ready").exists)
            while not (tmp_path / "there").exists():
                os.killpg(parent.main.pid, signal.SIGINT)
                time.sleep(0.005)
                assert parent.main.poll() is None
                assert "Traceback" not in (tmp_path / "said").read_text()
            children = [p for p in parent.others() if "spawn_main" in " ".join(p.cmdline())]
            blocked = [
                int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1
                for child in children
                for line in Path(f"/proc/{child.pid}/status").read_text().splitlines()
                if line.startswith("SigBlk")
            ]
            assert blocked == [0]


def test_a_parent_that_ends_by_itself_waits_for_no_child(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT.replace("time.sleep(60)", ""))
    with Marked([sys.executable, "parent.py", str(HERE)], tmp_path) as parent:
        assert parent.main.wait(60) == 0
        assert parent.left_after_kill() == []
    assert not (tmp_path / "there").exists()


def test_how_a_child_ended(tmp_path: Path) -> None:
    import slow_to_start

    child = Child(slow_to_start.fail, (tmp_path,))
    child.start()
    child.join()
    assert end_of(child) == "with exit code 3"
    child.end()
    child = Child(slow_to_start.rest, (tmp_path,))
    child.start()
    child.end()
    assert child.exitcode == -signal.SIGKILL
    assert end_of(child) == "by SIGKILL"
