"""The player of matches on a node: plays the games it is given to their ends. It touches no disk, and knows no Ray."""

from __future__ import annotations

import json
import os
import platform
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from az.engine.arena.match import Starts, play_games
from az.engine.errors import AzError, Refused, WrongRequest
from az.engine.game import Game, load_game
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.players import ModelPlayer, Player, RandomPlayer, make_player
from az.engine.players.levels import LevelPlayer
from az.engine.players.minimax import MinimaxPlayer
from az.engine.players.rollouts import RolloutPlayer
from az.engine.search.params import SearchParams
from az.train.cluster.player import facts

MODELS_KEPT = 8  # networks that a player holds


@dataclass(frozen=True)
class MatchJob:
    """What a player is told when it starts. Its networks run on the CPU: a GPU's last bits are others."""

    game: str


@dataclass(frozen=True)
class Contestant:
    """A player as it goes over the wire. text: of `make_player`, or "level:N" or "" with a model (its id)."""

    name: str
    text: str
    model: str = ""
    params: SearchParams | None = None


@dataclass(frozen=True)
class Unit:
    """Games of a match: a pure function of what stands here."""

    a: Contestant
    b: Contestant
    seed: int
    starts: Starts


def describe(player: Player) -> tuple[Contestant, OnnxEvaluator | None]:
    """A player for the wire, and its network. Raises WrongRequest for one that cannot be handed over."""
    if isinstance(player, ModelPlayer | LevelPlayer) and isinstance(player.evaluator, OnnxEvaluator):
        network = player.evaluator
        text = f"level:{player.number}" if isinstance(player, LevelPlayer) else ""
        return Contestant(player.name, text, network.model_id, player.params), network
    if isinstance(player, RandomPlayer):
        return Contestant(player.name, "random"), None
    if isinstance(player, RolloutPlayer):
        return Contestant(player.name, f"rollouts:{player.simulations}"), None
    if isinstance(player, MinimaxPlayer):
        return Contestant(player.name, f"minimax:{player.depth}"), None
    raise WrongRequest(f"{player.name} cannot be handed to a cluster: choose a model or one of az's own players.")


class MatchPlayer:
    """`fetch`: the bytes of a model from the handle that came with its orders."""

    def __init__(self, job: MatchJob, fetch: Callable[[Any], bytes]) -> None:
        self.job, self._fetch = job, fetch
        self._models: dict[str, OnnxEvaluator] = {}
        self._done = threading.Event()
        self._result: dict[str, Any] = {}
        self._busy = False

    @cached_property
    def game(self) -> Game:
        """Loaded at the first word: a node without it says so."""
        return load_game(self.job.game)

    def hello(self) -> dict[str, Any]:
        """What this node has. Quick: nothing is compiled yet."""
        return {**facts(self.game), "host": platform.node(), "pid": os.getpid()}

    def exchange(self, orders: dict[str, Any]) -> dict[str, Any]:
        """orders: "models" {id: (name, handle, answers)}, "unit" (None: go on), "wait" seconds.

        Returns "known" models, and when the unit's games are over "games": JSON of [number, actions] of each; or
        "refused" (this node computes otherwise), "error" or "crash" with a sentence.
        """
        try:
            for model_id, (name, handle, answers) in orders["models"].items():
                self._load(model_id, name, self._fetch(handle), answers)
        except Refused as refusal:
            return {"known": sorted(self._models), "refused": str(refusal)}
        unit: Unit | None = orders["unit"]
        needed = {unit.a.model, unit.b.model} if unit is not None else set[str]()
        for model_id in [name for name in self._models if name not in needed][: -MODELS_KEPT or None]:
            del self._models[model_id]  # the oldest
        if unit is not None and not self._busy:
            self._busy, self._result = True, {}
            self._done.clear()
            threading.Thread(target=self._play, args=(unit,), daemon=True).start()
        result: dict[str, Any] = {}
        if self._busy and self._done.wait(orders["wait"]):
            result, self._busy = self._result, False
        return {"known": sorted(self._models), **result}

    def _load(self, model_id: str, name: str, data: bytes, answers: str) -> None:
        """Raises Refused where this machine computes otherwise than the model's file, or the head, says."""
        found = OnnxEvaluator(name, self.game, provider="cpu", data=data)
        if found.model_id != model_id:
            raise Refused(f"model {name} came over as other bytes than were sent.")
        if found.answers != answers:
            raise Refused(
                f"model {name} has answers here that differ in their last bits from those of the head, and a match"
                " has to be the same wherever it is played: leave this node out."
            )
        self._models[model_id] = found

    def _contestant(self, one: Contestant) -> Player:
        if not one.model:
            player = make_player(one.text, self.game)
        elif one.text:
            player = LevelPlayer(self._models[one.model], int(one.text.partition(":")[2]), one.params)
        else:
            player = ModelPlayer(self._models[one.model], one.params or SearchParams())
        player.name = one.name  # which of the two comes first by name is a part of the games' keys
        return player

    def _play(self, unit: Unit) -> None:
        try:
            a, b = self._contestant(unit.a), self._contestant(unit.b)
            records = play_games(a, b, unit.seed, unit.starts)
            text = json.dumps([[one.number, list(one.actions)] for one in records], separators=(",", ":"))
            self._result = {"games": text.encode()}
        except AzError as error:
            self._result = {"error": str(error)}
        except Exception:  # not expected: the match's process says it
            self._result = {"crash": traceback.format_exc()}
        self._done.set()
