"""Reads and writes what `save` of `az play` writes: names, start, numbered moves, how it ended."""

from __future__ import annotations

from az.engine.errors import WrongRequest
from az.engine.game import Game, load_game
from az.engine.notation.game_text import MOST_PLIES, GameText, Move, result_of
from az.engine.printable import quoted

OWN = ("game", "start", "moves", "position", "result")
ENDING = "Ending"  # the header that keeps the words of the result, where they tell more than the result itself
MOST_HEADERS = 100


def looks_saved(text: str) -> bool:
    """Whether it has the lines that such a text must have."""
    names = {line.partition(":")[0] for line in text.splitlines() if ":" in line}
    return {"game", "start", "moves"} <= names


def read_saved(text: str, game: Game | None = None) -> list[GameText]:
    """The one game of such a text. Raises WrongRequest that names the line and the move."""
    lines = text.splitlines()
    heads = dict[str, str]()
    for line in lines:
        name, colon, rest = line.partition(":")
        if colon and not name.startswith(" ") and len(heads) < MOST_HEADERS:
            heads.setdefault(name, rest.strip())
    named = heads.get("game", "")
    if not named:
        raise WrongRequest("a saved game has a line such as 'game: checkers', and this text has none.")
    if game is not None and named != game.name:
        raise WrongRequest(f"it is a game of {quoted(named, 40)}, and this is {game.name}.")
    rules = game or load_game(named)
    start = heads.get("start", "")
    state = rules.parse_position(start)
    usual = rules.position_text(state) == rules.position_text(rules.new_state())
    found = GameText(rules.name, start=None if usual else rules.position_text(state))
    begin = next((at for at, line in enumerate(lines) if line.strip() == "moves:"), len(lines))
    for number, line in enumerate(lines[begin + 1 :], begin + 2):
        if not line.startswith(" "):
            break
        for word in line.partition(".")[2].split():
            try:
                actions = rules.parse_move(state, word)
            except WrongRequest as error:
                raise WrongRequest(f"line {number}, move {len(found.moves) + 1}: {error}") from None
            text = next(text for text, hops in rules.moves(state).items() if hops == actions)
            found.moves.append(Move(text, actions))
            state = rules.play(state, actions)
            if len(found.moves) > MOST_PLIES:
                raise WrongRequest(f"line {number}: the game has more than {MOST_PLIES} moves.")
    found.headers = {name: value for name, value in heads.items() if name not in OWN and name[:1].isalpha()}
    found.result = result_of(rules, state)
    if found.result == "*" and (loser := _resigned(rules, heads.get("result", ""))) is not None:
        found.result = ("0-1", "1-0")[loser]
    told = heads.get("result", "")
    if told not in (_ending(rules, found.result, result_of(rules, state)), "") and _resigned(rules, told) is None:
        found.headers[ENDING] = told
    return [found]


def _ending(game: Game, result: str, ended: str) -> str:
    """What is written of the result where no header says it."""
    if result == "*":
        return "unfinished"
    loser = 1 if result == "1-0" else 0
    names = _names(game)
    return "ended" if result == ended else f"{names[loser]} resigns: {names[1 - loser]} wins."


def _names(game: Game) -> tuple[str, str]:
    return game.board.players if game.board else ("First player", "Second player")


def _resigned(game: Game, ending: str) -> int | None:
    """The player who resigned, where the text of the result says so."""
    for player, name in enumerate(_names(game)):
        if ending.startswith((f"{name} resigns", f"{name} (")) and "resigns" in ending:
            return player
    return None


def saved_text(game: GameText) -> str:
    """One game. Raises WrongRequest for what the form cannot hold."""
    if game.beside():
        raise WrongRequest("a saved game of az play holds no comments, marks, clocks or variations: write it as pdn.")
    rules = load_game(game.game)
    states = game.states(rules)
    heads = {name: " ".join(value.split()) for name, value in game.headers.items()}
    ended = result_of(rules, states[-1])
    if game.result != ended and (game.result not in ("1-0", "0-1") or ended != "*"):
        raise WrongRequest(f"the result {game.result} is not that of the board: write the game as pdn.")
    if any(name in OWN or ":" in name or not name[:1].isalpha() for name in heads):
        raise WrongRequest("a header has a name that a saved game cannot hold: write it as pdn.")
    last, told = _ending(rules, game.result, ended), heads.get(ENDING)
    if told and told != last and game.result == ended and _resigned(rules, told) is None:
        last = heads.pop(ENDING)
    lines = [f"game: {game.game}", *(f"{name}: {value}" for name, value in heads.items())]
    lines += [f"start: {rules.position_text(states[0])}".rstrip(), "moves:"]
    texts = game.texts()
    lines += [f"{i // 2 + 1:>3}. {' '.join(texts[i : i + 2])}" for i in range(0, len(texts), 2)]
    lines += [f"result: {last}", f"position: {rules.position_text(states[-1])}".rstrip()]
    return "\n".join(lines) + "\n"
