"""Numeric health: a recorder that stops, names and undoes faults of a training step, for any PyTorch loop."""

from .incident import Incident
from .loops import FaultFound, recorded, watched
from .recorder import FlightRecorder
from .state.numba_passes import use_numba

__all__ = ["FaultFound", "FlightRecorder", "Incident", "recorded", "use_numba", "watched"]
