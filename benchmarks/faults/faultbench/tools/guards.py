"""The two lines that most people write: stop when the loss is not finite, skip when the gradients are not."""

from __future__ import annotations

import torch
from torch import Tensor

from faultbench.loops import Batch, Loop
from faultbench.tools.base import Report, Tool


class FiniteLoss(Tool):
    name, about = "finite loss", "`if not torch.isfinite(loss): raise`, between loss and backward"

    def begin(self, loop: Loop) -> None:
        super().begin(loop)
        loop.on_loss = self.look

    def look(self, loss: Tensor) -> None:
        """Stop the step before backward."""
        if not torch.isfinite(loss).all():
            raise FloatingPointError(f"the loss is {float(loss.detach())}")

    def step(self, batch: Batch) -> Report | None:
        """Run one step."""
        try:
            self.run(batch)
        except FloatingPointError as error:
            return Report(str(error))
        return None


class SkipGradients(Tool):
    name, about = "skip gradients", "no optimizer step where the norm of the gradients is not finite"

    def begin(self, loop: Loop) -> None:
        super().begin(loop)
        self.skipped = 0
        loop.may_update = self.look

    def look(self, optimizer: torch.optim.Optimizer) -> bool:
        """Whether the optimizer may step."""
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        finite = bool(torch.isfinite(torch.nn.utils.get_total_norm(gradients)))
        self.skipped += not finite
        return finite

    def step(self, batch: Batch) -> Report | None:
        """Run one step."""
        before = self.skipped
        self.run(batch)
        return Report("the norm of the gradients is not finite: step skipped") if self.skipped > before else None
