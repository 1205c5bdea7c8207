"""Requests by their priority: what waits, what is searched now, what is cancelled, who is told what.

The request with the highest priority is searched first; among equals the oldest. One that comes later with a higher
priority is begun at once: what is searched then pauses, its trees kept, and goes on afterwards.
"""

from __future__ import annotations

import time
from bisect import insort
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

from az.engine.analysis import answers, lines
from az.engine.analysis.json_lines import BadRequestError, Identity
from az.engine.analysis.requests import Action, Effort, Request, nothing_left, read_request
from az.engine.analysis.work import Engine, Task, Work
from az.engine.errors import AzError
from az.engine.game import ONGOING

MAX_BATCH = 64  # positions
MAX_BATCH_SIMULATIONS = 100_000  # a tree takes memory for each simulation: big searches run alone
MAX_STARTED = 4  # searches begun, all but the last of them paused: each keeps its trees
MOST_LISTED = 100  # requests that `query` names

Json = dict[str, Any]


class Desk:
    """Takes lines, searches and answers; used by one thread."""

    def __init__(self, engine: Engine, tell: Callable[[Json], None], usual: Effort) -> None:
        self.engine, self.tell, self.usual = engine, tell, usual
        self.facts = answers.model_facts(engine.evaluator)
        self.waiting: list[tuple[tuple[int, int], Task]] = []  # by (-priority, arrival)
        self.started: list[Work] = []  # by priority; the last is searched
        self.bytes = 0  # of the lines that are not answered yet
        self._arrival = count()

    @property
    def busy(self) -> bool:
        """Whether there is something to search."""
        return bool(self.waiting or self.started)

    @property
    def has_room(self) -> bool:
        """Whether another line may be taken."""
        return len(self.waiting) < lines.MAX_WAITING and self.bytes < lines.MAX_WAITING_BYTES

    def accept(self, line: bytes) -> None:
        """One line of a program."""
        try:
            asked = read_request(self.engine.game, line, self.usual)
        except BadRequestError as bad:
            self.tell(answers.error(bad.identity, bad.sentence))
            return
        if isinstance(asked, Action):
            self._obey(asked)
            return
        turns = [(None, asked.state)] if asked.turns is None else asked.turns
        asked.left, self.bytes = len(turns), self.bytes + asked.size
        for turn, state in turns:
            task = Task(asked, state, turn)
            if self.engine.game.outcome(state) != ONGOING:
                self._answer(task, answers.over(self.engine.game, task))
            elif fault := self._forbidden(task):
                self._answer(task, answers.error(asked.identity, fault, turn))
            else:
                insort(self.waiting, ((-asked.priority, next(self._arrival)), task), key=lambda entry: entry[0])

    def _forbidden(self, task: Task) -> str | None:
        """Why a position of a whole game has no move that may be played, or None."""
        restriction = task.request.restriction
        return None if restriction is None else nothing_left(self.engine.game, restriction, task.state)

    # Searching.

    def step(self) -> None:
        """Search on: one evaluation of the most urgent work, and what is to be told after it."""
        work = self._most_urgent()
        if work is None:
            return
        try:
            done = work.step()
        except (AzError, MemoryError) as fault:
            self.started.remove(work)
            self._failed(work.tasks, fault)
            return
        if done:
            self.started.remove(work)
            self._finish(work)
        else:
            self._report(work)

    def _most_urgent(self) -> Work | None:
        """The work to go on with; begun now where something more urgent waits."""
        now = self.started[-1] if self.started else None
        if now is not None:
            nothing = not self.waiting or -self.waiting[0][0][0] <= now.priority
            if nothing or len(self.started) >= MAX_STARTED:
                return now
        tasks = self._next_batch()
        try:
            work = Work(self.engine, tasks, time.monotonic())
        except MemoryError as fault:
            self._failed(tasks, fault)
            return None
        self.started.append(work)
        return work

    def _next_batch(self) -> list[Task]:
        """The most urgent position, and those that may share its batch: no other priority, effort or restriction."""
        first = self.waiting[0][1]
        request = first.request
        batch = [first]
        if request.seconds is None and request.restriction is None and not first.alone:
            room = max(1, min(MAX_BATCH, MAX_BATCH_SIMULATIONS // max(1, request.simulations)))
            batch = [task for _, task in self.waiting if _alike(task, request)][:room]
        taken = {id(task) for task in batch}
        self.waiting = [entry for entry in self.waiting if id(entry[1]) not in taken]
        return batch

    def _failed(self, tasks: Sequence[Task], fault: AzError | MemoryError) -> None:
        """One position may have spoilt a batch: the others still get their answers."""
        if len(tasks) == 1:
            self._answer(tasks[0], answers.failure(tasks[0], fault))
            return
        for task in tasks:
            task.alone = True
            insort(self.waiting, ((-task.request.priority, -1), task), key=lambda entry: entry[0])

    def _finish(self, work: Work) -> None:
        for task in work.tasks:
            try:
                found = work.found(task, final=True)
            except (AzError, MemoryError) as fault:
                self._answer(task, answers.failure(task, fault))
            else:
                self._answer(task, answers.searched(self.engine, self.facts, task, found, work.spent, final=True))

    def _report(self, work: Work) -> None:
        """Tell what is known of those who want to hear it now."""
        now = time.monotonic()
        for task in work.tasks:
            every = task.request.report_every
            if every is None or now - task.told < every or not work.known:
                continue
            task.told = now
            found = work.found(task, final=False)
            self.tell(answers.searched(self.engine, self.facts, task, found, work.spent, final=False))

    def _answer(self, task: Task, answer: Json) -> None:
        """The last word about a position."""
        self._done(task.request)
        self.tell(answer)

    def _done(self, request: Request, positions: int = 1) -> None:
        request.left -= positions
        if request.left == 0:
            self.bytes -= request.size

    # Words about requests.

    def _obey(self, action: Action) -> None:
        said: Json = {"id": action.identity, "action": action.name}
        if action.name == "version":
            said = answers.version(action.identity, self.facts, self.usual)
        elif action.name == "query":
            said |= self._listed()
        elif action.name == "cancel":
            said |= {"of": action.of, "cancelled": self._cancel(lambda identity: identity == action.of)}
        else:
            said |= {"cancelled": self._cancel(lambda _: True)}
        self.tell(said)

    def _outstanding(self) -> dict[int, tuple[Request, str]]:
        """The requests not answered yet, by their object, with how each stands."""
        found: dict[int, tuple[Request, str]] = {}
        for work in reversed(self.started):
            state = "searching" if work is self.started[-1] else "paused"
            for task in work.tasks:
                found.setdefault(id(task.request), (task.request, state))
        for _, task in self.waiting:
            found.setdefault(id(task.request), (task.request, "waiting"))
        return found

    def _listed(self) -> Json:
        found = list(self._outstanding().values())
        return {
            "outstanding": len(found),
            "requests": [
                {"id": request.identity, "priority": request.priority, "state": state, "positions_left": request.left}
                for request, state in found[:MOST_LISTED]
            ],
        }

    def _cancel(self, chosen: Callable[[Identity], bool]) -> int:
        """Cancel requests, each with one line; how many."""
        gone = {key: request for key, (request, _) in self._outstanding().items() if chosen(request.identity)}
        self.waiting = [entry for entry in self.waiting if id(entry[1].request) not in gone]
        for work in self.started:
            for task in [task for task in work.tasks if id(task.request) in gone]:
                work.drop(task)
        self.started = [work for work in self.started if work.tasks]
        for request in gone.values():
            self._done(request, request.left)
            self.tell({"id": request.identity, "cancelled": True})
        return len(gone)


def _alike(task: Task, request: Request) -> bool:
    other = task.request
    same = (other.priority, other.simulations) == (request.priority, request.simulations)
    return same and other.seconds is None and other.restriction is None and not task.alone
