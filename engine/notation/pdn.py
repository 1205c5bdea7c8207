"""Reads PDN: headers, moves, comments, variations, annotation glyphs, clocks. Games without headers are move lists.

The text is that of PDN 3.0's reading grammar (https://pdn.fmjd.org/grammar.html). For games other than checkers the
same form is used with the header [Game "NAME"] and the game's own moves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from az.engine.errors import AzError, WrongRequest
from az.engine.game import Game, State, known_game
from az.engine.notation.candidates import Candidate, candidates_of, is_number, needs_pass, split_word
from az.engine.notation.game_text import (
    MOST_DEPTH,
    MOST_GAMES,
    MOST_PLIES,
    MOST_WORDS,
    GameText,
    LoadedGames,
    Move,
)
from az.engine.notation.pdn_tokens import DOUBLE_FORFEIT, OWN_HEADERS, RESULT_OF, Token, tag_of, tokens_of
from az.engine.printable import quoted

ENGLISH, INTERNATIONAL = "21", "20"
GAME_TYPES = {
    "20": "international draughts", "22": "Italian draughts", "23": "American pool checkers", "24": "Spanish draughts",
    "25": "Russian draughts", "26": "Brazilian draughts", "27": "Canadian draughts", "28": "Portuguese draughts",
    "29": "Czech draughts", "30": "Turkish draughts", "31": "Thai draughts", "40": "Frisian draughts",
}  # fmt: skip
LOOK_AHEAD = 12  # words after an ambiguous move that are tried to tell which move it was
COMMAND = re.compile(r"\[%(clk|clock|eval)\s+([^\]\[]{0,80})\]")
CLOCK = re.compile(r"[wWbB]?(\d{1,3}):([0-5]?\d):([0-5]?\d(?:\.\d{1,3})?)")


@dataclass
class _Level:
    """A line of play that is being read: the main line or a variation."""

    moves: list[Move]
    states: list[State]  # before each move, and after the last
    waiting: list[str] = field(default_factory=list)  # comments before the first move
    dead: bool = False  # a variation with a move that is not legal: the rest of it is left out


def read_pdn(text: str, game: Game | None = None) -> list[GameText]:
    """All games of a PDN text or a list of moves. Raises WrongRequest that names line and move of what is wrong."""
    games, loaded = list[GameText](), LoadedGames()
    for part in _parts(tokens_of(text)):
        games.append(_Reader(part, game, loaded).read())
        if len(games) > MOST_GAMES:
            raise WrongRequest(f"the text holds more than {MOST_GAMES} games: split it.")
    if not games:
        raise WrongRequest("the text holds no game: it needs moves, such as 1. 11-15 23-19.")
    return games


def _parts(tokens: Iterable[Token]) -> Iterator[list[Token]]:
    """The tokens of each game as they come: one ends with its result, or where headers begin again.

    What has neither headers nor moves is left out, unless there is nothing else. Raises WrongRequest for a game of more
    than MOST_WORDS tokens, and for more than MOST_GAMES results without a game.
    """
    first, empty = list[Token](), 0
    found = False
    for part in _split(tokens):
        if any(token.kind not in ("result", "comment", "nag") for token in part):
            found = True
            yield part
            continue
        first, empty = first or part, empty + 1
        if empty > MOST_GAMES:
            raise WrongRequest(f"line {part[0].line}: there are more than {MOST_GAMES} results without a game.")
    if first and not found:
        yield first


def _split(tokens: Iterable[Token]) -> Iterator[list[Token]]:
    current = list[Token]()
    body, depth = False, 0
    for token in tokens:
        if token.kind == "tag" and body:
            yield current
            current, body, depth = [], False, 0
        current.append(token)
        if len(current) > MOST_WORDS:
            raise WrongRequest(f"line {token.line}: the game has more than {MOST_WORDS} words: is it PDN?")
        body = body or token.kind in ("move", "open", "number", "setup")
        depth = max(0, depth + (token.kind == "open") - (token.kind == "close"))
        if token.kind == "result" and depth == 0:
            yield current
            current, body = [], False
    if current:
        yield current


class _Reader:
    """One game."""

    def __init__(self, tokens: Sequence[Token], game: Game | None, loaded: LoadedGames) -> None:
        self.tokens, self.loaded = tokens, loaded
        self.body = [token for token in tokens if token.kind != "tag"]
        self.notes = list[str]()
        self.headers = self._headers()
        self.game = self._game(game)
        self.line = tokens[0].line if tokens else 1
        self.at = self.plies = 0
        self.result: str | None = None

    def _headers(self) -> dict[str, str]:
        headers = dict[str, str]()
        for token in self.tokens:
            if token.kind == "tag":
                name, value = tag_of(token.text)
                name = OWN_HEADERS.get(name.lower(), name)
                if name in headers:
                    self.notes.append(f"line {token.line}: the header {quoted(name)} stands twice; the last one holds.")
                headers[name] = value
        return headers

    def _game(self, game: Game | None) -> Game:
        named = self._taken("Game")
        if named is not None and game is not None and known_game(named) != game.name:
            raise WrongRequest(f"it is a game of {quoted(named, 40)}, and this is {game.name}.")
        found = game or self.loaded[named or "checkers"]
        kind = self._taken("GameType")
        if kind is not None and found.name == "checkers":
            kind = kind.partition(",")[0].strip()
            if kind == INTERNATIONAL:  # often written where English checkers is meant: the moves decide
                self.notes.append("GameType 20 is international draughts; the moves are read as English checkers, 21.")
            elif kind != ENGLISH:
                name = GAME_TYPES.get(kind, "another game")
                raise WrongRequest(f"the PDN is of game type {quoted(kind, 10)} ({name}): English checkers is 21.")
        return found

    def _taken(self, name: str) -> str | None:
        """A header that has a field of its own."""
        return self.headers.pop(name, None)

    def read(self) -> GameText:
        """The game. Raises WrongRequest."""
        start, told = self._taken("FEN"), self._taken("Result")
        self._taken("SetUp")
        if self.body and self.body[0].kind == "setup" and start is None:
            start = self.body[0].text.split('"')[1]
        found = GameText(self.game.name, headers=self.headers, notes=self.notes)
        state = self._start(start)
        usual = self.game.position_text(self.game.new_state())
        found.start = None if self.game.position_text(state) == usual else self.game.position_text(state)
        main = _Level(found.moves, [state])
        self._moves(main)
        found.comments = main.waiting
        found.result = self._result(told)
        return found

    def _start(self, start: str | None) -> State:
        if start is None or not start.strip():
            return self.game.new_state()
        try:
            return self.game.parse_position(start)
        except WrongRequest as error:
            line = next((t.line for t in self.tokens if t.kind in ("tag", "setup") and start in t.text), self.line)
            raise WrongRequest(f"line {line}: {error}") from None

    def _moves(self, main: _Level) -> None:
        levels, opened = [main], list[int]()
        while self.at < len(self.body):
            token = self.body[self.at]
            self.at += 1
            level = levels[-1]
            if token.kind == "move":
                self._move(level, token, len(levels) == 1)
            elif token.kind == "comment":
                self._comment(level, token)
            elif token.kind == "nag":
                if level.moves and not level.dead:
                    level.moves[-1].nags.append(int(token.text[1:]))
            elif token.kind == "open":
                self._open(levels, opened, token)
            elif token.kind == "close":
                if not opened:
                    raise WrongRequest(f"line {token.line}: ')' ends no variation.")
                opened.pop()
                self._close(levels.pop(), levels[-1].moves[-1])
            elif token.kind == "result":
                self.result = token.text if len(levels) == 1 else self.result
            elif token.kind == "setup" and self.at > 1:
                raise WrongRequest(f"line {token.line}: a position within a game cannot be read: make it two games.")
        if opened:
            raise WrongRequest(f"line {opened[-1]}: the variation that begins with '(' has no ')'.")

    def _open(self, levels: list[_Level], opened: list[int], token: Token) -> None:
        level = levels[-1]
        if level.dead or not level.moves or len(levels) > MOST_DEPTH:
            if not level.dead:
                why = "there is no move before it" if not level.moves else f"it is more than {MOST_DEPTH} deep"
                self.notes.append(f"line {token.line}: a variation is left out, because {why}.")
            depth = 1
            while self.at < len(self.body) and depth:
                depth += (self.body[self.at].kind == "open") - (self.body[self.at].kind == "close")
                self.at += 1
            if depth:
                raise WrongRequest(f"line {token.line}: the variation that begins with '(' has no ')'.")
            return
        levels.append(_Level([], [level.states[-2]]))
        opened.append(token.line)

    def _close(self, level: _Level, last: Move) -> None:
        if level.moves:
            last.variations.append(level.moves)
            last.variation_comments.append(" ".join(level.waiting))

    def _comment(self, level: _Level, token: Token) -> None:
        if level.dead:
            return
        text = token.text
        if level.moves:
            move = level.moves[-1]
            text = COMMAND.sub(lambda found: " " if _command(move, found[1], found[2].strip()) else found[0], text)
            text = " ".join(text.split())
        if text:
            (level.moves[-1].comments if level.moves else level.waiting).append(text)

    def _move(self, level: _Level, token: Token, main: bool) -> None:
        if level.dead or is_number(self.game, token.text):
            return
        words = split_word(self.game, token.text)
        for word in words:
            try:
                self._play(level, word, token.line)
            except WrongRequest as error:
                where = f"line {token.line}, move {len(level.moves) + 1}"
                if main:
                    raise WrongRequest(f"{where}: {error}") from None
                self.notes.append(f"{where} of a variation: {error} The rest of the variation is left out.")
                level.dead = True
                return

    def _play(self, level: _Level, word: str, line: int) -> None:
        state = level.states[-1]
        if needs_pass(self.game, state, word):
            self._append(level, "pass", self.game.moves(state)["pass"])
            self.notes.append(f"line {line}, '{quoted(word, 20)}': the pass before it is filled in.")
            state = level.states[-1]
        options = candidates_of(self.game, state, word, next(iter(self._following(1)), None))
        chosen = options[0]
        if len(options) > 1:
            chosen, sure = _by_what_follows(self.game, state, options, self._following(LOOK_AHEAD))
            many = " and ".join(one.text for one in options)
            why = "the moves after it fit that one only" if sure else "the moves after it do not tell"
            self.notes.append(f"line {line}, '{quoted(word, 40)}' fits {many}: read as {chosen.text}; {why}.")
        elif chosen.guess:
            self.notes.append(f"line {line}, '{quoted(word, 40)}': {chosen.guess}.")
        self._append(level, chosen.text, chosen.actions)
        if chosen.used > 1:
            self._skip_a_move()

    def _append(self, level: _Level, text: str, actions: tuple[int, ...]) -> None:
        self.plies += 1
        if self.plies > MOST_PLIES:
            raise WrongRequest(f"the game has more than {MOST_PLIES} moves.")
        move = Move(text, actions)
        level.moves.append(move)
        level.states.append(self.game.play(level.states[-1], actions))

    def _following(self, most: int) -> list[str]:
        """The next moves of the same line of play, as written, where they are near."""
        words, depth = list[str](), 0
        for token in self.body[self.at : self.at + 20 * most]:
            depth += (token.kind == "open") - (token.kind == "close")
            if depth < 0 or len(words) >= most:
                break
            if depth == 0 and token.kind == "move" and not is_number(self.game, token.text):
                words.append(token.text)
        return words

    def _skip_a_move(self) -> None:
        while self.body[self.at].kind != "move" or is_number(self.game, self.body[self.at].text):
            self.at += 1
        self.at += 1

    def _result(self, told: str | None) -> str:
        """The result behind the moves, else that of the header."""
        words = [" ".join(word.split()) for word in (self.result, told) if word]
        known = [RESULT_OF[word] for word in words if word in RESULT_OF]
        strange = [word for word in words if word not in RESULT_OF and word not in ("?", DOUBLE_FORFEIT)]
        if strange:
            self.notes.append(f"the result '{quoted(strange[0], 30)}' is not one of 1-0, 0-1, 1/2-1/2: left out.")
        if DOUBLE_FORFEIT in words:
            self.notes.append("the result 0-0, lost for both, is left out.")
        certain = [result for result in known if result != "*"]
        if len(set(certain)) > 1:
            self.notes.append(f"the header says {certain[1]} and the end {certain[0]}: the end holds.")
        return certain[0] if certain else "*"


def _by_what_follows(
    game: Game, state: State, options: list[Candidate], following: list[str]
) -> tuple[Candidate, bool]:
    """The candidate after which most of the next words can be played, and whether it is the only one."""
    reach = [_reach(game, game.play(state, option.actions), following) for option in options]
    best = max(reach)
    return options[reach.index(best)], reach.count(best) == 1


def _reach(game: Game, state: State, words: list[str]) -> int:
    for number, word in enumerate(words):
        try:
            option = candidates_of(game, state, word, None)[0]
        except AzError:
            return number
        state = game.play(state, option.actions)
    return len(words)


def _command(move: Move, name: str, value: str) -> bool:
    """What a program wrote into a comment: the time left, or what it thinks. Whether it could be read."""
    if name == "eval":
        number = re.fullmatch(r"[+-]?\d{1,9}(?:\.\d{1,9})?", value)
        move.value = float(value) if number else move.value
        return number is not None
    clock = CLOCK.fullmatch(value)
    if clock is not None:
        whole, _, part = clock[3].partition(".")
        seconds = 3600 * int(clock[1]) + 60 * int(clock[2]) + int(whole)
        move.clock = (1000 * seconds + int(part.ljust(3, "0"))) / 1000
    return clock is not None
