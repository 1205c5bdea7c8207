"""Writes PDN, and the same form for other games: what `engine/notation/pdn.py` reads back equal."""

from __future__ import annotations

import re

from az.engine.errors import WrongRequest
from az.engine.game import Game, State, load_game
from az.engine.notation.game_text import GameText, Move
from az.engine.notation.pdn_tokens import OWN_HEADERS
from az.engine.printable import quoted

WIDTH = 79  # characters of a line of moves
NAME = re.compile(r"[A-Za-z]\w*")


def pdn_text(game: GameText, rules: Game | None = None) -> str:
    """One game. rules: its game, where it is loaded. Raises WrongRequest for a header whose name PDN cannot hold."""
    rules = rules or load_game(game.game)
    own = [("GameType", "21") if game.game == "checkers" else ("Game", game.game)]
    if game.start is not None:
        own += [("SetUp", "1"), ("FEN", game.start)]
    if own_name := next((name for name in game.headers if name.lower() in OWN_HEADERS), None):
        raise WrongRequest(f"a header cannot be called {own_name}: PDN has its own of that name.")
    tags = [*own, *game.headers.items(), ("Result", game.result)]
    state = game.start_state(rules)
    words = [*_comments(game.comments), *_line(rules, state, game.moves, int(state[0]), ""), game.result]
    return "".join(_tag(name, value) for name, value in tags) + "\n" + _wrapped(words) + "\n"


def _tag(name: str, value: str) -> str:
    if not NAME.fullmatch(name):
        raise WrongRequest(f"a header of PDN cannot be called '{quoted(name, 40)}': letters and digits only.")
    value = " ".join(value.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'[{name} "{value}"]\n'


def _line(game: Game, state: State, moves: list[Move], ply: int, before: str) -> list[str]:
    """The words of a line of play. ply: even where the first player is to move."""
    words = _comments([before] if before else [])
    fresh = True  # a number is needed, also for the second player
    for move in moves:
        if ply % 2 == 0:
            words.append(f"{ply // 2 + 1}.")
        elif fresh:
            words.append(f"{ply // 2 + 1}...")
        words.append(move.text)
        notes = [*(f"${nag}" for nag in move.nags), *_commands(move), *_comments(move.comments)]
        for number, line in enumerate(move.variations):
            first = move.variation_comments[number] if number < len(move.variation_comments) else ""
            inner = _line(game, state, line, ply, first)
            notes += ["(", *inner, ")"] if line else []
        words += notes
        fresh = bool(notes)
        state = game.play(state, move.actions)
        ply += 1
    return words


def _comments(comments: list[str]) -> list[str]:
    found = list[str]()
    for comment in comments:
        text = " ".join(comment.split())
        if text:
            found.append(f"{{{text}}}" if "{" not in text and "}" not in text else f"; {text}\n")
    return found


def _commands(move: Move) -> list[str]:
    parts = list[str]()
    if move.clock is not None:
        thousandths = round(move.clock * 1000)
        seconds, part = divmod(thousandths, 1000)
        clock = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        parts.append(f"[%clk {clock}" + (f".{part:03}" if part else "") + "]")
    if move.value is not None:
        parts.append(f"[%eval {move.value:.9f}".rstrip("0").rstrip(".") + "]")
    return [f"{{{' '.join(parts)}}}"] if parts else []


def _wrapped(words: list[str]) -> str:
    lines, current = list[str](), ""
    for word in words:
        if current and (current.endswith("\n") or len(current) + 1 + len(word) > WIDTH):
            lines.append(current.rstrip("\n"))
            current = word
        else:
            current = f"{current} {word}" if current else word
    return "\n".join([*lines, current.rstrip("\n")]) + "\n"
