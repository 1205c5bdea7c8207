"""What the author of a game gets wrong is told in a sentence: by `az check`, and before any other command uses it."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from command_line import ROOT, Answer, run_az, start_az
from processes import Marked
from run_tools import command

import az.engine.games
from az.engine import game_trial
from az.engine.errors import Refused
from az.engine.game import import_game
from az.engine.game_trial import Trial, try_game
from az.engine.jit.compiler import _sources

GOOD = (ROOT / "engine" / "games" / "tictactoe.py").read_text("utf-8").replace('name="tictactoe"', 'name="mistake"')
PLANES = "planes[0, square // 3, square % 3] = 1.0 if stone == own else 0.0"

REFUSED = [  # it is no game at all: (what is replaced, by what, what the sentence says)
    ("GAME = Game(", "GAME = dict(", "its GAME is of the type dict"),
    ("GAME = Game(", "game = Game(", "it has no GAME"),
    ("GAME = Game(", "GAME = None\nx = Game(", "it has no GAME"),
    ("GAME = Game(", "GAME = Game\nx = Game(", "its GAME is of the type type"),
    ('name="mistake"', 'name="bt"', "it calls itself 'bt'"),
    ('name="mistake"', "name=None", "name is None"),
    ('name="mistake"', 'name="../mistake"', "name is '../mistake'"),
    ("version=1", 'version="1"', "version is '1'"),
    ("dtype=rules.dtype", "dtype=np.int64", "write rules.dtype"),
    ("dtype=rules.dtype", "dtype=np.dtype(float)", "dtype is float64"),
    ("dtype=rules.dtype", "dtype=np.dtype(np.int32)", "the rules are made for int64"),
    ("rules = Rules(np.int64)", "rules = Rules(np.float32)", "dtype is float32"),
    ("state_size=10", "state_size=0", "state_size is 0"),
    ("state_size=10", "state_size=10.0", "state_size is 10.0"),
    ("num_actions=9", "num_actions=True", "num_actions is True"),
    ("max_plies=9", "max_plies=10**18", "max_plies is 1000000000000000000"),
    ("planes_shape=(2, 3, 3)", "planes_shape=(3, 3)", "planes_shape is (3, 3)"),
    ("planes_shape=(2, 3, 3)", "planes_shape=[2, 3, 3]", "planes_shape is [2, 3, 3]"),
    ("planes_shape=(2, 3, 3)", "planes_shape=(2, 30_000, 30_000)", "more than 10000000 numbers"),
    ("@rules.apply\n", "", "put @rules.apply above its function"),
    ("@rules.apply\n", "@rules.apply()\n", "TypeError"),
    ("start=start,", "start=apply,", "start is a function under @rules.apply"),
    ("def apply(state, action):", "def apply(state):", "apply takes (state): it is called with 2 arguments"),
    ("render=render,", "render=None,", "render is NoneType None: it must be a function"),
    ("render=render,", "", "missing 1 required positional argument: 'render'"),
    ("symmetries=_symmetries()", "symmetries=list(_symmetries())", "symmetries is list"),
    ("symmetries=_symmetries()", "symmetries=(np.arange(9),)", "symmetry 0 has no actions"),
    ("import numpy as np\n", "import numpy as np\nimport nunpy\n", "No module named 'nunpy'"),
    ("import numpy as np\n", "import numpy as np\nimport sys; sys.exit(3)\n", "SystemExit: 3"),
    ("import numpy as np\n", "import numpy as np\n1 / 0\n", "ZeroDivisionError"),
    ("import numpy as np\n", "import numpy as np\nimport os; os._exit(7)\n", "exit code 7) while its file was loaded"),
    pytest.param(  # stopped after half a minute of the CPU
        "import numpy as np\n",
        "import numpy as np\nwhile True: pass\n",
        "its file does not come back",
        marks=pytest.mark.slow,
    ),
    ("import numpy as np\n", "import numpy as np\ndef broken(:\n", "SyntaxError: invalid syntax, line 9"),
    ("import numpy as np\n", "import numpy as np\n\tx = 1\n", "IndentationError"),
    ("import numpy as np\n", "import numpy as np\x00\n", "null bytes"),
]
BROKEN = [  # it is a game that breaks a law
    ("state_size=10", "state_size=9", "'bounds'"),
    ("num_actions=9", "num_actions=8", "'bounds'"),
    ("planes_shape=(2, 3, 3)", "planes_shape=(1, 3, 3)", "'bounds'"),
    ("planes_shape=(2, 3, 3)", "planes_shape=(2, 2, 3)", "'bounds'"),
    ("planes_shape=(2, 3, 3)", "planes_shape=(3, 3, 3)", "'encode-writes'"),
    ("num_actions=9", "num_actions=10", "'legal-writes'"),
    ("    state[:] = 0", "    state = 0", "'start'"),
    ("    state[0] = 1 - state[0]\n", "", "'turn'|'no-error'"),
    ("    state[0] = 1 - state[0]\n", "    state[0] = 2\n", "'player'"),
    ("    state[1 + action] = 1 + state[0]\n", "", "'length'"),
    ("        if state[1 + square] == 0:\n            return ONGOING\n    return DRAW", "        pass", "'outcome'"),
    ("    return DRAW", '    return "draw"', "'outcome'"),
    ("    return DRAW", "    return np.zeros(1)", "'outcome'"),
    ("    return DRAW", "    return 0.0", "'outcome'"),
    (PLANES, PLANES.replace("1.0 if", "np.nan if"), "'planes'"),
    (PLANES, PLANES.replace("1.0 if", "2.0 if"), "'planes'"),
    (PLANES, PLANES.replace("1.0 if", "1.0 / (own - own) if"), "'no-error'"),
    (PLANES, "planes = own", "'bounds'|'no-error'"),
    ("state[1 + action] = 1 + state[0]", "state[1 + action] = 2**62 * 4 + state[0]", "OverflowError"),
    ("    over = has_line(state)\n", "    while True: pass\n", "'returns'"),
    ("    over = has_line(state)\n", "    import os; os._exit(3)\n", "exit code 3) while its rules ran as Python"),
    ("    over = has_line(state)\n", "    raise SystemExit\n", "legal raised SystemExit, mistake.py line 45"),
    ("def render(state: State) -> str:\n", "def render(state: State) -> str:\n    return None\n", "'text'"),
    ("def render(state: State) -> str:\n", "def render(state: State) -> str:\n    1 / 0\n", "line"),
    ("def position_text(state: State) -> str:\n", "def position_text(state):\n    return 3\n", "'text'"),
    ("    state = np.zeros(10, np.int64)\n", "    state = [0] * 10\n", "'position-state'"),
    ("    state = np.zeros(10, np.int64)\n", "    state = np.zeros(10, np.int32)\n", "'position-state'"),
    ("(int(square),)", "int(square)", "'moves-shape'"),
    ("(int(square),)", "(int(square) + 9,)", "'moves-shape'"),
    ("    return {str(square + 1)", "    return None and {str(square + 1)", "'moves-shape'"),
    ("position_text=position_text,", "position_text=position_text, normalise_move=lambda s, t: None,", "'moves-text'"),
]
ROWS = "return [signs[row : row + 3] for row in (0, 3, 6)]"
CELLS = "move_cells=lambda _, actions: (divmod(actions[0], 3),)"
DRAWN = [  # the description of its board would fail in `az play`
    ("board=BOARD", "board=dict(cells=_cells)", "board is dict: write Board(cells=…, pieces=…)"),
    (ROWS, "return [signs[0:3], signs[3:6], signs[6:8]]", "rows of different lengths: 3, 3, 2"),
    (ROWS, "return signs", "a list of rows, each a list of signs"),
    (ROWS, ROWS + " if state[5] == 0 else [signs]", "cells gives 1 by 9 squares here and 3 by 3 at the start"),
    ('"-XO"[stone]', '"-XQ"[stone]', "cells puts 'Q' on row"),
    ('"-XO"[stone]', '"-X"[stone]', "cells raised IndexError"),
    ("cells=_cells", "cells=None", "cells is None: it must be a function"),
    (CELLS, "move_cells=lambda _, actions: (divmod(actions[0], 2),)", "on a board of 3 by 3 squares"),
    (CELLS, "move_cells=lambda _, actions: divmod(actions[0], 3)", "move_cells of '1' is (0, 0)"),
    (CELLS, "move_cells=lambda actions: ((0, 0),)", "move_cells raised TypeError"),
    ("labels={divmod(square, 3)", "labels={divmod(square, 2)", "labels has '"),
    ('Piece(1, "O", "O")', 'Piece(2, "O", "O")', "the piece 'O' is not a Piece of player 0 or 1"),
    ('Piece(1, "O", "O")', 'Piece(1, "OO", "O")', "glyph and letter of the piece 'O' must be one character"),
    ('players=("X", "O"),', "players=None,", "players is None: write two names"),
    ("lines=True,", 'lines=True, colors=Colors(ground="blue"),', "the color ground is 'blue': write #rrggbb"),
    (
        "winning=line_of(3)",
        "winning=lambda grid: {(3, 3)} if grid[0][0] == 'X' else set()",
        "winning answered {(3, 3)}",
    ),
    ("lines=True,", "lines=True, below=2,", "below is 2: write 0 or 1"),
    ("lines=True,", 'lines=True, row_labels="ab",', "row_labels has 2 texts for 3 rows"),
    ("ending=_ending", "ending=lambda *_: None", "ending answered None: a sentence"),
]
COMPILED = [  # what only the compiler sees
    ("@helper\n", "", "it calls has_line, which has no @helper above it"),
    ("LINES = np.array(", "LINES = dict(a=1)\nL = np.array(", "KeyError"),
    (
        "    over = has_line(state)\n",
        "    over = has_line(state)\n    seen = {}\n    seen['a'] = [over]\n",
        "cannot be compiled",
    ),
    ("    stone = 2 - state[0]\n", "    stone = 2 - state[0]\n    STONES[0] += 1\n", "cannot be compiled"),
]


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A function that installs this text as the game `mistake` of another package; its folder is the answer."""
    info = tmp_path / "mistake-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mistake\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[az.games]\nmistake = mistake:GAME\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return lambda text: (tmp_path / "mistake.py").write_text(text)


def made(old: str, new: str) -> str:
    assert old in GOOD, old
    return GOOD.replace(old, new, 1).replace("\nLINES", "\nSTONES = [0]\nLINES" if "STONES" in new else "\nLINES", 1)


def check_told(answer: Answer, names: str) -> None:
    """Exit 1 and one line that says what is wrong."""
    assert (answer.code, answer.out.count("\n") + answer.err.count("\n")) == (1, 1), answer
    assert re.search("|".join(map(re.escape, names.split("|"))), answer.out + answer.err), answer
    assert "Traceback" not in answer.out + answer.err


def test_check_as_json_says_which_law_is_broken(shelf):
    """Exit 1: the answer is no."""
    shelf(made('return "".join(stones[', 'return "1" + "".join(stones['))
    answer = run_az("check", "mistake", "--games", "3", "--json")
    assert (answer.code, answer.err) == (1, "")
    assert "position-text" in json.loads(answer.out)["broken"][0]


def test_every_command_refuses_it_in_one_sentence_and_the_other_games_are_listed(shelf, tmp_path):
    """A real process each: the game is tried before it is used."""
    folder = shelf(made("state_size=10", "state_size=9")) and tmp_path
    (tmp_path / "work").mkdir()
    requests = (
        "train mistake", "play mistake", "perft mistake 2", "arena random random --game mistake",
        "bench mistake", "play mistake --model tictactoe",
    )  # fmt: skip

    def ask(request: str) -> Answer:
        return start_az(*request.split(), cwd=tmp_path / "work", env={"PYTHONPATH": str(folder)})

    with ThreadPoolExecutor(2) as pool:
        for answer in pool.map(ask, requests):
            check_told(answer, "the game 'mistake' cannot be used: mistake breaks 'bounds'")
    assert not list((tmp_path / "work").iterdir())
    found = json.loads(ask("games --json").out)
    assert "tictactoe" in [row["game"] for row in found["games"]]
    assert [row["game"] for row in found["broken"]] == ["mistake"]


def test_a_rule_that_cannot_be_compiled_stops_training_before_there_is_a_folder(shelf, tmp_path, monkeypatch):
    shelf(made("@helper\n", ""))
    monkeypatch.chdir(tmp_path)
    check_told(start_az("train", "mistake", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}), "has no @helper above it")
    assert not (tmp_path / "runs").exists()


def test_a_file_of_our_own_folder_must_give_the_game_of_its_name(tmp_path, monkeypatch):
    (tmp_path / "breakthrough5.py").write_text(GOOD.replace('"mistake"', '"bt"'))
    monkeypatch.setattr(az.engine.games, "__path__", [*az.engine.games.__path__, str(tmp_path)])
    with pytest.raises(Refused, match=r"it calls itself 'bt': write name=\"breakthrough5\""):
        import_game("breakthrough5")


def test_a_package_that_ends_the_process_does_not_end_ours(tmp_path, monkeypatch):
    """`end.game:GAME`: to look for the sources of `end.game`, Python would run `end`."""
    info = tmp_path / "end-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: end\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[az.games]\nmistake = end.game:GAME\n")
    (tmp_path / "end").mkdir()
    (tmp_path / "end" / "__init__.py").write_text("import os; os._exit(0)\n")
    (tmp_path / "end" / "game.py").write_text(GOOD)
    answer = start_az("perft", "mistake", "2", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    check_told(answer, "exit code 0) while its file was loaded")
    other = start_az("perft", "tictactoe", "2", cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert (other.code, other.out.strip()) == (0, "72")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {path.relative_to(tmp_path).as_posix() for path in _sources() if tmp_path in path.parents} == {
        "end/__init__.py", "end/game.py"
    }  # fmt: skip


def test_what_tries_a_game_ends_with_its_parent(shelf, tmp_path, monkeypatch):
    shelf(made("import numpy as np\n", "import numpy as np\nimport time; time.sleep(60)\n"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with Marked(command("check", "mistake"), tmp_path) as run:
        run.wait_for(run.others)
        assert run.left_after_kill() == []


def test_a_game_is_tried_once_by_a_process_that_has_no_folder_for_marks(shelf, monkeypatch):
    shelf(GOOD)
    monkeypatch.setattr(game_trial, "is_marked", lambda _: False)
    monkeypatch.setattr(game_trial, "mark", lambda _: None)
    tried = []
    monkeypatch.setattr(game_trial, "_run", lambda *job, **_: tried.append(job) or Trial(finished=True))
    monkeypatch.setattr(game_trial, "_tried", set())
    try_game("mistake")
    try_game("mistake")
    assert len(tried) == 1


def test_what_a_game_prints_does_not_reach_the_answer(shelf, tmp_path):
    shelf(made("import numpy as np\n", "import numpy as np\nprint('loaded')\n"))
    answer = start_az("perft", "mistake", "2", "--json", env={"PYTHONPATH": str(tmp_path)})
    assert json.loads(answer.out) == {"game": "mistake", "depth": 2, "count": 72}


@pytest.mark.parametrize(("old", "new", "names"), REFUSED)
def test_what_is_no_game_is_refused(shelf, old, new, names):
    shelf(made(old, new))
    check_told(run_az("check", "mistake", "--games", 3), names)


@pytest.mark.parametrize(("old", "new", "names"), DRAWN)
def test_a_board_that_cannot_be_drawn_is_told(shelf, old, new, names):
    shelf(made(old, new).replace("import Board, Grid", "import Board, Colors, Grid"))
    answer = run_az("check", "mistake", "--games", 20)
    assert answer.code == 1
    assert "Traceback" not in answer.out + answer.err
    assert names in answer.out, answer
    assert "breaks 'board'" in answer.out or "raised" in answer.out
    assert all(re.fullmatch(r"mistake [^\n]{10,600}\.", line) for line in answer.out.splitlines()), answer


def test_play_refuses_a_board_that_it_cannot_draw(shelf):
    shelf(made('"-XO"[stone]', '"-XQ"[stone]'))
    check_told(run_az("play", "mistake", stdin="5\nquit\n"), "cannot be used: mistake breaks 'board'")


@pytest.mark.parametrize(("old", "new", "names"), [*BROKEN, *COMPILED])
def test_a_law_that_is_broken_is_told(shelf, old, new, names):
    shelf(made(old, new))
    answer = run_az("check", "mistake", "--games", 20)
    assert answer.code == 1
    assert "Traceback" not in answer.out + answer.err
    assert re.search("|".join(map(re.escape, names.split("|"))), answer.out), answer
    assert all(re.fullmatch(r"(mistake|the rule) [^\n]{10,600}\.", line) for line in answer.out.splitlines()), answer
