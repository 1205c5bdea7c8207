"""The local server: what it answers, whom it refuses, that nothing makes it trip, hang or lose a game."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import ROOT, run_az, start_az
from web_server import LONGEST, Server, web_server

pytest.importorskip("starlette", reason="the extra `web` is not installed")
from az.engine.web import start

STATIC = ROOT / "engine" / "web" / "static"
GAMES = ("tictactoe", "connect4", "othello6", "othello", "checkers", "gomoku", "gomoku9", "hex")
HOSTILE = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with web_server("web", "tictactoe", "--no-browser") as found:
        yield found


def asked(**more: Any) -> dict[str, Any]:
    return {"game": "tictactoe", "model": "tictactoe", "moves": [], "page": "p", **more}


# Whom it refuses


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:80"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1.evil.example:{port}"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "https://127.0.0.1:{port}"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
    ],
    ids=str,
)
def test_requests_of_other_pages_are_refused(server, headers):
    given = {name: value.format(port=server.port) for name, value in headers.items()}
    status, answered, data = server.send("/api/begin", {}, headers=given)
    assert status == 403
    assert json.loads(data)["error"].endswith(".")
    assert "access-control-allow-origin" not in answered


def test_requests_of_its_own_pages_pass(server):
    for name in ("127.0.0.1", "localhost", "[::1]"):
        host = f"{name}:{server.port}"
        own = {"Host": host, "Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"}
        assert server.send("/api/begin", {}, headers=own)[0] == 200


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"])
def test_no_other_method_passes(server, method):
    assert server.send("/api/begin", b"", method=method)[0] == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/static/board_page.js", 200), ("/api/none", 404), ("/none", 404), ("/static/none.js", 404)],
)
def test_every_answer_has_the_strict_policy(server, path, status):
    found, headers, _ = server.send(path, method="GET")
    assert found == status
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    assert (headers["x-content-type-options"], headers["x-frame-options"]) == ("nosniff", "DENY")


@pytest.mark.parametrize("path", ["/static/../server.py", "/static/%2e%2e/server.py", "/static//etc/passwd", "/..%2f"])
def test_no_file_but_its_own_is_served(server, path):
    status, _, data = server.send(path, method="GET")
    assert status == 404
    assert b"import" not in data
    assert b"root:" not in data


def test_it_listens_on_the_local_address_alone(server):
    psutil = pytest.importorskip("psutil")
    bound = [found.laddr for found in psutil.Process(server.process.pid).net_connections() if found.status == "LISTEN"]
    assert [tuple(address) for address in bound] == [("127.0.0.1", server.port)]


# The files


def test_pages_hold_no_inline_script_or_style_and_name_no_other_host():
    pages = sorted(STATIC.glob("*.html"))
    assert pages
    for path in [*pages, *STATIC.glob("*.js"), *STATIC.glob("*.css"), *STATIC.glob("*.svg")]:
        text = path.read_text("utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text, path
        assert "https://" not in text, path
        assert "@import" not in text, path
    for path in pages:
        text = path.read_text("utf-8")
        assert text.count("<script") == text.count('<script type="module" src="/static/'), path
        for inline in ("<style", " style=", " onclick=", " onload=", "javascript:"):
            assert inline not in text, path


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.js")), ids=lambda path: path.name)
def test_no_text_becomes_html_or_code(path: Path):
    text = path.read_text("utf-8")
    for name in (
        "innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser",
        "createContextualFragment", "setAttribute(\"style\"", "srcdoc",
    ):  # fmt: skip
        assert name not in text
    assert len(text.splitlines()) <= 400


# Positions


@pytest.mark.parametrize("game", GAMES)
def test_a_game_is_played_to_its_end_by_its_squares(server, game):
    facts = server.ask("/api/game", {"game": game})
    assert len(facts["players"]) == 2
    position, moves = server.ask("/api/position", {"game": game}), list[str]()
    assert position["text"] == facts["start"]
    while not position["over"] and len(moves) < 60:
        for move in position["legal"]:
            assert all(position["cells"][row][column] is not None for row, column in move["cells"])
        moves.append(position["legal"][len(moves) % len(position["legal"])]["text"])
        position = server.ask("/api/position", {"game": game, "moves": moves})
        assert position["moves"] == moves
    if position["over"]:
        assert position["ending"].endswith(".")
        assert position["legal"] == []


def test_the_winning_line_is_marked(server):
    position = server.ask("/api/position", {"game": "tictactoe", "moves": ["1", "4", "2", "5", "3"]})
    assert position["won"] == [[0, 0], [0, 1], [0, 2]]
    assert (position["winner"], position["last"]) == (0, [[0, 2]])


def test_a_jump_has_every_square_that_it_touches(server):
    position = server.ask("/api/position", {"game": "checkers", "start": "B:W15,23:B11"})
    assert [move["text"] for move in position["legal"]] == ["11x18x27"]
    assert len(position["legal"][0]["cells"]) == 3


def test_moves_are_taken_as_people_write_them(server):
    assert server.ask("/api/position", {"game": "checkers", "moves": ["11X15".lower().replace("x", "-")]})["moves"]
    assert server.ask("/api/position", {"game": "othello6", "moves": [" C2 "]})["moves"] == ["c2"]


def test_a_game_without_a_board_is_its_text_and_its_moves():
    from dataclasses import replace

    from az.engine.game import load_game
    from az.engine.web.position import facts_of, follow, position_of

    bare = replace(load_game("tictactoe"), board=None)
    assert facts_of(bare)["board"] is None
    position = position_of(follow(bare, None, ["5"]))
    assert position["render"].splitlines()[1] == "4 X 6"
    assert [move["cells"] for move in position["legal"]] == [[]] * 8


@pytest.mark.parametrize(
    "body",
    [
        [], "x", 3, None, {"game": 5}, {"game": HOSTILE}, {"game": "tictactoe", "moves": "123"}, {"game": "../x"},
        {"game": "tictactoe", "moves": [1]}, {"game": "tictactoe", "moves": [HOSTILE]},
        {"game": "tictactoe", "start": 3},
        {"game": "tictactoe", "start": "1" * 5000}, {"game": "tictactoe", "moves": ["1"] * 30_000}, {},
        {"game": "checkers", "start": HOSTILE}, {"game": "tictactoe", "moves": ["5", "5"]}, {"game": "tic\0"},
    ],
    ids=lambda body: json.dumps(body)[:50],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/position", "/api/move", "/api/review", "/api/text"])
def test_a_wrong_request_is_a_sentence(server, path, body):
    said = server.fault(path, body)
    assert said.endswith((".", "?"))
    assert "\n" not in said
    assert len(said) < 1100


@pytest.mark.parametrize("data", [b"{", b"\xff\xfe", b"[" * 100_000, b"NaN", b'{"game": 1e999}', b"x" * (2 << 20)])
def test_what_is_not_json_is_a_sentence(server, data):
    assert "." in server.fault("/api/position", data)


@pytest.mark.parametrize(
    "more",
    [
        {"level": 0}, {"level": 11}, {"level": "3"}, {"level": True}, {"simulations": -1}, {"simulations": 10**9},
        {"simulations": 1.5}, {"seconds": 0}, {"seconds": -1}, {"seconds": "1"}, {"seconds": 1e9}, {"seed": -1},
        {"page": None}, {"page": "x" * 100}, {"model": "/etc/passwd"}, {"model": HOSTILE}, {"model": "connect4"},
        {"model": "../tictactoe"}, {"moves": ["1", "4", "2", "5", "3"]},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_demand_is_a_sentence(server, more):
    assert server.fault("/api/move", asked(**more)).endswith((".", "?"))


# Thinking


def test_an_engine_answers_with_its_move_and_what_it_thinks(server):
    answer = server.stream("/api/move", asked(moves=["5"], simulations=200))[-1]
    assert answer["done"]
    assert answer["best"] in "1379"  # the corners hold the draw
    shares, priors = ([move[name] for move in answer["moves"]] for name in ("share", "prior"))
    assert abs(sum(shares) - 1) < 1e-6
    assert abs(sum(priors) - 1) < 1e-6
    assert answer["moves"][0]["text"] == answer["moves"][0]["line"][0] == answer["best"]
    assert -1 <= answer["network"] <= 1


def test_an_analysis_goes_deeper_where_it_was(server):
    first = server.stream("/api/analyze", asked(game="connect4", model="connect4", visits=300))[-1]
    deeper = server.stream("/api/analyze", asked(game="connect4", model="connect4", visits=900))
    assert first["visits"] >= 300
    assert deeper[0]["visits"] > 300  # the tree of the page was kept
    assert deeper[-1]["visits"] >= 900


def test_a_level_plays_the_same_move_for_the_same_seed(server):
    best = [server.stream("/api/move", asked(level=2, seed=seed))[-1]["best"] for seed in (*range(8), *range(8))]
    assert best[:8] == best[8:]
    assert len(set(best)) > 1


@pytest.mark.parametrize("player", ["random", "rollouts:400"])
def test_a_player_without_a_network_moves_and_has_no_opinion(server, player):
    answer = server.stream("/api/move", asked(model=player, moves=["1", "4", "2", "5"]))[-1]
    assert answer["value"] is None
    if player != "random":
        assert answer["best"] == "3"
    refused = server.stream("/api/analyze", asked(model=player, visits=10))
    assert "no network" in refused[0]["error"]


def test_a_review_says_what_each_wrong_move_cost(server):
    moves = ["5", "2", "1", "3", "9"]  # 2 loses a drawn game; 3 does not save it
    answers = server.stream("/api/review", asked(moves=moves, simulations=100))
    rows = [row for answer in answers for row in answer["rows"]]
    assert [row["ply"] for row in rows] == [0, 1, 2, 3, 4, 5]
    assert rows[1]["mark"] == "blunder"
    assert rows[1]["cost"] > 0.4
    assert rows[0]["mark"] is None
    assert rows[5]["value"] == 1.0
    first, second = answers[-1]["summary"]["players"]
    assert (first["moves"], second["moves"], second["blunder"]) == (3, 2, 1)
    assert answers[-1]["summary"]["worst"] == 1


def test_ten_pages_move_while_nine_analyze(server):
    body = asked(game="connect4", model="connect4")
    opened = [server.open("/api/analyze", {**body, "visits": 500_000, "page": f"p{page}"}) for page in range(9)]
    found = list[str]()

    def play(page: int) -> None:
        found.append(server.stream("/api/move", {**body, "simulations": 100, "page": f"m{page}"})[-1]["best"])

    threads = [threading.Thread(target=play, args=(page,), daemon=True) for page in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LONGEST)
    assert len(found) == 10
    for connection, answer in opened:
        answer.close()
        connection.close()


# The process


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("web", "--port", "70000"), "--port is 70000"),
        (("web", "nosuchmodel"), "there is no model 'nosuchmodel'"),
        (("web", "tests"), "holds no published model"),
        (("play", "--web", "nosuchgame"), "there is no game 'nosuchgame'"),
        (("play", "--web", "--sims", "10000000"), "--sims is 10000000"),
        (("play", "--web", "--seconds", "-1"), "--seconds is -1"),
        (("play", "--web", "--level", "3", "--sims", "4"), "--level says how long"),
        (("play", "checkers", "--web", "--model", "tictactoe"), "tictactoe"),
        (("play", "tictactoe", "--web", "--position", "55"), "move 2"),
    ],
)
def test_a_wrong_option_is_a_sentence(words, said, monkeypatch):
    monkeypatch.setattr(start, "serve", lambda *_, **__: pytest.fail("it is served"))  # for ever
    answer = run_az(*words)
    assert answer.code in (1, 2)
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = start_az("web", "--no-browser", "--port", port)
    assert answer.code == 2
    assert f"port {port} cannot be used" in answer.err


def test_without_the_extra_one_sentence_says_how_to_get_it(tmp_path):
    blocker = "import sys\nclass No:\n    def find_spec(self, name, path=None, target=None):\n"
    blocker += "        if name.partition('.')[0] in ('starlette', 'uvicorn'):\n"
    blocker += "            raise ModuleNotFoundError(name, name=name)\nsys.meta_path.insert(0, No())\n"
    (tmp_path / "sitecustomize.py").write_text(blocker)
    answer = start_az("web", env={"PYTHONPATH": str(tmp_path)})
    assert answer.code == 2
    assert answer.err.count("\n") == 1
    assert "pip install '.[web]'" in answer.err
