"""Numeric health: a recorder that stops, names and undoes faults of a training step, for any PyTorch loop."""

from az.train.health.incident import Incident
from az.train.health.loops import FaultFound, recorded, watched
from az.train.health.recorder import FlightRecorder

__all__ = ["FaultFound", "FlightRecorder", "Incident", "recorded", "watched"]
