"""`python -m az.train.health script.py args…`: run an ordinary training script; name its first fault and stop there.

The script's output, arguments and exit status are its own; with a fault the exit status is 3. See docs/health.md.
"""

from __future__ import annotations

import sys

from .script.runner import run_script

if __name__ == "__main__":
    package = __package__ or ""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(f"usage: python -m {package} script.py [argument …]", file=sys.stderr)
        sys.exit(0 if sys.argv[1:] in (["-h"], ["--help"]) else 2)
    sys.exit(run_script(sys.argv[1], sys.argv[2:], package))
