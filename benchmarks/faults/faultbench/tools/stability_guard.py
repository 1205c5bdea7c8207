"""`stabilityguard` of the package index (0.3.0, MIT, needs torch alone): an optimizer around the optimizer."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import tempfile
from pathlib import Path
from typing import Any

import torch

from faultbench.loops import Batch, Loop
from faultbench.tools.base import Report, Tool


class StabilityGuard(Tool):
    name, about = "stabilityguard", "GuardedOptimizer(optimizer, model) with its defaults: skip, spikes of 10 times"

    def begin(self, loop: Loop) -> None:
        """Raises ImportError where the package is not installed: pip install --no-deps stabilityguard."""
        package: Any = importlib.import_module("stabilityguard")  # az does not install it
        super().begin(loop)
        logging.getLogger("stabilityguard").setLevel(logging.CRITICAL)
        self.folder = tempfile.TemporaryDirectory(prefix="faultbench-")
        self.guards: list[Any] = []
        for name, value in list(vars(loop).items()):
            if isinstance(value, torch.optim.Optimizer):
                with contextlib.redirect_stdout(io.StringIO()):
                    guard = package.GuardedOptimizer(value, owner(loop, value), verbose=False, log_dir=self.folder.name)
                self.guards.append(guard)
                setattr(loop, name, guard)

    def step(self, batch: Batch) -> Report | None:
        """Run one step; what it found is in the file that it writes."""
        before = sum(guard.total_spikes for guard in self.guards)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the norms of all layers, spoiled or not
            self.run(batch)
        if sum(guard.total_spikes for guard in self.guards) == before:
            return None
        files = sorted(Path(self.folder.name).rglob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        told = json.loads(files[-1].read_text("utf-8")) if files else {}
        module = told.get("snapshot", {}).get("spike_layer") or ""
        return Report(f"step skipped, gradient spike in {module}", module=module)

    def end(self) -> None:
        for guard in self.guards:
            guard.close()
        self.folder.cleanup()


def owner(loop: Loop, optimizer: torch.optim.Optimizer) -> torch.nn.Module:
    """The model whose parameters an optimizer has."""
    first = optimizer.param_groups[0]["params"][0]
    return next(model for model in loop.models() if any(p is first for p in model.parameters()))
