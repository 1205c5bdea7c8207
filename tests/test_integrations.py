"""The recorder inside of Lightning, the Hugging Face Trainer and accelerate, in two lines of each.

The same curve with it, a row of NaN undone and named, training that goes on. `make test-integrations` runs these.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from az.train.health.integrations import accelerate_recorder, lightning_callback, record_trainer

pytestmark = pytest.mark.integrations
torch.set_num_threads(1)
STEPS, ROWS, BAD = 14, 6, 5


def rows(bad: int | None) -> list[tuple[Tensor, Tensor]]:
    """The rows of every step; one of step `bad` holds a NaN."""
    made = torch.Generator().manual_seed(1)
    found = [(torch.randn(4, generator=made), torch.randn(1, generator=made)) for _ in range(STEPS * ROWS)]
    if bad is not None:
        found[bad * ROWS + 2][0][1] = torch.nan
    return found


def without_step(found: list[tuple[Tensor, Tensor]], step: int) -> list[tuple[Tensor, Tensor]]:
    return found[: step * ROWS] + found[(step + 1) * ROWS :]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def weights(model: Any) -> list[Tensor]:
    return [p.detach().clone() for p in model.parameters()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# -- Lightning ---------------------------------------------------------------------------------------------------------


def lightning_run(data: Any, recorded: bool, manual: bool = False, accumulate: int = 1) -> tuple[Any, Any, Any]:
    """(weights, losses, callback) after training."""
    pl = pytest.importorskip("lightning.pytorch")

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.losses = network(), []
            self.automatic_optimization = not manual

        def training_step(self, batch: Any, _: int) -> Tensor:
            x, y = batch
            loss = (self.net(x) - y).square().mean()
            self.losses.append(float(loss))
            if manual:
                optimizer: Any = self.optimizers()
                optimizer.zero_grad()
                self.manual_backward(loss)
                optimizer.step()
            return loss

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), 0.01)

    callback = lightning_callback(say=lambda _: None) if recorded else None
    trainer = pl.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accumulate_grad_batches=accumulate, callbacks=[callback] if recorded else [],
    )  # fmt: skip
    module = Module()
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=ROWS))
    return weights(module), module.losses, (callback, trainer.global_step)


@pytest.mark.parametrize(("manual", "accumulate"), [(False, 1), (True, 1), (False, 2)])
def test_lightning(manual: bool, accumulate: int):
    plain, losses, _ = lightning_run(rows(None), False, manual, accumulate)
    found, same, (callback, steps) = lightning_run(rows(None), True, manual, accumulate)
    assert same == losses
    assert equal(found, plain)
    assert callback.incidents == []
    assert steps == STEPS // accumulate
    assert callback.recorder.step == STEPS

    found, _, (callback, steps) = lightning_run(rows(BAD), True, manual, accumulate)
    (incident,) = callback.incidents
    assert (incident.cause, incident.rows, incident.module) == ("batch-not-finite", [2], "net.0")
    assert (incident.first_bad_step, incident.replay) == (BAD, "bit-exact")
    assert "test_integrations.py" in incident.source
    if accumulate == 1:
        assert steps == STEPS - 1
        assert equal(found, lightning_run(without_step(rows(None), BAD), False, manual)[0])
    assert all(bool(torch.isfinite(one).all()) for one in found)


# -- the Hugging Face Trainer ------------------------------------------------------------------------------------------


def trainer_run(folder: Any, data: Any, recorded: bool, accumulate: int = 1) -> tuple[Any, Any, Any]:
    """(weights, logged losses, what record_trainer gave) after training."""
    transformers = pytest.importorskip("transformers")

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
            out = self.net(x)
            return {"loss": (out - labels).square().mean(), "logits": out}

    class InOrder(transformers.Trainer):
        def _get_train_sampler(self, *_: Any) -> Any:
            return torch.utils.data.SequentialSampler(data)

    model = Model()
    args = transformers.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=ROWS, num_train_epochs=1, learning_rate=0.01, use_cpu=True,
        report_to=[], save_strategy="no", logging_steps=1, disable_tqdm=True, lr_scheduler_type="constant", seed=0,
        gradient_accumulation_steps=accumulate, logging_nan_inf_filter=False,
    )  # fmt: skip
    trainer = InOrder(model=model, args=args, train_dataset=[{"x": x, "labels": y} for x, y in data])
    steps = record_trainer(trainer, say=lambda _: None) if recorded else None
    trainer.train()
    losses = [one["loss"] for one in trainer.state.log_history if "loss" in one]
    return weights(model), losses, (steps, trainer.state.global_step)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_trainer(tmp_path: Any, accumulate: int):
    plain, losses, _ = trainer_run(tmp_path, rows(None), False, accumulate)
    found, same, (steps, count) = trainer_run(tmp_path, rows(None), True, accumulate)
    assert same == losses
    assert equal(found, plain)
    assert steps.incidents == []
    assert count == steps.recorder.step == STEPS // accumulate

    found, _, (steps, _) = trainer_run(tmp_path, rows(BAD), True, accumulate)
    (incident,) = steps.incidents
    assert (incident.cause, incident.module) == ("batch-not-finite", "net.0")
    assert (incident.first_bad_step, incident.replay) == (BAD // accumulate, "bit-exact")
    assert "test_integrations.py" in incident.source
    if accumulate == 1:
        assert incident.rows == [2]
        assert equal(found, trainer_run(tmp_path, without_step(rows(None), BAD), False)[0])
    assert all(bool(torch.isfinite(one).all()) for one in found)


# -- accelerate --------------------------------------------------------------------------------------------------------


def accelerate_run(data: Any, recorded: bool, accumulate: int = 1) -> tuple[Any, Any, Any]:
    """(weights, losses, incidents) after training."""
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 5)
    loader = torch.utils.data.DataLoader(data, batch_size=ROWS)
    model, optimizer, loader, schedule = accelerator.prepare(model, optimizer, loader, schedule)
    recorder: Any = accelerate_recorder(accelerator) if recorded else None
    losses: list[float] = []
    incidents: list[Any] = []

    def update(x: Tensor, y: Tensor) -> None:
        with accelerator.accumulate(model):
            loss = (model(x) - y).square().mean()
            accelerator.backward(loss)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        losses.append(float(loss.detach()))

    for x, y in loader:
        if not recorded:
            update(x, y)
            continue
        with recorder.step((x, y), say=lambda _: None) as done:
            update(x, y)
        incidents.append(done.incident)
    return weights(model), losses, ([one for one in incidents if one is not None], accelerator.step)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_accelerate(accumulate: int):
    plain, losses, (_, count) = accelerate_run(rows(None), False, accumulate)
    found, same, (incidents, same_count) = accelerate_run(rows(None), True, accumulate)
    assert same == losses
    assert equal(found, plain)
    assert incidents == []
    assert same_count == count

    found, _, (incidents, _) = accelerate_run(rows(BAD), True, accumulate)
    (incident,) = incidents
    assert (incident.cause, incident.rows, incident.module) == ("batch-not-finite", [2], "0")
    assert (incident.first_bad_step, incident.replay) == (BAD, "bit-exact")
    assert "test_integrations.py" in incident.source
    if accumulate == 1:
        assert equal(found, accelerate_run(without_step(rows(None), BAD), False)[0])


def test_accelerate_without_a_model_is_told():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    accelerator._models.clear()
    with pytest.raises(ValueError, match=r"accelerator\.prepare"):
        accelerate_recorder(accelerator)
