"""The words of a text in PDN: tags, comments, numbers, moves, marks, variations and results, each with its line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from az.engine.errors import WrongRequest
from az.engine.printable import quoted

RESULT_OF = {
    "1-0": "1-0", "0-1": "0-1", "1/2-1/2": "1/2-1/2", "½-½": "1/2-1/2", "*": "*",
    "2-0": "1-0", "0-2": "0-1", "1-1": "1/2-1/2",
}  # fmt: skip
DOUBLE_FORFEIT = "0-0"
OWN_HEADERS = {name.lower(): name for name in ("Game", "GameType", "SetUp", "FEN", "Result")}  # in any case
MARKS = {"!": 1, "?": 2, "!!": 3, "??": 4, "!?": 5, "?!": 6, "*": 7}  # as numeric annotation glyphs; * is the only move
MOST_LETTERS = 2000  # of a word: whole games of Othello are written as one

TOKENS = re.compile(
    r"""
    (?P<tag>\[\s*[A-Za-z]\w*\s*"(?:[^"\\\n]|\\.|"(?!\s*\]))*"\s*\])
  | (?P<comment>\{[^{}]*\}|;[^\n]*)
  | (?P<escape>(?:(?<=\n)|\A)%[^\n]*)
  | (?P<setup>/\s*FEN\s*"[^"]*"\s*/)
  | (?P<nag>\$\d{1,5})
  | (?P<mark>\([!?]+\)|[!?]+)
  | (?P<open>\()
  | (?P<close>\))
  | (?P<result>(?:1/2\s*-\s*1/2|½-½|1-0|0-1|2-0|0-2|1-1|0-0|(?<!\w)\*)(?=[\s\[\](){};,]|\Z))
  | (?P<number>\d{1,6}\.+)
  | (?P<dots>\.{2,})
  | (?P<squares>\d{1,2}(?:\s*[-xX:×]\s*\d{1,2}){1,99}(?![\w/]))
  | (?P<word>[^\s{}()\[\];,$!?*]+)
  | (?P<only>\*)
  | (?P<wrong>\S)
    """,
    re.VERBOSE,
)
TAG = re.compile(r'\[\s*([A-Za-z]\w*)\s*"((?:[^"\\\n]|\\.|"(?!\s*\]))*)"\s*\]')


class Token(NamedTuple):
    """kind: tag, comment, setup, nag, open, close, result, move or number. line: from 1."""

    kind: str
    text: str
    line: int


def tokens_of(text: str) -> Iterator[Token]:
    """The tokens of a text, one by one.

    Raises WrongRequest for a sign that can begin none, such as a brace without its partner.
    """
    line, at = 1, 0
    for match in TOKENS.finditer(text):
        line += text.count("\n", at, match.start())
        at = match.start()
        kind = str(match.lastgroup)
        if kind in ("word", "squares") and match.end() - match.start() > MOST_LETTERS:
            raise WrongRequest(f"line {line}: '{quoted(match[0][:40], 20)}' and so on is too long for a move.")
        word = match[0]
        if kind == "wrong":
            if word == ",":  # between moves
                continue
            raise WrongRequest(f"line {line}: {_why_wrong(word)}.")
        if kind in ("escape", "dots"):
            continue
        if kind == "comment":
            word = " ".join((word[1:-1] if word[0] == "{" else word[1:]).split())
        elif kind == "mark":
            kind, word = "nag", f"${MARKS.get(word.strip('()'), 3 if '!' in word else 4)}"
        elif kind == "only":
            kind, word = "nag", "$7"
        elif kind == "result":
            word = "".join(word.split())
        elif kind == "squares":
            kind, word = "move", "".join(word.split())
        elif kind == "word":
            kind, word = "move", word.strip(".")
            if not word:
                continue
        yield Token(kind, word, line)


def _why_wrong(sign: str) -> str:
    if sign == "{":
        return "the comment that begins with '{' has no '}'"
    if sign == "}":
        return "'}' ends no comment"
    if sign in "[]":
        return f"'{sign}' belongs to no header such as [Event \"…\"]"
    return f"'{quoted(sign)}' means nothing in a list of moves"


def tag_of(text: str) -> tuple[str, str]:
    """(name, value) of a tag token."""
    match = TAG.fullmatch(text)
    assert match is not None  # it is how the token was found
    return match[1], re.sub(r"\\(.)", r"\1", " ".join(match[2].split()))
