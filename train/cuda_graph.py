"""The forward and backward pass of a step as one CUDA graph: a few hundred small launches become one.

A graph repeats the very kernels that it saw, on the very memory. So it is captured again when a weight or an average
lies elsewhere, and not used when something watches the operations themselves: the diagnosis of an incident, or a hook.
Source: PyTorch's notes on CUDA semantics, "Whole-network capture".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

WARM = 3  # passes before the capture: what libraries set up at first use must not be captured

Work = Callable[..., Tensor]


def wants_operations(model: nn.Module) -> bool:
    """Whether something watches the operations or the modules: a graph would hide them."""
    return is_in_torch_dispatch_mode() or any(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks for module in model.modules()
    )


class Capture:
    """`work(*inputs)`, which leaves gradients in the parameters and moves the buffers, as a graph."""

    def __init__(self, work: Work, model: nn.Module, inputs: Sequence[Tensor], device: torch.device) -> None:
        self.parameters, self.buffers = list(model.parameters()), list(model.buffers())
        self.inputs = [given.to(device, copy=True) for given in inputs]
        kept = [buffer.clone() for buffer in self.buffers]
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM):
                work(*self.inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        for parameter in self.parameters:
            parameter.grad = None  # made inside the capture: then every repetition writes the same memory
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, stream=stream, capture_error_mode="thread_local"):
            self.numbers = work(*self.inputs)
        self.gradients = [parameter.grad for parameter in self.parameters]
        for buffer, value in zip(self.buffers, kept, strict=True):  # the warm passes moved them
            buffer.copy_(value)
        self.places = self._places()

    def fits(self, inputs: Sequence[Tensor]) -> bool:
        """Whether the graph still reads and writes what the model has, and takes inputs of these forms."""
        forms = [(mine.shape, mine.dtype) for mine in self.inputs]
        return self.places == self._places() and forms == [(given.shape, given.dtype) for given in inputs]

    def run(self, inputs: Sequence[Tensor]) -> Tensor:
        """What `work` returns, for inputs that lie anywhere."""
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given, non_blocking=True)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.numbers

    def _places(self) -> list[int]:
        return [tensor.data_ptr() for tensor in (*self.parameters, *self.buffers)]
