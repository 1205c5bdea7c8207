"""Programs that were not written here drive az: pydraughts over HUB, Sabaki's client over GTP; pydraughts' PDN."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT

from az.engine.game import ONGOING, load_game
from az.engine.notation import read_games, write_games

pytestmark = pytest.mark.integrations
HUB_GAMES = 20
MOST_PLIES = 300


@pytest.fixture(scope="module")
def draughts():
    return pytest.importorskip("draughts.engine", reason="pydraughts is not installed") and __import__("draughts")


@pytest.fixture
def az_script(tmp_path):
    """A file that runs az: pydraughts resolves links, and the Python of an environment is one."""
    script = tmp_path / "az"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m az.cli "$@"\n')
    script.chmod(0o755)
    return str(script)


@pytest.mark.timeout(1200)
def test_pydraughts_plays_twenty_games_over_hub(draughts, caplog, az_script):
    """Random moves of pydraughts against az: every move of az is legal for pydraughts, no answer is unexpected."""
    engine = draughts.engine.HubEngine([az_script, "hub"])
    try:
        assert engine.variants == {"english"}
        engine.configure({"variant": "english", "skill": "0"})
        engine.init()
        engine.ping()
        draw, decided = random.Random(1), 0
        for number in range(HUB_GAMES):
            board = draughts.Board(variant="english")
            limit = draughts.engine.Limit(nodes=20) if number % 4 else draughts.engine.Limit(time=20, inc=0.1)
            own = draughts.BLACK if number % 2 else draughts.WHITE
            while not board.is_over() and len(board.move_stack) < MOST_PLIES:
                legal = {move.hub_move: move for move in board.legal_moves()}
                if board.turn == own:
                    found = engine.play(board, limit, False)
                    assert found.move.hub_move in legal
                    board.push(found.move)
                else:
                    board.push(legal[draw.choice(sorted(legal))])
            decided += board.is_over()
        assert decided >= HUB_GAMES // 2
        engine.quit()
        assert engine.p.wait(timeout=60) == 0
        assert not [record for record in caplog.records if "Unexpected" in record.getMessage()]
    finally:
        if engine.p.poll() is None:
            engine.kill_process()


@pytest.mark.timeout(600)
def test_games_that_pydraughts_writes_are_read_and_it_reads_ours(draughts):
    pdn = pytest.importorskip("draughts.PDN")
    draw = random.Random(2)
    for _ in range(10):
        board = draughts.Board(variant="english")
        while not board.is_over() and len(board.move_stack) < 120:
            board.push(draw.choice(board.legal_moves()))
        text = pdn.PDNWriter("", board, tags={"Event": "A game"}).pdn_text
        game = read_games(text)[0]
        assert len(game.moves) == len(board.move_stack)
        assert squares(load_game("checkers").position_text(game.states()[-1])) == squares(board.fen)
        ours = pdn.PDNReader(write_games([game])).games[0]
        assert ours.variant == "english"
        again = draughts.Board(variant="english")
        for move in ours.moves:
            again.push(draughts.Move(again, pdn_move=move) if move.count("x") < 2 else by_path(draughts, again, move))
        assert squares(again.fen) == squares(board.fen)


def by_path(draughts, board, text):
    """pydraughts takes all squares of a jump as steps."""
    return draughts.Move(board, steps_move=[int(part) for part in text.split("x")])


def squares(fen: str) -> list[list[str]]:
    mover, *sides = fen.split(":")
    return [[mover], *(sorted(side[1:].split(",")) for side in sorted(sides))]


def test_the_openings_of_pydraughts_are_positions_of_az(draughts):
    """Its ballots are positions: az and pydraughts have the same legal moves there."""
    folder = Path(draughts.__file__).parent / "ballot_files"
    rules, seen = load_game("checkers"), 0
    text = (folder / "3move_english.json").read_text("utf-8")
    for fen in re.findall(r'"([BW]:[BW][^"]*:[BW][^"]*)"', text)[:200]:
        board = draughts.Board(variant="english", fen=fen)
        state = rules.parse_position(board.fen)
        ours = {
            (text.split("x")[0].split("-")[0], text.replace("-", "x").split("x")[-1]) for text in rules.moves(state)
        }
        theirs = {(str(move.steps_move[0]), str(move.steps_move[-1])) for move in board.legal_moves()}
        assert ours == theirs
        seen += 1
    assert seen >= 100


CLIENT = """
const {Controller} = require('@sabaki/gtp')
const [python, game, sims] = process.argv.slice(1)
const engine = new Controller(python, ['-m', 'az.cli', 'gtp', game, '--sims', sims])
const ask = async (name, ...args) => {
  const found = await engine.sendCommand({name, args})
  if (found.error) throw new Error(name + ' ' + args.join(' ') + ': ' + found.content)
  return found.content
}
const main = async () => {
  engine.start()
  if (await ask('protocol_version') !== '2') throw new Error('version')
  const commands = (await ask('list_commands')).split('\\n')
  for (const name of ['play', 'genmove', 'undo', 'showboard', 'final_score', 'quit'])
    if (!commands.includes(name)) throw new Error('no ' + name)
  await ask('clear_board')
  await ask('time_settings', 0, 1, 0)
  const moves = []
  while (moves.length < 400) {
    const legal = (await ask('az-legal_moves')).split(' ').filter(x => x)
    if (!legal.length) break
    const color = await ask('az-to_move')
    let move
    if (moves.length % 2) {
      move = await ask('genmove', color)
      if (!legal.includes(move)) throw new Error('illegal ' + move)
      await ask('undo')
    } else move = legal[(7 * moves.length) % legal.length]
    await ask('play', color, move)
    moves.push(move)
  }
  const wrong = await engine.sendCommand({name: 'play', args: ['b', 'zz99']})
  if (!wrong.error) throw new Error('an illegal move was taken')
  let score = null
  try { score = await ask('final_score') } catch (error) { }
  await engine.stop()
  console.log(JSON.stringify({moves, score}))
}
main().catch(error => { console.error(String(error)); process.exit(1) })
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("game", ["tictactoe", "connect4", "othello6", "othello", "checkers"])
def test_sabakis_client_plays_a_game_over_gtp(game):
    """@sabaki/gtp, which Sabaki drives Go engines with: a whole game, half of its moves generated by az."""
    node, modules = shutil.which("node"), ROOT / ".venv-integrations" / "node_modules"
    if node is None or not (modules / "@sabaki" / "gtp").is_dir():
        pytest.skip("npm install --prefix .venv-integrations @sabaki/gtp has not been run")
    done = subprocess.run(
        [node, "-e", CLIENT, sys.executable, game, "8"], capture_output=True, text=True, timeout=500, check=False,
        env={**os.environ, "NODE_PATH": str(modules)}, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    rules = load_game(game)
    state = rules.new_state()
    for move in told["moves"]:
        state = rules.play(state, rules.moves(state)[move])
    assert rules.outcome(state) != ONGOING or len(told["moves"]) == 400
    assert (told["score"] is None) == (rules.outcome(state) == ONGOING)
