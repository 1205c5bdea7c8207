"""The formats by their names; which one a text is in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from az.engine.errors import AzError, WrongRequest
from az.engine.game import Game
from az.engine.notation.columns import columns_text, looks_like_columns, read_columns
from az.engine.notation.game_text import MOST_TEXT, GameText, LoadedGames, Move, result_of
from az.engine.notation.ggf import BEGIN, GAMES, ggf_text, read_ggf
from az.engine.notation.pdn import read_pdn
from az.engine.notation.pdn_write import pdn_text
from az.engine.notation.saved import looks_saved, read_saved, saved_text
from az.engine.printable import quoted
from az.engine.system.safe_read import read_regular

FORMATS = ("pdn", "ggf", "columns", "saved", "moves")
MOST_FILE = 4 * MOST_TEXT  # bytes
HEADER = re.compile(r'\[\s*[A-Za-z]\w*\s*"')  # its beginning: a search for whole ones would take too long
RESULT = re.compile(r"(?<![\w-])(?:[012]-[012]|1/2-1/2)(?![\w-])")
MOST_POSITION = 1000  # characters of a position
TRIED = 500_000  # characters from the beginning that tell whether squares of checkers are written
GLUED = 1000  # characters of one word that are tried as moves without spaces


def format_of(text: str, game: Game | None = None) -> str:
    """The format that a text is most likely in: one of FORMATS."""
    if looks_saved(text):
        return "saved"
    begin, header = BEGIN.search(text), HEADER.search(text)
    if begin and "[" in text and (header is None or begin.start() < header.start()):
        return "ggf"
    if (game is None or game.name == "connect4") and looks_like_columns(text) and _long_lines(text):
        return "columns"
    if header:
        return "pdn"
    if game is None and re.fullmatch(r"[\d\s]+", text):
        return "pdn" if all(len(word) == 4 for word in text.split()) and not looks_like_columns(text) else "columns"
    written = game is None or game.name == "checkers"
    squares = written and re.search(r"\d\s*[-x:]\s*\d", RESULT.sub(" ", text[:TRIED]))  # 1-0 ends games of every kind
    return "pdn" if squares and not _is_position(text) else "moves"


def _long_lines(text: str) -> bool:
    """Not one move a line: those are a list of moves."""
    return any(len(line.split()[0]) > 1 for line in text.splitlines() if line.strip())


def _is_position(text: str) -> bool:
    if len(text) > MOST_POSITION:
        return False
    return re.fullmatch(r"\s*[BbWw]\s*:\s*[BbWw][^\n.]*:\s*[BbWw][^\n]*\.?\s*", text) is not None


def read_games(text: str, game: Game | None = None, form: str | None = None) -> list[GameText]:
    """All games of a text, at least one.

    game: what it must be a game of; None: what the text says (PDN is checkers where it names no other game, GGF names
    its game, strings of columns are connect four); move lists need it. form: one of FORMATS; None: found by the
    content. Raises WrongRequest with one sentence that names line and token, or move, of what is wrong.
    """
    if len(text) > MOST_TEXT:
        raise WrongRequest(f"the text has {len(text)} characters: {MOST_TEXT} are the most.")
    if not text.strip("\ufeff \t\r\n"):
        raise WrongRequest("there is nothing to load: it needs moves, PDN, GGF or a position.")
    text = text.lstrip("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    form = format_of(text, game) if form is None else _known(form)
    readers = {"pdn": read_pdn, "ggf": read_ggf, "columns": read_columns, "saved": read_saved, "moves": _read_moves}
    return readers[form](text, game)


def _known(form: str) -> str:
    if form not in FORMATS:
        raise WrongRequest(f"there is no format '{quoted(form, 20)}': {', '.join(FORMATS)} are known.")
    return form


def _read_moves(text: str, game: Game | None) -> list[GameText]:
    """A list of moves, numbered or not, or one position in the game's own text."""
    if game is None:
        raise WrongRequest("the text does not say which game it is: name the game.")
    words = text.split()
    position = text.strip()
    try:
        return read_pdn(text, game)
    except AzError as error:
        as_moves = error
    glued = list(position) if len(words) == 1 and len(position) <= GLUED else []
    for begin, moves in ((None, glued), (position, [])) if glued else ((position, []),):
        try:
            return [_played(game, begin, moves)]
        except AzError:
            continue
    raise WrongRequest(f"that is neither a list of moves nor a position of {game.name}: {as_moves}")


def _played(game: Game, begin: str | None, words: list[str]) -> GameText:
    state = game.new_state() if begin is None else game.parse_position(begin)
    usual = game.position_text(state) == game.position_text(game.new_state())
    found = GameText(game.name, start=None if usual else game.position_text(state))
    for word in words:
        actions = game.parse_move(state, word)
        found.moves.append(Move(next(t for t, hops in game.moves(state).items() if hops == actions), actions))
        state = game.play(state, actions)
    found.result = result_of(game, state)
    return found


def read_game_file(path: Path, game: Game | None = None, form: str | None = None) -> list[GameText]:
    """The games of a file (UTF-8, else Latin-1). Raises WrongRequest for one that is missing, too large or wrong."""
    try:
        data = read_regular(path, MOST_FILE)
    except OSError as error:
        raise WrongRequest(f"'{quoted(str(path), 150)}' cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise WrongRequest(f"'{quoted(str(path), 150)}' cannot be read: {error}.") from None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if "\0" in text:
        raise WrongRequest(f"'{path}' is no text: games are read from PDN, GGF, lists of moves and saved games.")
    try:
        return read_games(text, game, form)
    except WrongRequest as error:
        raise WrongRequest(f"'{path.name}': {error}") from None


def write_games(games: Sequence[GameText], form: str | None = None) -> str:
    """The games as text that `read_games` reads back equal.

    form None: ggf for Othello where it holds all there is, else pdn, which holds every game. Raises WrongRequest for
    a game that the format cannot hold.
    """
    loaded = LoadedGames()
    return "\n".join(_written(game, form, loaded[game.game]) for game in games)


def _written(game: GameText, form: str | None, rules: Game) -> str:
    capitals = all(name == name.upper() for name in game.headers)  # GGF has no others
    if form is None and game.game in GAMES.values() and capitals:
        try:
            return ggf_text(game, rules) + "\n"
        except WrongRequest:
            return pdn_text(game, rules)
    if form in (None, "pdn"):
        return pdn_text(game, rules)
    if _known(form) == "ggf":
        return ggf_text(game, rules) + "\n"
    if form == "columns":
        return columns_text(game, rules)
    if form == "saved":
        return saved_text(game)
    return _moves_text(game)


def _moves_text(game: GameText) -> str:
    if game.beside() or game.headers or game.start is not None:
        raise WrongRequest("a list of moves holds the moves from the start and nothing else: write the game as pdn.")
    texts = game.texts()
    pairs = [f"{i // 2 + 1}. {' '.join(texts[i : i + 2])}" for i in range(0, len(texts), 2)]
    return " ".join([*pairs, game.result]) + "\n"
