"""Is a network in fewer bits as good as the one that it was made from? Otherwise it is not published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import onnx

from az.engine.errors import Refused
from az.engine.game import Game
from az.engine.inference.evaluator import Float32
from az.engine.inference.onnx_evaluator import OnnxEvaluator, encode_floats
from az.export.calibration import watch
from az.export.fp16_file import halved
from az.export.int8_file import quantized
from az.export.onnx_file import sealed
from az.export.parity import Positions, torch_answers
from az.train.model import Network

# Mean divergence of the policies in nats, root mean square error of the values in [-1, +1]. int8: good calibrations
# gave 0.0005 and 0.02 at most, the worst one tried 0.006 and 0.06 (docs/log.md). fp16: a tenth of that.
MOST = {"int8": (0.01, 0.06), "fp16": (0.001, 0.006)}
CHECKED_IN_FILE = 8


@dataclass(frozen=True)
class Difference:
    """How far a variant is from fp32 on positions that it was not calibrated on."""

    variant: str  # int8 or fp16
    divergence: float  # mean KL(fp32 || variant) of the policies over the legal moves, nats
    worst_policy: float  # largest difference of a probability
    value_error: float  # root mean square
    worst_value: float
    same_best: float  # share of positions where the likeliest move is the same

    def facts(self) -> dict[str, float]:
        """For the card and the file's metadata."""
        figures = {name: value for name, value in vars(self).items() if name != "variant"}
        return {f"{self.variant}_{name}": float(f"{value:.4g}") for name, value in figures.items()}

    def check(self) -> None:
        """Raises Refused when the variant is measurably weaker. A NaN refuses."""
        policy, value = MOST[self.variant]
        if not self.divergence <= policy:
            raise Refused(f"{self.variant} differs from fp32 by {self.divergence:.3g} nats (allowed: {policy:g})")
        if not self.value_error <= value:
            raise Refused(f"{self.variant} values differ from fp32 by {self.value_error:.3g} (allowed: {value:g})")


def variant_bytes_of(
    variant: str, network: Network, model: onnx.ModelProto, game: Game, positions: Positions, facts: Mapping[str, Any],
    name: str,
) -> tuple[bytes, Difference]:  # fmt: skip
    """(the bytes of the int8 or fp16 file, how far it is from fp32); every other position calibrates, the rest judge.

    network: in evaluation mode on the CPU; model: its fp32 graph; facts: the fp32 file's. Raises Refused.
    """
    if variant == "int8":
        small = quantized(model, watch(network, np.ascontiguousarray(positions.planes[::2])))
    else:
        small = halved(model)
    judged = Positions(np.ascontiguousarray(positions.planes[1::2]), positions.legal[1::2])
    metadata = {
        key: ",".join(map(str, cast("list[object]", fact))) if isinstance(fact, list) else str(fact)
        for key, fact in facts.items()
    }
    metadata |= {"precision": variant}
    answers = torch_answers(network, judged.planes)
    own = own_answers(small, carrying(metadata, judged.planes, answers), game, judged.planes, name)
    difference = measure(variant, answers, own, judged)
    difference.check()
    metadata |= {key: str(value) for key, value in difference.facts().items()}
    data = sealed(small, carrying(metadata, judged.planes, own))
    OnnxEvaluator(name, game, provider="cpu", data=data)  # every check of the engine, again on what is written
    return data, difference


Answers = tuple[Float32, Float32]  # logits [n, A], values [n]


def measure(variant: str, wanted: Answers, got: Answers, positions: Positions) -> Difference:
    """The figures of two answers to the same positions."""
    p, q = (_log_softmax(logits, positions.legal) for logits, _ in (wanted, got))
    legal, probabilities = positions.legal, np.exp(p)
    apart = wanted[1].astype(np.float64) - got[1]
    return Difference(
        variant,
        divergence=float(np.where(legal, probabilities * (p - q), 0.0).sum(1).mean()),
        worst_policy=float(np.abs(probabilities - np.exp(q)).max()),
        value_error=float(np.sqrt((apart**2).mean())),
        worst_value=float(np.abs(apart).max()),
        same_best=float((p.argmax(1) == q.argmax(1)).mean()),
    )


def carrying(metadata: Mapping[str, str], planes: Float32, answers: Answers) -> dict[str, str]:
    """The metadata with the positions and answers that the engine compares at load."""
    carried = {"check_planes": planes, "check_logits": answers[0], "check_values": answers[1]}
    return {**metadata, **{key: encode_floats(array[:CHECKED_IN_FILE]) for key, array in carried.items()}}


def own_answers(model: onnx.ModelProto, metadata: Mapping[str, str], game: Game, planes: Float32, name: str) -> Answers:
    """What a variant answers, before it carries that: the engine's check at load would refuse one that is far off."""
    evaluator = OnnxEvaluator(name, game, provider="cpu", data=sealed(model, metadata), check=False)
    logits, values = np.empty((len(planes), game.num_actions), np.float32), np.empty(len(planes), np.float32)
    evaluator.evaluate(planes, logits, values)
    return logits, values


def _log_softmax(logits: Float32, legal: np.ndarray) -> np.ndarray:
    """[n, A] in double precision; illegal moves get -1e9."""
    masked = np.where(legal, logits.astype(np.float64), -1e9)
    shifted = masked - masked.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
