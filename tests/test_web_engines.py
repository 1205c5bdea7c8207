"""The list of players that a page chooses from: the runs' newest models, read again only where they have changed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("starlette", reason="the extra `web` is not installed")
from az.engine.game import load_game
from az.engine.inference.model_resolver import SHIPPED
from az.engine.web import engines
from az.engine.web.engines import Engines


def publish(run: str, number: int, ship: str = "tictactoe", age: float = 3600) -> None:
    """A model of a run, so old that nothing is expected to change any more."""
    models = Path("runs") / run / "models"
    models.mkdir(parents=True, exist_ok=True)
    for kind in ("onnx", "json"):
        shutil.copy(SHIPPED / f"{ship}.{kind}", models / f"{number:06d}.{kind}")
    when = os.stat(models).st_mtime - age + number
    os.utime(models / f"{number:06d}.onnx", (when, when))
    os.utime(models, (when, when))


def test_a_list_that_is_asked_again_reads_no_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b", ".hidden", "random"):
        publish(name, 1)
    publish("c", 1, "connect4")
    read = []
    newest = engines._newest
    monkeypatch.setattr(engines, "_newest", lambda run: read.append(run.name) or newest(run))
    game, found = load_game("tictactoe"), Engines()

    def asked() -> tuple[list[str], list[str]]:
        read.clear()
        return [one["name"] for one in found.players(game) if one["id"] in "abc"], sorted(read)

    both = ["model b/000001", "model a/000001"]
    assert sorted(asked()[0]) == sorted(both)
    assert asked()[1] == []
    publish("a", 2)
    assert asked() == (["model a/000002", "model b/000001"], ["a"])
    monkeypatch.setattr(engines, "SETTLED", 10**18)  # just now: another may come within one tick of the clock
    publish("b", 3)
    assert asked()[0] == ["model b/000003", "model a/000002"]
    assert "b" in asked()[1]
    shutil.rmtree("runs/b")
    assert asked()[0] == ["model a/000002"]
    assert found.engine(game, "a").model
