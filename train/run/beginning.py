"""Where a run begins from: its newest whole checkpoint, in a folder in which nothing later or half-made is left; or,
for a new one, the weights of another run (`az train --from`).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from az.engine.errors import Refused, WrongRequest
from az.engine.game import Game
from az.engine.inference.precision import files_of
from az.engine.runs.summary import IMPORTED
from az.train import checkpoint
from az.train.checkpoint_read import step_of
from az.train.config import RunConfig, with_settings
from az.train.grow import check_answers, check_growth, grow
from az.train.learner import Learner
from az.train.model import Network
from az.train.run.counters import Counters, check_resumable
from az.train.run.folder import RunFolder, way_on
from az.train.run.names import incident_folders, model_cards, model_files, strays_line

_torch: Any = torch  # its stubs leave the seed without a type
MODELS_KEPT = 20  # the newest, and every 50th


def find_checkpoint(
    folder: RunFolder, game: Game, learner: Learner, message: Callable[[str], None]
) -> checkpoint.Checkpoint | None:
    """The newest checkpoint that is whole, newer ones put aside; None in a run that has none yet.

    Raises Refused where a run has records and no whole checkpoint: beginning again would overwrite what may be mended.
    """
    run = folder.path
    found, reasons = checkpoint.latest(run, lambda one: check_resumable(one, game, learner))
    records = len(folder.record_files())
    if found is None and (reasons or records):
        have = f"run '{run}' has {'' if reasons else f'{records} record files and '}no whole checkpoint"
        way = reasons[0] if reasons else "put its folder checkpoints/ back, or begin another run with az train."
        raise Refused(f"{have}: {way}")
    folder.sweep()
    for line in (*reasons, strays_line(run)):
        if line:
            message(line)
    if found is not None:
        for path, reason in zip(reversed(checkpoint.folders(run)), reasons, strict=False):
            if step_of(path) >= found.step and path != found.path:  # or it would count as the newest from now on
                folder.quarantine(path, reason)
        checkpoint.settle(run)
    return found


def tidy(folder: RunFolder, count: Counters, keep_checkpoints: int, deterministic: bool) -> None:
    """End what the process before was about to remove; a deterministic run also forgets what comes again."""
    checkpoint.prune(folder.path, keep_checkpoints)
    if deterministic:
        for path in folder.record_files():
            if int(path.name.split("-")[1]) >= count.turns:
                path.unlink()
        for number, path in reversed(model_files(folder.models)):
            if number > count.model or count.published_step < 0:
                path.unlink()
        for number, path in incident_folders(folder.path / "health"):
            if number > count.incidents:
                shutil.rmtree(path)
    remove_old_models(folder, count)


def remove_old_models(folder: RunFolder, count: Counters) -> None:
    """Of the models stay the newest, every 50th and the best. Raises OSError."""
    newest, best = count.model, count.best.model if count.best is not None else -1
    cards = {number for number, _ in model_cards(folder.models)}
    for number, path in model_files(folder.models):
        old = number % 50 and number <= newest - MODELS_KEPT and number != best
        if path.suffix == ".json" and old:
            path.unlink()  # the card first: without it the model is not published
            for file in files_of(path.with_suffix(".onnx")):
                file.unlink(missing_ok=True)
        elif old and number not in cards:  # a kill came after the card
            path.unlink(missing_ok=True)


def find_source(text: str, runs: Path) -> checkpoint.Checkpoint:
    """The checkpoint meant by its folder, or by a run: that one's newest. Raises WrongRequest or Refused."""
    path = Path(text).expanduser()
    for run in (path, runs / text):
        if (run / "checkpoints").is_dir():
            found, reasons = checkpoint.latest(run)
            if found is None and not reasons and (run / IMPORTED).exists():
                raise WrongRequest(f"the run '{run.name}' was imported without a checkpoint: {way_on(run)}.")
            if found is None:
                raise Refused(reasons[0] if reasons else f"the run '{run}' has no checkpoint yet.")
            return found
    if not (path / "manifest.json").is_file():
        raise WrongRequest(f"'{text}' is no checkpoint: give a run, or a folder RUN/checkpoints/step-….")
    return checkpoint.load(path)


def fitted(config: RunConfig, source: checkpoint.Checkpoint, settings: list[str]) -> RunConfig:
    """The configuration with the network that the checkpoint holds, and of `settings` the sizes that make it larger.

    Raises WrongRequest where they make it another one.
    """
    own = replace(config, net=source.config.net)
    wanted = with_settings(own, [text for text in settings if text.strip().startswith("net.")])
    check_growth(own.net, wanted.net)
    return wanted


def planted(source: checkpoint.Checkpoint, game: Game, config: RunConfig) -> Callable[[Path], object]:
    """What writes the first checkpoint of a new run, of step 0: the source's weights, averaged ones and moments.

    In a larger network the moments begin again at 0.

    Raises Refused where they are of another game or do not fit the network or the optimizer.
    """
    source.check_game(game)
    _torch.manual_seed(config.seed)
    learner = _grown(source, game, config)
    _torch.manual_seed(config.seed)  # and not the source's random state: a seed makes the run
    extra = asdict(Counters(batches=checkpoint.numpy_state(np.random.default_rng(config.seed))))
    parts = 0, learner.model, learner.optimizer, learner.average, extra
    return lambda run: checkpoint.save(run, *parts, game=game, config=config)


def _grown(source: checkpoint.Checkpoint, game: Game, config: RunConfig) -> Learner:
    """A learner with what the source holds, in the network of the configuration: the same one or a larger."""
    shape = game.planes_shape, game.num_actions
    learner = Learner(Network(*shape, source.config.net), config.learner)
    source.restore(learner.model, learner.optimizer, learner.average)
    if config.net == source.config.net:
        return learner
    _torch.manual_seed(config.seed)  # after the source's random state, which `restore` has put back
    drawn = Network(*shape, config.net)
    larger = Learner(Network(*shape, config.net), config.learner)
    for old, new in ((learner.model, larger.model), (learner.average, larger.average)):
        if isinstance(old, Network) and isinstance(new, Network):
            new.load_state_dict(grow(old.state_dict(), drawn))
            check_answers(old, new)
    return larger
