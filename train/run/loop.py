"""One training run: self-play and learner side by side, or taking turns where a seed must give the same run again.

The run is handed publishing and scoring as callables (`Services`), so that training knows nothing of export.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from az.engine.errors import NothingToDo, Refused
from az.engine.game import load_game
from az.engine.inference.precision import Fallback
from az.engine.selfplay.autotune import plan_for
from az.engine.selfplay.warmup import warm_up
from az.engine.system.stopping import Stopped, on_stop_signal
from az.train import checkpoint
from az.train.config import RunConfig, to_toml
from az.train.learner import Learner, StepMetrics
from az.train.model import Network
from az.train.probe import Probe
from az.train.process import LearnerThreads, device_of
from az.train.replay import Batch, window_rows
from az.train.run import health_memory
from az.train.run.beginning import find_checkpoint, remove_old_models, tidy
from az.train.run.counters import Counters
from az.train.run.figures import figures
from az.train.run.folder import RunFolder
from az.train.run.guarded_step import GuardedLearner
from az.train.run.ingest import Ingest
from az.train.run.log import RunLog
from az.train.run.names import model_cards
from az.train.run.scores import Scores
from az.train.run.services import Pool, PoolStart, Selfplay, Services
from az.train.run.tensorboard import EventFile, grouped
from az.train.run.worker_pool import LocalSelfplay, first_job

MOST_REFUSALS = 3  # models refused one after the other before the run stops
BACKLOG_STEPS = 48  # steps that the learner may be behind before self-play rests
MORE = "give a larger total with --minutes or --steps."
SHOW_EVERY = 0.25  # seconds between two reports
LOG_EVERY = 20  # steps between two lines of the log


class Run:
    """Use as `Run(folder, config, services, report).train()`."""

    def __init__(
        self,
        folder: RunFolder,
        config: RunConfig,
        services: Services,
        report: Callable[[dict[str, Any]], None],
        message: Callable[[str], None],
        selfplay: Selfplay | None = None,  # where games are made; None: by processes of this machine
    ) -> None:
        self.folder, self.config, self.services = folder, config, services
        self.report, self.message, self.selfplay = report, message, selfplay or LocalSelfplay()
        self.game = load_game(config.game)
        self.count = Counters()
        self.stop_asked = False
        warm_up(self.game, message, lambda text: report({"stage": text}))  # before the clock starts
        torch.manual_seed(config.seed)
        self.device = device_of(config)
        self._set_threads()
        network = Network(self.game.planes_shape, self.game.num_actions, config.net)
        self.learner = Learner(network, config.learner, self.device)
        self.rng = np.random.default_rng(config.seed)
        folder.stamps = not config.deterministic
        values = bool(config.net.auxiliary), config.learner.td_lambda
        self.ingest = Ingest(folder, self.game, config.replay.window, self.message, *values)
        resumed = self._resume()
        self.begun = time.monotonic() - self.count.elapsed
        if self.count.finished and self._over():
            spent = f"{self._elapsed() / 60:.1f} minutes and {self.learner.steps:,} steps in all"
            raise NothingToDo(f"the run '{self.folder.path.name}' is finished, with {spent}: {MORE}")
        self.guarded = GuardedLearner(self.learner, self.game, config, folder.path, self.ingest, self.rng, self.message)
        self.ingest.on_refusal = self.guarded.file_refused
        self.guarded.on_incident = lambda place: self.report({"incident": str(place)})
        if self.count.health is not None:
            health_memory.restore(self.count.health, *self._watched(), seamless=config.deterministic)
        done = self.learner.steps if resumed else -1
        self.log = RunLog(folder.path / "log.jsonl", done)
        restarted = time.time() if resumed and not config.deterministic else None
        self.events = EventFile(folder.path, self.count.session, done, restarted, to_toml(config))
        self.probe = Probe(self.game, config.learner, folder.path, self.log.write, message)
        self.probe.keep(self.count.best)
        self.scores = Scores(services, config, self._progress(), message)
        self._clock = {name: time.monotonic() for name in ("publish", "checkpoint")} | {"show": 0.0}
        self._speed: list[tuple[float, int]] = []
        self._has_checkpoint = resumed
        self._latest: StepMetrics | None = None

    # -- beginning ---------------------------------------------------------------------------------------------

    def _set_threads(self) -> None:
        self.threads = LearnerThreads(self.config)
        torch.use_deterministic_algorithms(self.config.deterministic)
        # Weights and moments of outputs that are never legal decay into denormals, which cost a CPU many times more.
        torch.set_flush_denormal(True)

    def _resume(self) -> bool:
        """Go on from the newest checkpoint; False where there is none: the run begins."""
        found = find_checkpoint(self.folder, self.game, self.learner, self.message)
        if found is not None:
            found.restore(self.learner.model, self.learner.optimizer, self.learner.average)
            self.learner.steps = found.step
            self.count = Counters.read(found.extra)
            self.rng = checkpoint.numpy_from_state(self.count.batches)
        tidy(self.folder, self.count, self.config.keep_checkpoints, self.config.deterministic)
        self.ingest.load_all(self.count.forgotten_rows, self.count.gone)
        if found is not None:
            self.count.go_on(found.config, self.config, self.ingest.total_rows, found.step)
        if self.config.deterministic:
            self.count.session = 1  # a stop leaves no trace
        else:
            cards = [number for number, _ in model_cards(self.folder.models)]
            if max(cards, default=0) > self.count.model:  # of steps that have been lost
                self.count.model, self.count.published_step = max(cards), -1
            sessions = [int(path.name.partition("-")[0]) for path in self.folder.record_files()]
            self.count.session = max([self.count.session, *sessions]) + 1
            self.count.refusals = 0  # of models: counted for a session, or the first one would end this one
        return found is not None

    def _watched(self) -> tuple[Any, ...]:
        guarded = self.guarded
        return guarded.early_warnings, guarded.health_metrics, guarded.met, self.ingest.refused_by_writer

    # -- the two ways of training ------------------------------------------------------------------------------

    def train(self) -> None:
        """Train until the limit of time or steps, or until asked to stop; always leaves a checkpoint."""
        self.count.finished = False
        with on_stop_signal(self._stop_when_done):
            try:
                if not self._has_checkpoint or not model_cards(self.folder.models):
                    self._publish()
                if not self._has_checkpoint:
                    self._checkpoint()
                config = self.config
                plan = plan_for(self._newest(), self.game, config.selfplay, config.workers, config.provider)
                self.message(f"{plan.line}; {self.learner.precision_line()}")
                job = first_job(self.folder.path, config, plan, self.count.session, self.ingest.last_game + 1)
                parts = self.folder, self.game, config, plan, job, self.message, self.log.write
                start = PoolStart(*parts, stopping=lambda: self.stop_asked, show=self.report)
                if self.config.deterministic:
                    self._in_turns(start)
                else:
                    self._side_by_side(self.selfplay.pool(start))
                self._finish()
            finally:
                self.selfplay.close()
                self.services.close()
                self.events.close()
                self.log.close()

    def _side_by_side(self, pool: Pool) -> None:
        self.report({"stage": pool.doing})
        try:
            while not self._over():
                ready = self._may_train()
                pool.listen(0.0 if ready else 0.05, self._take, self.guarded.search_failed)
                resting = self._backlog() > BACKLOG_STEPS * self.config.learner.batch
                pool.pause(resting)
                self.threads.use(resting)
                if ready:
                    self.threads.timed(self._step)
                    self._publish_when_due()
                self._checkpoint_when_due()
                self._score_when_due()
                self._show()
        finally:
            pool.stop()

    def _in_turns(self, start: PoolStart) -> None:
        fallback = Fallback(lambda text, _: self.message(text))
        while not self._over():
            if (played := self.selfplay.play_turn(start, self._newest(), self.count.turns, fallback.loaded)) is None:
                return
            name, stats = played
            for fault in stats["faults"]:
                self.guarded.search_failed(fault)
            self._take(name, stats)
            self.count.turns += 1
            wanted = self.config.steps_per_turn or 1 << 60
            done = 0
            while done < wanted and self._may_train() and not self._over():
                self._step()
                self._publish_when_due()
                self._show()
                done += 1
            if not self._over():  # a stop goes on from the turn's beginning, the end has a checkpoint of its own
                self._publish_newest()
                self._checkpoint()

    def _may_train(self) -> bool:
        rows = self.ingest.total_rows
        return rows >= self.config.replay.min_rows and self._backlog() >= self.config.learner.batch

    def _backlog(self) -> float:
        """Rows that the learner may still draw before it must wait for self-play."""
        return self.count.left_to_draw(self.config, self.ingest.total_rows, self.learner.steps)

    def _over(self) -> bool:
        config = self.config
        out_of_time = config.minutes > 0 and not config.deterministic and self._elapsed() >= config.minutes * 60
        return self.stop_asked or out_of_time or 0 < config.steps <= self.learner.steps

    def _elapsed(self) -> float:
        return time.monotonic() - self.begun

    def _progress(self) -> float:
        """The share of the planned time or steps that is over, for the learning rate."""
        config = self.config
        parts = [0.0]
        if config.minutes > 0 and not config.deterministic:
            parts.append(self._elapsed() / (config.minutes * 60))
        if config.steps > 0:
            parts.append(self.learner.steps / config.steps)
        return min(1.0, max(parts))

    # -- one thing at a time -----------------------------------------------------------------------------------

    def _take(self, name: str, stats: dict[str, Any]) -> bool:
        if not self.ingest.take(self.folder.records / name, stats.get("writer", "")):
            return False
        for counter in ("games", "plies", "first_wins", "draws", "simulations"):
            setattr(self.count, counter, getattr(self.count, counter) + stats[counter])
        self._speed.append((time.monotonic(), self.count.plies))
        self._speed = self._speed[-40:]
        return True

    def _step(self) -> None:
        config, replay = self.config, self.ingest.replay
        window = window_rows(config.replay, replay.total_rows)
        batch = replay.sample(config.learner.batch, self.rng, window, config.learner.q_mix, config.learner.symmetries)
        try:
            metrics = self.guarded.step(batch, self._progress())
        finally:  # also where the run stops: what it leaves behind is begun from again
            if self.guarded.went_back is not None:
                self._replace_undone(self.guarded.went_back)
        if metrics is not None and (metrics.step % LOG_EVERY == 0 or metrics.step == 1):
            self._log_step(metrics, window, batch)

    def _log_step(self, metrics: StepMetrics, window: int, batch: Batch) -> None:
        measured, warnings = self.guarded.look(metrics, batch)
        for warning in warnings:
            self.message(str(warning))
            self.log.write("warning", warning.to_json())
        values: dict[str, Any] = {**asdict(metrics), "window": window, **self._totals(), "signs": measured}
        wall = 0.0 if self.config.deterministic else time.time()
        if not self.config.deterministic:
            values |= {"time": wall, "elapsed": self._elapsed()}
        self.log.write("step", values)
        self.events.scalars(grouped(values, measured), metrics.step, wall)
        self._latest = metrics

    def _replace_undone(self, first: int) -> None:
        """Steps from this one on were undone: what was made of them must not be the newest, nor be begun from."""
        self.guarded.went_back = None
        self.log.cut(self.learner.steps)
        self.events.cut(self.learner.steps, None if self.config.deterministic else time.time())
        self.scores.undo(first)
        self.count.best = self.probe.still_best(self.count.best, first)
        if self.count.published_step > first:
            self._publish()
        if not self.config.deterministic:  # there only the end of a turn can be begun from
            self._checkpoint(undone=first)

    def _totals(self) -> dict[str, Any]:
        return {
            "rows": self.ingest.total_rows,
            "games": self.count.games,
            "plies": self.count.plies,
            "simulations": self.count.simulations,
            "model": self.count.model,
        }

    def _publish_when_due(self) -> None:
        rules, now = self.config.replay, time.monotonic()
        by_steps = rules.publish_every_steps and self.learner.steps % rules.publish_every_steps == 0
        late = now - self._clock["publish"] >= rules.publish_every_seconds
        by_time = rules.publish_every_seconds and late and not self.config.deterministic
        if by_steps or by_time:
            self._publish()

    def _publish_newest(self) -> None:
        if self.count.published_step != self.learner.steps:
            self._publish()

    def _publish(self) -> None:
        first = not self._has_checkpoint
        number = 0 if first else self.count.model + 1
        for attempt in range(2):  # the second time for a fault that does not come back
            try:
                note = self.services.publish(self.learner, self.ingest.replay, self.folder.models, number)
                if note:
                    self.log.write("precision", {"step": self.learner.steps, "model": number, "text": note})
                break
            except Refused as refusal:
                self.count.refusals += 1
                self.message(f"model {number:06d} was refused: {refusal}")
                if first or self.count.refusals >= MOST_REFUSALS:
                    raise
                self.guarded.model_refused(refusal, number)
                if attempt:
                    return
            finally:
                self._clock["publish"] = time.monotonic()
        self.count.refusals = 0
        self.count.model = number
        self.count.published_step = self.learner.steps
        self._probe()

    def _probe(self) -> None:
        count, step = self.count, self.learner.steps
        count.best, thrown = self.probe.measure(self._newest(), count.model, step, count.best, self._progress())
        if thrown:
            wall = 0.0 if self.config.deterministic else time.time()
            self.events.scalars({f"solved/{phase}": share for phase, share in thrown.items()}, step, wall)
            self.report({"thrown": thrown["all"]})

    def _checkpoint_when_due(self) -> None:
        every = self.config.checkpoint_steps
        due_steps = every and self.learner.steps and self.learner.steps % every == 0
        late = time.monotonic() - self._clock["checkpoint"] >= self.config.checkpoint_minutes * 60
        if due_steps or late:
            self._checkpoint()

    def _checkpoint(self, undone: int | None = None) -> None:
        count = self.count
        gone = self.ingest.left_window()
        count.gone, count.forgotten_rows = gone, self.ingest.forgotten_rows
        count.elapsed = 0.0 if self.config.deterministic else self._elapsed()
        count.batches = checkpoint.numpy_state(self.rng)
        count.health, count.incidents = health_memory.remember(*self._watched()), self.guarded.last_incident
        self.log.sync()
        self.events.sync()
        learner = self.learner
        checkpoint.save(
            self.folder.path, learner.steps, learner.model, learner.optimizer, learner.average, asdict(count),
            game=self.game, config=self.config,
        )  # fmt: skip
        if undone is not None:
            checkpoint.withdraw(self.folder.path, undone, learner.steps)
        checkpoint.prune(self.folder.path, self.config.keep_checkpoints)
        self.folder.remove_records(gone)
        remove_old_models(self.folder, count)  # only now: the checkpoint before may have needed them
        self._has_checkpoint = True
        self._clock["checkpoint"] = time.monotonic()

    def _score_when_due(self) -> None:
        self._take_score(lambda: False)
        if self.scores.due(self._progress()):
            self.scores.start(self._newest(), self.learner.steps)

    def _newest(self) -> Path:
        return self.folder.models / f"{self.count.model:06d}.onnx"

    def _take_score(self, wait: Callable[[], bool]) -> None:
        score = self.scores.take(wait, self._elapsed(), self.log, self.events, self.report)
        self.count.score = self.count.score if score is None else score

    def _finish(self) -> None:
        if self.stop_asked:
            turn = "stopping: it goes on from the end of the last turn"
            self.message(turn if self.config.deterministic else "stopping: writing a checkpoint")
            if self.config.deterministic:
                return  # what was done since the last turn comes again
        self._publish_newest()
        self.count.finished = not self.stop_asked
        self._checkpoint()
        self._show(now=True)
        if self.config.arena.games and self.count.finished and not self.config.deterministic:
            self._take_score(lambda: not self.stop_asked)  # of one that is under way
            self.scores.start(self._newest(), self.learner.steps)
            self._take_score(lambda: not self.stop_asked)

    # -- for people --------------------------------------------------------------------------------------------

    def _show(self, now: bool = False) -> None:
        moment = time.monotonic()
        if not now and moment - self._clock["show"] < SHOW_EVERY:
            return
        self._clock["show"] = moment
        elapsed, rows, steps = self._elapsed(), self.ingest.total_rows, self.learner.steps
        self.report(figures(self.config, self.count, steps, rows, elapsed, self._speed, self._latest))

    def _stop_when_done(self, number: int) -> None:
        """In a signal handler, which may have interrupted any line: nothing is printed or written here."""
        if self.stop_asked and number == signal.SIGINT:  # Ctrl-C a second time
            raise Stopped(number)
        self.stop_asked = True
