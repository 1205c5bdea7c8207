"""How many errors basedpyright's strict mode finds in engine and train, by folder: counts that may only fall.

    python tests/strict_errors.py    # lower the counts of tests/strict_errors.json to what there is now

Where a folder has none left, enter it under `strict` in pyproject.toml.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "tests" / "strict_errors.json"
PARTS = ("engine", "train")


def counted() -> dict[str, int]:
    """Errors by folder; one minute on a quiet machine. Raises RuntimeError where basedpyright does not run."""
    parts = [str(ROOT / part) for part in PARTS]
    config = {"extraPaths": [str(ROOT / ".typecheck")], "include": parts, "strict": parts}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "pyrightconfig.json")
        file.write_text(json.dumps(config))
        command = [sys.executable, "-m", "basedpyright", "--project", str(file), "--pythonpath", sys.executable]
        answer = subprocess.run([*command, "--outputjson"], cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode > 1:  # 1: there are errors
        raise RuntimeError(answer.stdout + answer.stderr)
    found = [one for one in json.loads(answer.stdout)["generalDiagnostics"] if one["severity"] == "error"]
    return dict(sorted(Counter(folder_of(Path(one["file"])) for one in found).items()))


def folder_of(file: Path) -> str:
    """`engine/search` for engine/search/batch.py, `engine` for engine/board.py."""
    return "/".join(file.resolve().relative_to(ROOT).parent.parts[:2])


def known() -> dict[str, int]:
    """The counts of the file."""
    return json.loads(FILE.read_text("utf-8"))


def risen(now: dict[str, int], before: dict[str, int]) -> dict[str, str]:
    """The folders with more errors than before."""
    return {name: f"{before.get(name, 0)} -> {n}" for name, n in now.items() if n > before.get(name, 0)}


def main() -> None:
    """Write the counts of now, unless one has risen."""
    now = counted()
    more = risen(now, known()) if FILE.exists() else {}
    if more:
        raise SystemExit(f"more strict errors than before: {more}")
    FILE.write_text(json.dumps(now, indent=2) + "\n", "utf-8")
    print(f"{sum(now.values())} strict errors in {len(now)} folders: {FILE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
