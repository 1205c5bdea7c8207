"""Numeric health: a recorder that stops, names and undoes faults of a training step, for any PyTorch loop.

The names are loaded when they are first used: who reads thresholds or logs alone does not wait for torch.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .incident import Incident
    from .loops import FaultFound, recorded, watched
    from .recorder import FlightRecorder
    from .state.numba_passes import use_numba

__all__ = ["FaultFound", "FlightRecorder", "Incident", "recorded", "use_numba", "watched"]

_PLACES = {
    "FaultFound": "loops",
    "FlightRecorder": "recorder",
    "Incident": "incident",
    "recorded": "loops",
    "use_numba": "state.numba_passes",
    "watched": "loops",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    found = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    globals()[name] = found
    return found
