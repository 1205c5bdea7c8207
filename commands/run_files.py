"""`az export-run` and `az import-run`: a run as one file, with its model, card and configuration. Needs no torch."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

from az.engine.errors import AzError, Refused, WrongRequest
from az.engine.inference.model_file import ModelFile
from az.engine.inference.model_resolver import resolve_model
from az.engine.printable import one_line, quoted
from az.engine.runs import archive
from az.engine.runs.archive import CHECKPOINT, MOST, Packed
from az.engine.runs.compare import told_of
from az.engine.runs.folders import NAME, RUNS, checkpoints, find_run
from az.engine.runs.strength import Measured, shown, words
from az.engine.runs.summary import IMPORTED
from az.engine.system.files import naming, sync_folder, write_atomic
from az.engine.system.safe_read import parse_json, read_regular
from az.train.config import from_toml

VARIANTS = ("int8", "fp16")
CHECKPOINT_FACTS = ("manifest.json", "state.json")
MANIFEST_OF = f"{CHECKPOINT}manifest.json"


def export_run(run: str, out: Path, force: bool, checkpoint: bool = False) -> dict[str, Any]:
    """Write a run's model (RUN: the newest; RUN@best, RUN@12) and what belongs to it into one file.

    checkpoint: the run's newest one too, from which `az train --from` can begin. Raises WrongRequest or Refused.
    """
    if out.exists() and not force:
        raise WrongRequest(f"'{out}' is there already: choose another name, or write over it with --force.")
    if not out.parent.is_dir():
        raise WrongRequest(f"there is no folder '{out.parent}': make it, or choose another place.")
    name, at, _ = run.rpartition("@")
    folder = find_run(name if at else run)
    model = resolve_model(f"{folder}@{run.rpartition('@')[2]}" if at else str(folder))
    told, card = told_of(folder), model.with_suffix(".json")
    config = read_regular(folder / "config.toml", MOST["config.toml"])
    from_toml(config.decode("utf-8", "replace"))
    checked = ModelFile(model)
    game = checked.metadata["game"]
    files = {"config.toml": config, "model.onnx": checked.data, "model.json": read_regular(card, MOST["model.json"])}
    for variant in VARIANTS:
        with suppress(FileNotFoundError, WrongRequest):
            files[f"model.{variant}.onnx"] = ModelFile(model.with_name(f"{model.stem}.{variant}.onnx")).data
    with suppress(FileNotFoundError):
        log = read_regular(folder / "log.jsonl", MOST["log.jsonl"])
        files["log.jsonl"] = log[: log.rfind(b"\n") + 1]  # a run that goes on may have written half a line
    if checkpoint:
        files |= _newest_checkpoint(folder)
    step = _step_of(files["model.json"])
    until = [one for one in told.measured if step is None or one.step <= step]
    score = {
        "model": model.stem,
        "step": step,
        "positions": told.summary.positions,
        "measured": [one.to_json() for one in until],
    }
    files["score.json"] = (json.dumps(score, indent=1) + "\n").encode()
    about = NAME.fullmatch(told.summary.name)
    packed = Packed(about[0] if about else "run", game, model.stem, files)
    files["README.md"] = model_card(packed, told.config, until, step).encode()
    archive.write(out, packed)
    sizes = {part: len(data) for part, data in files.items()}
    return {"file": str(out), "run": packed.name, "game": game, "model": model.stem, "step": step, "files": sizes}


def _newest_checkpoint(folder: Path) -> dict[str, bytes]:
    """Its files; of a newer one where the run removes it meanwhile. Raises WrongRequest where there is none."""
    names = [name.removeprefix(CHECKPOINT) for name in MOST if name.startswith(CHECKPOINT)]
    for path in reversed(checkpoints(folder)):
        with suppress(FileNotFoundError):
            there = [name for name in names if name != "average.safetensors" or (path / name).exists()]
            return {CHECKPOINT + name: read_regular(path / name, MOST[CHECKPOINT + name]) for name in there}
    raise WrongRequest(f"the run '{folder.name}' has no checkpoint: leave --checkpoint out.")


def _step_of(card: bytes) -> int | None:
    told = parse_json(card)
    step = cast("dict[str, Any]", told).get("step") if isinstance(told, dict) else None
    return step if isinstance(step, int) else None


def model_card(packed: Packed, config: dict[str, Any], measured: list[Measured], step: int | None) -> str:
    """The README.md of a model, with the front matter that model hubs read."""
    newest = {one.scale: one for one in measured}
    tags = ["alphazero", "board-game", "onnx", packed.game]
    head = ["---", "library_name: az", "pipeline_tag: reinforcement-learning", "tags:"]
    head += [f"- {json.dumps(tag)}" for tag in tags]
    if newest:
        head += ["model-index:", f"- name: {json.dumps(packed.name)}", "  results:", "  - task:"]
        head += ["      type: reinforcement-learning", "    dataset:", f"      name: {json.dumps(packed.game)}"]
        head += [f"      type: {json.dumps(packed.game)}", "    metrics:"]
        for one in newest.values():
            kind = json.dumps(one_line(words(one.scale), 200))
            head += ["    - type: strength", f"      name: {kind}", f"      value: {one.value:.6g}"]
    about = f"A network for the game {packed.game}, trained by self-play with az: run `{packed.name}`"
    text = [*head, "---", "", f"# {packed.name}", "", f"{about}, model {packed.model}, step {step or 0:,}.", ""]
    text += ["## Strength", "", "| scale | measured |", "|---|---|"] if newest else []
    text += [f"| {_cell(words(one.scale))} | {shown(one)}, step {one.step:,} |" for one in newest.values()]
    text += ["", "The network alone on solved positions; intervals are of 95 %."] if "solved" in newest else []
    text += ["", "## Use", "", "```", f"az import-run FILE        # the run, as runs/{packed.name}"]
    text += [f"az play {packed.game} --model model.onnx", "```", ""]
    text += ["| file | holds |", "|---|---|"]
    text += [f"| {name} | {_HOLDS[name]} |" for name in (*packed.files, "README.md") if name in _HOLDS]
    text += ["", "## Configuration", "", "| key | value |", "|---|---|"]
    keys = [key for key in config if key.partition(".")[0] in ("preset", "seed", "net", "learner", "selfplay")]
    text += [f"| {_cell(key)} | {_cell(str(config[key]))} |" for key in keys]
    return "\n".join(text) + "\n"


_HOLDS = {
    "model.onnx": "the network, float32: planes in, policy logits and value out",
    "model.int8.onnx": "the same in int8",
    "model.fp16.onnx": "the same in float16",
    "model.json": "its checksums, sizes and what publishing measured",
    "config.toml": "the configuration of the run, every key with its meaning",
    "score.json": "every measurement of its strength",
    "log.jsonl": "losses, speed and health metrics over the steps",
    "checkpoint.weights.safetensors": "a checkpoint, with the files beside it: `az train --from` begins from it",
}


def _cell(text: str) -> str:
    """Text in a table of Markdown, as text."""
    return "".join(f"\\{c}" if c in "\\|<>[]*_`&!" else c for c in one_line(text, 100))


def import_run(file: Path, name: str | None) -> dict[str, Any]:
    """Make runs/NAME of a file that `export_run` wrote. Raises WrongRequest or Refused; then nothing is left."""
    packed = archive.read(file)
    name = packed.name if name is None else name
    if not NAME.fullmatch(name):
        raise WrongRequest(f"'{one_line(name, 80)}' is no name for a run: use letters, digits, '-', '_' and '.'.")
    place = RUNS / name
    if place.exists() or place.is_symlink():
        raise _is_there(place)
    positions, step = _check(file, packed), _checkpoint_step(file, packed)
    RUNS.mkdir(exist_ok=True)
    building = RUNS / f".{name}.tmp-{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)  # of a killed process of the same number
    try:
        for part in ("models", "checkpoints", "records", "health"):
            (building / part).mkdir(parents=True)
        for part, data in packed.files.items():
            write_atomic(building / _place_of(part, packed, step), data)
        told: dict[str, Any] = {
            "name": packed.name,
            "model": packed.model,
            "model_sha256": _sum(packed.files["model.onnx"]),
        }
        told |= {"positions": positions}
        write_atomic(building / IMPORTED, (json.dumps(told, indent=1) + "\n").encode())
        _appear(building, place)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return {"run": name, "folder": str(place), "game": packed.game, "model": packed.model, "checkpoint": step}


def _place_of(part: str, packed: Packed, step: int | None) -> str:
    """Where a file of the archive lies in the folder of the run."""
    if part.startswith(CHECKPOINT):
        return f"checkpoints/step-{step or 0:09d}/{part.removeprefix(CHECKPOINT)}"
    return f"models/{packed.model}{part.removeprefix('model')}" if part.startswith("model.") else part


def _checkpoint_step(file: Path, packed: Packed) -> int | None:
    """Of the checkpoint inside; None where there is none. Its tensors are checked when training begins from it.

    Raises Refused where it is not whole, or is of another game.
    """
    found = {name: data for name, data in packed.files.items() if name.startswith(CHECKPOINT)}
    if not found:
        return None
    manifest, state = (_object(file, CHECKPOINT + name, found.get(CHECKPOINT + name, b"")) for name in CHECKPOINT_FACTS)
    sums = {name.removeprefix(CHECKPOINT): _sum(data) for name, data in found.items() if name != MANIFEST_OF}
    if manifest.get("files") != sums:
        raise Refused(f"{file}: its checkpoint is not the one of its manifest: export the run again.")
    step = state.get("step")
    if type(step) is not int or not 0 <= step < 10**13:
        raise Refused(f"{file}: its checkpoint does not say its step: export the run again.")
    if state.get("game") != packed.game:
        raise Refused(f"{file}: its checkpoint is of {quoted(state.get('game'))}, and the run is of {packed.game}.")
    return step


def _is_there(place: Path) -> WrongRequest:
    return WrongRequest(f"the run '{place}' is there already: choose another name with --name.")


def _appear(building: Path, place: Path) -> None:
    """Give the finished folder its name, and never take the place of a run that came meanwhile."""
    sync_folder(building)
    try:
        with naming(place):
            os.rename(building, place)
    except OSError:
        if place.exists():
            raise _is_there(place) from None
        raise
    sync_folder(place.parent)


def _check(file: Path, packed: Packed) -> int | None:
    """How many solved positions its models were measured on, where it says so.

    Raises Refused where the parts are not what they must be, or do not belong together.
    """
    try:
        config = from_toml(packed.files["config.toml"].decode())
    except (UnicodeDecodeError, AzError) as error:
        raise Refused(f"{file}: its config.toml is no configuration of a run: {error}") from None
    if config.game != packed.game:
        raise Refused(f"{file}: its configuration is of {config.game}, and its manifest names {packed.game}.")
    for part, data in packed.files.items():
        if part.endswith(".onnx"):
            model = ModelFile(f"{file}/{part}", data)
            if model.metadata["game"] != packed.game:
                raise Refused(f"{file}: {part} plays {model.metadata['game']}, and the run is of {packed.game}.")
    card, score = (_object(file, part, packed.files[part]) for part in ("model.json", "score.json"))
    if card.get("sha256") != _sum(packed.files["model.onnx"]):
        raise Refused(f"{file}: its model.json is the card of another model.")
    positions = score.get("positions")
    return positions if type(positions) is int and 0 < positions < 10**9 else None


def _object(file: Path, part: str, data: bytes) -> dict[str, Any]:
    try:
        found = parse_json(data)
    except ValueError as error:
        raise Refused(f"{file}: its {part} cannot be read: {error}.") from None
    if not isinstance(found, dict):
        raise Refused(f"{file}: its {part} is not an object.")
    return cast("dict[str, Any]", found)


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
