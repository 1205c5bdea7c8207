"""Replays the failing step from its bundle: does the fault come back, and is it the same one?"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from az.engine.errors import Refused, WrongRequest
from az.engine.game import load_game
from az.engine.printable import quoted
from az.engine.records.format import read_records
from az.engine.records.row_checks import check_records
from az.train.checkpoint import Checkpoint
from az.train.health.incident import Incident
from az.train.learner import Learner
from az.train.model import Network
from az.train.replay import Batch
from az.train.run.bundle import Bundle, environment
from az.train.run.guarded_step import GuardedLearner
from az.train.run.loop import device_of

ELSEWHERE = (
    "it lay in code that is not in the bundle (another loss, another loop, another az), in something that wrote into"
    " memory from outside, or it passed"
)


def replay_step(found: Bundle, run: Path | None) -> dict[str, Any]:
    """What the step does now: {"verdict", "text", "differs", …}, keys of `az doctor --json`. Nothing is written."""
    if "file" in found.incident.evidence and found.batch is None:
        return _file_again(found, run)
    if found.batch is None or found.state is None:
        missing = "the batch" if found.batch is None else "the state before the step"
        nothing = "no step failed" if found.batch is None and found.state is None else f"the bundle has no {missing}"
        return {"verdict": "not replayed", "text": f"{nothing}: there is none to run again"}
    then = dict(found.about.get("environment") or {})
    try:
        with _as_recorded(then, found.state.config.deterministic):
            now = run_step(found, found.state, found.batch)
            machine = environment()
    except (Refused, WrongRequest) as error:
        return {"verdict": "not replayed", "text": f"the step cannot be run again here: {error}"}
    except Exception as error:  # the step's own: other versions of torch refuse other things
        return {"verdict": "another end", "text": f"the step ended otherwise: {type(error).__name__}: {error}"}
    differs = {name: [value, machine.get(name)] for name, value in then.items() if value != machine.get(name)}
    return _compared(found.incident, now, differs)


def run_step(found: Bundle, state: Checkpoint, batch: Batch) -> Incident | None:
    """The learner as it was, one step under the recorder, exactly as a run takes it."""
    game, config = load_game(state.game), state.config
    state.check_game(game)
    network = Network(game.planes_shape, game.num_actions, config.net)
    learner = Learner(network, config.learner, device_of(config))
    state.restore(learner.model, learner.optimizer, learner.average)
    learner.steps = state.step
    guarded = GuardedLearner(
        learner, game, config, found.path, cast("Any", None), np.random.default_rng(0), lambda _: None
    )  # fmt: skip
    ended = guarded._try(batch, float(found.about.get("progress") or 0.0))
    return ended if isinstance(ended, Incident) else None


@contextmanager
def _as_recorded(then: dict[str, Any], deterministic: bool) -> Generator[None]:
    """Threads and the treatment of denormals as they were; afterwards as before."""
    threads, exact = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    random, flushed = torch.get_rng_state(), float(torch.tensor(1e-40) * 1.0) == 0.0
    wanted = then.get("threads")
    torch.set_num_threads(wanted if isinstance(wanted, int) and 0 < wanted <= 1024 else threads)
    if exact != deterministic:  # only then: the call takes seconds, for it imports torch's compiler
        torch.use_deterministic_algorithms(deterministic)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        if exact != deterministic:
            torch.use_deterministic_algorithms(exact)
        torch.set_flush_denormal(flushed)
        torch.set_rng_state(random)


def _compared(then: Incident, now: Incident | None, differs: dict[str, list[Any]]) -> dict[str, Any]:
    other = "; ".join(f"{quoted(name)}: {quoted(old)} then, {quoted(new)} now" for name, (old, new) in differs.items())
    where = f" (different here: {other})" if other else ""
    if now is None:
        text = f"run again, the step ends well{where}: {ELSEWHERE}"
        return {"verdict": "did not come back", "text": text, "differs": differs}
    made = {"differs": differs, "cause": now.cause, "op": now.op, "rows": now.rows, "evidence": now.evidence}
    if (now.cause, now.op, sorted(now.rows)) != (then.cause, then.op, sorted(then.rows)):
        text = f"run again, the step fails otherwise: {now.cause}" + (f" in {now.op}" if now.op else "") + where
        if then.causal_step != then.first_bad_step:
            text += f"; the cause was at step {then.causal_step}, which the bundle does not hold"
        return {"verdict": "another verdict", "text": text, **made}
    if differs:
        text = f"the same root cause on another machine: {other}"
        return {"verdict": "same verdict on another machine", "text": text, **made}
    numbers = json.loads(json.dumps(now.evidence.get("operands"))) == then.evidence.get("operands")
    numbers = numbers and now.evidence.get("end_digest") == then.evidence.get("end_digest")
    if then.replay == now.replay == "bit-exact" and numbers:
        text = (
            "bit-exact: versions, processor and threads are those of then, and so are the root cause and the end state"
        )
        return {"verdict": "bit-exact", "text": text, **made}
    return {"verdict": "same verdict", "text": "run again, the step fails in the same way with other numbers", **made}


def _file_again(found: Bundle, run: Path | None) -> dict[str, Any]:
    """A record file that was refused: is it still, and for the same reason?"""
    name = Path(str(found.incident.evidence["file"])).name
    place = None if run is None else next((p for p in (run / "quarantine" / name, run / "records" / name) if p.is_file()), None)  # fmt: skip  # noqa: E501
    if place is None:
        return {"verdict": "not replayed", "text": f"the record file {name} is gone"}
    game = load_game(str(found.about.get("game")))
    try:
        faults = check_records(game, read_records(place, game))
    except Refused as error:
        same = not found.incident.rows
        return {"verdict": "same verdict" if same else "another verdict", "text": f"read again: {error}"}
    if not faults:
        return {"verdict": "did not come back", "text": f"read again, {name} is good: the fault lay in the reading"}
    rows = [fault.row for fault in faults]
    same = rows == found.incident.rows
    text = f"read again, row {rows[0]} of {name}: {faults[0].field}: {faults[0].reason}; {len(rows)} bad rows in all"
    return {"verdict": "same verdict" if same else "another verdict", "text": text, "rows": rows}
