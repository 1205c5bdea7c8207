"""The laws of a game, checked on random play.

No law knows a game's rules, so none finds an outcome with the wrong sign: read `playthrough` once for that.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np

from az.engine.errors import WrongRequest
from az.engine.game import DRAW, LOSS, ONGOING, WIN, Game, Mask, Planes, State, Symmetry

OUTCOMES = {LOSS: "loss", DRAW: "draw", WIN: "win", ONGOING: "ongoing"}

LAWS = {
    "start": "start writes the same state whatever the buffer held",
    "player": "state[0] is 0 or 1",
    "length": "no game is longer than max_plies",
    "outcome": "outcome is LOSS, DRAW, WIN or ONGOING",
    "ongoing": "a game is ongoing exactly where some action is legal",
    "legal-writes": "legal writes every entry of the mask",
    "encode-writes": "encode writes every entry of the planes",
    "read-only": "legal, outcome, encode and the texts change nothing in the state",
    "planes": "planes are finite and in [-1, +1]",
    "apply": "apply does the same whenever it is called on the same state",
    "moves-cover": "the whole moves begin with exactly the legal actions",
    "moves-hops": "the hops of a whole move are legal in turn, by one player, and no two moves have the same hops",
    "moves-text": "parse_move reads the text of every whole move as that move, and action_text names each action",
    "position-text": "parse_position reads position_text as the same position: player, legal actions, text",
    "position-wrong": "parse_position answers what it cannot read with WrongRequest",
    "symmetry-shape": "a symmetry permutes the actions and the squares",
    "symmetry": "a symmetry maps a game to a game with the image's player, mask, planes and outcome",
}


class Report:
    """What was broken: each law once, with the first place where it was seen."""

    def __init__(self, game: Game) -> None:
        self.game = game
        self.broken: dict[str, str] = {}

    def demand(self, law: str, holds: bool, where: str) -> None:
        if not holds:
            self.broken.setdefault(law, f"{self.game.name} breaks '{law}': {LAWS[law]} ({where}).")


def check_game(game: Game, games: int, seed: int) -> list[str]:
    """The laws that the game breaks in that many random games, one sentence each; empty where it conforms."""
    report = Report(game)
    _check_start(game, report)
    _check_wrong_position(game, report)
    symmetries = [(number, symmetry) for number, symmetry in enumerate(game.symmetries) if _permutes(game, symmetry)]
    report.demand("symmetry-shape", len(symmetries) == len(game.symmetries), "look at their sizes and entries")
    for number in range(games):
        _check_one_game(game, random.Random(f"{seed} {number}"), f"seed {seed}, game {number}", symmetries, report)
    return list(report.broken.values())


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
        except Exception as error:  # whatever comes instead is what the law forbids
            report.demand("position-wrong", False, f"'{text}' raised {type(error).__name__}")
        else:
            report.demand("position-wrong", False, f"'{text}' was accepted")


def _permutes(game: Game, symmetry: Symmetry) -> bool:
    squares = game.planes_shape[1] * game.planes_shape[2]
    pairs = ((symmetry.actions, game.num_actions), (symmetry.squares, squares))
    return all(np.array_equal(np.sort(image), np.arange(size)) for image, size in pairs)


def _check_one_game(
    game: Game, rng: random.Random, where: str, symmetries: list[tuple[int, Symmetry]], report: Report
) -> None:
    state = game.new_state()
    images = [state.copy() for _ in symmetries]
    within_move = False
    for ply in range(game.max_plies + 1):
        here = f"{where}, ply {ply}"
        mask, planes, outcome = _check_rules(game, state, here, report)
        if report.broken:  # what follows a broken law says little
            return
        _check_moves(game, state, mask, here, report)
        if outcome == ONGOING and not within_move:
            _check_position_text(game, state, mask, here, report)
        for (number, symmetry), image in zip(symmetries, images, strict=True):
            same = _is_image(game, symmetry, image, (state, mask, planes, outcome))
            report.demand("symmetry", same, f"symmetry {number}, {here}")
        actions = np.flatnonzero(mask)
        if outcome != ONGOING or not len(actions) or report.broken:
            return
        action = int(rng.choice(list(actions)))
        within_move = _check_apply(game, state, action, here, report)
        if report.broken:
            return
        for (_, symmetry), image in zip(symmetries, images, strict=True):
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
    report.demand("encode-writes", np.array_equal(planes, other_planes), where)
    report.demand("planes", bool(np.all(np.isfinite(other_planes) & (np.abs(other_planes) <= 1))), where)
    outcome = int(game.outcome(state))
    report.demand("outcome", outcome in OUTCOMES and outcome == game.outcome(state), where)
    report.demand("ongoing", (outcome == ONGOING) == bool(mask.any()), f"{where}: outcome {outcome}")
    report.demand("read-only", np.array_equal(state, before), where)
    return mask, planes, outcome


def _check_apply(game: Game, state: State, action: int, where: str, report: Report) -> bool:
    """Plays the action. True while the same move goes on."""
    player, again = state[0], state.copy()
    game.apply(again, action)
    game.apply(state, action)
    report.demand("apply", np.array_equal(state, again), f"{where}, action {action}")
    return bool(state[0] == player)


def _hops_are_legal(game: Game, state: State, hops: tuple[int, ...]) -> bool:
    after = state.copy()
    for action in hops:
        if after[0] != state[0] or not game.mask(after)[action]:
            return False
        game.apply(after, action)
    return True


def _check_moves(game: Game, state: State, mask: Mask, where: str, report: Report) -> None:
    before = state.copy()
    moves = game.moves(state)
    legal = {int(action) for action in np.flatnonzero(mask)}
    report.demand("moves-cover", {hops[0] for hops in moves.values()} == legal, where)
    distinct = len(set(moves.values())) == len(moves)
    report.demand("moves-hops", distinct and all(_hops_are_legal(game, state, hops) for hops in moves.values()), where)
    if report.broken:
        return
    for text, hops in moves.items():
        try:
            read = game.parse_move(state, text)
        except WrongRequest:
            read = ()
        report.demand("moves-text", read == hops, f"{where}: '{text}'")
    named = all(moves[game.action_text(state, action)][0] == action for action in legal)
    report.demand("moves-text", named, where)
    game.render(state)
    report.demand("read-only", np.array_equal(state, before), f"{where}: the texts")


def _check_position_text(game: Game, state: State, mask: Mask, where: str, report: Report) -> None:
    """Between whole moves of a game that goes on: a text need not tell counters, nor a jump under way."""
    before = state.copy()
    text = game.position_text(state)
    report.demand("read-only", np.array_equal(state, before), f"{where}: position_text")
    try:
        read = game.parse_position(text)
    except WrongRequest as error:
        report.demand("position-text", False, f"{where}: {error}")
        return
    same = (
        read.shape == state.shape
        and read.dtype == game.dtype
        and read[0] == state[0]
        and np.array_equal(game.mask(read), mask)
        and game.position_text(read) == text
    )
    report.demand("position-text", bool(same), f"{where}: '{text}'")


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
