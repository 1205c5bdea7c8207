"""What the tests of `az analyze` share: desks, requests, and answers checked by the JSON Schema."""

from __future__ import annotations

import io
import json
import random
from functools import cache
from typing import Any

import jsonschema

from az.commands.analyze import analyze
from az.engine.analysis.answers import schema_text
from az.engine.analysis.desk import Desk
from az.engine.analysis.requests import Effort
from az.engine.analysis.work import Engine
from az.engine.game import ONGOING, Game, load_game
from az.engine.inference.evaluator import HashEvaluator
from az.engine.search.params import SearchParams
from az.engine.search.whole_moves import searcher, whole_results

JUMPS = "W:W31,K14:B9,10,17,18,26,25"  # a king that may jump in a circle, and branches
SCHEMA = json.loads(schema_text())
SEEN: set[str] = set()  # fields of answers, as "kind.field"


@cache
def validator(kind: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]})


def checked(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, which is as the schema says and of exactly one kind."""
    validator("answer").validate(answer)
    kinds = [ref["$ref"].rpartition("/")[2] for ref in SCHEMA["$defs"]["answer"]["oneOf"]]
    [kind] = [kind for kind in kinds if validator(kind).is_valid(answer)]
    SEEN.update(f"{kind}.{name}" for name in answer)
    SEEN.update(f"move.{name}" for move in answer.get("moves", []) for name in move)
    SEEN.update(f"engine.{name}" for name in answer.get("engine", {}))
    return answer


@cache
def game_of(name: str) -> Game:
    return load_game(name)


def desk_of(name: str = "connect4", usual: Effort | None = None) -> tuple[Desk, list[dict[str, Any]]]:
    game, told = game_of(name), list[dict[str, Any]]()
    engine = Engine(game, HashEvaluator(game), SearchParams())
    return Desk(engine, lambda answer: told.append(checked(json.loads(json.dumps(answer)))), usual or Effort()), told


def ask(name: str, *requests: dict[str, Any], usual: Effort | None = None) -> list[dict[str, Any]]:
    """The answers to requests, each of them valid by the schema."""
    for request in requests:
        validator("input").validate(request)
    game, out = game_of(name), io.StringIO()
    lines = io.BytesIO("\n".join(map(json.dumps, requests)).encode())
    assert analyze(game, HashEvaluator(game), SearchParams(), lines, out, usual) == 0
    return [checked(json.loads(line)) for line in out.getvalue().splitlines()]


def played(name: str, plies: int, seed: int = 3) -> list[str]:
    """A random game's first moves, none of which ends it."""
    game, draw = game_of(name), random.Random(seed)
    while True:
        state, moves = game.new_state(), list[str]()
        while len(moves) < plies and game.outcome(state) == ONGOING:
            text, hops = draw.choice(list(game.moves(state).items()))
            state = game.play(state, hops)
            moves.append(text)
        if game.outcome(state) == ONGOING:
            return moves


def alone(name: str, position: str | None, moves: list[str], sims: int) -> Any:
    """The answer of a search that nothing interrupts."""
    game = game_of(name)
    state = game.new_state() if position is None else game.parse_position(position)
    for move in moves:
        state = game.play(state, game.parse_move(state, move))
    search = searcher(game, HashEvaluator(game), SearchParams())
    return whole_results(game, [state], search([state], sims), search)[0]
