"""The guilty rows of an incident: the positions, what the batch held, and what the search says when it runs again.

Game k is a pure function of (model, precision, game, search parameters, seed, k), so a row that went bad after it was
made can be made again: from its record file, or by playing its game again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from az.engine.errors import AzError, Refused
from az.engine.game import Game, Symmetry
from az.engine.inference.onnx_evaluator import OnnxEvaluator
from az.engine.inference.precision import VARIANTS, variant_of
from az.engine.inference.providers import on_gpu
from az.engine.records.format import FinishedGame, Records, read_records
from az.engine.records.row_checks import check_records
from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig
from az.engine.selfplay.warmup import warm_up
from az.engine.settings import checked
from az.engine.system.safe_read import MB, read_json
from az.train.replay import Batch
from az.train.run.bundle import Bundle
from az.train.run.names import model_cards
from az.train.value_targets import game_targets, value_targets

ReadFile = tuple[Records, dict[int, str], str] | str  # records, their bad rows, where it lies; or why it cannot be read
Played = tuple[FinishedGame | None, list[Any], str] | str  # game, faults of its search, model; or why it was not played
MOST_GAMES = 4  # that are played again: the rows of one incident are mostly of one cause
MOST_SIMULATIONS = 20_000  # a move, of a game that is played again without being asked
MOST_MOVES = 6  # of a policy that are told


@dataclass(frozen=True)
class Position:
    """One row, as a record file or a game played again gives it."""

    state: NDArray[Any]
    actions: NDArray[Any]
    policy: NDArray[Any]
    outcome: float
    root_value: float
    target: float  # of the value, before learner.q_mix


class RowReader:
    """Looks the rows of one incident up, each file and each game once."""

    def __init__(self, found: Bundle, game: Game, run: Path | None, replay: bool, say: Callable[[str], None]) -> None:
        self.found, self.game, self.run, self.replay, self.say = found, game, run, replay, say
        self._files: dict[str, ReadFile] = {}
        self._games: dict[tuple[Any, ...], Played] = {}

    def facts(self, origin: dict[str, Any]) -> dict[str, Any]:
        """Everything that can be said of one row; never raises for what is gone."""
        made = dict(origin)
        row = origin.get("row_in_file", origin.get("row"))
        file = self._file(origin.get("file"))
        recorded, fault = None, None
        if isinstance(file, str):
            made["file_says"] = file
        else:
            recorded, fault, made["file_says"] = _recorded(file, row, origin, self.td_lambda)
        again = self._again(origin, None if isinstance(file, str) else file[0])
        made["game_again"] = _compared(self.game, origin, recorded, again)
        made_again = _row_of(again, origin, self.td_lambda)
        truth = made_again if recorded is None or fault else recorded
        known = truth or recorded
        state = known.state if known is not None else _given(origin, self.game)
        made["board"] = None if state is None else drawn(self.game, state)
        made["should"] = None if truth is None else _told(self.game, truth)
        if recorded is not None and fault and made_again is not None:
            made["differs"] = [f"the file: {fault}"]
        if truth is not None and "batch_row" in origin and self.found.batch is not None:
            made["differs"] = self._differs(origin, self.found.batch, truth)
        return made

    @property
    def td_lambda(self) -> float:
        """As the run's configuration has it; 1 where that is gone."""
        return self.found.state.config.learner.td_lambda if self.found.state is not None else 1.0

    # -- the record file ----------------------------------------------------------------------------------------

    def _file(self, given: Any) -> ReadFile:
        if not given:
            return "no record file holds it: the game was stopped before it was written"
        name = Path(str(given)).name
        if name not in self._files:
            self._files[name] = self._read(name)
        return self._files[name]

    def _read(self, name: str) -> ReadFile:
        for folder in ("records", "quarantine") if self.run is not None else ():
            assert self.run is not None
            path = self.run / folder / name
            if not path.is_file():
                continue
            try:
                records = read_records(path, self.game)
                faults = {fault.row: f"{fault.field}: {fault.reason}" for fault in check_records(self.game, records)}
            except Refused as error:
                return f"its record file cannot be read: {error}"
            return records, faults, f"{folder}/{name}"
        return f"its record file {name} is gone"

    # -- the game again -------------------------------------------------------------------------------------

    def _again(self, origin: dict[str, Any], records: Records | None) -> Played:
        if not self.replay:
            return "not played again: --no-replay"
        if not all(isinstance(origin.get(name), int) for name in ("game", "seed")) or "model" not in origin:
            return "not played again: the incident does not say which game it was"
        key = (origin["game"], origin["model"], origin["seed"])
        if key not in self._games:
            if len(self._games) >= MOST_GAMES:
                return f"not played again: {MOST_GAMES} games of this incident were"
            self._games[key] = self._play(*key, records)
        return self._games[key]

    def _play(self, k: int, model: Any, seed: int, records: Records | None) -> Played:
        path = find_model(self.run, str(model))
        if path is None:
            return f"cannot be played again: the model {model} is no longer in the run's models"
        state = self.found.state
        try:
            if records is not None:
                config = checked(SelfplayConfig(), records.header["search"])
            elif state is not None:
                config = state.config.selfplay
            else:
                return "cannot be played again: neither a record file nor a checkpoint says how it was searched"
            if config.simulations * config.leaves > MOST_SIMULATIONS:
                return f"not played again: {config.simulations:,} simulations a move take too long"
            # As it was played: int8 on the CPU, and calls of the size that the record tells.
            cpu = (state is not None and state.config.deterministic) or path == variant_of(path, "int8")
            size = config.gpu_batch if not cpu and on_gpu() else 0
            evaluator = OnnxEvaluator(path, self.game, provider="cpu" if cpu else "auto", batch=size)
            if evaluator.model_id != model:
                return f"cannot be played again: {path.name} is not the model {model} any more"
            warm_up(self.game, self.say)
            jobs = iter([(k, evaluator)])
            batch = SelfplayBatch(self.game, config, seed, 1)
            games = list(batch.play(lambda: next(jobs, None)))
        except (AzError, TypeError) as error:
            return f"cannot be played again: {error}"
        return (games[0] if games else None), list(getattr(batch, "faults", [])), path.name

    # -- the batch ----------------------------------------------------------------------------------------------

    def _differs(self, origin: dict[str, Any], batch: Batch, truth: Position) -> list[str]:
        """In words: where the batch's row is not what the position gives; [] where it is."""
        row = int(origin["batch_row"])
        if not 0 <= row < len(batch.value):
            return []
        chosen = int(batch.symmetry[row])
        mix = self.found.state.config.learner.q_mix if self.found.state is not None else 0.0
        planes, policy, mask, value = expected(self.game, truth, chosen, mix)
        symmetry = self.game.symmetries[chosen - 1] if 0 < chosen <= len(self.game.symmetries) else None
        words = []
        held = np.float32(batch.value[row])
        if held.tobytes() != value.tobytes():
            words.append(f"value is {held:.7g} in the batch, should be {value:.7g}")
        if batch.root_value is not None and batch.root_value[row] != (root := np.float32(truth.root_value)):
            words.append(f"the search's value is {batch.root_value[row]:.7g} in the batch, should be {root:.7g}")
        words += self._policy_differs(truth, batch.policy[row], policy, symmetry)
        if not np.array_equal(batch.mask[row], mask):
            words.append(f"the mask has {int(batch.mask[row].sum())} legal actions, should have {int(mask.sum())}")
        wrong = np.argwhere(batch.planes[row] != planes)
        if len(wrong):
            c, y, x = map(int, wrong[0])
            held = batch.planes[row, c, y, x]
            words.append(
                f"{len(wrong)} numbers of the input planes differ; plane {c}, row {y}, column {x} is {held:.7g},"
                f" should be {planes[c, y, x]:.7g}"
            )
        return words

    def _policy_differs(
        self, truth: Position, held: NDArray[Any], policy: NDArray[Any], symmetry: Symmetry | None
    ) -> list[str]:
        wrong = np.flatnonzero(held.view(np.int32) != policy.view(np.int32))
        if not len(wrong):
            return []
        back = np.argsort(symmetry.actions) if symmetry is not None else np.arange(self.game.num_actions)
        worst = int(wrong[np.argmax(np.nan_to_num(np.abs(held[wrong] - policy[wrong]), nan=np.inf))])
        action = int(back[worst])
        name = self.game.action_text(truth.state, action) if action in truth.actions else f"{action}, which is illegal,"
        text = f"policy of move {name} is {held[worst]:.7g} in the batch, should be {policy[worst]:.7g}"
        return [text + (f"; {len(wrong)} entries differ in all" if len(wrong) > 1 else "")]


def find_model(run: Path | None, model_id: str) -> Path | None:
    """The file in the run's models that carries this id, fp32 or int8, by the cards."""
    for _, card in model_cards(run / "models") if run is not None else ():
        try:
            value = read_json(card, MB)
        except (ValueError, OSError):
            continue
        path = card.with_suffix(".onnx")
        variants = [(f"{variant}_model_id", variant_of(path, variant)) for variant in VARIANTS]
        for name, file in (("model_id", path), *variants):
            if isinstance(value, dict) and value.get(name) == model_id and file.is_file():
                return file
    return None


def expected(
    game: Game, truth: Position, chosen: int, mix: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], np.float32]:
    """(planes, policy, mask, value) as az.train.replay gathers them from a sound row."""
    planes, policy = game.planes(truth.state), np.zeros(game.num_actions, np.float32)
    mask, actions = np.zeros(game.num_actions, np.bool_), truth.actions
    if 0 < chosen <= len(game.symmetries):
        symmetry, flat = game.symmetries[chosen - 1], planes.reshape(planes.shape[0], -1)
        mapped = np.empty_like(flat)
        mapped[:, symmetry.squares] = flat
        planes, actions = mapped.reshape(planes.shape), symmetry.actions[actions]
    policy[actions], mask[actions] = truth.policy, True
    target, root = float(np.float32(truth.target)), float(np.float32(truth.root_value))
    return planes, policy, mask, np.float32((1.0 - mix) * target + mix * root if mix > 0.0 else target)


def drawn(game: Game, state: NDArray[Any]) -> str | None:
    """The board; None for an invalid state."""
    try:
        return game.render(np.asarray(state, game.dtype))
    except Exception:  # a state that a fault has touched can be anything
        return None


def _recorded(
    file: tuple[Records, dict[int, str], str], row: Any, origin: dict[str, Any], td_lambda: float
) -> tuple[Position | None, str | None, str]:
    """(the row in its file, what is wrong with it there, what to say)"""
    records, faults, name = file
    if not isinstance(row, int) or not 0 <= row < len(records):
        return None, None, f"{name} has no row {row}"
    if any(records.origin(row)[key] != origin.get(key) for key in ("game", "ply")):
        return None, None, f"{name} holds another game in row {row}"
    low, high = records.policy_offsets[row : row + 2]
    found = Position(
        records.states[row], records.policy_actions[low:high], records.policy_probs[low:high],
        float(records.outcomes[row]), float(records.root_values[row]), float(value_targets(records, td_lambda)[row]),
    )  # fmt: skip
    fault = faults.get(row)
    return found, fault, f"{name}, row {row}" + (f": {fault}" if fault else ": sound")


def _row_of(again: Played, origin: dict[str, Any], td_lambda: float = 1.0) -> Position | None:
    if isinstance(again, str) or again[0] is None:
        return None
    game = again[0]
    for row, outcome, target in zip(game.rows, game.outcomes, game_targets(game, td_lambda), strict=True):
        if row.ply == origin.get("ply"):
            return Position(row.state, row.actions, row.policy, outcome, row.root_value, float(target))
    return None


def _compared(game: Game, origin: dict[str, Any], recorded: Position | None, again: Played) -> dict[str, Any]:
    """Whether the game, played again, has the same row."""
    if isinstance(again, str):
        return {"played": False, "text": again}
    finished, faults, model = again
    k, found = origin["game"], _row_of(again, origin)
    made: dict[str, Any] = {"played": True, "model_file": model}
    if finished is None:
        what = f": {faults[0].cause}, {faults[0].text}" if faults else ""
        return {**made, "stopped": True, "text": f"game {k} played again with {model} is stopped again{what}"}
    if found is None:
        text = f"game {k} played again with {model} has no row at ply {origin.get('ply')}: it went another way"
        return {**made, "same_state": False, "text": text}
    if recorded is None:
        given = _given(origin, game)
        same = None if given is None else bool(np.array_equal(given, found.state))
        meets = {None: "reaches that ply", True: "meets the same position", False: "goes another way"}[same]
        return {**made, "same_state": same, "text": f"game {k} played again with {model} {meets} and ends well"}
    state = bool(np.array_equal(found.state, recorded.state))
    policy = found.policy.tobytes() == recorded.policy.tobytes() and np.array_equal(found.actions, recorded.actions)
    value = np.float32(found.root_value) == np.float32(recorded.root_value) and found.outcome == recorded.outcome
    words = {(True, True): "the same state and policy", (True, False): "the same state and another policy"}
    text = f"game {k} played again with {model} has {words.get((state, bool(policy)), 'another state')} at this ply"
    if state and policy and not value:
        text += ", and another value"
    return {**made, "same_state": state, "same_policy": bool(policy), "same_value": bool(value), "text": text}


def _given(origin: dict[str, Any], game: Game) -> NDArray[Any] | None:
    state = origin.get("state")
    if not isinstance(state, list) or len(state) != game.state_size:
        return None
    try:
        return np.array(state, game.dtype)
    except (ValueError, TypeError, OverflowError):
        return None


def _told(game: Game, truth: Position) -> dict[str, Any]:
    """What the row should be, in the words of the game."""
    order = sorted(zip(truth.actions.tolist(), truth.policy.tolist(), strict=True), key=lambda pair: -pair[1])
    policy = {game.action_text(truth.state, action): round(share, 4) for action, share in order[:MOST_MOVES]}
    return {
        "policy": policy,
        "moves": len(order),
        "outcome": float(truth.outcome),
        "root_value": float(truth.root_value),
        "player": int(truth.state[0]),
    }
