"""`az drill`: known faults put into short runs of the real code, each with a control run, and what az made of them.

A fault strikes at a place drawn from a seed that the diagnosing code never sees. The control is a run with the same
seed that never had the fault (for a bad file: that never had the file).
"""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from az.engine.errors import Refused
from az.engine.game import load_game
from az.export.run_services import RunServices
from az.train.config import RunConfig, with_settings
from az.train.health import Incident
from az.train.learner import Learner
from az.train.model import Network
from az.train.presets import preset
from az.train.run import bundle
from az.train.run.folder import RunFolder
from az.train.run.loop import Run

GAME = "tictactoe"
SETTINGS = (
    "net.channels=8", "net.blocks=1", "learner.batch=32", "replay.min_rows=64", "replay.window_start=2000",
    "replay.publish_every_steps=8", "selfplay.simulations=8", "selfplay.fast_simulations=8", "selfplay.slots=8",
    "games_per_turn=12", "steps_per_turn=8", "workers=1", "arena.games=0", "selfplay.precision=fp32",
    "deterministic=true", "checkpoint_minutes=1000",
)  # fmt: skip
STEPS = 24


@dataclass
class RunResult:
    """One short run: what it was given, and what came of it."""

    seed: int
    run: Run | None = None
    incidents: list[tuple[Path, Incident]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    states: dict[int, str] = field(default_factory=dict)  # the learner before each step
    end: str = ""
    stopped: str = ""
    truth: dict[str, Any] = field(default_factory=dict)  # what the injection did, for the judge only

    @property
    def steps(self) -> int:
        """Steps of the learner so far."""
        return self.run.learner.steps if self.run is not None else 0

    def warnings(self) -> list[str]:
        """The early warnings that were given."""
        return [text for text in self.said if text.startswith("early warning")]

    def clean(self) -> bool:
        """Nothing was found so far: what was broken for one step is mended once it has been named."""
        return self.run is None or not self.run.guarded.incidents


@dataclass(frozen=True)
class Fault:
    """A fault of the drill. judge: (before damage, cause exact) of the first incident, given the truth."""

    id: str
    words: str
    stage: str
    causes: tuple[str, ...]
    inject: Callable[[RunResult, random.Random], AbstractContextManager[Any]]
    exact: Callable[[RunResult, Incident], bool]
    settings: tuple[str, ...] = ()
    steps: int = STEPS
    control: Callable[[RunResult], AbstractContextManager[Any]] | None = None  # of the faulty result; None = plain
    around: Callable[[], AbstractContextManager[Any]] = nullcontext  # of both, such as another Adam
    must_warn: bool = False  # an early warning must have come before the incident


@dataclass
class FaultResult:
    """What the drill says of one fault and seed."""

    id: str
    seed: int
    detected: bool
    before_damage: bool
    cause_exact: bool
    recovery_equal: bool | None
    seconds: float | None
    diagnosis: str = ""  # or why the run stopped; "verdict" in JSON
    place: str = ""
    rows: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON."""
        return {"verdict" if name == "diagnosis" else name: value for name, value in vars(self).items()}


def config_of(seed: int, steps: int, settings: tuple[str, ...] = ()) -> RunConfig:
    """The short run's configuration."""
    return with_settings(preset(GAME, "quick"), [*SETTINGS, f"seed={seed}", f"steps={steps}", "minutes=0", *settings])


def train_with(result: RunResult, config: RunConfig, folder: Path, around: AbstractContextManager[Any]) -> RunResult:
    """Run it to its end, or to where it stops."""
    opened = RunFolder.create(folder, config)
    game = load_game(config.game)
    threads = torch.get_num_threads()
    try:
        with around:
            run = Run(opened, config, RunServices(game, config, result.said.append), lambda _: None, result.said.append)
            result.run = run
            before = run.guarded.step

            def step(batch: Any, progress: float) -> Any:
                result.states[run.learner.steps] = digest_of(run.learner)
                return before(batch, progress)

            run.guarded.step = step
            try:
                run.train()
            except Refused as refusal:
                result.stopped = str(refusal)
            result.end = f"{digest_of(run.learner)} {run.rng.bit_generator.state} {records_of(folder)}"
            told = zip(run.guarded.incidents, run.guarded.seconds, strict=True)
            result.incidents = [(path, replace(bundle.read(path).incident, seconds=spent)) for path, spent in told]
    finally:
        opened.unlock()
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    return result


def digest_of(learner: Learner) -> str:
    """Weights, buffers and the optimizer's state."""
    tensors = [*learner.model.state_dict().values()]
    for parameter in learner.parameters:
        state = learner.optimizer.state.get(parameter, {})
        tensors += [state[name] for name in sorted(state) if isinstance(state[name], torch.Tensor)]
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def records_of(folder: Path) -> str:
    """The record files that training may use, and the published models."""
    files = sorted([*(folder / "records").glob("[0-9]*.npz"), *(folder / "models").glob("[0-9]*.onnx")])
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


class Drill:
    """Runs faults and their control runs; a control run is shared where it is the same."""

    def __init__(self, root: Path) -> None:
        self.root, self._count = root, 0
        self._controls: dict[Any, RunResult] = {}

    def folder(self) -> Path:
        """A new place for a run."""
        self._count += 1
        return self.root / f"run-{self._count:04d}"

    def row(self, fault: Fault, seed: int) -> FaultResult:
        """One fault with one seed."""
        config = config_of(seed, fault.steps, fault.settings)
        result = RunResult(seed)
        places = random.Random(f"{fault.id} {seed}")
        with ExitStack() as stack:
            stack.enter_context(fault.around())
            train_with(result, config, self.folder(), fault.inject(result, places))
        control = self._control_run(fault, result, config)
        if not result.incidents:
            equal = result.end == control.end
            return FaultResult(fault.id, seed, False, False, False, equal, None, diagnosis=result.stopped)
        path, incident = result.incidents[0]
        named = incident.stage == fault.stage and incident.cause in fault.causes
        warned = not fault.must_warn or bool(result.warnings())
        before = self._undamaged(path, incident, control)
        equal = result.end == control.end
        exact = named and warned and fault.exact(result, incident)
        fields = incident.evidence.get("fields", [""])
        return FaultResult(
            fault.id, seed, True, equal if before is None else before, exact, equal, incident.seconds,
            f"{incident.stage}: {incident.cause}",
            " ".join(str(x) for x in (incident.op or fields[0], incident.module) if x),
            ",".join(map(str, incident.rows[:4])),
        )  # fmt: skip

    def _control_run(self, fault: Fault, result: RunResult, config: RunConfig) -> RunResult:
        key = (result.seed, fault.settings, fault.steps, fault.around, result.truth.get("control"))
        if key not in self._controls:
            control = RunResult(result.seed)
            with fault.around():
                train_with(control, config, self.folder(), fault.control(result) if fault.control else nullcontext())
            self._controls[key] = control
        return self._controls[key]

    def _undamaged(self, path: Path, incident: Incident, control: RunResult) -> bool | None:
        """Whether the state in the bundle is the control's before the same step; None where a bundle holds no state."""
        state = bundle.read(path).state
        if state is None:
            return None
        config, game = state.config, load_game(state.game)
        with torch.random.fork_rng(devices=[]):  # pyright: ignore[reportUnknownMemberType]
            learner = Learner(Network(game.planes_shape, game.num_actions, config.net), config.learner)
            state.restore(learner.model, learner.optimizer)
        return digest_of(learner) == control.states.get(incident.causal_step, "none")


@contextmanager
def temporary() -> Generator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="az-drill-") as name:
        yield Path(name)
