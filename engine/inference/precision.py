"""Which numbers a network computes with: fp32; int8 where a model has a quantized file and the CPU is faster with it;
fp16 on a GPU, where a model has a file in half precision.

The rule looks at the hardware and not at a clock, so the same machine makes the same choice every time: a precision is
part of what a game of self-play is a function of.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from az.engine.errors import Refused, WrongRequest

if TYPE_CHECKING:  # onnxruntime takes a quarter of a second to import: only for those who evaluate
    from az.engine.game import Game
    from az.engine.inference.onnx_evaluator import OnnxEvaluator

REFUSED_HERE = "fp32 (the file in fewer bits was refused on this machine)"
PRECISIONS = ("auto", "fp32", "fp16", "int8")
VARIANTS = ("int8", "fp16")
# With any of these onnxruntime is faster in int8 than in fp32, fastest first; by the names that Linux gives. The first
# five add 8-bit products in 32 bits; the last two in 16, which the weights of `export/int8_file.py` cannot overflow.
INT8_FLAGS = ("amx_int8", "avx512_vnni", "avx_vnni", "i8mm", "asimddp", "avx512bw", "avx2")
# What numpy calls the same, for systems without /proc/cpuinfo. It knows fewer of them.
NUMPY_NAMES = {"AVX512VNNI": "avx512_vnni", "AVX512BW": "avx512bw", "AVX2": "avx2", "ASIMDDP": "asimddp"}


def variant_of(model: Path, precision: str) -> Path:
    """The file in another precision that belongs to a model's fp32 file: NAME.int8.onnx beside NAME.onnx."""
    name = model.name.removesuffix(".onnx")
    for variant in VARIANTS:
        name = name.removesuffix(f".{variant}")
    return model.with_name(f"{name}.{precision}.onnx")


def files_of(model: Path) -> list[Path]:
    """A model's fp32 file and its variants, there or not."""
    return [model, *(variant_of(model, variant) for variant in VARIANTS)]


def is_variant(model: Path) -> bool:
    """Whether a file is the variant of another."""
    return model.name.endswith(tuple(f".{variant}.onnx" for variant in VARIANTS))


@cache
def cpu_flags() -> frozenset[str]:
    """The CPU's features, by Linux's names; elsewhere those that numpy tells of."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        try:
            from numpy._core._multiarray_umath import __cpu_features__  # no public name for it (numpy 2.4)
        except ImportError:
            return frozenset()
        return frozenset(flag for name, flag in NUMPY_NAMES.items() if __cpu_features__.get(name))
    words = [line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(words[0] if words else ())


def int8_feature() -> str | None:
    """The feature that makes int8 fast on this CPU, or None."""
    return next((flag for flag in INT8_FLAGS if flag in cpu_flags()), None)


def choose_precision(model: Path, asked: str, on_gpu: bool = False) -> tuple[Path, str]:
    """(the file to load, a line that says which precision and why) for precision 'auto', 'fp32', 'fp16' or 'int8'.

    Raises WrongRequest for another word, and for int8 or fp16 where the model has no such file.
    """
    if asked not in PRECISIONS:
        raise WrongRequest(f"there is no precision '{asked}': the precisions are {', '.join(PRECISIONS)}.")
    own = next((variant for variant in VARIANTS if model == variant_of(model, variant)), None)
    if own:
        return model, f"{own} (the model's own)"
    if asked == "fp32":
        return model, "fp32 (asked for)"
    if asked in VARIANTS:
        variant = variant_of(model, asked)
        if not variant.is_file():
            raise WrongRequest(f"{model.name} has no {asked} file beside it ({variant.name}): use --precision fp32.")
        return variant, f"{asked} (asked for)"
    wanted, why = wanted_variant(asked, on_gpu)
    if wanted is None:
        return model, f"fp32 ({why})"
    variant = variant_of(model, wanted)
    return (variant, f"{wanted} ({why})") if variant.is_file() else (model, f"fp32 (the model has no {wanted} file)")


def usable(model: Path, asked: str) -> str:
    """What a run plays this model in: a version whose variant its gate refused is played in fp32."""
    return "fp32" if asked in VARIANTS and not variant_of(model, asked).is_file() else asked


def wanted_variant(asked: str, on_gpu: bool) -> tuple[str | None, str]:
    """(the variant that a run should publish because its own self-play would use it, or None; why)."""
    if asked in VARIANTS:
        return asked, "asked for"
    if asked == "fp32":
        return None, "asked for"
    if on_gpu:
        return "fp16", "on the GPU"
    feature = int8_feature()
    return ("int8", f"this CPU has {feature}") if feature else (None, "this CPU has no fast int8")


def load_precision(
    model: Path, game: Game | None, asked: str, provider: str = "auto", batch: int = 0
) -> tuple[OnnxEvaluator, str]:
    """(the evaluator in the precision that `choose_precision` names, that line). One thread.

    batch: rows of a call where it runs on CUDA. With `auto`, a variant that this machine answers otherwise than the one
    that wrote it gives way to fp32. Raises WrongRequest, or Refused when the model fails a check.
    """
    from az.engine.inference.onnx_evaluator import OnnxEvaluator
    from az.engine.inference.providers import on_gpu

    gpu = on_gpu(provider)
    path, why = choose_precision(model, asked, gpu)
    rows = batch if gpu else 0
    if path == model:
        return OnnxEvaluator(path, game, provider=provider, batch=rows), why
    try:
        where, rows = ("cpu", 0) if path == variant_of(model, "int8") else (provider, rows)
        return OnnxEvaluator(path, game, provider=where, batch=rows), why
    except Refused:
        if asked != "auto":
            raise
        return OnnxEvaluator(model, game, provider=provider, batch=rows), REFUSED_HERE


class Fallback:
    """Says when self-play with precision `auto` begins to use fp32 since this machine refuses a model's file in fewer
    bits, and when that ends: a sentence for each change, not for each model.
    """

    def __init__(self, say: Callable[[str, bool], None]) -> None:
        """say: given the sentence, and whether fp32 is used from now on."""
        self._say, self._plain = say, False

    def loaded(self, model: Path, why: str) -> None:
        """A model was loaded; why: the line of `load_precision`."""
        plain = why == REFUSED_HERE
        here = why if plain else f"{why.split()[0]} again"
        self.changed(f"model {model.stem} is played in {here}", plain)

    def changed(self, text: str, plain: bool) -> None:
        """The same where another process says it."""
        if plain != self._plain:
            self._plain = plain
            self._say(text, plain)
