"""Publishing: finite gate → ONNX in memory → the engine's own checks → parity → the file, then its card.

A model counts as published only when its card is there, and the card is written last; whatever is refused or killed
on the way leaves nothing that a reader would take for a model.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

from az.engine.errors import Refused, WrongRequest
from az.engine.game import Game, load_game
from az.engine.inference.model_resolver import newest_model
from az.engine.inference.onnx_evaluator import FORMAT, OnnxEvaluator, encode_floats
from az.engine.inference.precision import files_of, is_variant, variant_of
from az.engine.system.files import write_atomic
from az.export.finite import Violation, first_non_finite
from az.export.node_parity import parting
from az.export.onnx_file import model_of, sealed
from az.export.parity import LIMIT, Parity, Positions, compare, random_positions, torch_answers
from az.export.quantization_gate import variant_bytes_of
from az.train import checkpoint as checkpoint_files
from az.train.config import NetConfig
from az.train.model import Network
from az.train.run.folder import RUNS
from az.train.run.incidents import BadModel

CHECKED_IN_FILE = 8  # positions whose answers the file carries
PARITY_POSITIONS = 33  # odd, so that the full batch is no multiple of a vector's width
VARIANT_POSITIONS = 256  # half of them calibrate, the others judge


@dataclass(frozen=True)
class Candidate:
    """What is offered for publishing. The tensors are copied first: what is checked is what is written."""

    state: Mapping[str, Tensor]  # the network's state dict: weights and buffers
    game: Game
    net: NetConfig
    step: int
    preset: str
    also: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])  # must be finite too: `optimizer/…`
    stamp: bool = True  # the card carries the time of day; False where a seed must give the same bytes
    variant: str | None = None  # publish an int8 or fp16 variant too, if it is good enough


@dataclass(frozen=True)
class Published:
    """A model that readers can see."""

    path: Path
    model_id: str
    card: dict[str, Any]


def publish(candidate: Candidate, folder: Path, number: int, positions: Positions | None = None) -> Published | Refused:
    """Write `folder`/NNNNNN.onnx and its card, or return (not raise) the refusal and leave nothing behind."""
    path = folder / f"{number:06d}.onnx"
    last = newest_model(folder)
    hint = f"the last good model is {last.name}" if last else "no model has been published before it"
    return _publish(candidate, path, positions, hint)


def export_checkpoint(checkpoint: Path, out: Path) -> Published:
    """The command `az export`: a checkpoint's network as the file `out`, and its card beside it.

    `checkpoint`: its folder, or a run (the newest whole one). Averaged weights where there are any, as in a run.
    Raises WrongRequest, or Refused when the checkpoint is damaged or a gate refuses.
    """
    if out.is_dir():
        raise WrongRequest(f"'{out}' is a folder: name the file to write, such as model.onnx.")
    if out.suffix != ".onnx":
        raise WrongRequest(f"'{out}' does not end in .onnx: name the file to write, such as model.onnx.")
    if is_variant(out):
        raise WrongRequest(f"'{out}' is the name of a variant of another model: name the file, such as model.onnx.")
    found = _load_checkpoint(checkpoint)
    game = load_game(found.game)
    found.check_game(game)
    also = {f"optimizer/{name}": tensor for name, tensor in found.optimizer.items()}
    if found.average is not None:
        also |= {f"weights/{name}": tensor for name, tensor in found.weights.items()}
    state = found.weights if found.average is None else found.average
    candidate = Candidate(state, game, found.config.net, found.step, found.config.preset, also)
    try:
        result = _publish(candidate, out, None, f"the checkpoint is '{found.path}'")
    except OSError as error:
        raise WrongRequest(f"'{out}' cannot be written ({error.strerror}): name another file.") from None
    if isinstance(result, Refused):
        raise result
    return result


def _load_checkpoint(path: Path) -> checkpoint_files.Checkpoint:
    if not path.exists() and (RUNS / path / "checkpoints").is_dir():
        path = RUNS / path
    if (path / "checkpoints").is_dir():
        found, reasons = checkpoint_files.latest(path)
        if found is None:
            raise Refused(f"run '{path}' has no whole checkpoint: {reasons[0] if reasons else 'none was written yet.'}")
        return found
    if not (path / "manifest.json").is_file():
        raise WrongRequest(f"'{path}' is no checkpoint: give a folder RUN/checkpoints/step-… or a run.")
    return checkpoint_files.load(path)


def _publish(candidate: Candidate, path: Path, positions: Positions | None, hint: str) -> Published | Refused:
    try:
        made = _made(candidate, path.name, positions)
    except Refused as refusal:
        text = f"{str(refusal).rstrip('.')}; {path.name} is not published, {hint}."
        if isinstance(refusal, BadModel):
            return BadModel(text, refusal.tensor, refusal.node, refusal.op, refusal.module)
        return Refused(text)
    data, facts = made.data, made.facts
    small, small_facts = _small(candidate.variant, candidate.game, made, path) if candidate.variant else (None, {})
    card = {
        **facts,
        "file": path.name,
        "model_id": hashlib.sha256(data).hexdigest()[:16],
        "sha256": hashlib.sha256(data).hexdigest(),
        **small_facts,
    }
    if candidate.stamp:
        card["time"] = datetime.now(UTC).isoformat(timespec="seconds")
    card_path = path.with_suffix(".json")
    with contextlib.suppress(FileNotFoundError):  # a card of an older file of that name must not vouch for this one
        card_path.unlink()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data)
    for file in files_of(path)[1:]:
        file.unlink(missing_ok=True)
    if small is not None and candidate.variant:
        write_atomic(variant_of(path, candidate.variant), small)
    write_atomic(card_path, (json.dumps(card, indent=1) + "\n").encode())
    return Published(path, card["model_id"], card)


def _small(variant: str, game: Game, made: _Made, path: Path) -> tuple[bytes | None, dict[str, Any]]:
    """(the variant's bytes or None, what the card says of it). A variant that is refused does not stop the model."""
    name = variant_of(path, variant).name
    try:
        data, difference = variant_bytes_of(variant, made.network, made.graph, game, made.positions, made.facts, name)
    except Refused as refusal:
        return None, {f"{variant}_refused": str(refusal)}
    return data, {f"{variant}_model_id": hashlib.sha256(data).hexdigest()[:16], **difference.facts()}


def onnx_bytes_of(candidate: Candidate, name: str, positions: Positions | None = None) -> tuple[bytes, dict[str, Any]]:
    """(the file's bytes, its facts for the card), through every gate. Raises Refused naming what failed."""
    made = _made(candidate, name, positions)
    return made.data, made.facts


@dataclass(frozen=True)
class _Made:
    """A model that went through every gate, and what it was made from."""

    data: bytes
    facts: dict[str, Any]
    network: Network
    graph: onnx.ModelProto
    positions: Positions


def _made(candidate: Candidate, name: str, positions: Positions | None) -> _Made:
    game = candidate.game
    state = {key: tensor.detach().to("cpu", copy=True).contiguous() for key, tensor in candidate.state.items()}
    _gate(first_non_finite({**state, **candidate.also}))
    network = load_network(state, game, candidate.net)
    model = model_of(network)
    if isinstance(model, Violation):
        _gate(model)
        raise AssertionError  # _gate raises for every Violation
    positions = positions or random_positions(game, VARIANT_POSITIONS if candidate.variant else PARITY_POSITIONS)
    compared = Positions(positions.planes[:PARITY_POSITIONS], positions.legal[:PARITY_POSITIONS])
    logits, values = torch_answers(network, compared.planes)
    facts = {
        "format": int(FORMAT),
        "game": game.name,
        "game_version": game.version,
        "planes_shape": list(game.planes_shape),
        "num_actions": game.num_actions,
        "step": candidate.step,
        "preset": candidate.preset,
        "precision": "fp32",
        "weights_sha256": _weights_hash(state),
    }
    metadata = {key: ",".join(map(str, fact)) if isinstance(fact, list) else str(fact) for key, fact in facts.items()}
    carried = {"check_planes": compared.planes, "check_logits": logits, "check_values": values}
    metadata |= {key: encode_floats(array[:CHECKED_IN_FILE]) for key, array in carried.items()}
    try:
        evaluator = OnnxEvaluator(name, game, provider="cpu", data=sealed(model, metadata))
        parity = compare((logits, values), evaluator, compared)
    except Refused as refusal:
        at = parting(network, model, compared.planes)
        raise (at.refused(str(refusal)) if at else refusal) from None
    if not parity.ok:
        raise _disagreement(network, model, compared, parity)
    facts |= {"parity_error": parity.error, "parity_where": parity.where}
    data = sealed(model, {**metadata, "parity_error": f"{parity.error:.3g}"})
    return _Made(data, facts, network, model, positions)


def load_network(state: Mapping[str, Tensor], game: Game, net: NetConfig) -> Network:
    """The network with these tensors (not copies), in evaluation mode. Raises Refused when they do not fit."""
    with torch.device("meta"):  # no memory, and no numbers drawn from the learner's random state
        network = Network(game.planes_shape, game.num_actions, net)
    try:
        network.load_state_dict(dict(state), assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise Refused(f"the tensors do not fit the network of {game.name} ({reason})") from None
    return network.eval().requires_grad_(False)


def _gate(violation: Violation | None) -> None:
    if violation is not None:
        name = violation.tensor.partition(" with ")[0].removeprefix("weights.").removeprefix("weights/")
        if name.startswith("optimizer."):  # optimizer.exp_avg.blocks.0.conv1.weight
            name = name.split(".", 2)[-1]
        raise BadModel(str(violation), tensor=violation.tensor, module=name.rpartition(".")[0] or None)


def _disagreement(network: Network, model: onnx.ModelProto, compared: Positions, parity: Parity) -> Refused:
    text = (
        f"onnxruntime and torch differ by {parity.error:.2g} for the same weights (allowed: {LIMIT:g}; {parity.where})"
    )
    at = parting(network, model, compared.planes)
    return at.refused(text) if at else Refused(f"{text}; no single node parts from its layer by more than rounding")


def _weights_hash(state: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + b"\0" + state[name].numpy().tobytes())
    return digest.hexdigest()
