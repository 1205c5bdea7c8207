"""Steps of very many operations: only those from one backward to the next are watched closely, where the harm began."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .pytree import is_finite

_autograd: Any = torch.autograd
LONG = 6_000  # operations that are watched closely before it is looked for where the harm begins


class TooLong(BaseException):
    """The step has more operations than LONG. No Exception: the step's own handlers do not take it for theirs."""


@contextmanager
def after_backward(call: Callable[[], None]) -> Generator[None]:
    """Calls this whenever a `backward()` has ended."""
    old: Any = _autograd.backward

    def backward(*args: Any, **kwargs: Any) -> None:
        old(*args, **kwargs)
        call()

    _autograd.backward = backward
    try:
        yield
    finally:
        _autograd.backward = old


class Backwards:
    """Counts the backwards of a step, and which was the first to begin or end with a bad number.

    first: its number, from 0; where none was bad, their count: the harm then came after the last.
    """

    def __init__(self, roots: Callable[[], list[Tensor]], gradients: Callable[[], list[Tensor]]) -> None:
        self.roots, self.gradients = roots, gradients
        self.count = 0
        self.bad: int | None = None

    @property
    def first(self) -> int:
        """Number of the first bad one."""
        return self.count if self.bad is None else self.bad

    def ended(self) -> None:
        """One more has ended."""
        if self.bad is None and not all(map(is_finite, (*self.roots()[-1:], *self.gradients()))):
            self.bad = self.count
        self.count += 1


class Window:
    """The operations from the end of the backward before `number` to the end of that one. told: called then."""

    def __init__(self, number: int, told: Callable[[], None]) -> None:
        self.number, self.told = number, told
        self.ended = 0

    @property
    def is_open(self) -> bool:
        """Whether operations are watched closely now."""
        return self.ended == self.number

    @property
    def is_over(self) -> bool:
        """Whether what comes is not watched any more."""
        return self.ended > self.number

    def end_one(self) -> None:
        """A backward has ended."""
        if self.is_open:
            self.told()
        self.ended += 1
