"""What a line of `az analyze` asks for: positions to search, or a word about the requests and the engine itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

from az.engine.analysis.json_lines import (
    BadRequestError,
    Identity,
    duration,
    identity_of,
    is_identity,
    kind,
    parse,
    shown,
    texts,
    whole,
)
from az.engine.errors import AzError, WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.notation import read_games
from az.engine.search.restrict import Restriction

MAX_SIMULATIONS = 1_000_000
MAX_SECONDS = 3600
MIN_REPORT = 0.05  # seconds between two reports: what a reader and a pipe can bear
MAX_TURNS = 1000  # positions of one request
MAX_PRIORITY = 1000
MAX_UNTIL = 16  # moves that a restriction may speak of: each node above is looked at in Python
DEFAULT_SIMULATIONS = 400  # of a request that says neither sims nor seconds
FIELDS = (
    "id", "position", "moves", "text", "sims", "seconds", "detail", "analyze_turns", "report_every", "priority",
    "allow", "avoid", "until_depth",
)  # fmt: skip
ACTIONS: dict[str, tuple[str, ...]] = {
    "version": ("id", "action"),
    "query": ("id", "action"),
    "cancel": ("id", "action", "of"),
    "cancel_all": ("id", "action"),
}


@dataclass(frozen=True)
class Effort:
    """How hard to think about a position: so many simulations, or so many seconds."""

    simulations: int = DEFAULT_SIMULATIONS
    seconds: float | None = None


@dataclass(eq=False)
class Request:
    """One readable request: the positions to search, and how."""

    identity: Identity
    state: State  # after all moves
    simulations: int
    size: int = 0  # bytes of its line
    seconds: float | None = None  # to think, in place of simulations
    detail: bool = False
    report_every: float | None = None  # seconds
    priority: int = 0
    restriction: Restriction | None = None
    turns: list[tuple[int, State]] | None = None  # (whole moves played, position); None: `state` alone
    left: int = field(default=0, init=False)  # positions not answered yet


@dataclass(frozen=True)
class Action:
    """A word about the requests or the engine."""

    identity: Identity
    name: str  # of ACTIONS
    of: Identity = None  # the request to cancel


def read_request(game: Game, line: bytes, usual: Effort | None = None) -> Request | Action:
    """What one line of JSON asks for. Raises BadRequestError with a sentence that names the field that is wrong.

    usual: the effort of a request that says neither sims nor seconds.
    """
    fields = parse(line)
    identity = identity_of(fields)
    if "action" in fields:
        return _action(identity, fields)
    _no_others(identity, fields, FIELDS)
    simulations, seconds = _effort(identity, fields, usual or Effort())
    detail = _boolean(identity, fields, "detail")
    every = duration(identity, fields, "report_every", MAX_SECONDS, MIN_REPORT)
    priority = whole(identity, fields, "priority", -MAX_PRIORITY, MAX_PRIORITY, 0)
    states = _states(game, identity, fields)
    turns = _turns(identity, fields, states)
    if turns is None and game.outcome(states[-1]) != ONGOING:
        raise BadRequestError(identity, "the game is over in this position: there is no move to find.")
    wanted = states[-1:] if turns is None else [state for _, state in turns]
    restriction = _restriction(game, identity, fields, wanted)
    size = len(line)
    return Request(identity, states[-1], simulations, size, seconds, detail, every, priority, restriction, turns)


def _no_others(identity: Identity, fields: dict[str, Any], names: tuple[str, ...]) -> None:
    unknown = [name for name in fields if name not in names]
    if unknown:
        raise BadRequestError(identity, f"unknown field {shown(unknown[0])}; the fields are {', '.join(names)}.")


def _action(identity: Identity, fields: dict[str, Any]) -> Action:
    name = fields["action"]
    if not isinstance(name, str) or name not in ACTIONS:
        raise BadRequestError(identity, f"action must be one of {', '.join(ACTIONS)}, not {shown(name)}.")
    _no_others(identity, fields, ACTIONS[name])
    if name != "cancel":
        return Action(identity, name)
    if "of" not in fields or not is_identity(fields["of"]):
        got = f"not {kind(fields['of'])}" if "of" in fields else "and it is missing"
        raise BadRequestError(identity, f"of must be the id of the request to cancel, {got}.")
    return Action(identity, name, fields["of"])


def _effort(identity: Identity, fields: dict[str, Any], usual: Effort) -> tuple[int, float | None]:
    simulations = whole(identity, fields, "sims", 0, MAX_SIMULATIONS, usual.simulations)
    seconds = duration(identity, fields, "seconds", MAX_SECONDS)
    if seconds is not None and "sims" in fields:
        raise BadRequestError(identity, "sims and seconds exclude each other: give one of them.")
    return simulations, usual.seconds if seconds is None and "sims" not in fields else seconds


def _boolean(identity: Identity, fields: dict[str, Any], name: str) -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise BadRequestError(identity, f"{name} must be true or false, not {shown(value)}.")
    return value


def _read(game: Game, identity: Identity, fields: dict[str, Any]) -> list[State]:
    """The positions of a game in one of the formats of `engine/notation/`."""
    text = fields["text"]
    if not isinstance(text, str):
        raise BadRequestError(identity, f"text must be a string, not {kind(text)}.")
    for name in ("position", "moves"):
        if name in fields:
            raise BadRequestError(identity, f"text and {name} exclude each other: give one of them.")
    try:
        return read_games(text, game)[0].states(game)
    except AzError as error:
        raise BadRequestError(identity, f"text: {error}") from None
    except Exception as error:
        raise BadRequestError(identity, f"the game cannot read this text ({type(error).__name__}).") from None


def _states(game: Game, identity: Identity, fields: dict[str, Any]) -> list[State]:
    """The position before and after each of its moves."""
    if "text" in fields:
        return _read(game, identity, fields)
    position = fields.get("position", "")
    if not isinstance(position, str):
        raise BadRequestError(identity, f"position must be a string, not {kind(position)}.")
    moves = texts(identity, fields, "moves")
    what = "position"
    try:
        states = [game.parse_position(position) if "position" in fields else game.new_state()]
        for number, move in enumerate(moves, 1):
            what = f"move {number}"
            states.append(game.play(states[-1], game.parse_move(states[-1], move)))
    except WrongRequest as error:
        raise BadRequestError(identity, str(error) if what == "position" else f"{what}: {error}") from None
    except Exception as error:  # a game from another package may break on odd text: the program goes on
        raise BadRequestError(identity, f"the game cannot read this {what} ({type(error).__name__}).") from None
    return states


def _turns(identity: Identity, fields: dict[str, Any], states: list[State]) -> list[tuple[int, State]] | None:
    if "analyze_turns" not in fields:
        return None
    last = len(states) - 1
    asked = fields["analyze_turns"]
    wanted = list(range(last + 1)) if asked == "all" else asked
    if not isinstance(wanted, list) or not wanted:
        raise BadRequestError(identity, f'analyze_turns must be a list of plies or "all", not {shown(asked)}.')
    plies = list[int]()
    for ply in cast("list[object]", wanted):
        if isinstance(ply, bool) or not isinstance(ply, int) or not 0 <= ply <= last:
            raise BadRequestError(
                identity, f"analyze_turns must hold whole numbers from 0 to {last} (the moves), not {shown(ply)}."
            )
        plies.append(ply)
    if len(set(plies)) < len(plies):
        raise BadRequestError(identity, "analyze_turns names a ply twice.")
    if len(plies) > MAX_TURNS:
        raise BadRequestError(identity, f"analyze_turns holds {len(plies)} plies; {MAX_TURNS} are the most.")
    return [(ply, states[ply]) for ply in plies]


def _restriction(game: Game, identity: Identity, fields: dict[str, Any], states: list[State]) -> Restriction | None:
    """One for all positions: in each of them it speaks of the moves that are legal there."""
    if "allow" not in fields and "avoid" not in fields:
        if "until_depth" in fields:
            raise BadRequestError(identity, "until_depth is for allow and avoid: give one of them too.")
        return None
    until = whole(identity, fields, "until_depth", 1, MAX_UNTIL, 1)
    named = {name: texts(identity, fields, name) for name in ("allow", "avoid")}
    if until == 1:  # a move that is legal only later in the game is no mistake where later moves are meant
        for name, listed in named.items():
            _check_legal(game, identity, name, listed, states)
    allow = frozenset(named["allow"]) if "allow" in fields else None
    restriction = Restriction(allow, frozenset(named["avoid"]), until)
    try:
        faults = [nothing_left(game, restriction, state) for state in states]
    except Exception as error:
        raise BadRequestError(identity, f"the game cannot read allow or avoid ({type(error).__name__}).") from None
    if faults[0] is not None and None not in faults:  # of several positions each tells its own
        raise BadRequestError(identity, faults[0])
    return restriction


def nothing_left(game: Game, restriction: Restriction, state: State) -> str | None:
    """Why no move may be played in an unfinished position, or None where one may."""
    if game.outcome(state) != ONGOING or restriction.left(game, state):
        return None
    named = {"allow": restriction.allow is not None, "avoid": bool(restriction.avoid)}
    which = " and ".join(name for name, given in named.items() if given)
    return f"{which} leaves no legal move here: {' '.join(game.moves(state))}."


def _check_legal(game: Game, identity: Identity, name: str, listed: list[str], states: list[State]) -> None:
    """Each move is legal in one of the positions at least."""
    for move in listed:
        fault: WrongRequest | None = None
        for state in states:
            try:
                game.parse_move(state, move)
                break
            except WrongRequest as error:
                fault = fault or error
            except Exception as error:
                raise BadRequestError(identity, f"the game cannot read {name} ({type(error).__name__}).") from None
        else:
            raise BadRequestError(identity, f"{name}: {fault}")
