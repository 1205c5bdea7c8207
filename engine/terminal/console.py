"""Where a command writes for people: rich's console, made in one place."""

from __future__ import annotations

from rich.console import Console


def console(stderr: bool = False) -> Console:
    """A console on stdout or stderr; names such as rollouts:100: stay as they are."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=True)
