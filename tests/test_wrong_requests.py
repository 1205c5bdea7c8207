"""A wrong request or a broken file: exit 2 or 1, one sentence that names the culprit, and nothing left behind."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import Answer, run_az, start_az
from filelock import FileLock
from make_models import make_run, small_config, write_model
from onnx import numpy_helper

from az.engine.inference.onnx_reader import OPEN_SEAL, SEAL
from az.export.onnx_file import sealed

START = "B:W21,22,23,24:B1,2,3,4"
TTT = "tictactoe.onnx"


@pytest.fixture(scope="session")
def stock(tmp_path_factory):
    """Good and broken files, made once."""
    folder = tmp_path_factory.mktemp("stock")
    good = write_model(folder / TTT, "tictactoe").read_bytes()
    write_model(folder / "connect4.onnx", "connect4")
    (folder / "text.onnx").write_text("this is a text\n")
    (folder / "notes.txt").write_text("this is a text\n")
    (folder / "empty.onnx").write_bytes(b"")
    (folder / "cut.onnx").write_bytes(good[: len(good) // 2])
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    (folder / "flipped.onnx").write_bytes(flipped)
    model = onnx.load_model_from_string(good)
    (folder / "foreign.onnx").write_bytes(onnx.helper.make_model(model.graph).SerializeToString())
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "blocks.0.conv1.weight")
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(np.nan), weight.name))
    old = {entry.key: entry.value for entry in model.metadata_props}
    (folder / "nan.onnx").write_bytes(sealed(model, {**old, SEAL: OPEN_SEAL}))
    (folder / "folder.onnx").mkdir()
    (folder / "records").mkdir()
    (folder / "records" / "games-000000000-000000099.npz").write_bytes(b"")
    runs = folder / "runs"
    make_run(runs / "done")
    for name, text in (
        ("garbage", b"this is = = no toml\n"),
        ("unknown", b'game = "tictactoe"\n[learner]\nbach = 3\n'),
        ("binary", bytes(range(128, 256))),
        ("mistyped", b'game = "tictactoe"\n[learner]\nbatch = "many"\n'),
        ("elsewhere", b'game = "atlantis"\n'),
    ):
        (runs / name).mkdir()
        (runs / name / "config.toml").write_bytes(text)
    return folder


@pytest.fixture
def place(stock, tmp_path, monkeypatch):
    """A copy of the stock to work in."""
    shutil.copytree(stock, tmp_path / "place")
    monkeypatch.chdir(tmp_path / "place")
    return tmp_path / "place"


def tree(folder: Path) -> set[str]:
    """Everything below a folder, but for the lock files that stay in runs."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.name != "lock"}


def check_sentence(answer: Answer, code: int, names: str) -> None:
    """One line that ends like a sentence and names the culprit; nothing on stdout."""
    assert answer.code == code, answer
    assert answer.out == ""
    assert re.fullmatch(r"az: \S[^\n]*[.?]\n", answer.err), answer.err
    assert names in answer.err
    assert "Traceback" not in answer.err
    assert not re.search(r"\bNone\b|\b[A-Z][A-Za-z]+Error\b", answer.err), "words of the program, not of people"


WRONG = [  # the request; what the sentence names; exit 2
    ("nosuch", "'nosuch'"),
    ("gamess", "did you mean 'games'?"),
    ("--nosuch", "--nosuch"),
    ("games extra", "extra"),
    ("games --jsn", "did you mean|--json"),
    ("check", "'game'"),
    ("check conect4", "did you mean connect4?"),
    ("check connect4 --games 0", "--games is 0"),
    ("check connect4 --games many", "'many' is not a whole number"),
    ("check connect4 --seed -1", "--seed is -1"),
    ("perft", "'game'"),
    ("perft connect4", "'depth'"),
    ("perft connect4 x", "'x' is not a whole number"),
    ("perft connect4 2.5", "'2.5' is not a whole number"),
    ("perft connect4 -- -1", "depth is -1"),
    ("perft connect4 -1", "-1"),
    ("perft connect4 101", "depth is 101"),
    ("perft connect4 2 --position 9", "'9'"),
    ("perft connect4 2 --position 4444444", "'4444444'"),
    ("perft tictactoe 2 --position 11", "'11'"),
    ("perft othello 2 --position hello", "'hello'"),
    ("perft othello6 2 --position XO", "'XO'"),
    ("perft checkers 2 --position B:W1:B1", "square 1"),
    ("perft checkers 2 --position zzz", "'zzz'"),
    ("train", "'game'"),
    ("train conect4", "did you mean connect4?"),
    ("train connect4 --preset quik", "did you mean quick?"),
    ("train connect4 --minutes 1 --steps 2", "exclude each other"),
    ("train connect4 --minutes -1", "--minutes is -1"),
    ("train connect4 --minutes nan", "--minutes is nan"),
    ("train connect4 --minutes inf", "minutes is inf"),
    ("train connect4 --minutes soon", "'soon' is not a number"),
    ("train connect4 --steps 0", "--steps is 0"),
    ("train connect4 --seed -1", "seed is -1"),
    ("train connect4 --deterministic --minutes 1", "use --steps"),
    ("train connect4 --set learner.batch", "KEY=VALUE"),
    ("train connect4 --set learner.bach=3", "did you mean learner.batch"),
    ("train connect4 --set net=3", "it is a section"),
    ("train connect4 --set learner.batch=many", "'many'"),
    ("train connect4 --set learner.batch=1", "learner.batch is 1"),
    ("train connect4 --set learner.learning_rate=nan", "learning_rate is nan"),
    ("train connect4 --set device=tpu", "'tpu'"),
    ("train connect4 --set game=checkers", "az train GAME"),
    ("train connect4 --set preset=seed", "--preset"),
    ("train connect4 --set selfplay.fast_simulations=9999", "must not be above"),
    ("train tictactoe --steps 1 --set arena.opponent=rolouts:3", "'rolouts:3'"),
    ("train connect4 --run a/b", "'a/b'"),
    ("train connect4 --run ../b", "'../b'"),
    ("train connect4 --run ''", "''"),
    ("train connect4 --run done", "az resume done"),
    ("resume", "'run'"),
    ("resume nowhere", "the runs are"),
    ("resume a/b", "'a/b'"),
    ("resume done --minutes 1 --steps 2", "exclude each other"),
    ("resume done --steps -2", "--steps is -2"),
    ("selfplay", "'model'"),
    (f"selfplay {TTT} --games 2", "--out"),
    ("selfplay nowhere.onnx --games 2 --out o", "nowhere.onnx"),
    (f"selfplay {TTT} --games 0 --out o", "--games is 0"),
    (f"selfplay {TTT} --games 2 --out o --threads 0", "--threads is 0"),
    (f"selfplay {TTT} --games 2 --out o --threads 100000", "--threads is 100000"),
    (f"selfplay {TTT} --games 2 --out o --batch 0", "--batch is 0"),
    (f"selfplay {TTT} --games 2 --out o --sims -1", "--sims is -1"),
    (f"selfplay {TTT} --games 2 --out o --seed -1", "--seed is -1"),
    (f"selfplay {TTT} --games 2 --out o --set temperatur=1", "did you mean temperature"),
    (f"selfplay {TTT} --games 2 --out o --set temperature=nan", "temperature is nan"),
    (f"selfplay {TTT} --games 2 --out o --set algorithm=best", "puct or gumbel"),
    (f"selfplay {TTT} --games 2 --out records", "holds records"),
    (f"selfplay {TTT} --games 2 --out notes.txt", "is a file"),
    (f"selfplay {TTT} --games 2 --out notes.txt/below", "notes.txt/below"),
    ("export", "'checkpoint'"),
    ("export nowhere --out a.onnx", "'nowhere'"),
    (f"export {TTT} --out a.onnx", "no checkpoint"),
    ("export runs/garbage --out a.onnx", "no checkpoint"),
    ("export runs/done --out a.pt", "'a.pt'"),
    ("export runs/done --out a", "'a'"),
    ("export runs/done --out folder.onnx", "folder.onnx"),
    ("export runs/done --out notes.txt/a.onnx", "notes.txt/a.onnx"),
    ("arena random", "'b'"),
    ("arena random random", "--game"),
    ("arena random random --game conect4", "did you mean connect4?"),
    ("arena random random --game connect4 --games 0", "--games is 0"),
    ("arena random random --game connect4 --sims -1", "--sims is -1"),
    ("arena random random --game connect4 --sims-b -1", "--sims-b is -1"),
    ("arena random random --game connect4 --seed -1", "--seed is -1"),
    ("arena random random --game connect4 --sprt garbage", "'garbage'"),
    ("arena random random --game connect4 --sprt 30:0", "'30:0'"),
    ("arena random random --game connect4 --sprt nan:1", "'nan:1'"),
    ("arena random rollouts:x --game connect4", "'rollouts:x'"),
    ("arena random minimax:-1 --game connect4", "'minimax:-1'"),
    ("arena random:3 random --game connect4", "'random:3'"),
    (f"arena {TTT} nosuch", "'nosuch'"),
    ("play conect4", "did you mean connect4?"),
    ("play connect4 --model nosuch", "'nosuch'"),
    ("play connect4 --model notes.txt", "not an ONNX file"),
    ("play connect4 --sims 3 --seconds 1", "exclude each other"),
    ("play connect4 --seconds nan", "--seconds is nan"),
    ("play connect4 --sims -1", "--sims is -1"),
    ("analyze", "'model'"),
    ("analyze nosuch", "'nosuch'"),
    ("analyze runs/garbage", "no published model"),
    (f"bench connect4 --model {TTT}", "plays tictactoe, not connect4"),
    (f"play connect4 --model {TTT}", "plays tictactoe, not connect4"),
    (f"arena {TTT} connect4.onnx", "plays connect4, not tictactoe"),
    (f"arena {TTT} random --game connect4", "plays tictactoe, not connect4"),
    ("arena random random --game connect4 --sims-b 3", "--sims-b is 3"),
    ("train connect4 --set seed=5 --seed 6", "--seed and --set seed"),
    ("train connect4 --set selfplay.precision=int8 --precision fp32", "--precision and --set selfplay.precision"),
    ("resume done --set steps=5 --steps 6", "--steps and --set steps"),
    ("train connect4 --level 3", "no such option: --level"),
    ("play connect4 --model rollouts:5 --sims 3", "--sims is for models"),
    ("play connect4 --model minimax:x", "'minimax:x'"),
    ("export runs/done --out connect4.onnx", "'connect4.onnx' exists: name another file, or give --force"),
]
BROKEN = [  # the request; what the sentence names; exit 1
    ("resume garbage", "runs/garbage/config.toml"),
    ("resume unknown", "learner.bach"),
    ("resume binary", "runs/binary/config.toml"),
    ("resume mistyped", "learner.batch is 'many'"),
    ("resume elsewhere", "'atlantis'"),
    ("analyze text.onnx", "text.onnx"),
    ("analyze empty.onnx", "empty.onnx"),
    ("analyze cut.onnx", "cut.onnx"),
    ("analyze flipped.onnx", "flipped.onnx"),
    ("analyze foreign.onnx", "no az metadata"),
    ("analyze nan.onnx", "'blocks.0.conv1.weight'"),
    ("play tictactoe --model cut.onnx", "cut.onnx"),
    ("selfplay flipped.onnx --games 2 --out o", "flipped.onnx"),
]


def words(request: str) -> list[str]:
    return ["" if word == "''" else word for word in request.split()]


def test_wrong_requests(place):
    assert len(WRONG) + len(BROKEN) >= 40
    before = tree(place)
    for code, cases in ((2, WRONG), (1, BROKEN)):
        for request, names in cases:
            answer = run_az(*words(request))
            name = next((part for part in names.split("|") if part in answer.err), names)
            check_sentence(answer, code, name)
            assert tree(place) == before, request


PROCESSES = [
    (2, "nosuch", "'nosuch'"),
    (2, "train", "'game'"),
    (2, "train connect4 --set learner.bach=3", "learner.batch"),
    (2, "train connect4 --run done", "az resume done"),
    (2, "perft connect4 x", "'x'"),
    (2, "perft checkers 2 --position zzz", "'zzz'"),
    (2, "resume nowhere", "'nowhere'"),
    (1, "resume garbage", "runs/garbage/config.toml"),
    (2, "arena random random", "--game"),
    (2, "play connect4 --seconds nan", "--seconds is nan"),
    (1, "analyze cut.onnx", "cut.onnx"),
    (2, f"selfplay {TTT} --games 2 --out records", "holds records"),
    (2, "export nowhere --out a.onnx", "'nowhere'"),
]


def test_wrong_requests_of_real_processes(place):
    before = tree(place)
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda case: start_az(*words(case[1]), cwd=place), PROCESSES))
    for (code, _, names), answer in zip(PROCESSES, answers, strict=True):
        check_sentence(answer, code, names)
    assert tree(place) == before


def test_no_arguments_and_help_are_answered_with_the_help():
    for arguments in ((), ("--help",), ("train", "--help")):
        answer = run_az(*arguments)
        assert (answer.code, answer.err) == (0, "")
        assert "Usage" in answer.out


def test_a_device_that_is_not_there(place, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    check_sentence(run_az("train", "tictactoe", "--steps", "1", "--set", "device=cuda"), 2, "device is cuda")
    assert not (place / "runs" / "tictactoe-1").exists()


def test_a_run_in_use(place):
    holder = (
        "import sys; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire();"
        "print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", holder, str(place / "runs" / "done" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"held\n"
        check_sentence(run_az("resume", "done"), 2, "in use by another process")
        process.communicate()
    with FileLock(place / "runs" / "done" / "lock", timeout=0):
        pass  # the refused one does not hold it either


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_damaged_checkpoint_is_passed_over_and_named(place):
    make_run(place / "runs" / "again", config=small_config(steps=1))
    weights = place / "runs" / "again" / "checkpoints" / "step-000000002" / "weights.safetensors"
    flip(weights)
    check_sentence(run_az("export", weights.parent, "--out", "a.onnx"), 1, "weights.safetensors")
    assert not (place / "a.onnx").exists()
    answer = run_az("export", "runs/again", "--out", "a.onnx", "--json")
    assert (answer.code, json.loads(answer.out)["step"]) == (0, 1)
    answer = run_az("resume", "again")
    assert (answer.code, answer.err) == (0, "")
    assert "weights.safetensors' is damaged" in " ".join(answer.out.split())
    assert "1 steps" in answer.out
    answer = run_az("resume", "again")
    assert (answer.code, answer.err.count("\n"), "finished" in answer.err) == (2, 1, True)


def test_when_every_checkpoint_is_damaged(place):
    for weights in (place / "runs" / "done").rglob("weights.safetensors"):
        flip(weights)
    check_sentence(run_az("export", "runs/done", "--out", "a.onnx"), 1, "no whole checkpoint")
    before = tree(place)
    check_sentence(run_az("resume", "done"), 1, "no whole checkpoint")
    assert tree(place) == before, "a run that cannot go on is left as it was"


def test_a_folder_that_may_not_be_written_and_a_full_disk(place, monkeypatch):
    locked = place / "locked"
    locked.mkdir(mode=0o555)
    if not os.access(locked, os.W_OK):  # the administrator may write anywhere
        check_sentence(run_az("export", "runs/done", "--out", "locked/a.onnx"), 2, "locked/a.onnx")
        check_sentence(run_az("selfplay", TTT, "--games", "2", "--out", "locked"), 2, "locked")

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = tree(place)
    monkeypatch.setattr(os, "fsync", full)
    check_sentence(run_az("export", "runs/done", "--out", "a.onnx"), 2, "No space left on device")
    assert tree(place) == before
    answer = run_az("selfplay", TTT, "--games", "1", "--sims", "2", "--out", "new")
    assert answer.code == 2
    assert "new" in answer.err.splitlines()[-1]
    assert answer.err.splitlines()[-1].endswith("No space left on device: make room there.")
    assert not list((place / "new").iterdir())


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_an_output_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "az.cli", "perft", "tictactoe", "2"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "az: the output: No space left on device: make room there.\n")


def test_bad_lines_are_answered_and_the_program_goes_on(place):  # noqa: ARG001
    bad = [
        "nonsense", "[1]", "{}", '{"id": 1, "sims": -1}', '{"id": 1, "sims": 1.5}',
        '{"id": 1, "sims": 1, "moves": "1"}', '{"id": 1, "sims": 1, "moves": ["11"]}', '{"id": [], "sims": 1}',
        '{"id": 1, "sims": 1, "position": "zzz"}', '{"id": 1, "sims": 1, "position": "14253"}',
        '{"id": 1, "sims": NaN}', '{"id": 1, "sims": 0, "depth": 3}',
    ]  # fmt: skip
    answer = run_az("analyze", TTT, stdin="\n".join([*bad, '{"id": "end", "sims": 0}', ""]))
    answers = [json.loads(line) for line in answer.out.splitlines()]
    assert (answer.code, answer.err, len(answers)) == (0, "", len(bad) + 1)
    assert sum("error" in one for one in answers) == len(bad)
    assert all(re.fullmatch(r"\S[^\n]*[.?]", one["error"]) for one in answers if "error" in one)
    assert next(one["error"] for one in answers if "'11'" in one.get("error", "")).endswith(" Did you mean 1?")
    assert [one["id"] for one in answers if "move" in one] == ["end"]
