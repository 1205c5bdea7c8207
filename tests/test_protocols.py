"""HUB, NBoard and GTP line by line: what is asked, what is answered, bad input, a search that is stopped, leaving."""

from __future__ import annotations

import io
import os
import queue
import random
import re
import signal
import subprocess
import sys
import threading

import pytest
from command_line import run_az, start_az

from az.engine.game import load_game
from az.engine.protocols.brain import Brain, Limit
from az.engine.protocols.gtp import Gtp
from az.engine.protocols.hub_moves import FRAMES, PYDRAUGHTS, STANDARD, find_frame, hub_move, parse_hub, parse_hub_move

WAIT = 240  # seconds: the first search of a machine compiles
START = "W" + "b" * 12 + "e" * 8 + "w" * 12
OTHELLO_START = "BO[8 ---------------------------O*------*O--------------------------- *]"


class Talk:
    """A process that speaks a protocol."""

    def __init__(self, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "az.cli", *args], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdin is not None
        self.stdin, self.lines = self.process.stdin, queue.Queue[str | None]()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def say(self, *lines: str) -> None:
        self.stdin.write("".join(line + "\n" for line in lines))
        self.stdin.flush()

    def until(self, pattern: str) -> list[str]:
        """The lines up to the first that begins so."""
        found = list[str]()
        while True:
            line = self.lines.get(timeout=WAIT)
            assert line is not None, (found, self.process.stderr and self.process.stderr.read())
            found.append(line)
            if re.match(pattern, line):
                return found

    def leave(self) -> tuple[int, str]:
        """Exit code and what was written to stderr."""
        code = self.process.wait(timeout=WAIT)
        assert self.process.stderr is not None
        return code, self.process.stderr.read()


@pytest.fixture
def talk():
    talks = list[Talk]()

    def begin(*args: str) -> Talk:
        talks.append(Talk(*args))
        return talks[-1]

    yield begin
    for one in talks:
        one.process.kill()
        one.process.wait(timeout=60)


# HUB.


def test_hub_from_the_first_line_to_quit(talk):
    engine = talk("hub", "--sims", "30")
    engine.say("hub")
    told = engine.until("wait")
    assert told[0].startswith('id name="az checkers" version=')
    assert 'param name=variant value=english type=enum values="english"' in told
    engine.say("set-param name=variant value=english", "init")
    assert engine.until("ready") == ["ready"]
    engine.say(f'pos pos={START} moves="11-15 22-18 15x22x18"', "level depth=5", "go think", "nonsense a=b", "ping")
    told = engine.until("done")
    done = told[-1]
    assert re.match(r"done move=25x18x22|done move=26x17x22", done)  # two men may take the man on 22
    infos = [line for line in told if line.startswith("info")]
    assert infos
    for line in infos:
        assert re.fullmatch(
            r'info depth=\d+ score=-?\d+\.\d\d nodes=\d+ time=\d+\.\d{3} nps=\d+\.\d{6} pv="[\dx -]+"', line
        )
    engine.say("quit")
    assert engine.leave() == (0, "")


def test_hub_a_search_without_end_is_stopped_and_pondering_becomes_thinking(talk):
    engine = talk("hub")
    engine.say("init", f"pos pos={START}", "level infinite", "go analyze")
    engine.until("info")
    engine.say("ping")
    engine.until("pong")
    engine.say("stop")
    assert re.match(r"done move=\d+-\d+ ponder=\d+-\d+", engine.until("done")[-1])
    engine.say("level move-time=0.2", "go ponder")
    engine.until("info")
    engine.say("ponder-hit")
    engine.until("done")
    engine.say("level infinite", "go think")
    engine.until("info")
    engine.stdin.close()  # the client has crashed
    assert engine.leave() == (0, "")


HUB_WRONG = [
    ("pos pos=X", "32 signs"),
    (f"pos pos={START[:-1]}", "32 signs"),
    (f'pos pos={START} moves="11-15 11-15"', "move 2"),
    (f'pos pos={START} moves="a"', "move 1"),
    ("level depth=x", "must be a number"),
    ("set-param name=variant value=frisian", "english"),
    ("set-param name=skill value=11", "levels"),
    ("set-param name=board value=x", "auto"),
    ("pos pos=Wwwweeeeeeeeeeeeeeeeeeeeeeeeeeeeee", "32 signs"),
    ("pos pos=W" + "w" * 4 + "e" * 24 + "b" * 4, "last row"),
]


@pytest.mark.parametrize(("line", "says"), HUB_WRONG, ids=[line[:40] for line, _ in HUB_WRONG])
def test_hub_what_is_wrong_is_an_error_and_a_search_still_answers(line, says):
    answer = run_az("hub", "--model", "random", stdin=f"{line}\ngo think\nquit\n")
    assert answer.code == 0
    errors = [found for found in answer.out.splitlines() if found.startswith('error message="')]
    assert says in errors[0]
    assert answer.out.splitlines()[-1].startswith("done move=")


def test_hub_moves_and_positions_are_read_as_they_are_written_in_every_frame():
    rules, draw = load_game("checkers"), random.Random(3)
    for frame in FRAMES:
        for _ in range(4):
            state = rules.new_state()
            for _ in range(60):
                legal = rules.moves(state)
                if not legal:
                    break
                for text in legal:
                    back = parse_hub_move(rules, state, hub_move(rules, state, text, frame), frame)
                    assert (rules.play(state, legal[back]) == rules.play(state, legal[text])).all()
                state = rules.play(state, legal[draw.choice(list(legal))])
    assert rules.position_text(parse_hub(rules, START, PYDRAUGHTS)) == rules.position_text(rules.new_state())


def test_hub_finds_out_how_a_client_sees_the_board():
    rules = load_game("checkers")
    assert find_frame(rules, START, [], STANDARD)[1] == PYDRAUGHTS
    assert find_frame(rules, START, ["11-15", "23-19"], STANDARD)[1] == PYDRAUGHTS
    assert find_frame(rules, "B" + START[1:], ["11-15"], STANDARD)[1] == STANDARD
    state, frame = find_frame(rules, "W" + START[1:], ["22-18", "10-14"], PYDRAUGHTS)
    assert frame.turned_moves is False  # White's own moves, from where White stands: the board as az has it
    assert rules.position_text(state)[0] == "W"


# NBoard.


def test_nboard_as_its_page_tells_it(talk):
    engine = talk("nboard", "--model", "rollouts:10")
    engine.say(
        "nboard 2", f"set game (;GM[Othello]PC[NBoard]TY[8]{OTHELLO_START}B[F5]W[F6]B[D3]W[C5]B[E6]W[F7]B[E7]W[F4];)"
    )
    engine.say("set depth 6", "set contempt 0", "ping 1")
    assert engine.until("pong")[-1] == "pong 1"
    engine.say("go")
    found = engine.until("===")[-1]
    assert re.fullmatch(r"=== [A-H][1-8]/-?[\d.]*/[\d.]+", found)
    assert engine.until("status") == ["status"]
    engine.say(f"move {found.split()[1]}", "hint 2")
    told = engine.until("nodestats")
    assert re.fullmatch(r"search [A-H][1-8] 0\.00 0 1 0 simulations", told[-2])
    engine.say("learn", "quit")
    assert engine.until("learned")[-1] == "learned"
    assert engine.leave() == (0, "")


def test_nboard_with_a_network_hints_analyzes_and_stops(talk):
    engine = talk("nboard", "--model", "othello6")
    engine.say("nboard 1", "set depth 4", "hint 3")
    told = engine.until("status$")
    searches = [line.split() for line in told if line.startswith("search")]
    for _, line, value, zero, depth, *_ in searches:
        assert re.fullmatch(r"(?:[A-F][1-6]|PA)(?:-(?:[A-F][1-6]|PA))*", line)
        assert -36 <= float(value) <= 36
        assert (zero, depth.rstrip("%W").isdigit()) == ("0", True)
    assert len({line.split("-")[0] for _, line, *_ in searches[-3:]}) == 3
    engine.say("move " + searches[-1][1].split("-")[0], "analyze")
    told = [line for line in engine.until("status$") if line.startswith("analysis")]
    assert [line.split()[1] for line in told] == ["1", "0"]
    engine.say("set depth 60", "go", "ping 7")  # stops the search, whose move is told before
    told = engine.until("pong 7")
    assert any(line.startswith("===") for line in told)
    engine.say("quit")
    assert engine.leave() == (0, "")


def test_nboard_tells_what_is_wrong_as_its_status():
    lines = [
        "set game (;GM[Othello]B[F5",
        "set game (;GM[Othello]BO[6 x *];)",
        "move A1",
        "hint x",
        "set depth x",
        "xyzzy",
    ]
    answer = run_az("nboard", "--model", "random", stdin="\n".join([*lines, "ping 1"]) + "\n")
    assert answer.code == 0
    assert [line.partition(" ")[0] for line in answer.out.splitlines()] == ["status"] * 5 + ["pong"]


# GTP.


def gtp(*lines: str, game: str = "connect4", model: str = "random") -> list[str]:
    """The answers, without the empty lines between them."""
    answer = run_az("gtp", game, "--model", model, stdin="\n".join(lines) + "\n")
    assert answer.code == 0
    assert answer.out.endswith("\n\n")
    return answer.out[:-2].split("\n\n")


def test_gtp_framing_ids_comments_and_errors():
    told = gtp(
        "1 protocol_version", "  # only a comment", "", "name # az", "7 foo", "known_command play", "foo", "9 quit"
    )
    assert told == ["=1 2", "= az", "?7 unknown command", "= true", "? unknown command", "=9"]
    told = gtp(
        "list_commands\r", "play\tb\t4", "play b 4", "play w 99", "play x 1", "undo", "undo", "boardsize 19", "komi x"
    )
    assert {"genmove", "play", "quit", "showboard", "time_left"} <= set(told[0].removeprefix("= ").splitlines())
    assert told[1] == "="
    assert [line[:16] for line in told[2:5]] == ["? illegal move: ", "? illegal move: ", "? syntax error: "]
    assert told[5:7] == ["=", "? cannot undo"]
    assert told[7] == "? unacceptable size"
    assert told[8].startswith("? syntax error")


def test_gtp_a_game_to_its_end():
    moves = [f"play {'bw'[k % 2]} {column}" for k, column in enumerate("121212")]
    last = ["play b 1", "final_score", "genmove w", "showboard", "az-position", "clear_board"]
    told = gtp(*moves, "final_score", *last, "az-position 4453", "az-to_move")
    assert told[6] == "? cannot score: the game is not over"
    assert told[7:10] == ["=", "= B+1", "? illegal move: the game is over"]
    assert told[10].startswith("=\n. . .")
    assert told[11:] == ["= 1212121", "=", "= 4453", "= black"]
    moves = [
        line.removeprefix("= ")
        for line in gtp("genmove b", "genmove w", "reg_genmove b", "az-legal_moves", game="othello")
    ]
    assert re.fullmatch("[a-h][1-8]", moves[0])
    assert moves[2] in moves[3].split()


def test_gtp_times_and_analysis(talk):
    engine = talk("gtp", "tictactoe", "--sims", "20")
    engine.say("time_settings 0 1 1", "time_left b 1 1", "genmove b")
    assert re.match(r"= [1-9]", engine.until(r"= \d")[-1])
    engine.say("3 lz-analyze 1")
    told = engine.until("info")
    assert "=3" in told
    assert re.match(r"info move \d visits \d+ winrate \d+ prior \d+ order 0 pv \d", told[-1])
    engine.say("4 name")
    engine.until("=4 az")
    engine.stdin.close()
    assert engine.leave() == (0, "")


def test_gtp_answers_what_was_asked_before_the_input_ended():
    answer = start_az("gtp", "tictactoe", stdin="genmove b", timeout=WAIT)
    assert re.fullmatch(r"= [1-9]\n\n", answer.out)
    assert (answer.code, answer.err) == (0, "")


# All of them.

SPEAKERS = {"hub": ("hub", "--model", "random"), "nboard": ("nboard", "--model", "random"), "gtp": ("gtp", "checkers")}


@pytest.mark.parametrize("name", SPEAKERS)
def test_random_bytes_are_no_traceback(name):
    draw = random.Random(name)
    words = "go hint play pos pos= level = b move set game (;GM[Othello] ;) 99 -1 1e9 F5 11-15 moves= # é undo ping"
    words = [*words.split(), '"', "\0", "\t", "az-position", "set-param", "name="]
    lines = [" ".join(draw.choices(words, k=draw.randint(0, 5))) for _ in range(300)] + ["x" * 3_000_000]
    answer = run_az(
        SPEAKERS[name][0],
        *SPEAKERS[name][1:],
        *(["--model", "random"] if name == "gtp" else []),
        stdin="\n".join(lines),
    )
    assert answer.code == 0
    assert answer.err == ""


@pytest.mark.skipif(os.name == "nt", reason="signals")
@pytest.mark.parametrize("name", SPEAKERS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it(talk, name, number):
    engine = talk(*SPEAKERS[name])
    engine.say({"hub": "ping", "nboard": "ping 1", "gtp": "name"}[name])
    engine.until("pong|= az")
    engine.process.send_signal(number)
    code, complaint = engine.leave()
    assert code == 128 + number
    assert complaint == "az: stopped.\n"


@pytest.mark.skipif(os.name == "nt", reason="pipes")
@pytest.mark.parametrize("name", SPEAKERS)
def test_a_reader_that_has_gone_ends_it(talk, name):
    engine = talk(*SPEAKERS[name])
    line = {"hub": "ping", "nboard": "ping 1", "gtp": "name"}[name]
    engine.say(line)
    engine.until("pong|= az")
    shell = subprocess.run(
        ["sh", "-c", f'(while echo "{line}"; do sleep 0.2; done) 2>/dev/null | "$@" | head -n 1', "sh",
         sys.executable, "-m", "az.cli", *SPEAKERS[name]],
        capture_output=True, text=True, timeout=WAIT, check=False,
    )  # fmt: skip
    assert shell.stderr == ""


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("gtp",), "name the game"),
        (("gtp", "nosuch"), "nosuch"),
        (("hub", "--model", "connect4"), "HUB is for checkers"),
        (("nboard", "--model", "checkers"), "NBoard is for Othello"),
        (("gtp", "connect4", "--sims", "-1"), "--sims"),
        (("gtp", "connect4", "--sims", "1", "--seconds", "1"), "exclude each other"),
        (("gtp", "connect4", "--seconds", "nan"), "--seconds"),
        (("gtp", "connect4", "--level", "11"), "levels go from"),
        (("hub", "--model", "random", "--level", "3"), "only models"),
    ],
)
def test_wrong_options_are_one_sentence(args, says):
    answer = run_az(*args)
    assert (answer.code, answer.out) == (2, "")
    assert says in answer.err
    assert answer.err.count("\n") == 1


class BrokenOffError(Exception):
    """What the signal of the next test raises."""


def broken_off(_number: int, _frame: object) -> None:
    raise BrokenOffError


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that send signals on this system")
def test_a_wait_that_a_signal_breaks_off_still_knows_that_the_search_runs():
    """Else the program ends under a running thread, and Python aborts: `Thread.join` forgets it before Python 3.13."""
    brain, release = Brain(load_game("tictactoe"), "random"), threading.Event()
    speaker = Gtp(brain, io.BytesIO(), io.StringIO(), Limit(1))

    def held() -> None:
        release.wait(WAIT)

    before = signal.signal(signal.SIGALRM, broken_off)
    try:
        speaker.work(held)
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(BrokenOffError):
            speaker.wait()
        assert speaker.thinking
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        release.set()
    speaker.wait()
    assert not speaker.thinking
