"""The laws of a game, checked on random play.

No law knows a game's rules, so none finds an outcome with the wrong sign: read `playthrough` once for that.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np

from az.engine.conformance import board_law
from az.engine.conformance.guard import FaultError, OnCall, guarded
from az.engine.errors import WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, WIN, Game, Mask, Planes, State, Symmetry
from az.engine.printable import quoted

OUTCOMES = {LOSS: "loss", DRAW: "draw", WIN: "win", ONGOING: "ongoing"}

LAWS = {
    "bounds": "rules and texts stay within the state, the mask and the planes",
    "no-error": "no rule and no text fails",
    "start": "start writes the same state whatever the buffer held",
    "player": "state[0] is 0 or 1",
    "turn": "both players come to move",
    "length": "no game is longer than max_plies",
    "outcome": "outcome is LOSS, DRAW, WIN or ONGOING",
    "ongoing": "a game is ongoing exactly where some action is legal",
    "legal-writes": "legal writes every entry of the mask",
    "encode-writes": "encode writes every entry of the planes",
    "read-only": "legal, outcome, encode and the texts change nothing in the state",
    "planes": "planes are finite and in [-1, +1]",
    "apply": "apply does the same whenever it is called on the same state",
    "key": "the words of a state beyond key_words change neither rules nor planes",
    "moves-shape": "moves is a dict from texts to tuples of actions",
    "moves-cover": "the whole moves begin with exactly the legal actions",
    "moves-hops": "the hops of a whole move are legal in turn, by one player, and no two moves have the same hops",
    "moves-text": "parse_move reads the text of every whole move as that move, and action_text names each action",
    "text": "render and position_text answer with a text",
    "position-text": "parse_position reads position_text as the same position: player, legal actions, text",
    "position-wrong": "parse_position answers what it cannot read with WrongRequest",
    "position-state": "parse_position answers with an array of the state's size and dtype",
    "symmetry-shape": "a symmetry permutes the actions and the squares",
    "symmetry": "a symmetry maps a game to a game with the image's player, mask, planes and outcome",
    "board": "the board draws known signs in rows of one length, and its cells and labels lie inside",
}


RULE_LAWS = (  # what search and training cannot do without
    "bounds", "no-error", "start", "player", "length", "outcome", "ongoing", "legal-writes",
    "encode-writes", "read-only", "planes", "apply", "key", "moves-shape", "text",
    "board",  # not the rules, but `az play` draws it
)  # fmt: skip
MOST_READ = 24  # texts of moves that are read back a position: each reading lists all moves, of which there may be 225
Images = list[tuple[int, Symmetry]]  # the symmetries that permute what they should, with their numbers
More = Callable[["Report"], bool]  # whether there is time for more


class Report:
    """What was broken: each law once, with the first place where it was seen."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.broken: dict[str, str] = {}
        self.movers: set[int] = set()
        self.plies = 0
        self.games: list[str] = []  # of each game a digest of its states, masks and outcomes
        self.board_size: board_law.Size | None = None  # rows and columns of the first position that was drawn

    def demand(self, law: str, holds: bool, where: str) -> None:
        if not holds:
            self.broken.setdefault(law, f"{self.game.name} breaks '{law}': {LAWS[law]} ({where}).")

    def failed(self, fault: FaultError, where: str) -> None:
        """A function of the game raised what it should not."""
        self.demand("bounds" if isinstance(fault.error, IndexError) else "no-error", False, f"{where}: {fault}")


def check_game(game: Game, games: int, seed: int) -> list[str]:
    """The laws that the game breaks in that many random games, one sentence each; empty where it conforms."""
    return list(examine(game, games, seed, lambda _: True).broken.values())


def examine(game: Game, games: int, seed: int, more: More, on_call: OnCall | None = None, texts: bool = True) -> Report:
    """What the game breaks in that many random games, or in as many as `more` leaves time for.

    on_call: told before each call of a rule or a text what is called, and None after it.
    texts: also what is there for people, and the symmetries; False: the five rules alone.
    """
    report = Report(game)
    if texts and (fault := board_law.fault_of_facts(game.board)):
        report.demand("board", False, fault)
        return report
    report.game = game = guarded(game, on_call)
    symmetries = [(number, symmetry) for number, symmetry in enumerate(game.symmetries) if _permutes(game, symmetry)]
    try:
        _check_start(game, report)
    except FaultError as fault:
        report.failed(fault, "at the start")
    for number in range(games):
        if report.broken or not more(report):
            break
        where = f"seed {seed}, game {number}"
        _check_one_game(game, random.Random(f"{seed} {number}"), where, symmetries if texts else None, report, more)
    else:
        movers = " and ".join(map(str, report.movers))
        report.demand("turn", report.plies < 2 * games or len(report.movers) == 2, f"player {movers} moves every time")
    if texts:
        _check_wrong_position(game, report)
        report.demand("symmetry-shape", len(symmetries) == len(game.symmetries), "look at their sizes and entries")
    return report


def _check_start(game: Game, report: Report) -> None:
    first, second = np.full(game.state_size, 77, game.dtype), np.full(game.state_size, 33, game.dtype)
    game.start(first)
    game.start(second)
    report.demand("start", np.array_equal(first, second), "two buffers filled with other numbers")


def _check_wrong_position(game: Game, report: Report) -> None:
    for text in ("?", "zz top"):
        try:
            game.parse_position(text)
        except WrongRequest:
            continue
        except FaultError as fault:
            report.demand("position-wrong", False, f"'{text}': {fault}")
        else:
            report.demand("position-wrong", False, f"'{text}' was accepted")


def _permutes(game: Game, symmetry: Symmetry) -> bool:
    squares = game.planes_shape[1] * game.planes_shape[2]
    pairs = ((symmetry.actions, game.num_actions), (symmetry.squares, squares))
    return all(np.array_equal(np.sort(image), np.arange(size)) for image, size in pairs)


def _check_one_game(
    game: Game, rng: random.Random, where: str, symmetries: Images | None, report: Report, more: More
) -> None:
    digest = hashlib.sha256()
    state = game.new_state()
    here = where
    try:
        for place in _plies(game, state, rng, where, symmetries, report, digest):
            here = place
            if report.broken or not more(report):
                return
    except FaultError as fault:
        report.failed(fault, here)
        return
    report.games.append(digest.hexdigest())


def _plies(
    game: Game,
    state: State,
    rng: random.Random,
    where: str,
    symmetries: Images | None,
    report: Report,
    digest: Any,
) -> Iterator[str]:
    """Play one random game, checked; says before each ply where it is. symmetries: None leaves the texts out."""
    images = [state.copy() for _ in symmetries or ()]
    within_move = False
    for ply in range(game.max_plies + 1):
        here = f"{where}, ply {ply}"
        yield here
        mask, planes, outcome = _check_rules(game, state, here, report)
        if report.broken:  # what follows a broken law says little
            return
        digest.update(state.tobytes() + mask.tobytes() + bytes([outcome & 255]))
        report.movers.add(int(state[0]))
        report.plies += 1
        if symmetries is not None:
            _check_moves(game, state, mask, ply, here, report)
        if symmetries is not None and outcome == ONGOING and not within_move:
            _check_position_text(game, state, mask, here, report)
        for (number, symmetry), image in zip(symmetries or (), images, strict=True):
            same = _is_image(game, symmetry, image, (state, mask, planes, outcome))
            report.demand("symmetry", same, f"symmetry {number}, {here}")
        actions = np.flatnonzero(mask)
        if outcome != ONGOING or not len(actions) or report.broken:
            return
        action = int(rng.choice(list(actions)))
        within_move = _check_apply(game, state, action, here, report)
        if report.broken:
            return
        for (_, symmetry), image in zip(symmetries or (), images, strict=True):
            game.apply(image, int(symmetry.actions[action]))
    report.demand("length", False, f"{where}: still going on after {game.max_plies} plies")


def _check_rules(game: Game, state: State, where: str, report: Report) -> tuple[Mask, Planes, int]:
    before = state.copy()
    report.demand("player", int(state[0]) in (0, 1), where)
    mask, other_mask = np.zeros(game.num_actions, np.bool_), np.ones(game.num_actions, np.bool_)
    game.legal(state, mask)
    game.legal(state, other_mask)
    report.demand("legal-writes", np.array_equal(mask, other_mask), where)
    planes, other_planes = (np.full(game.planes_shape, poison, np.float32) for poison in (np.nan, 77.0))
    game.encode(state, planes)
    game.encode(state, other_planes)
    report.demand("encode-writes", np.array_equal(planes, other_planes, equal_nan=True), where)
    report.demand("planes", bool(np.all(np.isfinite(other_planes) & (np.abs(other_planes) <= 1))), where)
    answer = game.outcome(state)
    if isinstance(answer, bool | np.bool_) or not isinstance(answer, int | np.integer) or int(answer) not in OUTCOMES:
        report.demand("outcome", False, f"{where}: it answered {_shown(answer)}")
        return mask, planes, ONGOING
    outcome = int(answer)
    report.demand("outcome", outcome == game.outcome(state), where)
    report.demand("ongoing", (outcome == ONGOING) == bool(mask.any()), f"{where}: outcome {outcome}")
    report.demand("read-only", np.array_equal(state, before), where)
    if game.key_words:
        shadow = _shadow(game, state)
        alike = outcome == game.outcome(shadow) and np.array_equal(mask, game.mask(shadow))
        report.demand("key", alike and np.array_equal(planes, game.planes(shadow)), where)
    return mask, planes, outcome


def _shadow(game: Game, state: State) -> State:
    """The state without the words that the game's key leaves out."""
    shadow = state.copy()
    shadow[game.key_words :] = 0
    return shadow


def _check_apply(game: Game, state: State, action: int, where: str, report: Report) -> bool:
    """Plays the action. True while the same move goes on."""
    player, again, shadow = state[0], state.copy(), _shadow(game, state) if game.key_words else None
    game.apply(again, action)
    game.apply(state, action)
    report.demand("apply", np.array_equal(state, again), f"{where}, action {action}")
    if shadow is not None:
        game.apply(shadow, action)
        report.demand("key", np.array_equal(state[: game.key_words], shadow[: game.key_words]), where)
    return bool(state[0] == player)


def _hops_are_legal(game: Game, state: State, mask: Mask, hops: tuple[int, ...]) -> bool:
    if len(hops) == 1:
        return bool(mask[hops[0]])
    after = state.copy()
    for action in hops:
        if after[0] != state[0] or not game.mask(after)[action]:
            return False
        game.apply(after, action)
    return True


def _some(many: Collection[Any], ply: int) -> list[Any]:
    """All of few; of many so many as `MOST_READ`, others at the next ply."""
    every = list(many)
    first = ply * MOST_READ % max(1, len(every))
    return (every + every)[first : first + MOST_READ] if len(every) > MOST_READ else every


def _check_moves(game: Game, state: State, mask: Mask, ply: int, where: str, report: Report) -> None:
    before = state.copy()
    moves = game.moves(state)
    report.demand("moves-shape", _are_moves(moves, game.num_actions), f"{where}: {_shown(moves)}")
    if report.broken:
        return
    legal = {int(action) for action in np.flatnonzero(mask)}
    report.demand("moves-cover", {hops[0] for hops in moves.values()} == legal, where)
    distinct = len(set(moves.values())) == len(moves)
    playable = all(_hops_are_legal(game, state, mask, hops) for hops in moves.values())
    report.demand("moves-hops", distinct and playable, where)
    if report.broken:
        return
    for text, hops in _some(moves.items(), ply):
        report.demand("moves-text", isinstance(game.normalize_move(state, text), str), f"{where}: '{text}'")
        if report.broken:
            return
        try:
            read = game.parse_move(state, text)
        except WrongRequest:
            read = ()
        report.demand("moves-text", read == hops, f"{where}: '{text}'")
    named = all(moves[game.action_text(state, action)][0] == action for action in _some(legal, ply))
    report.demand("moves-text", named, where)
    drawn = game.render(state)
    report.demand("text", isinstance(drawn, str), f"{where}: render answered {_shown(drawn)}")
    if game.board is not None:
        fault, report.board_size = board_law.fault_in(game, game.board, state, report.board_size)
        report.demand("board", fault is None, f"{where}: {fault}")
    report.demand("read-only", np.array_equal(state, before), f"{where}: the texts")


def _are_moves(moves: Any, num_actions: int) -> bool:
    """Whether this is what `Game.moves` answers with."""
    return isinstance(moves, Mapping) and all(
        isinstance(text, str)
        and isinstance(hops, tuple)
        and len(hops) > 0
        and all(isinstance(hop, int | np.integer) and 0 <= hop < num_actions for hop in hops)
        for text, hops in moves.items()
    )


def _shown(answer: Any) -> str:
    """What a function answered, as a sentence repeats it."""
    return quoted(answer) if isinstance(answer, str | int | float | list | dict | tuple) else type(answer).__name__


def _check_position_text(game: Game, state: State, mask: Mask, where: str, report: Report) -> None:
    """Between whole moves of a game that goes on: a text need not tell counters, nor a jump under way."""
    before = state.copy()
    text = game.position_text(state)
    report.demand("read-only", np.array_equal(state, before), f"{where}: position_text")
    report.demand("text", isinstance(text, str), f"{where}: position_text answered {_shown(text)}")
    if report.broken:
        return
    try:
        read = game.parse_position(text)
    except WrongRequest as error:
        report.demand("position-text", False, f"{where}: {error}")
        return
    right = isinstance(read, np.ndarray) and read.shape == state.shape and read.dtype == game.dtype
    report.demand("position-state", right, f"{where}: '{text}' gave {_array_shown(read)}")
    if report.broken:
        return
    same = read[0] == state[0] and np.array_equal(game.mask(read), mask) and game.position_text(read) == text
    report.demand("position-text", bool(same), f"{where}: '{text}'")


def _array_shown(answer: Any) -> str:
    return f"{answer.dtype} {list(answer.shape)}" if isinstance(answer, np.ndarray) else _shown(answer)


def _is_image(game: Game, symmetry: Symmetry, image: State, seen: tuple[State, Mask, Planes, int]) -> bool:
    state, mask, planes, outcome = seen
    flat = planes.reshape(planes.shape[0], -1)
    expected = np.empty_like(flat)
    expected[:, symmetry.squares] = flat
    return bool(
        image[0] == state[0]
        and np.array_equal(game.mask(image)[symmetry.actions], mask)
        and np.array_equal(game.planes(image).reshape(flat.shape), expected)
        and game.outcome(image) == outcome
    )


def playthrough(game: Game, seed: int) -> str:
    """A whole random game as text, for one careful reading by a person and for comparison ever after."""
    return "\n".join(_playthrough_lines(game, random.Random(seed))) + "\n"


def _playthrough_lines(game: Game, rng: random.Random) -> Iterator[str]:
    yield f"{game.name}, version {game.version}: a random game"
    state = game.new_state()
    for number in range(game.max_plies + 1):
        yield f"\n== after {number} moves"
        yield game.render(state)
        yield f"position: {game.position_text(state)}"
        yield f"player to move: {int(state[0])}"
        for channel, plane in enumerate(game.planes(state)):
            yield from _plane_lines(channel, plane)
        moves = game.moves(state)
        yield f"legal: {' '.join(moves)}".rstrip()
        if not moves:
            yield f"outcome: {OUTCOMES[int(game.outcome(state))]} of player {int(state[0])}"
            return
        text = rng.choice(sorted(moves))
        yield f"plays: {text} {moves[text]}"
        state = game.play(state, moves[text])


def _plane_lines(channel: int, plane: Planes) -> Iterator[str]:
    if np.all(plane == plane.flat[0]):
        yield f"plane {channel}: {plane.flat[0]:.4g} everywhere"
        return
    yield f"plane {channel}:"
    for row in plane:
        yield " ".join(f"{value:5.4g}" if value else "    ." for value in row)
