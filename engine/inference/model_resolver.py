"""Which model file a person means: a path, a run, or the name of a model that ships with az."""

from __future__ import annotations

import re
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from az.engine.errors import WrongRequest
from az.engine.inference.model_file import ModelFile
from az.engine.inference.precision import is_variant
from az.engine.printable import quoted
from az.engine.system.safe_read import read_json

if TYPE_CHECKING:  # onnxruntime takes a quarter of a second to import: only for those who evaluate
    from az.engine.game import Game
    from az.engine.inference.evaluator import Float32
    from az.engine.inference.onnx_evaluator import OnnxEvaluator

RUNS = Path("runs")
MOST_BEST = 4096  # bytes of best.json
NUMBERED = re.compile(r"[0-9]{6,12}\.onnx")  # of a run; other names there are not models that it has published
# The package data of az.models. (importlib.resources cannot see a package without code in an editable install.)
SHIPPED = Path(__file__).resolve().parents[2] / "models"


def resolve_model(text: str) -> Path:
    """The ONNX file meant by a path to one, a run (its newest model; RUN@best, RUN@12) or the name of a shipped model.

    Raises WrongRequest that names what comes near.
    """
    path = Path(text).expanduser()
    if path.is_file():
        if path.suffix != ".onnx":
            raise WrongRequest(
                f"'{text}' is not an ONNX file: give a .onnx file, a run or the name of a shipped model."
            )
        return path
    for run in (path, RUNS / text):
        if text.strip() and run.is_dir():
            return _newest_of(run, text)
    name, at, which = text.rpartition("@")
    for run in (Path(name).expanduser(), RUNS / name):
        if at and name.strip() and run.is_dir():
            return _version_of(run, which)
    shipped = _shipped()
    name = text.removesuffix(".onnx")
    if name in shipped:
        return shipped[name]
    if path.suffix == ".onnx" or "/" in text or "\\" in text:
        raise WrongRequest(f"there is no model file or run '{text}': {_offer(path.stem, list(shipped))}.")
    raise WrongRequest(f"there is no model '{text}': {_offer(text, [*shipped, *_runs()])}.")


def load_evaluator(text: str, game: Game | None = None, threads: int = 1) -> OnnxEvaluator:
    """The checked evaluator of the model meant by `text`; `game`: the one that is wanted."""
    from az.engine.inference.onnx_evaluator import OnnxEvaluator

    path = resolve_model(text)
    evaluator = OnnxEvaluator(path, game, threads)
    evaluator.name = short_name(path)
    return evaluator


class LateEvaluator:
    """A model whose file has been read and checked already, and whose network is loaded at the first question."""

    def __init__(self, text: str, game: Game) -> None:
        path = resolve_model(text)
        self._file = ModelFile(path)
        self.game = self._file.game(game)
        self.name, self.model_id = short_name(path), self._file.model_id
        self._network: OnnxEvaluator | None = None

    def load(self) -> OnnxEvaluator:
        """The network. Raises Refused when onnxruntime cannot use the model."""
        if self._network is None:
            from az.engine.inference.onnx_evaluator import OnnxEvaluator

            self._network = OnnxEvaluator(self._file.path, self.game, data=self._file.data)
            self._network.name = self.name
        return self._network

    def evaluate(self, planes: Float32, logits: Float32, values: Float32) -> None:
        self.load().evaluate(planes, logits, values)


def short_name(path: Path) -> str:
    """What people see of a model: connect4 for a shipped one, RUN/000012 for a run's, otherwise the file's name."""
    path = path.resolve()
    if path.parent == SHIPPED:
        return path.stem
    return f"{path.parent.parent.name}/{path.stem}" if path.parent.name == "models" else path.name


def shipped_models() -> list[str]:
    """Names of the models that come with az."""
    return sorted(_shipped())


def default_model(game_name: str) -> Path | None:
    """The shipped model of a game, when there is one."""
    return _shipped().get(game_name)


def published_models(folder: Path) -> list[Path]:
    """The published models of a `models` folder, oldest first: without its card a model is not published."""
    numbered = [path for path in folder.glob("[0-9]*.onnx") if NUMBERED.fullmatch(path.name)]
    return sorted((path for path in numbered if path.with_suffix(".json").is_file()), key=lambda path: int(path.stem))


def newest_model(folder: Path) -> Path | None:
    """The published model with the highest number."""
    published = published_models(folder)
    return published[-1] if published else None


def _newest_of(run: Path, text: str) -> Path:
    folder = run / "models" if (run / "models").is_dir() else run
    newest = newest_model(folder)
    if newest is None:
        raise WrongRequest(f"'{text}' holds no published model: give a run that has published one, or a .onnx file.")
    return newest


def _version_of(run: Path, which: str) -> Path:
    """The model of a run that is named by its number, or as the best that its run has measured."""
    number = which
    if which == "best":
        about: Any = None
        with suppress(OSError, ValueError):
            about = read_json(run / "best.json", MOST_BEST)
        number = cast("dict[str, Any]", about).get("model") if isinstance(about, dict) else None
        if not isinstance(number, str):
            raise WrongRequest(f"run '{run.name}' has not named its best model: without @best its newest is meant.")
    found = {int(path.stem): path for path in published_models(run / "models")}
    if not (number.isascii() and number.isdigit() and len(number) <= 12 and int(number) in found):
        have = f"it has {min(found)} to {max(found)}, and best" if found else "it has none yet"
        raise WrongRequest(f"run '{run.name}' has no model '{quoted(number)}' now: {have}.")
    return found[int(number)]


def _shipped() -> dict[str, Path]:
    return {path.stem: path for path in SHIPPED.glob("*.onnx") if not is_variant(path)}


def _runs() -> list[str]:
    return sorted(path.parent.name for path in RUNS.glob("*/models"))


def _offer(wrong: str, names: list[str]) -> str:
    near = get_close_matches(wrong, names, 3)
    if near:
        return f"did you mean {' or '.join(near)}? Otherwise give a .onnx file or a run"
    shipped = shipped_models()
    known = f"a shipped model ({', '.join(shipped)})" if shipped else "a shipped model (there are none yet)"
    return f"give a .onnx file, a run under {RUNS}/, or {known}"
