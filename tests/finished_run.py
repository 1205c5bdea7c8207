"""A run's folder with incidents in it, for the tests of `az doctor`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from make_models import make_run, small_config

from az.engine.game import load_game
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.records.format import write_records
from az.engine.selfplay.batch import SelfplayBatch
from az.train import learner as learner_module
from az.train.learner import Learner
from az.train.model import Network
from az.train.run.folder import RunFolder
from az.train.run.guarded_step import GuardedLearner
from az.train.run.ingest import Ingest
from az.train.run.log import RunLog

GAME = load_game("tictactoe")
RECORDS = "0001-000000-000.npz"


class FinishedRun:
    """A run's folder with one record file, a guarded over it, and the incidents that it met."""

    def __init__(self, path: Path) -> None:
        self.path = path
        config = small_config()
        self.config = replace(
            config,
            deterministic=False,
            selfplay=replace(config.selfplay, simulations=6, fast_simulations=6, precision="fp32"),
            learner=replace(config.learner, batch=16, q_mix=0.25),
        )
        make_run(path, config=self.config)
        evaluator = OnnxEvaluator(path / "models" / "000000.onnx", GAME)
        numbers = iter([(k, evaluator) for k in range(12)])
        games = list(SelfplayBatch(GAME, self.config.selfplay, 0, 4).play(lambda: next(numbers, None)))
        games.sort(key=lambda game: game.k)
        write_records(path / "records" / RECORDS, GAME, games, 0, self.config.selfplay.header())
        log = RunLog(path / "log.jsonl", 10**9)
        for step in range(20, 200, 20):
            signs = {
                "max_logit": 0.2 * step,
                "variance_ratio": 1e7 if step == 60 else 3.0,
                "moment_decay": float("nan"),
            }
            log.write("step", {"step": step, "total": 2.0, "grad_norm": 1.0, "max_logit": 0.2 * step, "signs": signs})
        log.write("warning", {"sign": "max_logit", "step": 180, "text": "the logits grow <fast>"})
        log.close()

    def incident(self, monkeypatch, poison=None, loss=None) -> Path:
        """Fly one step with a poisoned memory or another loss; the folder of what was met.

        A learner's step flushes denormals in its whole process; the tests after this one have them as they were.
        """
        flushed = flushes_denormals()
        try:
            return self._incident(monkeypatch, poison, loss)
        finally:
            torch.set_flush_denormal(flushed)

    def _incident(self, monkeypatch, poison, loss) -> Path:
        torch.manual_seed(0)
        learner = Learner(Network(GAME.planes_shape, GAME.num_actions, self.config.net), self.config.learner)
        ingest = Ingest(RunFolder(self.path), GAME, 1000, lambda _: None)
        ingest.load_all(0, [])
        rng = np.random.default_rng(1)
        guarded = GuardedLearner(learner, GAME, self.config, self.path, ingest, rng, lambda _: None)
        guarded._checked = True
        learner.step(ingest.replay.sample(16, rng, 1000))
        drawn = ingest.replay.sample(16, rng, 1000, symmetries=True)
        if poison is not None:
            poison(ingest.replay, drawn)
        batch = ingest.replay.gather(drawn.rows, drawn.symmetry, self.config.learner.q_mix)
        if loss is not None:
            monkeypatch.setattr(learner_module, "data_losses", loss)
        guarded.step(batch, 0.5)
        return guarded.incidents[0]


def flushes_denormals() -> bool:
    """Whether this process computes with 0 where a number is denormal."""
    return float(torch.tensor(1e-40) * 1.0) == 0.0


def add_incident(run: Path, told: dict[str, Any], page: str) -> None:
    """An incident, and the page that the doctor wrote of it."""
    folder = run / "health/incident-0001"
    folder.mkdir()
    (folder / "incident.json").write_text(json.dumps({"format": "az-incident", "incident": told}))
    (folder / "page.html").write_text(page)
