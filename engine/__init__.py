"""The standalone engine: games, search, self-play, matches and play, on numpy, numba and onnxruntime.

The public names (docs/api.md) are loaded when they are first used, PEP 562: `import az.engine` imports nothing heavy.
Type checkers read them in `__init__.pyi`.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "Game": "az.engine.game",
    "Records": "az.engine.records.format",
    "SearchParams": "az.engine.search.params",
    "SearchResult": "az.engine.search.result",
    "PlayedGame": "az.engine.api",
    "evaluate": "az.engine.api",
    "load_game": "az.engine.game",
    "load_model": "az.engine.api",
    "play_game": "az.engine.api",
    "read_records": "az.engine.api",
    "search_position": "az.engine.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
