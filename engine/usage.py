"""Sentences of the command line about wrong options and packages that are missing."""

from __future__ import annotations

import sys

from az.engine.system.disk_errors import sentence

TRAIN_EXTRA = ("torch", "onnx", "onnxscript", "safetensors", "tensorboard", "filelock", "matplotlib")
WEB_EXTRA = ("starlette", "uvicorn", "anyio", "h11")
ADAPTERS_EXTRA = ("pettingzoo", "gymnasium", "pyspiel")
BASE_PACKAGES = ("numpy", "numba", "llvmlite", "rich", "onnxruntime")


def usage(error: Exception) -> str:
    """A usage error of typer's as one sentence."""
    text = " ".join(str(error.format_message()).split()).rstrip(".")  # pyright: ignore[reportAttributeAccessIssue]
    text, options, known = text.partition(" (Possible options: ")
    if options and (near := [name for name in known.rstrip(")").split(", ") if name != "--help"]):
        text += f". Did you mean {' or '.join(near)}?"
    head, unreadable, tail = text.partition("Input should be a valid ")
    if unreadable:  # pydantic's words do not say what was given
        given = error.__cause__.errors()[0]["input"] if error.__cause__ is not None else "it"  # pyright: ignore[reportAttributeAccessIssue]
        text = f"{head}'{given}' is not a {'whole number' if tail.startswith('integer') else 'number'}"
    text = text[:1].lower() + text[1:].replace(". Did you mean", ": did you mean")
    return text if text.endswith("?") else f"{text}; see az --help."


def _has_plain_onnxruntime() -> bool:
    """Whether this is the small installation, where '.[train]' would bring onnxruntime-gpu beside onnxruntime."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return bool(version("onnxruntime"))
    except PackageNotFoundError:
        return False


def missing(module: str) -> str | None:
    """What to do where a package is not installed; None for a module that no part of az names."""
    top = module.partition(".")[0]
    if top in TRAIN_EXTRA and _has_plain_onnxruntime():
        return (
            f"{top} is not installed, and training needs it: make setup in the checkout makes an environment with it."
        )
    if top in TRAIN_EXTRA:
        return f"{top} is not installed, and training needs it: pip install '.[train]' in the checkout brings it."
    if top in WEB_EXTRA:
        return (
            f"{top} is not installed, and the browser's board needs it: pip install '.[web]' in the checkout brings it."
        )
    if top in ADAPTERS_EXTRA:
        return f"{top} is not installed, and the adapter needs it: pip install '.[adapters]' in the checkout brings it."
    if top in BASE_PACKAGES:
        return f"{top} is not installed, and az needs it: pip install . in the checkout brings it."
    return None


def ending_of(error: Exception) -> tuple[int, str | None] | None:
    """(exit code, sentence to say) of an error that is no bug of az's; None for one that is."""
    kind = type(error).__name__
    if kind == "NoArgsIsHelpError":
        return 0, None
    if hasattr(error, "format_message"):  # a usage error of typer's
        return 2, usage(error)
    if isinstance(error, OSError):  # no such folder, not permitted, disk full
        return 2, sentence(error)
    if isinstance(error, ModuleNotFoundError) and (advice := missing(error.name or "")):
        return 2, advice
    if isinstance(error, MemoryError):
        return 2, "there is not enough memory for this: ask for less."
    if kind == "Abort" and isinstance(error.__cause__, EOFError):  # typer makes one of Ctrl-C and of an input that ends
        return 1, "a process or an input that was to answer has ended: try again."
    return (130, None) if kind == "Abort" else None


def knows(text: str) -> bool:
    """Whether stdout can show these characters."""
    try:
        return bool(text.encode(getattr(sys.stdout, "encoding", None) or "ascii"))
    except UnicodeEncodeError:
        return False
