"""Every training step of a run under the flight recorder: checked before, watched after, undone on a fault."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from az.engine.errors import Refused, WrongRequest
from az.engine.game import Game
from az.engine.system.files import publish_folder
from az.train import checkpoint
from az.train.batch_check import check_batch
from az.train.config import RunConfig
from az.train.health import FlightRecorder, Incident
from az.train.health.early_warnings import EarlyWarning, EarlyWarnings
from az.train.health.history import KEPT
from az.train.health.incident import incident_of
from az.train.health.metrics import HealthMetrics
from az.train.health.preflight import Finding, preflight
from az.train.health.state.numba_passes import use_numba
from az.train.learner import Learner, StepMetrics, data_losses
from az.train.model import l2_parameters
from az.train.replay import Batch
from az.train.run import bundle
from az.train.run.incidents import of_file, of_model, of_search
from az.train.run.ingest import Ingest
from az.train.run.names import incident_folders

SAME_CAUSE = 3  # times that one cause is met before the run stops
SMALL_BATCH = 256  # rows of the batch on which training and evaluation mode are compared


@dataclass
class Moment:
    """What a step hangs on beside weights and batch, kept by the recorder: an earlier step run again has its own."""

    number: int = 0
    progress: float = 0.0  # the learning rate's
    threads: int = 1  # sums of other threads are added in another order


class GuardedLearner:
    """Runs the learner of a run. `step` returns None when the batch was given up."""

    def __init__(
        self, learner: Learner, game: Game, config: RunConfig, folder: Path, ingest: Ingest, random: Any,
        say: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.learner, self.game, self.config, self.folder, self.ingest = learner, game, config, folder, ingest
        self.say = say
        self.random, self.moment = random, Moment()
        self._progress: dict[int, float] = {}  # of the last steps
        also = [random, self.moment, *([] if learner.average is None else [learner.average])]
        use_numba()  # a run copies before every step, and has loaded numba for its games
        self.recorder = FlightRecorder(learner.model, learner.optimizer, extra_state=also, interval=1)
        self.early_warnings = EarlyWarnings()
        self.health_metrics = HealthMetrics(learner.model, learner.optimizer)
        self.met: Counter[str] = Counter()
        self._met_elsewhere: set[tuple[str, str]] = set()  # causes, and the other machines that met them
        self.incidents: list[Path] = []
        self.on_incident: Callable[[Path], None] = lambda _: None  # told the folder of each
        self.seconds: list[float] = []  # from detection to diagnosis, of each
        self.last_incident = max((number for number, _ in incident_folders(self.folder / "health")), default=0)
        self.went_back: int | None = None  # to this step; the caller that has read it sets it to None
        self._checked = config.health.preflight == "off"

    @property
    def signs(self) -> EarlyWarnings:
        """The old name of `early_warnings`, for one version."""
        return self.early_warnings

    @property
    def vitals(self) -> HealthMetrics:
        """The old name of `health_metrics`, for one version."""
        return self.health_metrics

    # -- one step ---------------------------------------------------------------------------------------------------

    def step(self, batch: Batch, progress: float) -> StepMetrics | None:
        """One step of the learner, or None. Raises Refused when the run must stop."""
        if not self._checked:
            self._preflight(batch, progress)
        begun = self.learner.steps
        for attempt in range(SAME_CAUSE):
            found = self._try(batch, progress)
            if not isinstance(found, Incident):
                return found
            self.learner.steps = begun
            self._report(found, batch, progress)
            if attempt == 0 and found.causal_step < begun and self._again_from(found.causal_step):
                if self.learner.steps < begun:
                    return None
                continue
            if attempt == 1:
                self.say(f"step {begun} failed twice: its batch is given up")
                return None
            if found.stage == "data":
                fresh = self._mended(batch, found.rows)
                if fresh is None:
                    return None
                batch = fresh
            elif found.stage == "loader":
                batch = self.ingest.replay.gather(batch.rows, batch.symmetry, self.config.learner.q_mix)
        return None

    def _try(self, batch: Batch, progress: float) -> StepMetrics | Incident:
        self.moment.threads = torch.get_num_threads()
        bad = check_batch(batch)
        if bad:
            return self._bad_rows(bad)
        self.recorder.step = self.moment.number = self.learner.steps
        self.moment.progress = self._progress[self.learner.steps] = progress
        self._progress.pop(self.learner.steps - KEPT, None)
        self.learner.optimizer.zero_grad(set_to_none=True)  # the step would: so they need not be copied before it
        incident = self.recorder.run(self._run_step, batch)
        if incident is None:
            metrics = self.recorder.value
            return self._too_far(metrics, batch) or metrics
        return incident

    def _run_step(self, rows: Batch) -> StepMetrics:
        self.learner.steps = self.moment.number
        self.moment.number += 1
        if torch.get_num_threads() != self.moment.threads:
            torch.set_num_threads(self.moment.threads)
        return self.learner.step(rows, self.moment.progress)

    def _bad_rows(self, bad: list[tuple[int, str, str]]) -> Incident:
        row, cause, field = bad[0]
        rows = [r for r, c, _ in bad if c == cause]
        step = self.learner.steps
        evidence = {"fields": [field], "text": [f"field {field}, row {row} of the batch"]}
        notes = ["found before the step: nothing was computed from it"]
        return incident_of(cause, "data", step, rows=rows, evidence=evidence, notes=notes)

    def _too_far(self, metrics: StepMetrics, batch: Batch) -> Incident | None:
        """A step that moved the weights farther than its optimizer can at the highest rate configured.

        Adam moves no weight by more than rate * max(1, (1 - beta1) / sqrt(1 - beta2)) a step (Kingma & Ba 2015, §2.1).
        """
        config, steps = self.config.learner, self.recorder.session.history.steps
        if config.optimizer != "adam" or not steps:
            return None
        beta1, beta2 = self.learner.optimizer.param_groups[0]["betas"]
        if beta1 >= math.sqrt(beta2):
            return None  # the bound does not hold
        reach = max(1.0, (1 - beta1) / math.sqrt(1 - beta2)) * 1.1
        count = sum(p.numel() for p in self.learner.parameters)
        moved, most = steps[-1].update, config.learning_rate * reach * math.sqrt(count)
        if moved <= most:
            return None
        return self._undone(metrics, batch, moved, most)

    def _undone(self, metrics: StepMetrics, batch: Batch, moved: float, most: float) -> Incident:
        begun, number, rate = time.perf_counter(), metrics.step - 1, self.config.learner.learning_rate
        snapshotter = self.recorder.session.snapshotter
        ended = [p.detach().clone() for p in self.learner.parameters]
        self.recorder.rewind(number)
        before = snapshotter.take(batch)
        self._run_step(batch)
        exact = all(torch.equal(a, b) for a, b in zip(ended, self.learner.parameters, strict=True))
        snapshotter.put_back(before)
        with _at_most(self.learner.optimizer, rate):
            self._run_step(batch)
        finite = all(bool(torch.isfinite(p).all()) for p in self.learner.parameters)
        snapshotter.put_back(before)
        used = float(metrics.lr)
        cause = "learning-rate-spike" if used > rate * 1.001 else "update-too-large"
        text = f"the weights moved by {moved:.4g}; at the highest rate configured ({rate:g}) they can by {most:.4g}"
        evidence = {"text": [text, f"learning rate of the step: {used:g}"], "moved": moved, "most": most, "rate": used}
        return incident_of(
            cause, "optimizer", number, exact, op="aten::_fused_adam_", evidence=evidence,
            counterfactual={"repair": f"the step at a learning rate of at most {rate:g}", "finite": finite},
            seconds=time.perf_counter() - begun,
        )  # fmt: skip

    # -- after a fault ----------------------------------------------------------------------------------------------

    def _again_from(self, step: int) -> bool:
        """Undo every step from this one on and make them again on the same batches; False where nothing was undone.

        What is drawn next is what would have been drawn without the fault. A step that fails again is the last one.
        """
        kept = [s for s in self.recorder.session.history.steps if s.step >= step]
        drawn = self.random.bit_generator.state
        if not kept or kept[0].step != step or not self.recorder.rewind(step):
            return False
        self.learner.steps = self.went_back = step
        self.say(f"went back to step {step}, which caused it")
        try:
            for one in kept:
                ended = self._try(one.batch, self._progress[one.step])
                if isinstance(ended, Incident):
                    self.learner.steps = one.step
                    self._report(ended, one.batch, self.moment.progress)
                    break
        finally:
            self.random.bit_generator.state = drawn
        return True

    def _mended(self, batch: Batch, rows: list[int]) -> Batch | None:
        """The same batch, its bad rows read from their files again; None when a file itself is bad."""
        if not self.ingest.reread(batch.rows[rows]):
            return None
        fresh = self.ingest.replay.gather(batch.rows, batch.symmetry, self.config.learner.q_mix)
        return None if check_batch(fresh) else fresh

    def _report(self, incident: Incident, batch: Batch, progress: float) -> None:
        """A fault of a step: the bundle holds the state before it and the batch."""
        torch.set_num_threads(self.moment.threads)  # an earlier step may have been redone with its own
        origins = [self._origin(int(batch.rows[r])) | {"batch_row": r} for r in incident.rows[:16]]
        folder, learner = self._next_incident(), self.learner
        checkpoint.save(_hidden(folder), learner.steps, learner.model, learner.optimizer, learner.average, {},
                        game=self.game, config=self.config)  # fmt: skip
        self._write(folder, incident, origins, progress, batch)

    def _next_incident(self) -> Path:
        return bundle.next_folder(self.folder / "health")

    def _origin(self, row: int) -> dict[str, Any]:
        try:
            return self.ingest.replay.origin(row)
        except WrongRequest:  # of an older batch: the row has left the window since
            return {"row_in_run": row}

    def file_refused(self, path: Path, refusal: Refused, writer: str = "") -> None:
        """A record file was put aside. writer: as in `_counts`."""
        incident, origins = of_file(path, refusal, self.learner.steps)
        self._write(self._next_incident(), incident, origins, counts=self._counts(incident, writer))

    def search_failed(self, fault: dict[str, Any]) -> None:
        """A game was stopped before a row of it was written."""
        incident, origins = of_search(fault, self.config.seed, self.learner.steps)
        counts = self._counts(incident, fault.get("node", ""))
        self._write(self._next_incident(), incident, origins, counts=counts)

    def _counts(self, incident: Incident, writer: str) -> bool:
        """Whether it counts among those that stop the run: of one other machine, the first of a cause. It is the pool
        that leaves a bad machine out; a cause that is met on several is the run's own.
        """
        machine = writer.rpartition(", ")[0] or writer  # a node's name ends in its id, another one whenever it joins
        met = incident.cause, machine
        if writer and met in self._met_elsewhere:
            return False
        self._met_elsewhere.add(met)
        return True

    def model_refused(self, refusal: Refused, number: int) -> None:
        """A gate refused a model."""
        self._write(self._next_incident(), of_model(refusal, number, self.learner.steps), [])

    def _write(
        self, folder: Path, incident: Incident, origins: list[dict[str, Any]], progress: float = 0.0,
        batch: Batch | None = None, counts: bool = True,
    ) -> None:  # fmt: skip
        """Write the bundle, say it, and stop where policy says so."""
        about = {"game": self.game.name, "run": self.folder.name, "progress": progress, "seed": self.config.seed}
        seconds = incident.seconds
        if self.config.deterministic:
            incident = replace(incident, seconds=0.0)  # of the clock
        bundle.write(_hidden(folder), incident, origins, about, batch, self.folder / "log.jsonl")
        publish_folder(_hidden(folder), folder)
        self.last_incident = int(folder.name.rpartition("-")[2])
        self.incidents.append(folder)
        self.seconds.append(seconds)
        self.met[incident.cause] += counts
        self.on_incident(folder)
        self.say(f"{incident}\n  the whole story: az doctor {folder}")
        if self.config.health.on_incident == "stop":
            raise Refused(f"stopped at an incident, as asked: see az doctor {folder}.")
        if counts and self.met[incident.cause] >= SAME_CAUSE:
            raise Refused(f"stopped: {incident.cause} was met {SAME_CAUSE} times: see az doctor {folder}.")

    # -- before the first step, and between steps --------------------------------------------------------------------

    def _preflight(self, batch: Batch, progress: float) -> None:
        self._checked = True
        findings = self.findings(batch, progress)
        for finding in findings:
            self.say(f"before training: {finding}")
        if findings and self.config.health.preflight == "stop":
            names = ", ".join(f.cause for f in findings)
            raise Refused(
                f"the step does not do what it should ({names}): mend it, or train all the same with"
                " --set health.preflight=warn."
            )

    def findings(self, batch: Batch, progress: float) -> list[Finding]:
        """What one step on this batch leaves out; nothing is changed."""
        learner, kernels = self.learner, {id(p) for p in l2_parameters(self.learner.model)}
        decayed = (
            [n for n, p in learner.model.named_parameters() if id(p) in kernels] if self.config.learner.l2 else None
        )
        steps = learner.steps

        def run_step(rows: Batch) -> StepMetrics:
            learner.steps = steps
            return learner.step(rows, progress)

        also = [learner.average] if learner.average is not None else []
        try:
            return preflight(learner.model, learner.optimizer, run_step, batch, extra_state=also, decayed=decayed)
        except Refused:
            return []  # a step that is not finite: the recorder will say why
        finally:
            learner.steps = steps

    def look(self, metrics: StepMetrics, batch: Batch) -> tuple[dict[str, float], list[EarlyWarning]]:
        """The health metrics of now, and the warnings that are due."""
        rows = min(SMALL_BATCH, len(batch.value))
        values = self.health_metrics.look(metrics.step, metrics.grad_norm, lambda: self._loss(batch, rows))
        values |= {"max_logit": metrics.max_logit, "max_pre_tanh": metrics.max_pre_tanh}
        values["bad_files"] = float(max(self.ingest.refused_by_writer.values(), default=0) >= SAME_CAUSE)
        return values, self.early_warnings.look(metrics.step, values)

    def _loss(self, batch: Batch, rows: int) -> float:
        device = self.learner.device
        planes, policy, mask, value = (
            torch.from_numpy(a[:rows]).to(device) for a in (batch.planes, batch.policy, batch.mask, batch.value)
        )
        logits, guess = self.learner.model(planes)
        losses = data_losses(logits, guess, policy, mask, value, self.config.learner.masked_loss)
        return float(losses[0] + losses[1])


def _hidden(folder: Path) -> Path:
    """Where an incident is put together: it appears whole, or not at all."""
    return folder.with_name(f".{folder.name}.tmp-{os.getpid()}")


@contextmanager
def _at_most(optimizer: torch.optim.Optimizer, rate: float) -> Any:
    """Optimizer steps with a learning rate of at most `rate`."""

    def lower(*_: Any) -> None:
        for group in optimizer.param_groups:
            group["lr"] = min(float(group["lr"]), rate)

    handle = optimizer.register_step_pre_hook(lower)
    try:
        yield
    finally:
        handle.remove()
