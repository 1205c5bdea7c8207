"""`az play`: the conversation at the board, driven as a person would."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from az.engine.board import placed
from az.engine.errors import WrongRequest
from az.engine.game import Game, State, load_game
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.search.params import UNKNOWN, SearchParams
from az.engine.search.result import SearchResult
from az.engine.search.whole_moves import WholeResult, whole_results
from az.engine.terminal.board import Look, draw, ending
from az.engine.terminal.play import play

SHIPPED = ("tictactoe", "connect4", "othello6", "othello", "checkers", "gomoku", "gomoku9", "hex")
PLAIN = Look(width=80, color=False, unicode=True)


class FirstMove:
    """An engine that always likes the first legal move."""

    name = "first"
    effort = "thinks for a moment"

    def __init__(self, game: Game) -> None:
        self.game = game
        self.asked = 0

    def begin(self) -> None:
        pass

    def prepare(self) -> None:
        pass

    def search(self, states, simulations: int) -> list[SearchResult]:
        found = []
        for state in states:
            actions = np.flatnonzero(self.game.mask(state)).astype(np.int64)
            even = np.full(len(actions), 1 / len(actions))
            found.append(
                SearchResult(
                    actions,
                    np.arange(len(actions), 0, -1),
                    even.astype(np.float32),
                    np.zeros(len(actions), np.float32),
                    np.full(len(actions), UNKNOWN, np.int8),
                    even,
                    0.5,
                    UNKNOWN,
                    simulations,
                    int(actions[0]),
                    (int(actions[0]),),
                )
            )
        return found

    def think(self, state: State) -> WholeResult:
        self.asked += 1
        return whole_results(self.game, [state], self.search([state], 10), self.search)[0]

    advise = think

    def searcher(self):
        return self.search

    def at_level(self, level: int | None, _seed: int, /) -> None:
        self.effort = f"plays at level {level}"


def talk(name: str, *lines: str, human: int | None = 0, start: str | None = None, width: int = 80) -> str:
    """Everything that a pipe shows when these lines are typed."""
    game = load_game(name)
    out = io.StringIO()
    console = Console(file=out, width=width, highlight=False, markup=False, emoji=False, color_system=None)
    code = play(
        game,
        UniformEvaluator(game),
        SearchParams(),
        human=human,
        start=None if start is None else game.parse_position(start),
        stdin=io.StringIO("".join(line + "\n" for line in lines)),
        console=console,
        engine=FirstMove(game),
    )
    assert code == 0
    return out.getvalue()


def test_the_board_comes_first_and_nothing_is_searched():
    text = talk("tictactoe")
    assert "you are X against first" in text
    assert " 7 │ 8 │ 9 " in text
    assert "plays" not in text
    assert text.endswith("\nGoodbye.\n")


def test_a_move_is_answered_with_what_the_engine_thinks():
    text = talk("tictactoe", "5")
    assert "O (engine) plays 1" in text
    assert "win chance 75 %, 10 simulations" in text
    assert "[O]" in text  # the last move is marked


def test_a_game_to_its_end_and_another():
    text = talk("tictactoe", "5", "9", "4", "6", "new", human=None)
    assert "O to move>" in text
    text = talk("tictactoe", "4", "5", "6", "hint", "5", "new")
    assert "X has three in a row and wins." in text
    assert "You win!" in text
    assert "The game is over: there is nothing to find." in text
    assert "'5' cannot be played" in text
    assert "A new game." in text


def test_a_mistyped_move_lists_the_legal_ones_and_the_nearest():
    text = talk("othello", "c5", "hlep", "a" * 500, "\x1b[31mx")
    assert "'c5' is not a legal move here; legal: " in text
    assert re.search(r"Did you mean (c4|f5)\?", text)
    assert "Did you mean help?" in text
    assert "a" * 50 not in text
    assert "\x1b" not in text


def test_rich_markup_in_what_was_typed_is_only_text():
    assert "[bold]x[/nope]" in talk("tictactoe", "[bold]x[/nope]")


def test_undo_takes_back_both_moves_and_swap_lets_the_engine_move():
    text = talk("tictactoe", "undo", "5", "undo", "swap", "undo")
    assert "You have not moved yet" in text
    assert "Taken back: 5 1" in text
    assert "You are O now." in text
    assert "X (engine) plays 1" in text


def test_resigning_can_be_taken_back():
    text = talk("connect4", "resign", "resign", "undo", "4")
    assert "Red (X) resigns: Yellow (O) wins." in text
    assert "The game is over already." in text
    assert "The resignation is taken back." in text
    assert "Yellow (O) (engine) plays 1" in text


def test_hints_show_share_chance_and_the_line():
    text = talk("connect4", "hint", "moves", "help")
    assert re.search(r"  1   25 %  win 50 %", text)
    assert "share of visits; win chance; 10 simulations" in text
    assert "Legal: 1 2 3 4 5 6 7" in text
    assert "give the game up" in text


def test_checkers_jumps_are_typed_as_whole_moves():
    text = talk("checkers", "moves", "14x5", "undo", "14x21x30x23x14x5", human=1, start="W:W31,K14:B9,10,17,18,26,25")
    assert "14x21x30x23x14x5" in text
    assert "Taken back: 14x5" in text
    assert "Black (b) (engine) plays" in text


def test_checkers_says_how_it_ended():
    assert "Black (b) has no pieces left" not in talk("checkers")
    game = load_game("checkers")
    state = game.parse_position("W:WK14:B10")
    after = game.play(state, game.parse_move(state, "14x7"))
    assert ending(game, after) == "Black has no pieces left: White wins."


def test_saving_never_overwrites(tmp_path: Path):
    target = tmp_path / "game.txt"
    text = talk("tictactoe", "5", f"save {target}", f"save {target}", f"save {tmp_path}", f"save {tmp_path}/no/x")
    flat = "".join(text.split())
    assert target.read_text().splitlines()[4:7] == ["start:", "moves:", "  1. 5 1"]
    assert (tmp_path / "game-2.txt").exists()
    assert "existsalreadyandwasleftalone" in flat
    assert "itisafolder" in flat
    assert "Nosuchfileordirectory" in flat
    assert sorted(path.name for path in tmp_path.iterdir()) == ["game-2.txt", "game.txt"]


def test_a_narrow_window_still_shows_every_board():
    for name in SHIPPED:
        game = load_game(name)
        look = Look(width=30, color=True, unicode=True)
        assert max(len(line) for line in draw(game, game.new_state(), look).plain.split("\n")) <= 30
        assert talk(name, "hint", "help", width=30)
        tiny = draw(game, game.new_state(), Look(width=8, color=False, unicode=False))
        assert tiny.plain.strip()


@pytest.mark.parametrize("name", SHIPPED)
def test_boards_agree_with_the_game_on_random_play(name):
    game = load_game(name)
    assert game.board is not None
    rng = np.random.default_rng(5)
    state = game.new_state()
    while (legal := game.moves(state)) and game.outcome(state) == 2:
        before, text = state, sorted(legal)[int(rng.integers(len(legal)))]
        state = game.play(state, legal[text])
        squares, old = game.board.cells(state), game.board.cells(before)
        assert squares is not None
        assert old is not None
        assert len(placed(old, squares)) <= 1
        drawn = draw(game, state, PLAIN, before).plain
        stones = sum(sign not in ("", "-") for row in squares for sign in row)
        lines = drawn.split("\n")
        if game.board.column_labels and name != "connect4":
            below = 2 if game.board.edges else int(game.board.columns_below)
            lines = lines[1 - game.board.columns_below : len(lines) - below]
        letters = sum(sign in "XObBwW" for sign in "\n".join(lines))
        if name not in ("othello", "othello6"):
            assert letters == stones
    assert ending(game, state).endswith(".")


def test_wrong_requests_are_one_sentence():
    game = load_game("tictactoe")
    quiet = Console(file=io.StringIO())
    requests: list[dict[str, Any]] = [{"simulations": -3}, {"seconds": 0.0}, {"seconds": float("nan")}, {"human": 2}]
    for wrong in requests:
        with pytest.raises(WrongRequest):
            play(game, UniformEvaluator(game), SearchParams(), stdin=io.StringIO(), console=quiet, **wrong)


PROGRAM = """
import sys
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.game import load_game
from az.engine.search.params import SearchParams
from az.engine.terminal.play import play
game = load_game("tictactoe")
sys.exit(play(game, UniformEvaluator(game), SearchParams(), simulations=50))
"""


def test_a_pipe_gets_plain_text():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=b"5\nhint\n\xff\xfe\nquit\n", capture_output=True, timeout=300
    )
    assert done.returncode == 0
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout
    assert b"O (engine) plays" in done.stdout
    assert done.stdout.endswith(b"Goodbye.\n")


def test_ascii_output_does_not_crash():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=b"quit\n",
        capture_output=True,
        timeout=300,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0
    assert b"---+---+---" in done.stdout


# At a terminal: the board comes first, and what is slow to load is loaded behind it.

FIRST_SCREEN = """
import sys
from az.commands import play as start
from az.engine.terminal import session
def leave(self):
    print(sorted({"numba", "onnxruntime", "torch"} & set(sys.modules)))
    raise EOFError
session.Session.read = leave
sys.stdin.isatty = sys.stdout.isatty = lambda: True
start.play_command(sys.argv[1], None, None, None, 0)
"""


@pytest.mark.parametrize("name", SHIPPED)
def test_the_first_prompt_waits_neither_for_the_compiler_nor_for_the_network(name):
    done = subprocess.run([sys.executable, "-c", FIRST_SCREEN, name], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "\n[]\n" in done.stdout


def at_terminal(
    *words: str,
    lines: tuple[str, ...],
    code: str = "from az.cli import main; main()",
    term: str = "xterm",
    width: int = 80,
) -> tuple[int, str]:
    """(exit code, everything shown) of `az WORDS` at a terminal where each line is typed as soon as a prompt stands."""
    pty = pytest.importorskip("pty")
    above, below = pty.openpty()
    termios = pytest.importorskip("termios")
    termios.tcsetwinsize(below, (24, width))
    command = [sys.executable, "-c", code, *words]
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    az = subprocess.Popen(command, stdin=below, stdout=below, stderr=below, env={**env, "TERM": term})
    os.close(below)
    shown, waiting = b"", list(lines)
    while True:
        try:
            shown += (data := os.read(above, 65536))
        except OSError:  # Linux's way to say that nobody is there any more
            break
        if not data:
            break
        while waiting and shown.count(b" to move> ") > len(lines) - len(waiting):
            os.write(above, waiting.pop(0).encode() + b"\n")
    os.close(above)
    return az.wait(300), re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())


def test_what_is_typed_at_once_is_answered_properly():
    code, text = at_terminal("play", "tictactoe", "--sims", "20", lines=("moves", "x", "5", "quit"))
    assert code == 0
    assert "Legal: 1 2 3 4 5 6 7 8 9" in text
    assert "'x' is not a legal move here" in text
    assert "getting ready" in text
    assert "O (engine) plays" in text
    assert text.rstrip().endswith("Goodbye.")


@pytest.mark.parametrize("term", ["xterm", "dumb"])
def test_a_narrow_window_breaks_no_words_and_the_words_are_a_newcomers(term):
    code, text = at_terminal("play", "connect4", lines=("quit",), term=term, width=40)
    assert code == 0
    shown = text.replace("\r", "")
    assert max(map(len, shown.split("\n"))) <= 40
    red = "Red (●)" if term == "xterm" else "Red (X)"
    assert f"connect4: you are {red} against the model connect4." in " ".join(shown.split())
    assert "It thinks for 400 simulations a move. Type a move, or help." in " ".join(shown.split())


def test_a_game_without_a_model_says_so_in_whole_words():
    _, text = at_terminal("play", "gomoku", lines=("quit",), width=40)
    assert max(map(len, text.replace("\r", "").split("\n"))) <= 40
    assert "so plain tree search with random games plays." in " ".join(text.split())


def test_leaving_does_not_wait_for_what_is_being_loaded():
    code, text = at_terminal("play", "tictactoe", lines=("quit",))
    assert (code, text.rstrip().rpartition("\n")[2]) == (0, "Goodbye.")
    assert "Traceback" not in text


REFUSED_LATE = """
from az.engine.inference import onnx_evaluator
from az.engine.errors import Refused
def refuse(self):
    raise Refused("model tictactoe is refused.")
onnx_evaluator.OnnxEvaluator._check_answers = refuse
from az.cli import main
main()
"""


def test_a_model_that_only_its_network_betrays_is_refused_at_the_first_move():
    code, text = at_terminal("play", "tictactoe", lines=("5",), code=REFUSED_LATE)
    assert (code, "Traceback" in text) == (1, False)
    assert text.rstrip().endswith("az: model tictactoe is refused.")


def test_a_wrong_name_is_refused_before_a_board_is_shown():
    code, text = at_terminal("play", "tictactoe", "--model", "nosuch", lines=())
    assert code == 2
    assert re.fullmatch(r"az: there is no model 'nosuch'[^\n]*\n", text.replace("\r", ""))
