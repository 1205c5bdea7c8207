"""Plain English: words that a reader would not type into a search box do not stand in code, messages and pages.

The dated log is left out: it says what was said then. "beside it" is wrong of time only, which no test can tell.
"""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import replace

import pytest
from command_line import ROOT

from az.engine.arena.elo import Sprt
from az.engine.game import load_game

WORDS = (
    "that is none", "that are none", "whoever", "nobody", "somebody", "anew", "once more", "twins?", "the way of",
    "flies", "flown", "seals itself", "takes in", "took in", "lays down", "optimisers?", "initialisers?",
    "quantis[a-z]+", "verdicts?", "vitals", "normalise[a-z]*",
)  # fmt: skip
KEPT = re.compile(  # keys and values of JSON, and old names that are kept for one version
    r""""(?:another |same )?verdict(?: on another machine)?"|def (?:verdict|vitals)\b|\bnormalise_move: InitVar"""
    r"""|, normalise_move: Callable|if normalise_move is not None|"normalize_move", normalise_move"""
    r"""|`(?:verdict|vitals|normalise_move)`"""
)
CODE = [*(path for folder in ("engine", "train", "export", "commands") for path in (ROOT / folder).rglob("*.py"))]
CODE += [ROOT / "cli.py", *(ROOT / "train" / "doctor" / "templates").iterdir()]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "Makefile"]
FOUND = re.compile(rf"(?<![a-z])({'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)


def places(text: str) -> list[tuple[int, str]]:
    """(line, word), also where a line ends within what is looked for."""
    lines = re.sub(r"\n[ \t#]*", "\n", KEPT.sub("", text))
    return [(lines.count("\n", 0, found.start()) + 1, found[0]) for found in FOUND.finditer(lines.replace("\n", " "))]


def test_the_search_finds_words_whole_and_over_the_end_of_a_line():
    assert places("a\nb once\n    # more whoever\n") == [(2, "once more"), (3, "whoever")]
    assert places("twin_of") == [(1, "twin")]
    assert places("twine, entwined, unflown") == []


@pytest.mark.parametrize(
    "path", [*CODE, *(path for path in PAGES if path.name != "log.md")], ids=lambda path: path.name
)
def test_no_word_of_the_list(path):
    found = [f"{path.relative_to(ROOT)}:{line}: {word}" for line, word in places(path.read_text("utf-8"))]
    assert found == []


def test_names_are_spelled_as_in_the_us():
    found = []
    for path in (path for path in CODE if path.suffix == ".py"):
        for token in tokenize.generate_tokens(io.StringIO(path.read_text("utf-8")).readline):
            if token.type == tokenize.NAME and "colour" in token.string.lower():
                found.append(f"{path.relative_to(ROOT)}:{token.start[0]}: {token.string}")
    assert found == []


def test_old_names_work_for_one_version():
    sprt = Sprt(0.0, 10.0)
    assert sprt.verdict((0, 0, 0, 0, 60)) == sprt.decision((0, 0, 0, 0, 60)) == "H1"
    game = load_game("tictactoe")
    board = replace(game.board, turns=True) if game.board else None
    upper = replace(game, board=board, normalise_move=lambda _, text: text.upper())
    assert upper.normalize_move(game.new_state(), "a") == "A"
    assert replace(upper, name="other").normalize_move(game.new_state(), "a") == "A"
    assert board is not None
    assert board.flips
    assert replace(board).flips
