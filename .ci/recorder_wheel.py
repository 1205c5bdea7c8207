"""Build the recorder's own wheel, az-flightrecorder, from train/health: `make recorder-wheel` runs this.

    python .ci/recorder_wheel.py [FOLDER]    # where the wheel goes; else dist/

The sources are copied to a temporary folder under their other name, so nothing is left in the working tree. setuptools
is taken from this Python: nothing is downloaded.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "train" / "health"


def build(folder: Path) -> Path:
    """The wheel, made in `folder`. Raises SystemExit where pip fails."""
    with tempfile.TemporaryDirectory() as made:
        top, out = Path(made) / "project", Path(made) / "out"
        for path in SOURCE.rglob("*.py"):
            target = top / "flightrecorder" / path.relative_to(SOURCE)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        (top / "flightrecorder" / "py.typed").touch()
        for path in (ROOT / "LICENSE", SOURCE / "wheel" / "pyproject.toml", SOURCE / "wheel" / "README.md"):
            shutil.copyfile(path, top / path.name)
        pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(out)]
        done = subprocess.run([*pip, str(top)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"pip could not build the wheel:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        folder.mkdir(parents=True, exist_ok=True)
        (wheel,) = out.glob("*.whl")
        return Path(shutil.copy(wheel, folder))


def main() -> None:
    """Build it and say where it is."""
    print(build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"))


if __name__ == "__main__":
    main()
