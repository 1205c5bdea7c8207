"""A game from text that someone pasted, or from a record of self-play.

Text may be a list of moves, numbered or not, PDN with its headers and comments, a game that `az play` saved, or a
position in the game's own text.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from az.engine.errors import AzError, Refused, WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.records.format import Records, read_records
from az.engine.web.position import Line, follow

Json = dict[str, Any]
HEADER = re.compile(r"\[\s*(\w+)\s*\"([^\"]*)\"\s*\]")
COMMENT = re.compile(r"\{[^{}]*\}|;[^\n]*|\$\d+")
NUMBER = re.compile(r"\d+\.+")
RESULTS = frozenset({"*", "1-0", "0-1", "1/2-1/2", "2-0", "0-2", "1-1", "½-½"})
MARKS = "!?"
MOST_LOOKED = 200_000  # positions tried for the moves between two recorded ones


def load_text(game: Game, text: str) -> Line:
    """The game that a text holds. Raises WrongRequest that says what is wrong with the text."""
    if not text.strip():
        raise WrongRequest("there is nothing to load: paste moves, PDN or a position.")
    headers = {name.upper(): value for name, value in HEADER.findall(text)}
    other = headers.get("GAMETYPE", "20").partition(",")[0].strip()
    if game.name == "checkers" and other not in ("20", "21"):  # English checkers; 21: the same by another start
        raise WrongRequest(f"the PDN is of game type {other[:10]}, and English checkers is 20: load another game.")
    saved = _saved(game, text)
    start, words = saved or (headers.get("FEN"), _words(HEADER.sub(" ", text)))
    try:
        return follow(game, start, words)
    except WrongRequest as error:
        if saved or headers:
            raise
        as_moves = error
    as_signs, as_position = (None, list("".join(words))), (text.strip(), list[str]())
    for begin, moves in (as_signs, as_position) if len(words) == 1 else (as_position, as_signs):
        try:
            return follow(game, begin, moves)
        except AzError:
            continue
    raise WrongRequest(f"that is neither a list of moves nor a position of {game.name}: {as_moves}")


def _words(text: str) -> list[str]:
    """The moves of a text without comments, variations, numbers, marks and results."""
    text = COMMENT.sub(" ", text)
    text = _without_variations(text)
    words = [NUMBER.sub("", word).strip(MARKS) for word in text.replace(",", " ").split() if word not in RESULTS]
    return [word for word in words if word]


def _without_variations(text: str) -> str:
    """Without what stands in parentheses, which may stand in others; those that have no partner stay."""
    begun, cuts = list[int](), list[tuple[int, int]]()
    for at, sign in enumerate(text):
        if sign == "(":
            begun.append(at)
        elif sign == ")" and begun:
            begin = begun.pop()
            while cuts and cuts[-1][0] > begin:
                cuts.pop()
            cuts.append((begin, at + 1))
    ends = [0, *(end for _, end in cuts)]
    return " ".join(
        text[end:begin] for end, begin in zip(ends, [*(begin for begin, _ in cuts), len(text)], strict=True)
    )


def _saved(game: Game, text: str) -> tuple[str, list[str]] | None:
    """(start, moves) of what `save` of `az play` wrote; None for other text. Raises WrongRequest for another game's."""
    lines = text.splitlines()
    heads = {name: rest.strip() for name, colon, rest in (line.partition(":") for line in lines) if colon}
    if not {"game", "start", "moves"} <= heads.keys():
        return None
    if heads["game"] != game.name:
        raise WrongRequest(f"it is a game of {heads['game'][:40]}, and this is {game.name}.")
    moves = list[str]()
    for line in lines[lines.index("moves:") + 1 :] if "moves:" in lines else []:
        if not line.startswith(" "):
            break
        moves += line.partition(".")[2].split()
    return heads["start"], moves


def pdn(line: Line, result: str) -> str:
    """The game as text: PDN for checkers, else the same form with the game's own moves."""
    game = line.game
    tags = [("GameType", "21")] if game.name == "checkers" else [("Game", game.name)]
    start = game.position_text(line.states[0])
    if start != game.position_text(game.new_state()):
        tags += [("SetUp", "1"), ("FEN", start)]
    tags.append(("Result", result))
    pairs = [f"{i // 2 + 1}. {' '.join(line.texts[i : i + 2])}" for i in range(0, len(line.texts), 2)]
    return "".join(f'[{name} "{value}"]\n' for name, value in tags) + "\n" + " ".join([*pairs, result]) + "\n"


def record_games(game: Game, data: bytes) -> Json:
    """The games of a record file of self-play: {"games": [{"k", "plies", "outcome"}]}. Raises Refused."""
    header = _records(game, data).header
    return {"games": [{"k": k, "plies": plies, "outcome": outcome} for k, plies, outcome, _ in header["games"]]}


def record_game(game: Game, data: bytes, k: int) -> Json:
    """Game k of a record file, as `recorded_moves` tells it. Raises Refused or WrongRequest."""
    return recorded_moves(game, _records(game, data), k)


def recorded_moves(game: Game, records: Records, k: int) -> Json:
    """Game k of a record file, {"moves", "start", "note"}: as far as its recorded positions tell its moves.

    Self-play records only the positions that it searched in full; the moves between two of them are looked for.
    """
    rows = np.flatnonzero(records.games == k)
    if not len(rows):
        raise WrongRequest(f"the file holds no game {k}: choose one of its list.")
    rows = rows[np.argsort(records.plies[rows])]
    states, plies = [records.states[row] for row in rows], [int(records.plies[row]) for row in rows]
    if plies[0] != 0:
        states, plies = [game.new_state(), *states], [0, *plies]
    actions, at = list[int](), 1
    while at < len(states):
        path = _between(game, states[at - 1], states[at], plies[at] - plies[at - 1])
        if path is None:
            break
        actions += path
        at += 1
    note = "" if at == len(states) else f"The record does not tell the moves after action {plies[at - 1]}."
    return {"start": None, "moves": _whole(game, states[0], actions), "note": note}


def _records(game: Game, data: bytes) -> Any:
    with tempfile.TemporaryDirectory(prefix="az-") as folder:
        path = Path(folder) / "records.npz"
        path.write_bytes(data)
        try:
            return read_records(path, game)
        except Refused as error:
            raise Refused(str(error).replace(str(path), "the file")) from None


def _between(game: Game, begin: State, end: State, plies: int) -> list[int] | None:
    """Actions from one position to another so many plies later; None where none of those tried lead there."""
    waiting, looked = [(begin, list[int]())], 0
    for _ in range(plies):
        following = list[tuple[State, list[int]]]()
        seen = set[bytes]()
        for state, path in waiting:
            if game.outcome(state) != ONGOING:
                continue
            for action in np.flatnonzero(game.mask(state)).tolist():
                after = game.play(state, (action,))
                looked += 1
                if looked > MOST_LOOKED:
                    return None
                if (key := after.tobytes()) not in seen:
                    seen.add(key)
                    following.append((after, [*path, action]))
        waiting = following
    return next((path for state, path in waiting if np.array_equal(state, end)), None)


def _whole(game: Game, state: State, actions: list[int]) -> list[str]:
    texts, at = list[str](), 0
    while at < len(actions):
        legal = game.moves(state).items()
        found = next(((text, h) for text, h in legal if tuple(actions[at : at + len(h)]) == h), None)
        if found is None:  # the last recorded position stands in the middle of a multiple jump
            break
        texts.append(found[0])
        state, at = game.play(state, found[1]), at + len(found[1])
    return texts
