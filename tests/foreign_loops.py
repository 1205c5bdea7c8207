"""Three training loops that are none of ours, for the flight recorder's tests: attention, convolution, recurrence.

Each is written as people write loops, and each has knobs: `loop.knobs` switches on the careless way to write a line.
A line that a test asks for ends in a comment `# at: name`.
"""

from __future__ import annotations

import copy
import math
import random
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

ROWS = 8
M = TypeVar("M", bound=nn.Module)


def line(name: str) -> str:
    """file:line of the line that ends in `# at: name`."""
    with open(__file__, encoding="utf-8") as file:
        numbers = [i for i, text in enumerate(file, 1) if text.rstrip().endswith(f"# at: {name}")]
    assert len(numbers) == 1, name
    return f"{__file__}:{numbers[0]}"


class Loop(Generic[M]):
    """What the three have in common."""

    model: M
    optimizer: torch.optim.Optimizer
    also: list[Any]

    def __init__(self, *knobs: str) -> None:
        self.knobs = set(knobs)
        torch.manual_seed(7)
        np.random.seed(7)
        random.seed(7)

    def everything(self) -> list[Any]:
        """Copies of all that a step may change."""
        also = [item.state_dict() if hasattr(item, "state_dict") else item for item in self.also]
        grads = [None if p.grad is None else p.grad.clone() for p in self.model.parameters()]
        state = [self.model.state_dict(), self.optimizer.state_dict(), also, grads]
        random_states = [torch.get_rng_state(), np.random.get_state(), random.getstate()]
        return copy.deepcopy([*state, *random_states])

    def batch(self, number: int) -> Any:
        raise NotImplementedError

    def step(self, batch: Any) -> Any:
        raise NotImplementedError


def same(a: Any, b: Any) -> bool:
    """Equal to the bit, all the way down."""
    if isinstance(a, Tensor):
        a, b = (x.detach().contiguous().reshape(-1).view(torch.uint8).numpy() for x in (a, b))
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and a != a:
        return b != b
    return type(a) is type(b) and (a == b or not isinstance(a, int | float | str | bool))


# -- attention --------------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Two heads; padding is masked with -inf."""

    causal: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.register_buffer("causal", torch.full((6, 6), -math.inf).triu(1))  # a buffer full of infinities: meant
        self.empty = -math.inf

    def forward(self, x: Tensor, pad: Tensor) -> Tensor:
        b, t, w = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, 2, w // 2).permute(2, 0, 3, 1, 4)
        scores = q @ k.transpose(-1, -2) / math.sqrt(w // 2) + self.causal
        scores = scores.masked_fill(pad[:, None, None, :], self.empty)
        weights = torch.softmax(scores, -1)  # at: attention
        return self.out((weights @ v).transpose(1, 2).reshape(b, t, w))


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attention = nn.LayerNorm(width), nn.LayerNorm(width), Attention(width)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, pad: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x), pad))
        return x + self.dropout(self.mlp(self.norm2(x)))


class Transformer(nn.Module):
    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.embed = nn.Linear(5, width)
        self.blocks = nn.ModuleList([Block(width), Block(width)])
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 4)

    def forward(self, x: Tensor, pad: Tensor) -> Tensor:
        x = self.embed(x)  # at: embed
        for block in self.blocks:
            x = block(x, pad)
        return self.norm(x)


class AttentionLoop(Loop[Transformer]):
    """AdamW, a warm-up followed by a cosine, gradients clipped; batches are dicts of tensors."""

    def __init__(self, *knobs: str) -> None:
        super().__init__(*knobs)
        self.model = Transformer()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=3e-3)
        warm = LinearLR(self.optimizer, 0.1, total_iters=4)
        self.scheduler = SequentialLR(self.optimizer, [warm, CosineAnnealingLR(self.optimizer, 400)], [4])
        self.also = [self.scheduler]
        self.factor = 1.0
        if "finite mask" in self.knobs:
            for block in self.model.blocks:
                assert isinstance(block, Block)
                block.attention.empty = -1e9
                block.attention.causal.zero_()

    def batch(self, number: int) -> dict[str, Tensor]:
        g = torch.Generator().manual_seed(number)
        pad = torch.arange(6) >= torch.randint(2, 7, (ROWS, 1), generator=g)
        return {
            "x": torch.randn(ROWS, 6, 5, generator=g),
            "pad": pad,
            "label": torch.randint(0, 4, (ROWS,), generator=g),
            "score": torch.randn(ROWS, generator=g),
            "temperature": torch.ones(ROWS),
            "anchor": torch.randn(ROWS, 16, generator=g),
            "bonus": torch.rand(ROWS, generator=g) + 0.1,
        }

    def step(self, batch: dict[str, Tensor]) -> Tensor | None:
        self.optimizer.zero_grad()
        hidden = self.model(batch["x"], batch["pad"])
        keep = (~batch["pad"]).float()
        pooled = (hidden * keep[..., None]).sum(1) / keep.sum(1, keepdim=True)  # at: pool
        logits = self.model.head(pooled)  # at: head
        probability = torch.softmax(logits / batch["temperature"][:, None], 1)
        chosen = torch.log(probability)  # at: log
        loss = -chosen[torch.arange(ROWS), batch["label"]].mean()
        loss = loss + ((pooled.mean(1) - batch["score"]) ** 2).mean()  # at: score
        if "distance" in self.knobs:
            gap = batch["anchor"] - pooled.detach() + self.model.norm.bias * 0
            gap = torch.where(batch["bonus"][:, None] < 0, gap * 0, gap)
            loss = loss + 1e-3 * gap.square().sum(1).sqrt().mean()  # at: distance
        if "power" in self.knobs:
            loss = loss + (pooled.square().sum(1) * batch["bonus"]).pow(0.5).mean()  # at: power
        if "where" in self.knobs:
            value = batch["bonus"] * pooled.square().sum(1)
            loss = loss + torch.where(value > 0, torch.log(value), 0.0).mean()  # at: where
        if "exp" in self.knobs:
            loss = loss + torch.exp(batch["bonus"] * pooled.abs().sum(1)).mean() * 1e-3  # at: exp
        if "guard" in self.knobs and not torch.isfinite(loss):
            raise FloatingPointError("the loss is not finite")
        (loss * self.factor).backward()
        if "clip" in self.knobs:
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        return loss


# -- convolution ------------------------------------------------------------------------------------------------------


class Even(torch.autograd.Function):
    """The identity; its gradient has length 1 in every row."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ARG004
        (grad,) = grads
        length = grad.flatten(1).norm(dim=1)
        return grad / length[:, None]  # at: even


class Convolution(nn.Module):
    brightness: Tensor

    def __init__(self, even: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.head, self.even = nn.Linear(6, 1), even
        self.register_buffer("brightness", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))  # at: first
        x = torch.relu(self.bn2(self.conv2(x)))  # at: second
        x = x.mean((2, 3))
        if self.even:
            x = Even.apply(x)
        return self.head(x).squeeze(1)


class ConvLoop(Loop[Convolution]):
    """SGD with momentum, autocast, a gradient scaler and an averaged copy; batches are tuples of tensors."""

    def __init__(self, *knobs: str, half: torch.dtype = torch.bfloat16, scale: float = 2.0**10) -> None:
        super().__init__(*knobs)
        self.model = Convolution("even" in self.knobs).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.02, momentum=0.9)
        self.scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=50)
        self.average = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
        self.also = [self.scaler, self.average]
        self.half = half
        self.during: Any = None  # called in the middle of a step

    def batch(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        g = torch.Generator().manual_seed(number)
        images = torch.rand(ROWS, 2, 5, 5, generator=g)
        return images, torch.randn(ROWS, generator=g), torch.ones(ROWS)

    def step(self, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Any] | None:
        images, target, weight = batch
        self.optimizer.zero_grad(set_to_none=False)
        if "standard" in self.knobs:
            images = (images - images.mean((1, 2, 3), keepdim=True)) / images.std((1, 2, 3), keepdim=True)  # at: std
        if "in place" in self.knobs:
            images.sub_(images.mean()).div_(images.std())
        if "brightness" in self.knobs:
            light = images.mean() / (images > 0).float().mean()  # at: light
            self.model.brightness.mul_(0.9).add_(0.1 * light)
        with torch.autocast("cpu", dtype=self.half):
            out = self.model(images)
        if self.during is not None:
            self.during(self, batch)
        loss = (weight * (out.float() - target) ** 2).mean()  # at: square
        if "skip" in self.knobs and not torch.isfinite(loss):
            return None
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.average.update_parameters(self.model)
        return {"loss": loss.item(), "scale": self.scaler.get_scale()}


# -- recurrence -------------------------------------------------------------------------------------------------------


@dataclass
class Sequences:
    """Time first, as arrays."""

    x: np.ndarray  # [time, rows, 3]
    y: np.ndarray  # [time, rows]
    length: np.ndarray  # [rows]


class Recurrent(nn.Module):
    def __init__(self, lstm: bool) -> None:
        super().__init__()
        self.core = nn.LSTM(3, 12) if lstm else nn.GRU(3, 12)
        self.head = nn.Linear(12, 1)

    def forward(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        out, state = self.core(x, state)  # at: core
        return self.head(out).squeeze(2), state


class RecurrentLoop(Loop):
    """The state is carried from batch to batch without gradient; gradients of two half batches are added up."""

    def __init__(self, *knobs: str, optimizer: Any = torch.optim.Adam, lr: float = 1e-2) -> None:
        super().__init__(*knobs)
        self.model = Recurrent("lstm" in self.knobs)
        self.optimizer = optimizer(self.model.parameters(), lr=lr)
        zeros = torch.zeros(1, ROWS, 12)
        self.carried: dict[str, Any] = {"h": zeros, "c": zeros.clone()}
        self.also = [self.carried]
        self.factor = 1.0
        self.during: Any = None

    def batch(self, number: int) -> Sequences:
        rng = np.random.default_rng(number)
        x = rng.standard_normal((5, ROWS, 3), np.float32)
        return Sequences(x, np.tanh(x.sum(2)), rng.integers(1, 6, ROWS))

    def step(self, batch: Sequences) -> float | None:
        self.optimizer.zero_grad()
        total, states = 0.0, []
        for half in (slice(0, 4), slice(4, 8)):
            x, y = torch.from_numpy(batch.x[:, half]), torch.from_numpy(batch.y[:, half])
            length = torch.from_numpy(batch.length[half])
            state: Any = self.carried["h"][:, half].contiguous()
            if "lstm" in self.knobs:
                state = (state, self.carried["c"][:, half].contiguous())
            out, state = self.model(x, state)
            states.append(state if isinstance(state, tuple) else (state, state))
            mask = torch.arange(5)[:, None] < length
            error = ((out - y) ** 2 * mask).sum(0) / length  # at: error
            loss = error.mean() * self.factor
            if "skip" in self.knobs and not torch.isfinite(loss):
                continue
            (loss / 2).backward()
            total = float(loss.detach()) + (0.0 if "last" in self.knobs else total)
        if self.during is not None:
            self.during(self, batch)
        self.optimizer.step()
        self.carried["h"] = torch.cat([h for h, _ in states], 1).detach()
        self.carried["c"] = torch.cat([c for _, c in states], 1).detach()
        return total
