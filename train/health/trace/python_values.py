"""Numbers, texts and tensors that a step reads from its closure, its globals, its arguments' defaults and its object.

They are no state that the recorder was told of. They are looked at before every step, so that a replay has the ones
that the step had, and so that a spike in one of them is not taken for a fault of the machine.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from .pytree import OPAQUE
from .source_lines import is_library
from .surroundings import is_compiled

PLAIN = (int, float, bool, str, complex, type(None))
ITEM, PLACE, CELL, DEFAULT = range(4)  # kinds of holders: dict, list, closure cell, a function's defaults
OWN = __name__.rpartition(".trace.")[0]  # this package, under whatever name it was imported
MOST, DEEPEST, LONGEST = 96, 4, 32  # places, containers inside of each other, items of one container
RENEWED, PATIENCE = 128, 8  # steps after which the places are looked for again: at most, at least
_GONE: Any = object()
Place = tuple[int, Any, Any, str]  # (kind, holder, key, name)


@dataclass(frozen=True)
class Values:
    """What lay in the places at one moment. versions: torch's counts of changes in place, of the tensors."""

    places: list[Place]
    values: list[Any]
    versions: list[int]
    iterators: list[str]  # names of iterators in reach: what they have given is gone
    lists: list[tuple[list[Any], int]] = field(default_factory=list[tuple[list[Any], int]])  # lists, and their lengths

    def named(self) -> dict[str, Any]:
        """The values by the names of their places."""
        return {place[3]: value for place, value in zip(self.places, self.values, strict=True)}

    def numbers(self) -> Values:
        """Without tensors, which would be kept alive."""
        kept = [value if isinstance(value, PLAIN) else None for value in self.values]
        return Values(self.places, kept, [], self.iterators)

    def __deepcopy__(self, _: dict[int, Any]) -> Values:
        """Nothing: a copy of a recorder must not write into the places of the first one's step."""
        return Values([], [], [], [])

    def tensors(self) -> list[tuple[str, Tensor]]:
        """(name, tensor) of tensors and arrays."""
        found: list[tuple[str, Tensor]] = []
        for name, value in self.named().items():
            array = cast("np.ndarray[Any, Any]", value) if isinstance(value, np.ndarray) else None
            if array is not None and array.dtype.kind in "fc":
                value = torch.from_numpy(array)  # pyright: ignore[reportUnknownMemberType]
            if isinstance(value, Tensor):
                found.append((name, value))
        return found

    def differing(self, other: Values) -> list[str]:
        """Names of what is another value there, or the same tensor with other numbers."""
        mine, theirs = self.named(), other.named()
        found = [name for name in mine if name in theirs and not _same(mine[name], theirs[name])]
        if self.versions and len(self.versions) == len(other.versions) and self.places is other.places:
            pairs = zip(self.places, self.versions, other.versions, strict=True)
            found += [place[3] for place, a, b in pairs if a != b and place[3] not in found]
        return found

    def changed_in_place(self, other: Values) -> list[str]:
        """Names of tensors whose numbers were written: no reference brings the old ones back."""
        mine, theirs = self.named(), other.named()
        return [name for name in self.differing(other) if mine[name] is theirs.get(name) and name in theirs]

    def with_number(self, name: str, number: float) -> Values:
        """The same values, one of them another."""
        pairs = zip(self.places, self.values, strict=True)
        return Values(
            self.places, [number if place[3] == name else value for place, value in pairs], [], self.iterators
        )

    def write(self) -> None:
        """Put the values where they were. What was added to a list since goes, such as the losses of a replay."""
        for place, value in zip(self.places, self.values, strict=True):
            if value is not _GONE and not _same(_read(place), value):
                put(place, value)
        for holder, length in self.lists:
            del holder[length:]


class PythonValues:
    """Finds the places once and reads them before every step."""

    def __init__(self) -> None:
        self._step: Any = None
        self._found: _Search | None = None
        self._age = 0

    @property
    def reads_compiled(self) -> bool:
        """Whether the last step that was read has compiled modules or functions in reach."""
        return self._found is not None and self._found.compiled

    def optimizers(self) -> list[tuple[str, torch.optim.Optimizer]]:
        """(name, optimizer) of those that the last step that was read has in reach."""
        return self._found.optimizers if self._found is not None else []

    def __deepcopy__(self, _: dict[int, Any]) -> PythonValues:
        return PythonValues()

    def read(self, step: Any) -> Values:
        """What lies there now; nothing where an object of the user's cannot be looked into."""
        try:
            return self._read(step)
        except Exception:
            return Values([], [], [], [])

    def _read(self, step: Any) -> Values:
        self._age += 1
        found = self._found
        if found is None or not self._is_known(step) or self._age > RENEWED or self._is_replaced(found):
            found = self._search(step)
        values = [_read(place) for place in found.places]
        versions = [_version(v) if isinstance(v, Tensor) else 0 for v in values]
        return Values(found.places, values, versions, found.iterators, [(one, len(one)) for one in found.lists])

    def _is_replaced(self, found: _Search) -> bool:
        """Whether a container that was looked into is another one now."""
        return self._age >= PATIENCE and any(_read(place) is not value for place, value in found.containers)

    def _search(self, step: Any) -> _Search:
        self._step, self._found, self._age = step, _Search(step), 0
        return self._found

    def _is_known(self, step: Any) -> bool:
        """Whether a step reads the places of the last one; a lambda written in the loop is another function each time,
        and only its defaults are its own."""
        last, found = self._step, self._found
        if step is last or (isinstance(step, MethodType) and step == last):
            return True
        if not (isinstance(step, FunctionType) and isinstance(last, FunctionType)) or found is None:
            return False
        same = step.__code__ is last.__code__ and step.__globals__ is last.__globals__
        cells, old = step.__closure__ or (), last.__closure__ or ()
        if not same or len(cells) != len(old) or any(a is not b for a, b in zip(cells, old, strict=True)):
            return False
        self._step = step
        found.places = [(DEFAULT, step, *place[2:]) if place[1] is last else place for place in found.places]
        return True


def spikes(steps: list[Values]) -> list[tuple[int, str, float, float]]:
    """(how many steps ago, name, its number, its usual one) of numbers that stood out a hundredfold, newest first."""
    series = [one.named() for one in steps]
    found: list[tuple[int, str, float, float]] = []
    for name in series[-1]:
        numbers = [one[name] for one in series if type(one.get(name)) in (int, float)]
        if len(numbers) < 3 or len(numbers) < len(series):
            continue
        usual = sorted(numbers)[len(numbers) // 2]
        far = [i for i, x in enumerate(numbers) if not abs(x) <= 100 * abs(usual)] if usual else []
        if far and len(far) <= len(numbers) // 2 and not _is_counter(numbers):
            found += [(len(numbers) - 1 - i, name, numbers[i], usual) for i in far]
    return sorted(found)


def _is_counter(numbers: list[float]) -> bool:
    steps = {b - a for a, b in pairwise(numbers)}
    return len(steps) == 1 and 0 not in steps


# -- where they lie ----------------------------------------------------------------------------------------------------


def _function_of(step: Any) -> Any:
    """The Python function behind a step: of a partial, a bound method, a callable object."""
    while isinstance(step, functools.partial):
        step = cast("Any", step).func
    if isinstance(step, MethodType):
        return step.__func__
    if isinstance(step, FunctionType):
        return step
    return cast("dict[str, Any]", vars(cast("Any", type(step)))).get("__call__")


def _read(place: Place) -> Any:
    kind, holder, key, _ = place
    try:
        if kind == CELL:
            return holder.cell_contents
        return holder.__defaults__[key] if kind == DEFAULT else holder[key]
    except (KeyError, IndexError, ValueError, TypeError):
        return _GONE


def put(place: Place, value: Any) -> None:
    """Write one place."""
    kind, holder, key, _ = place
    if kind == CELL:
        holder.cell_contents = value
    elif kind == DEFAULT:
        given = list(holder.__defaults__)
        given[key] = value
        holder.__defaults__ = tuple(given)
    elif kind == PLACE and len(holder) == key:
        holder.append(value)  # it was taken from the list
    elif kind == ITEM or len(holder) > key:
        holder[key] = value


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if type(a) is float and type(b) is float and math.isnan(a) and math.isnan(b):
        return True
    return type(a) is type(b) and isinstance(a, PLAIN) and a == b


class _Search:
    """Walks from a step to the places that it reads."""

    def __init__(self, step: Any) -> None:
        self.places: list[Place] = []
        self.iterators: list[str] = []
        self.lists: list[list[Any]] = []
        self.compiled = False
        self.optimizers: list[tuple[str, torch.optim.Optimizer]] = []
        self.containers: list[tuple[Place, Any]] = []  # what was looked into, where it lay
        self._seen: set[int] = set()
        while isinstance(step, functools.partial):
            bound = cast("functools.partial[Any]", step)
            self._walk(bound.keywords, "", 1)
            step = bound.func
        if isinstance(step, MethodType):
            self._object(step.__self__, "self", 1)
        elif not isinstance(step, FunctionType):
            self._object(step, "self", 1)
        function = _function_of(step)
        if isinstance(function, FunctionType):
            self._function(function, 1)

    def _function(self, function: FunctionType, depth: int) -> None:
        if id(function) in self._seen or depth > DEEPEST or is_library(function.__code__.co_filename):
            return
        self._seen.add(id(function))
        code = function.__code__
        first = code.co_argcount - len(function.__defaults__ or ())
        for i, value in enumerate(function.__defaults__ or ()):
            self._value(DEFAULT, function, i, code.co_varnames[first + i], value, depth)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
            self._value(CELL, cell, 0, name, _read((CELL, cell, 0, name)), depth)
        for name in _names_in(code):
            if name in function.__globals__:
                self._value(ITEM, function.__globals__, name, name, function.__globals__[name], depth)

    def _value(self, kind: int, holder: Any, key: Any, name: str, value: Any, depth: int) -> None:
        if isinstance(value, (*PLAIN, Tensor, np.ndarray)) and not isinstance(value, nn.Parameter):
            if len(self.places) < MOST:
                self.places.append((kind, holder, key, name))
        elif is_compiled(value):
            self.compiled = True
        elif isinstance(value, torch.optim.Optimizer):
            self.optimizers.append((name, value))
        elif isinstance(value, FunctionType):
            self._function(value, depth + 1)
        elif isinstance(value, MethodType):
            if id(value.__self__) not in self._seen and depth < DEEPEST:  # `self.call = self.forward` is a ring
                self._object(value.__self__, name, depth + 1)
        else:
            before = len(self.places)
            self._walk(value, name, depth + 1)
            if len(self.places) > before:
                self.containers.append(((kind, holder, key, name), value))

    def _walk(self, value: Any, name: str, depth: int) -> None:
        if depth > DEEPEST or id(value) in self._seen or value is _GONE:
            return
        self._seen.add(id(value))
        if isinstance(value, dict | list):
            holder = cast("dict[Any, Any] | list[Any]", value)
            if isinstance(holder, list):
                self.lists.append(holder)
            items = list(holder.items()) if isinstance(holder, dict) else list(enumerate(holder[: LONGEST + 1]))
            for key, part in items if len(items) <= LONGEST else ():
                kind = ITEM if isinstance(holder, dict) else PLACE
                self._value(kind, holder, key, f"{name}[{key!r}]" if name else str(key), part, depth)
        elif hasattr(cast("Any", type(value)), "__next__"):
            self.iterators.append(name)
        else:
            self._object(value, name, depth)

    def _object(self, value: Any, name: str, depth: int) -> None:
        """The attributes of an object of the user's own; of a module only plain ones, its tensors are the state."""
        of = type(value).__module__.partition(".")[0]
        is_module = isinstance(value, nn.Module)
        if not hasattr(value, "__dict__") or (isinstance(value, OPAQUE) and not is_module):
            return
        if of in ("torch", "numpy", "builtins") or type(value).__module__.startswith(OWN):
            return
        self._seen.add(id(value))
        attributes = vars(value)
        for key, part in list(attributes.items())[: 4 * LONGEST]:
            if is_module and (key.startswith("_") or key == "training" or not isinstance(part, PLAIN)):
                continue
            if not isinstance(part, ModuleType):
                self._value(ITEM, attributes, key, f"{name}.{key}", part, depth)


def _names_in(code: CodeType) -> Iterator[str]:
    """Names that a function and the functions written inside of it look up."""
    yield from code.co_names
    for part in code.co_consts:
        if isinstance(part, CodeType):
            yield from _names_in(part)
