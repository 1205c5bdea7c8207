"""The answers of `az analyze` as JSON; `schema.json` describes every field."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

from az.engine.analysis.json_lines import Identity
from az.engine.analysis.requests import Effort
from az.engine.analysis.work import Engine, Found, Task
from az.engine.errors import AzError
from az.engine.game import DRAW, LOSS, WIN, Game
from az.engine.inference.evaluator import Evaluator
from az.engine.printable import one_line
from az.engine.search.whole_moves import line_of, ranked

Json = dict[str, Any]
MAX_SENTENCE = 400  # characters of an error
PROTOCOL = 2  # raise it when a program that reads an answer must change
PROVEN = {LOSS: "loss", DRAW: "draw", WIN: "win"}


def schema_text() -> str:
    """The JSON Schema (draft 2020-12) of requests and answers."""
    return Path(__file__).with_name("schema.json").read_text("utf-8")


def as_line(answer: Json) -> str:
    """An answer as one line of JSON."""
    return json.dumps(answer, separators=(",", ":"), allow_nan=False) + "\n"


def error(identity: Identity, sentence: str, turn: int | None = None) -> Json:
    """One sentence that says what is wrong with a request."""
    return {"id": identity, **_turn(turn), "error": one_line(sentence, MAX_SENTENCE)}


def failure(task: Task, fault: AzError | MemoryError) -> Json:
    """A position that could not be searched."""
    request = task.request
    if isinstance(fault, MemoryError):
        effort = f"sims {request.simulations}" if request.seconds is None else f"seconds {request.seconds:g}"
        return error(request.identity, f"{effort} needs more memory than there is; ask for fewer.", task.turn)
    return error(request.identity, str(fault), task.turn)


def _turn(turn: int | None) -> Json:
    return {} if turn is None else {"turn": turn}


def searched(engine: Engine, facts: Json, task: Task, found: Found, spent: float, final: bool) -> Json:
    """The answer to a position. facts: `model_facts`. spent: seconds of thinking of its batch."""
    request, whole = task.request, found.whole
    answer: Json = {
        "id": request.identity,
        **_turn(task.turn),
        "move": whole.best.text,
        "value": min(1.0, max(-1.0, whole.value)),
        "policy": {move.text: move.share for move in whole.moves},
        "prior": {move.text: move.prior for move in whole.moves},
        "sims": whole.simulations,
        "pv": list(whole.pv),
        "model": engine.evaluator.name,
    }
    if request.report_every is not None:
        answer["final"] = final
    if request.detail:
        answer |= {
            "to_move": int(task.state[0]),
            "proven": PROVEN.get(whole.proven),
            "network_value": found.network_value,
            "seconds": spent,
            "moves": _moves(engine.game, task, found),
            "engine": facts,
        }
    return answer


def _moves(game: Game, task: Task, found: Found) -> list[Json]:
    return [
        {
            "move": move.text,
            "visits": round(move.share * found.visits),
            "share": move.share,
            "prior": move.prior,
            "value": min(1.0, max(-1.0, move.value)),
            "proven": PROVEN.get(move.proven),
            "line": list(line_of(game, task.state, found.whole, move, found.lines)),
        }
        for move in ranked(found.whole)
    ]


def over(game: Game, task: Task) -> Json:
    """A position of a whole game in which the game has ended: its value is the result."""
    answer: Json = {**_identified(task), "over": True, "value": float(game.outcome(task.state))}
    return answer if task.request.report_every is None else {**answer, "final": True}


def _identified(task: Task) -> Json:
    return {"id": task.request.identity, **_turn(task.turn)}


def model_facts(evaluator: Evaluator) -> Json:
    """Which program and which model answer."""
    return {
        "az": metadata.version("az-engine"),
        "game": evaluator.game.name,
        "game_version": evaluator.game.version,
        "model": evaluator.name,
        "model_id": evaluator.model_id,
        "file": getattr(evaluator, "path", None),
        "precision": getattr(evaluator, "precision", None),
    }


def version(identity: Identity, facts: Json, usual: Effort) -> Json:
    """What answers here, and how hard it thinks where a request does not say."""
    effort = {"sims": usual.simulations} if usual.seconds is None else {"seconds": usual.seconds}
    return {"id": identity, "action": "version", "protocol": PROTOCOL, "engine": facts, "default": effort}
