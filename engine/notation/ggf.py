"""Reads and writes GGF, the Generic Game Format of Othello servers and of NBoard: 8x8 and 6x6.

Its properties, from https://skatgame.net/mburo/ggsa/ggf: GM game, BO board and side to move (* black, O white), B and W
moves with evaluation and seconds, RE the result in discs for Black. Any other property is a header.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from az.engine.errors import WrongRequest
from az.engine.game import ONGOING, Game, State, load_game
from az.engine.notation.candidates import PASSES, needs_pass
from az.engine.notation.game_text import MOST_GAMES, MOST_PLIES, GameText, LoadedGames, Move, result_of
from az.engine.printable import quoted

GAMES = {8: "othello", 6: "othello6"}
PROPERTY = re.compile(r"\s*([A-Za-z]{1,8})\s*\[([^\]\\]*(?:\\.[^\]\\]*)*)\]")
BEGIN, END = re.compile(r"\(\s*;"), re.compile(r"\s*;\s*\)")
NUMBER = re.compile(r"[+-]?\d{1,9}(?:\.\d{1,9})?")
RESULT = re.compile(r"([+-]?\d{1,4}(?:\.\d{1,4})?)(?::\w*)?")


@dataclass(frozen=True)
class _Property:
    name: str
    value: str
    line: int


def read_ggf(text: str, game: Game | None = None) -> list[GameText]:
    """All games of a GGF text. Raises WrongRequest that names the line of what is wrong."""
    found, at, line = list[GameText](), 0, 1
    loaded = LoadedGames()
    while (begin := BEGIN.search(text, at)) is not None:
        line += text.count("\n", at, begin.start())
        first, here, at, properties = line, line, begin.end(), list[_Property]()
        while (match := PROPERTY.match(text, at)) is not None:
            here += text.count("\n", at, match.start(1))
            value = re.sub(r"\\(.)", r"\1", " ".join(match[2].split()))
            properties.append(_Property(match[1].upper(), value, here))
            here += text.count("\n", match.start(1), match.end())
            at = match.end()
        end = END.match(text, at)
        if end is None:
            rest = text[at : at + 200].lstrip()
            here += text.count("\n", at, at + 200) - rest.count("\n")
            wrong = quoted(rest[:20] or "the end", 20)
            raise WrongRequest(f"line {here}: the GGF game breaks off at '{wrong}': it ends with ;) after properties.")
        line = here
        at = end.end()
        found.append(_game(properties, first, game, loaded))
        if len(found) > MOST_GAMES:
            raise WrongRequest(f"the text holds more than {MOST_GAMES} games: split it.")
    if not found:
        raise WrongRequest("the text holds no GGF game, which begins with (;GM[Othello].")
    return found


def _game(properties: list[_Property], line: int, game: Game | None, loaded: LoadedGames) -> GameText:
    heads = dict[str, str]()
    moves = list[_Property]()
    for one in properties:
        if one.name in ("B", "W"):
            moves.append(one)
        elif one.name in ("KB", "KW"):
            raise WrongRequest(f"line {one.line}: '{one.name}' is a komi game, which az does not play.")
        else:
            heads[one.name] = one.value
    kind = heads.pop("GM", "Othello")
    if kind.lower() not in ("othello", "reversi"):
        raise WrongRequest(f"line {line}: the GGF is a game of {quoted(kind, 30)}, and az reads Othello.")
    board = heads.pop("BO", None)
    size = _size(heads.get("TY", "8") if board is None else board, line)
    if game is not None and game.name != GAMES[size]:
        raise WrongRequest(f"line {line}: it is Othello on {size}x{size}, and this is {game.name}.")
    rules = game or loaded[GAMES[size]]
    if re.fullmatch(rf"{size}", heads.get("TY", "")):
        heads.pop("TY")
    start = rules.new_state() if board is None else _board(rules, size, board, line)
    usual = rules.position_text(start) == rules.position_text(rules.new_state())
    found = GameText(rules.name, start=None if usual else rules.position_text(start), headers=heads)
    last = _moves(rules, start, moves, found)
    _take_result(rules, last, found, line)
    return found


def _size(text: str, line: int) -> int:
    match = re.match(r"\s*s?(\d{1,3})", text)
    size = int(match[1]) if match else 0
    if size not in GAMES:
        raise WrongRequest(f"line {line}: the board '{quoted(text, 20)}' is not 8x8 or 6x6, which az plays.")
    return size


def _board(game: Game, size: int, text: str, line: int) -> State:
    signs = "".join(text.split()[1:])
    if not re.fullmatch(rf"[*xXoO-]{{{size * size}}}[*xXoO]", signs):
        raise WrongRequest(f"line {line}: BO needs {size * size} squares of *, O or - and the side to move.")
    signs = signs.upper().replace("*", "X")
    return game.parse_position(f"{signs[:-1]} {signs[-1]}")


def _moves(game: Game, state: State, properties: list[_Property], found: GameText) -> State:
    if len(properties) > MOST_PLIES:
        raise WrongRequest(f"line {properties[0].line}: the game has more than {MOST_PLIES} moves.")
    for one in properties:
        square, value, seconds = [part.strip() for part in [*one.value.split("/", 2), "", ""][:3]]
        text = "pass" if square.lower() in PASSES else square.lower()
        number = len(found.moves) + 1
        if needs_pass(game, state, text):
            state = _add(game, state, found, Move("pass", game.moves(state)["pass"]))
            found.notes.append(f"{_where(one, number)}: the pass before it is filled in.")
        if game.outcome(state) == ONGOING and "BW"[int(state[0])] != one.name:
            raise WrongRequest(f"{_where(one, number)}: it is the other player's turn.")
        try:
            actions = game.parse_move(state, text)
        except WrongRequest as error:
            raise WrongRequest(f"{_where(one, number)}: {error}") from None
        move = Move(text, actions)
        move.value = float(value) if NUMBER.fullmatch(value) else None
        move.clock = float(seconds) if NUMBER.fullmatch(seconds) else None
        for part in (value, seconds):
            if part and not NUMBER.fullmatch(part):
                found.notes.append(f"{_where(one, number)}: '{quoted(part, 20)}' is no number and is left out.")
        state = _add(game, state, found, move)
    return state


def _where(one: _Property, number: int) -> str:
    return f"line {one.line}, {one.name}[{quoted(one.value, 20)}], move {number}"


def _add(game: Game, state: State, found: GameText, move: Move) -> State:
    found.moves.append(move)
    return game.play(state, move.actions)


def _take_result(game: Game, last: State, found: GameText, line: int) -> None:
    """RE becomes the result; it stays a header where it tells more than `_result_text` would write."""
    told = found.headers.pop("RE", "?")
    match = RESULT.fullmatch(told.strip())
    if match is not None:
        discs = float(match[1])
        found.result = "1-0" if discs > 0 else "0-1" if discs < 0 else "1/2-1/2"
        ended = result_of(game, last)
        if ended not in ("*", found.result):
            found.notes.append(f"line {line}: RE says {quoted(told, 20)} and the board {ended}.")
    elif told.strip() not in ("?", ""):
        found.notes.append(f"line {line}: RE[{quoted(told, 20)}] is no result and stays a header.")
    if told.strip() not in ("", _result_text(game, last, found.result)):
        found.headers["RE"] = told.strip()


def _result_text(game: Game, last: State, result: str) -> str:
    if result == "*":
        return "?"
    signs = game.position_text(last)[:-2]
    discs = (
        signs.count("X") - signs.count("O") if result_of(game, last) == result else {"1-0": 1, "0-1": -1}.get(result, 0)
    )
    return f"{discs:+d}.00" if discs else "0.00"


def ggf_text(game: GameText, rules: Game | None = None) -> str:
    """One game of Othello in one line. rules: its game, where it is loaded. Raises WrongRequest for what GGF lacks."""
    if game.game not in GAMES.values():
        raise WrongRequest(f"GGF holds games of Othello, not of {game.game}: write it as pdn.")
    if game.comments or any(move.comments or move.nags or move.variations for move in game.moves):
        raise WrongRequest("GGF holds no comments, marks or variations: write the game as pdn.")
    rules = rules or load_game(game.game)
    state = game.start_state(rules)
    size = next(n for n, name in GAMES.items() if name == game.game)
    signs, mover = rules.position_text(state).replace("X", "*").split()
    parts = ["(;GM[Othello]"]
    heads = {"TY": f"{size}", **{name.upper(): value for name, value in game.headers.items()}}
    result = heads.pop("RE", None)
    parts += [f"{_name(name)}[{_value(value)}]" for name, value in heads.items()]
    moves = list[str]()
    for move in game.moves:
        told = [] if move.value is None and move.clock is None else [_number(move.value), _number(move.clock)]
        moves.append(f"{'BW'[int(state[0])]}[{'/'.join([move.text.upper().replace('PASS', 'PA'), *told]).rstrip('/')}]")
        state = rules.play(state, move.actions)
    parts.append(f"RE[{_value(result if result is not None else _result_text(rules, state, game.result))}]")
    parts.append(f"BO[{size} {signs} {mover}]")
    return "".join([*parts, *moves, ";)"])


def _name(name: str) -> str:
    if not re.fullmatch("[A-Z]{1,8}", name) or name in ("B", "W", "BO", "GM", "KB", "KW"):
        raise WrongRequest(f"a header of GGF cannot be called '{quoted(name, 20)}': one to eight letters.")
    return name


def _value(value: str) -> str:
    return " ".join(value.split()).replace("\\", "\\\\").replace("]", "\\]")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9f}".rstrip("0").rstrip(".")
