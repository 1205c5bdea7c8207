"""`az analyze`: JSON lines in, JSON lines out, so that any program can drive the engine.

A thread reads; the main thread answers what waits. Requests with the same number of simulations share a batch; a
lone request never waits for company.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn, TextIO, cast

from az.engine.errors import AzError, WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.inference.evaluator import Evaluator
from az.engine.printable import one_line
from az.engine.search.params import SearchParams
from az.engine.search.result import SearchResult
from az.engine.search.whole_moves import SearchStates, WholeResult, quiet, searcher, whole_results
from az.engine.selfplay.warmup import compile_search

MAX_SIMULATIONS = 1_000_000
MAX_LINE = 1 << 20  # bytes; a longer request is refused without being kept
MAX_BATCH = 64  # requests
MAX_BATCH_SIMULATIONS = 100_000  # a tree takes memory for each simulation: big searches run alone
MAX_WAITING = 4096  # lines read ahead; then the writer of the requests waits
MAX_WAITING_BYTES = 16 << 20  # of these lines; one line always has room
MAX_SENTENCE = 400  # characters of an error
FIELDS = ("id", "position", "moves", "sims", "seconds")
KINDS: dict[type, str] = {
    bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object",
}  # fmt: skip
DEFAULT_SIMULATIONS = 400  # of a request that says neither sims nor seconds
MAX_SECONDS = 3600

Identity = str | int | float | None


@dataclass(frozen=True)
class Request:
    """One readable request: the position after its moves, and how hard to think."""

    identity: Identity
    state: State
    simulations: int
    size: int = 0  # bytes of its line
    seconds: float | None = None  # to think, in place of simulations


class BadRequestError(Exception):
    """A request that cannot be answered, with the id as far as it could be read."""

    def __init__(self, identity: Identity, sentence: str) -> None:
        super().__init__(sentence)
        self.identity = identity
        self.sentence = sentence


def analyze(
    game: Game,
    evaluator: Evaluator,
    params: SearchParams,
    stdin: BinaryIO,
    stdout: TextIO,
    search: SearchStates | None = None,
) -> int:
    """Answer requests until stdin ends and everything is answered; returns the exit status.

    stdin: bytes, one JSON object a line; stdout: text, one JSON object a line, flushed each.
    search: how positions are searched; default: `search_many` with the evaluator.
    """
    compile_search(game)  # before the first request: a rule that does not compile is no fault of a position
    engine = _Engine(game, evaluator, params, search)
    lines = LineQueue()
    threading.Thread(target=_read, args=(stdin, lines), daemon=True).start()
    waiting: list[Request] = []
    ended = False
    try:
        while waiting or not ended:
            full = sum(request.size for request in waiting) >= MAX_WAITING_BYTES
            room = 0 if full else MAX_WAITING - len(waiting)
            for line in lines.take(room, wait=not waiting and not ended):
                if line is None:
                    ended = True
                elif line.strip():
                    _accept(game, line, waiting, stdout)
            if waiting:
                batch = _next_batch(waiting)
                waiting = [request for request in waiting if not any(request is taken for taken in batch)]
                _answer(engine, batch, stdout)
    except BrokenPipeError:  # the reader of the answers has gone
        return 0
    return 0


class _Engine:
    """Searches positions for so many simulations, or one of them for so many seconds."""

    def __init__(self, game: Game, evaluator: Evaluator, params: SearchParams, search: SearchStates | None) -> None:
        self.game, self.evaluator, self.params = game, evaluator, params
        self.search = search or searcher(game, evaluator, params)

    def results(self, batch: Sequence[Request]) -> list[SearchResult]:
        """One answer for each request of a batch."""
        first = batch[0]
        if first.seconds is None:
            return self.search([request.state for request in batch], first.simulations)
        from az.engine.search.tree_search import TreeSearch

        tree = TreeSearch(self.game, self.evaluator, quiet(self.params, first.simulations))
        return [tree.search(first.state, seconds=first.seconds)]


class LineQueue:
    """Lines between the thread that reads and the one that answers, bounded in number and in bytes; None is the end."""

    def __init__(self) -> None:
        self._lines: deque[bytes | None] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, line: bytes | None) -> None:
        """Append; waits while there is no room."""
        size = len(line or b"")
        with self._changed:
            self._changed.wait_for(lambda: not self._lines or self._has_room(size))
            self._lines.append(line)
            self._bytes += size
            self._changed.notify_all()

    def _has_room(self, size: int) -> bool:
        return len(self._lines) < MAX_WAITING and self._bytes + size <= MAX_WAITING_BYTES

    def take(self, most: int, wait: bool) -> list[bytes | None]:
        """What is there, `most` lines at most; waits for the first line only when there is nothing else to do."""
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: bool(self._lines))
            taken = [self._lines.popleft() for _ in range(min(most, len(self._lines)))]
            self._bytes -= sum(len(line or b"") for line in taken)
            self._changed.notify_all()
        return taken


def _accept(game: Game, line: bytes, waiting: list[Request], stdout: TextIO) -> None:
    try:
        waiting.append(read_request(game, line))
    except BadRequestError as bad:
        _write(stdout, {"id": bad.identity, "error": _sentence(bad.sentence)})


def _next_batch(waiting: Sequence[Request]) -> list[Request]:
    """The oldest request and the waiting ones with as many simulations."""
    simulations = waiting[0].simulations
    if waiting[0].seconds is not None:
        return [waiting[0]]
    room = max(1, min(MAX_BATCH, MAX_BATCH_SIMULATIONS // max(1, simulations)))
    return [one for one in waiting if one.simulations == simulations and one.seconds is None][:room]


def _answer(engine: _Engine, batch: Sequence[Request], stdout: TextIO) -> None:
    states = [request.state for request in batch]
    try:
        found = whole_results(engine.game, states, engine.results(batch), engine.search)
    except MemoryError:
        failure = f"sims {batch[0].simulations} needs more memory than there is; ask for fewer."
    except AzError as error:
        failure = str(error)
    else:
        for request, result in zip(batch, found, strict=True):
            _write(stdout, {**_reply(request, result), "model": engine.evaluator.name})
        return
    if len(batch) == 1:
        _write(stdout, {"id": batch[0].identity, "error": _sentence(failure)})
        return
    for request in batch:  # one position may have spoilt the batch: the others still get their answers
        _answer(engine, [request], stdout)


def _reply(request: Request, result: WholeResult) -> dict[str, Any]:
    return {
        "id": request.identity,
        "move": result.best.text,
        "value": min(1.0, max(-1.0, result.value)),
        "policy": {move.text: move.share for move in result.moves},
        "prior": {move.text: move.prior for move in result.moves},
        "sims": result.simulations,
        "pv": list(result.pv),
    }


def _write(stdout: TextIO, answer: dict[str, Any]) -> None:
    stdout.write(json.dumps(answer, separators=(",", ":"), allow_nan=False) + "\n")
    stdout.flush()


def _sentence(text: str) -> str:
    return one_line(text, MAX_SENTENCE)


# Reading requests.


def read_request(game: Game, line: bytes) -> Request:
    """The request in one line of JSON. Raises BadRequestError with a sentence that says what is wrong."""
    fields = _parse(line)
    identity = _identity(fields)
    unknown = [name for name in fields if name not in FIELDS]
    if unknown:
        raise BadRequestError(identity, f"unknown field {_shown(unknown[0])}; the fields are {', '.join(FIELDS)}.")
    simulations, seconds = _simulations(identity, fields), _seconds(identity, fields)
    state = _state(game, identity, fields)
    if game.outcome(state) != ONGOING:
        raise BadRequestError(identity, "the game is over in this position: there is no move to find.")
    return Request(identity, state, simulations, len(line), seconds)


def _parse(line: bytes) -> dict[str, Any]:
    if len(line) > MAX_LINE:
        raise BadRequestError(None, f"the request is longer than {MAX_LINE} bytes; send a shorter line.")
    try:
        fields = json.loads(
            line.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_once
        )
    except UnicodeDecodeError:
        raise BadRequestError(None, "the request is not UTF-8 text.") from None
    except (ValueError, RecursionError) as error:
        raise BadRequestError(None, f"the request is not valid JSON: {_reason(error)}.") from None
    if not isinstance(fields, dict):
        raise BadRequestError(None, 'the request must be a JSON object such as {"id": 1, "sims": 100}.')
    return cast("dict[str, Any]", fields)  # JSON has no other keys


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos + 1}"
    return str(error).split(";")[0]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        double = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{_shown(double)} is given twice")
    return fields


def _identity(fields: dict[str, Any]) -> Identity:
    identity = fields.get("id")
    if "id" not in fields:
        raise BadRequestError(None, "the request has no id; id is a string or a number.")
    if isinstance(identity, bool) or not isinstance(identity, str | int | float):
        raise BadRequestError(None, f"id must be a string or a number, not {_kind(identity)}.")
    return identity


def _simulations(identity: Identity, fields: dict[str, Any]) -> int:
    sims = fields.get("sims", DEFAULT_SIMULATIONS)
    if isinstance(sims, bool) or not isinstance(sims, int) or not 0 <= sims <= MAX_SIMULATIONS:
        raise BadRequestError(identity, f"sims must be a whole number from 0 to {MAX_SIMULATIONS}, not {_shown(sims)}.")
    return sims


def _seconds(identity: Identity, fields: dict[str, Any]) -> float | None:
    if "seconds" not in fields:
        return None
    seconds = fields["seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= MAX_SECONDS:
        wanted = f"a number above 0 and up to {MAX_SECONDS}"
        raise BadRequestError(identity, f"seconds must be {wanted}, not {_shown(seconds)}.")
    if "sims" in fields:
        raise BadRequestError(identity, "sims and seconds exclude each other: give one of them.")
    return float(seconds)


def _state(game: Game, identity: Identity, fields: dict[str, Any]) -> State:
    """The position with its moves played."""
    position = fields.get("position", "")
    if not isinstance(position, str):
        raise BadRequestError(identity, f"position must be a string, not {_kind(position)}.")
    moves = _moves(identity, fields)
    what = "position"
    try:
        state = game.parse_position(position) if "position" in fields else game.new_state()
        for number, move in enumerate(moves, 1):
            what = f"move {number}"
            state = game.play(state, game.parse_move(state, move))
    except WrongRequest as error:
        raise BadRequestError(identity, str(error) if what == "position" else f"{what}: {error}") from None
    except Exception as error:  # a game from another package may break on odd text: the program goes on
        raise BadRequestError(identity, f"the game cannot read this {what} ({type(error).__name__}).") from None
    return state


def _moves(identity: Identity, fields: dict[str, Any]) -> list[str]:
    moves = fields.get("moves", [])
    if not isinstance(moves, list):
        raise BadRequestError(identity, f"moves must be a list of strings, not {_kind(moves)}.")
    entries = cast("list[object]", moves)
    for number, move in enumerate(entries, 1):
        if not isinstance(move, str):
            raise BadRequestError(identity, f"moves must be a list of strings; entry {number} is {_kind(move)}.")
    return cast("list[str]", entries)


def _kind(value: object) -> str:
    if value is None:
        return "null"
    return KINDS[type(value)]


def _shown(value: object) -> str:
    if isinstance(value, list | dict):
        return _kind(cast("object", value))
    if isinstance(value, int) and abs(value) > 10**30:
        return "such a large number"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


# Reading lines: os.read in place of the buffered stream, whose lock a daemon thread would hold while Python leaves.


def _read(stdin: BinaryIO, lines: LineQueue) -> None:
    try:
        for line in split_lines(_chunks(stdin)):
            lines.put(line)
    except (OSError, ValueError):  # stdin was closed under us: the same as its end
        pass
    finally:
        lines.put(None)


def _chunks(stdin: BinaryIO) -> Callable[[], bytes]:
    try:
        descriptor = stdin.fileno()
    except (OSError, AttributeError):  # not a file: a test's BytesIO
        return lambda: stdin.read(1 << 16)
    return lambda: os.read(descriptor, 1 << 16)


def split_lines(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Lines of a byte stream; of a line longer than MAX_LINE only the first MAX_LINE + 1 bytes are kept."""
    kept = bytearray()
    while chunk := read():
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            yield bytes(kept + piece)[: MAX_LINE + 1]
            kept.clear()
        kept += rest
        del kept[MAX_LINE + 1 :]
    if kept:
        yield bytes(kept)
