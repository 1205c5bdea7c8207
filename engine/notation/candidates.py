"""Which legal moves a written word can mean: sloppy squares in checkers, glued or missing passes in Othello."""

from __future__ import annotations

import re
from dataclasses import dataclass

from az.engine.errors import WrongRequest
from az.engine.game import ONGOING, Game, State
from az.engine.notation.game_text import Hops

SQUARES = re.compile(r"\d{1,2}(?:[-x:×]\d{1,2})+")
PASSES = ("pass", "pa", "ps", "--")
DISCS = re.compile(r"(?:[a-h][1-8]|pass|pa|ps|--)+", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """A legal move that a word can mean. used: the words it takes. guess: what had to be guessed; "" for nothing."""

    text: str
    actions: Hops
    used: int = 1
    guess: str = ""


def split_word(game: Game, word: str) -> list[str]:
    """The moves of one word: Othello's are often written without spaces, `f5d6c3`."""
    if game.name.startswith("othello") and len(word) > 2 and DISCS.fullmatch(word):
        return re.findall(r"[a-h][1-8]|pass|pa|ps|--", word, re.IGNORECASE)
    return [word]


def is_number(game: Game, word: str) -> bool:
    """Whether the word is a move number that has lost its dot."""
    return game.name == "checkers" and word.isascii() and word.isdigit() and len(word) <= 3


def candidates_of(game: Game, state: State, word: str, following: str | None) -> list[Candidate]:
    """The legal moves that a word can mean, at least one. following: the next word of the same line of play, if any.

    Raises WrongRequest where no move fits.
    """
    legal = game.moves(state)
    if word in legal:
        return [Candidate(word, legal[word])]
    if game.name == "checkers" and game.outcome(state) == ONGOING:
        return _of_squares(game, state, word, following)
    if game.name.startswith("othello") and word.lower() in PASSES:
        word = "pass"
    hops = game.parse_move(state, word)
    return [Candidate(next(text for text, found in legal.items() if found == hops), hops)]


def needs_pass(game: Game, state: State, word: str) -> bool:
    """Whether the text leaves out a pass that the rules demand here, as transcripts of Othello do."""
    return (
        game.name.startswith("othello")
        and word.lower() not in PASSES
        and game.mask(state).sum() == 1  # cheaper than the texts of all moves
        and list(game.moves(state)) == ["pass"]
    )


def _path(word: str) -> list[int] | None:
    word = word.lower()
    if re.fullmatch(r"\d{4}", word):
        return [int(word[:2]), int(word[2:])]
    return [int(part) for part in re.split(r"[-x:×]", word)] if SQUARES.fullmatch(word) else None


def _of_squares(game: Game, state: State, word: str, following: str | None) -> list[Candidate]:
    squares = _path(word)
    legal = {text: (hops, [int(part) for part in re.split("[-x]", text)]) for text, hops in game.moves(state).items()}
    if squares is None:
        game.parse_move(state, word)  # raises the game's own sentence
        raise WrongRequest(f"'{word}' is no move.")
    exact = [text for text, (_, path) in legal.items() if path == squares]
    ends = [text for text, (_, path) in legal.items() if [path[0], path[-1]] == squares]
    if exact or ends:
        return _different(game, state, [(text, legal[text][0]) for text in exact or ends])
    beginning = [text for text, (_, path) in legal.items() if path[: len(squares)] == squares]
    more = _path(following) if following is not None else None
    if beginning and more is not None and more[0] == squares[-1]:  # 11x18 18x25: a multiple jump hop by hop
        whole = squares + more[1:]
        joined = [text for text, (_, path) in legal.items() if path == whole]
        if joined:
            return [Candidate(text, legal[text][0], 2, f"{word} {following} read as {text}") for text in joined]
    inside = [text for text, (_, path) in legal.items() if _passes(path, squares)]
    chosen = beginning or inside
    if not chosen:
        game.parse_move(state, word)
        raise WrongRequest(f"'{word}' is no legal move.")
    guessed = _different(game, state, [(text, legal[text][0]) for text in chosen])
    return [Candidate(one.text, one.actions, 1, f"read as {one.text}") for one in guessed]


def _passes(path: list[int], squares: list[int]) -> bool:
    """Whether a jump goes over these squares in order, from the first to the last: some between are left out."""
    if [path[0], path[-1]] != [squares[0], squares[-1]]:
        return False
    rest = iter(path)
    return all(square in rest for square in squares)


def _different(game: Game, state: State, moves: list[tuple[str, Hops]]) -> list[Candidate]:
    """One move for each position that they lead to: a circle may be jumped either way round."""
    found = dict[bytes, Candidate]()
    for text, hops in moves:
        found.setdefault(game.play(state, hops).tobytes(), Candidate(text, hops))
    return list(found.values())
