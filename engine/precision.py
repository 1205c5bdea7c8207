"""Which numbers a network computes with: fp32, or int8 where a model has a quantised twin and the CPU is made for it.

The rule looks at the CPU and not at a clock, so the same machine makes the same choice every time: a precision is part
of what a game of self-play is a function of.
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from az.engine.errors import Refused, WrongRequest

if TYPE_CHECKING:  # onnxruntime takes a quarter of a second to import: only for those who evaluate
    from az.engine.game import Game
    from az.engine.onnx_evaluator import OnnxEvaluator

PRECISIONS = ("auto", "fp32", "int8")
TWIN = ".int8.onnx"
# What multiplies 8-bit numbers into 32-bit sums without overflow, fastest first; by the names that Linux gives.
INT8_FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp")


def int8_twin(model: Path) -> Path:
    """The quantised file that belongs to a model's fp32 file: NAME.int8.onnx beside NAME.onnx."""
    return model.with_name(model.name.removesuffix(".onnx").removesuffix(".int8") + TWIN)


@cache
def cpu_flags() -> frozenset[str]:
    """The CPU's features, by Linux's names; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        arm_mac = platform.system() == "Darwin" and platform.machine() == "arm64"
        return frozenset({"asimddp"} if arm_mac else ())
    words = [line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(words[0] if words else ())


def int8_feature() -> str | None:
    """The feature that makes int8 fast on this CPU, or None."""
    return next((flag for flag in INT8_FLAGS if flag in cpu_flags()), None)


def choose_precision(model: Path, asked: str, on_gpu: bool = False) -> tuple[Path, str]:
    """(the file to load, a line that says which precision and why) for precision 'auto', 'fp32' or 'int8'.

    Raises WrongRequest for another word, and for int8 where the model has no int8 file.
    """
    if asked not in PRECISIONS:
        raise WrongRequest(f"there is no precision '{asked}': the precisions are {', '.join(PRECISIONS)}.")
    twin = int8_twin(model)
    if model == twin:
        return model, "int8 (the model's own)"
    if asked == "fp32":
        return model, "fp32 (asked for)"
    if asked == "int8":
        if not twin.is_file():
            raise WrongRequest(f"{model.name} has no int8 file beside it ({twin.name}): use --precision fp32.")
        return twin, "int8 (asked for)"
    feature = int8_feature()
    if on_gpu:
        return model, "fp32 (on the GPU)"
    if feature is None:
        return model, "fp32 (this CPU has no fast int8)"
    if not twin.is_file():
        return model, "fp32 (the model has no int8 file)"
    return twin, f"int8 (this CPU has {feature})"


def usable(model: Path, asked: str) -> str:
    """What a run plays this model in: a version whose int8 file its gate refused is played in fp32."""
    return "fp32" if asked == "int8" and not int8_twin(model).is_file() else asked


def wants_int8(asked: str) -> bool:
    """Whether a run should publish int8 files: where its own self-play would use them."""
    return asked == "int8" or (asked == "auto" and int8_feature() is not None)


def load_precision(model: Path, game: Game | None, asked: str, provider: str = "auto") -> tuple[OnnxEvaluator, str]:
    """(the evaluator in the precision that `choose_precision` names, that line). One thread.

    With `auto`, an int8 file that this CPU answers otherwise than the one that wrote it gives way to fp32.
    Raises WrongRequest, or Refused when the model fails a check.
    """
    from az.engine.onnx_evaluator import OnnxEvaluator
    from az.engine.providers import cuda_obstacle

    path, why = choose_precision(model, asked, on_gpu=provider != "cpu" and cuda_obstacle() is None)
    if path == model:
        return OnnxEvaluator(path, game, provider=provider), why
    try:
        return OnnxEvaluator(path, game, provider="cpu"), why
    except Refused:
        if asked != "auto":
            raise
        return OnnxEvaluator(model, game, provider=provider), "fp32 (the int8 file was refused on this CPU)"
