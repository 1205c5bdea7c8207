"""Connect four as strings of columns from 1 to 7, one game a line: the notation of Pascal Pons' solver and its tests.

A line may end with the score of its position, as those tests have it: `44455554221 2`.
"""

from __future__ import annotations

import re

import numpy as np

from az.engine.errors import WrongRequest
from az.engine.game import Game, State, load_game
from az.engine.notation.game_text import MOST_GAMES, GameText, Move, result_of
from az.engine.printable import quoted

GAME = "connect4"
LINE = re.compile(r"([1-7]{1,42})(?:\s+([+-]?\d{1,2}))?")


def looks_like_columns(text: str) -> bool:
    """Whether every line is a game in this notation."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return bool(lines) and all(LINE.fullmatch(line) for line in lines[:1000])


def read_columns(text: str, game: Game | None = None) -> list[GameText]:
    """A game for each line that is not empty. Raises WrongRequest that names the line and the move."""
    if game is not None and game.name != GAME:
        raise WrongRequest(f"strings of columns are connect four, and this is {game.name}.")
    rules = game or load_game(GAME)
    found, mask = list[GameText](), np.zeros(rules.num_actions, np.bool_)
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line.strip())
        if match is None:
            raise WrongRequest(f"line {number}: '{quoted(line, 60)}' is no string of the columns 1 to 7.")
        one = GameText(GAME, headers={"Score": match[2]} if match[2] else {})
        state = rules.new_state()
        for at, sign in enumerate(match[1], 1):
            column = int(sign) - 1
            rules.legal(state, mask)
            if not mask[column]:
                raise WrongRequest(f"line {number}, move {at}: {_why_not(rules, state, sign)}")
            one.moves.append(Move(sign, (column,)))
            rules.apply(state, column)
        one.result = result_of(rules, state)
        found.append(one)
        if len(found) > MOST_GAMES:
            raise WrongRequest(f"the text holds more than {MOST_GAMES} games: split it.")
    if not found:
        raise WrongRequest("the text holds no string of columns, such as 4453.")
    return found


def _why_not(game: Game, state: State, sign: str) -> str:
    """The game's own sentence about a column that cannot be played."""
    try:
        game.parse_move(state, sign)
    except WrongRequest as error:
        return str(error)
    return f"'{sign}' cannot be played."


def columns_text(game: GameText, rules: Game | None = None) -> str:
    """One game as a line. rules: its game, where it is loaded. Raises WrongRequest for what such a line cannot hold."""
    if game.game != GAME:
        raise WrongRequest(f"a string of columns is connect four, not {game.game}: write it as pdn.")
    rules = rules or load_game(GAME)
    other = game.start is not None or not game.moves or set(game.headers) - {"Score"}
    if other or game.beside() or game.result != result_of(rules, game.states(rules)[-1]):
        raise WrongRequest(
            "a string of columns holds the moves from the empty board and nothing else: write the game as pdn."
        )
    score = game.headers.get("Score")
    return "".join(move.text for move in game.moves) + (f" {score}" if score else "") + "\n"
