"""The loops, by name."""

from __future__ import annotations

from pathlib import Path

from faultbench.loops.accumulation import Accumulation
from faultbench.loops.alphazero import AlphaZero
from faultbench.loops.base import Batch, Loop
from faultbench.loops.convnet import Convnet
from faultbench.loops.ctc import Ctc
from faultbench.loops.diffusion import Diffusion
from faultbench.loops.ema import Ema
from faultbench.loops.gan import Gan
from faultbench.loops.graph import Graph
from faultbench.loops.half import Half
from faultbench.loops.lbfgs import Lbfgs
from faultbench.loops.lstm import Lstm
from faultbench.loops.mlp import Mlp
from faultbench.loops.ppo import Ppo
from faultbench.loops.transformer import Transformer
from faultbench.loops.vae import Vae

__all__ = ["FOLDER", "LOOPS", "Batch", "Loop", "line_of"]
FOLDER = Path(__file__).resolve().parent
KINDS = (
    Mlp, Convnet, Vae, Gan, Lstm, Transformer, Ctc, Lbfgs, Ppo, AlphaZero, Half, Ema, Accumulation, Graph, Diffusion,
)  # fmt: skip
LOOPS: dict[str, type[Loop]] = {kind.name: kind for kind in KINDS}


def line_of(loop: str, marker: str) -> str:
    """`FILE.py:NUMBER` of the line that ends in `# at: MARKER`, in its file or in base.py. Raises LookupError."""
    for file in (FOLDER / f"{loop}.py", FOLDER / "base.py"):
        for number, text in enumerate(file.read_text("utf-8").splitlines(), 1):
            if text.endswith(f"# at: {marker}"):
                return f"{file.name}:{number}"
    raise LookupError(f"no line `# at: {marker}` in {loop}.py or base.py")
