"""A checkpoint whose checksums are right and whose contents lie: it is refused, and the one before it is taken."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from make_models import NET, make_run, small_config
from safetensors.torch import load as tensors_from
from safetensors.torch import save as tensors_to

from az.engine.errors import Refused
from az.engine.game import load_game
from az.train import checkpoint
from az.train.learner import Learner
from az.train.model import Network
from az.train.run.counters import Counters, check_resumable

GAME = load_game("tictactoe")


@pytest.fixture(scope="module")
def stock(tmp_path_factory):
    run = make_run(tmp_path_factory.mktemp("runs") / "run", steps=2)
    config = small_config()
    learner = Learner(Network(GAME.planes_shape, GAME.num_actions, NET), config.learner)
    for parameter in learner.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    learner.optimizer.step()  # so that there are moments
    extra = asdict(Counters(session=1, batches=checkpoint.numpy_state(np.random.default_rng(0))))
    checkpoint.save(run, 2, learner.model, learner.optimizer, learner.average, extra, game=GAME, config=config)
    return run


@pytest.fixture
def run(stock, tmp_path):
    return Path(shutil.copytree(stock, tmp_path / "run"))


def learner_of(run: Path) -> Learner:
    config = checkpoint.load(run / "checkpoints" / "step-000000001").config
    return Learner(Network(GAME.planes_shape, GAME.num_actions, config.net), config.learner)


def reseal(folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"] = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in manifest["files"]}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def taken(run: Path) -> tuple[int, list[str]]:
    """(step of the checkpoint that the run goes on from, what was said of the others)."""
    learner = learner_of(run)
    found, reasons = checkpoint.latest(run, lambda one: check_resumable(one, GAME, learner))
    assert found is not None
    found.restore(learner.model, learner.optimizer, learner.average)
    return found.step, reasons


def test_the_untouched_run_goes_on_from_its_newest(run):
    assert taken(run) == (2, [])


DEEP = "[" * 100_000 + "]" * 100_000
STATES = [
    ("step", -1), ("step", "12"), ("step", 2.0), ("step", True), ("step", 10**40), ("step", None), ("step", 1),
    ("game", 3), ("game", "chess"), ("game", "../../game"), ("game_version", "1"), ("game_version", 99),
    ("config", {}), ("config", "= = ="), ("config", 'game = "' + "x" * 10**6 + '"'), ("config", "x = " + "9" * 5000),
    ("groups", []), ("groups", {}), ("groups", [1]), ("groups", [{}]), ("groups", [{"lr": "fast"}]),
    ("groups", [{"lr": -1.0}]), ("groups", [{"lr": 0.1, "hook": "x"}]), ("groups", [{"lr": 0.1}] * 2),
    ("extra", 7), ("extra", []), ("extra", {"batches": {}}), ("extra.session", -1), ("extra.session", "1"),
    ("extra.elapsed", -1.0), ("extra.model", 10**30), ("extra.batches", {}), ("extra.batches", {"bit_generator": "MT"}),
    ("extra.batches.state.state", -1), ("extra.batches.state.state", 2**200), ("extra.batches.state", []),
    ("extra.batches.uinteger", 2**40), ("extra.batches.state.inc", 2), ("extra.surprise", 1),
    ("extra.gone", ["../../../../victim.txt"]), ("extra.gone", ["/etc/hostname"]), ("extra.gone", [".."]),
    ("extra.gone", ["0000-000000-000.npz/../../x"]), ("extra.gone", "0000-000000-000.npz"), ("extra.gone", [1]),
    ("extra.gone", ["0000-000000-000.npz\n"]), ("extra.gone", ["0000-000000-000.npz\0"]), ("extra.finished", 1),
    ("extra.score", "high"), ("extra.forgotten_rows", -5), ("extra.forgotten_rows", 2**63),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), STATES, ids=lambda value: str(value)[:24])
def test_a_field_of_another_type_or_range(run, field, value):
    folder = run / "checkpoints" / "step-000000002"
    state = json.loads((folder / "state.json").read_bytes())
    *path, last = field.split(".")
    place = state
    for part in path:
        place = place[part]
    place[last] = value
    (folder / "state.json").write_text(json.dumps(state))
    reseal(folder)
    step, reasons = taken(run)
    assert (step, len(reasons)) == (1, 1)
    assert reasons[0].isprintable()
    assert "step-000000002" in reasons[0]
    assert len(reasons[0]) < 1000


@pytest.mark.parametrize(
    "content", ["", "[]", "null", "{}", DEEP, '{"step": NaN}', "\ud800".encode("utf-8", "surrogatepass")]
)
def test_a_state_that_is_no_object_of_that_kind(run, content):
    folder = run / "checkpoints" / "step-000000002"
    (folder / "state.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    reseal(folder)
    assert taken(run)[0] == 1


@pytest.mark.parametrize(
    "files", [{}, [], None, {"../victim": "0" * 64}, {"/etc/passwd": ""}, {"state.json": 1}, {"state.json": "0"}]
)
def test_a_manifest_that_names_other_files(run, files):
    folder = run / "checkpoints" / "step-000000002"
    manifest = json.loads((folder / "manifest.json").read_bytes())
    good = manifest["files"]
    for value in (files, {**good, **files} if isinstance(files, dict) and files else files):
        (folder / "manifest.json").write_text(json.dumps({**manifest, "files": value}))
        assert taken(run)[0] == 1


def other_tensors(name: str, tensors: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """The same with a tensor of another shape, another type, without one, with one too many, with none at all."""
    if name == "random.safetensors":
        cpu = tensors["cpu"]
        return [{}, {"cpu": cpu[:-1].clone()}, {"cpu": cpu.float()}, {"cpu": torch.zeros_like(cpu)}, {"gpu": cpu}]
    key = next(key for key in tensors if key.endswith("conv1.weight") and tensors[key].ndim)
    first, rest = tensors[key], {k: v for k, v in tensors.items() if k != key}
    shapes = [first[:1].clone(), first.flatten(), torch.zeros(0), torch.tensor(1.0), torch.zeros(3, 5, 7)]
    kinds = [first.double(), first.half(), first.to(torch.int32), first.to(torch.uint8), first.bool()]
    return [
        *({**rest, key: tensor} for tensor in (*shapes, *kinds)),
        rest,
        {**tensors, "exp_avg/x": first.clone()},
        {"a": first},
    ]


@pytest.mark.parametrize("name", ["weights.safetensors", "optimizer.safetensors", "random.safetensors"])
def test_a_tensor_of_another_shape_or_type(run, name):
    folder = run / "checkpoints" / "step-000000002"
    good = tensors_from((folder / name).read_bytes())
    for tensors in other_tensors(name, good):
        (folder / name).write_bytes(tensors_to(tensors))
        reseal(folder)
        step, reasons = taken(run)
        assert (step, len(reasons)) == (1, 1)
    for content in (b"", b"\xff" * 8, (2**40).to_bytes(8, "little"), b"\2\0\0\0\0\0\0\0{}x"):
        (folder / name).write_bytes(content)
        reseal(folder)
        assert taken(run)[0] == 1


def test_an_optimizer_of_another_kind(run):
    """Adam's moments are nothing that SGD can go on from."""
    found = checkpoint.load(run / "checkpoints" / "step-000000002")
    model = learner_of(run).model
    with pytest.raises(Refused, match="does not fit this optimizer"):
        found.restore(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))


def test_a_file_far_larger_than_its_network_is_not_read(run):
    folder = run / "checkpoints" / "step-000000002"
    for name in ("weights.safetensors", "state.json", "manifest.json"):
        with (folder / name).open("rb+") as file:
            before = (folder / name).stat().st_size
            file.truncate(1 << 36)  # a hole: no bytes on the disk
        step, reasons = taken(run)
        assert step == 1
        assert "bytes and at most" in reasons[0]
        with (folder / name).open("rb+") as file:
            file.truncate(before)
    assert taken(run) == (2, [])
