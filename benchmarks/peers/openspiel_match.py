"""A trained OpenSpiel Python AlphaZero against a model of az at connect four; both on solved positions too.

    python benchmarks/peers/openspiel_match.py FOLDER MODEL --openspiel PYTHON [--games 200] [--sims 100 | --seconds 1]

FOLDER is what openspiel_train.py wrote, MODEL a run of az, an ONNX file or a shipped model, PYTHON the interpreter of
OpenSpiel's environment; this program itself is run by az's. Games go in pairs: one of az's openings, colors swapped.

--sims: as many simulations a move for both, all games side by side. --seconds: as long a move for both, one position
after another, each in a fresh tree. az then thinks on one core, with as many leaves in flight as `az play`. OpenSpiel
has one process with JAX's threads, and keeps what its network said of earlier positions.
Each side searches as it does when a person starts it: az proves wins and plays out ends of games exactly, OpenSpiel's
AlphaZero does not. --plain takes that from az; it is then a plain PUCT search as OpenSpiel's is.
Solved positions: how often each side's move gives the result away, the network alone and at --sims simulations.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from az.commands.play import DEFAULT_SIMULATIONS
from az.engine.arena.match import MatchResult, play_match
from az.engine.errors import AzError, Refused
from az.engine.game import Game, load_game
from az.engine.inference.evaluator import Evaluator
from az.engine.inference.model_resolver import load_evaluator
from az.engine.players import ModelPlayer, Player
from az.engine.players.basic import Keys, States
from az.engine.score.positions import SolvedPosition, read_positions, shipped
from az.engine.score.solved import Answer, answers, by_phase
from az.engine.search.params import SearchParams, leaves_for
from az.engine.search.tree_search import TreeSearch

HERE = Path(__file__).resolve().parent
TELL_EVERY = 10  # games


class Peer:
    """OpenSpiel's processes, each with the same checkpoint; they share the positions of a question."""

    def __init__(self, python: str, options: Sequence[str], processes: int) -> None:
        """Raises Refused."""
        command = [python, str(HERE / "openspiel_player.py"), *options]
        environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
        try:
            self.processes = [
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
                for _ in range(processes)
            ]
        except OSError as error:
            raise Refused(f"{python} cannot be started as OpenSpiel's Python: {error.strerror}.") from None
        abouts = [self._read(process) for process in self.processes]
        self.about = abouts[0]

    def _read(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout
        line = process.stdout.readline()
        if not line:
            raise Refused("OpenSpiel's player ended without an answer; its error is above.")
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def ask(self, positions: Sequence[str], keys: Sequence[int], **budget: float) -> dict[str, list[Any]]:
        """actions, values and simulations made, in the order of the positions. budget: simulations or seconds."""
        count = len(self.processes)
        for i, process in enumerate(self.processes):
            assert process.stdin
            question = {"positions": positions[i::count], "keys": keys[i::count], **budget}
            with suppress(BrokenPipeError):  # reading its answer will tell
                process.stdin.write(json.dumps(question) + "\n")
                process.stdin.flush()
        found: dict[str, list[Any]] = {}
        for i, process in enumerate(self.processes):
            for name, part in self._read(process).items():
                found.setdefault(name, [None] * len(positions))[i::count] = part
        return found

    def close(self) -> None:
        """They have nothing to lose."""
        for process in self.processes:
            process.kill()
            with suppress(BrokenPipeError):  # of a question that was not taken
                process.communicate()


class OpenSpielPlayer:
    """A checkpoint of OpenSpiel as a player of az's matches."""

    def __init__(self, peer: Peer, game: Game, **budget: float) -> None:
        self.peer, self.game, self.budget = peer, game, budget
        self.name = str(peer.about["name"])
        self.made: list[int] = []  # simulations of every move

    def choose(self, states: States, keys: Keys) -> NDArray[np.int64]:
        """[n] actions for states [n, S] and keys [n]."""
        positions = [self.game.position_text(state) for state in states]
        found = self.peer.ask(positions, keys.tolist(), **self.budget)
        self.made += found["simulations"]
        return np.array(found["actions"], np.int64)


class TimedPlayer:
    """A model of az that thinks so many seconds about each position, in a fresh tree."""

    def __init__(self, evaluator: Evaluator, params: SearchParams, seconds: float) -> None:
        self.evaluator, self.params, self.seconds = evaluator, params, seconds
        self.name, self.game = evaluator.name, evaluator.game
        self.made: list[int] = []  # simulations of every move

    def choose(self, states: States, keys: Keys) -> NDArray[np.int64]:  # noqa: ARG002 - nothing is drawn at random
        """[n] actions for states [n, S] and keys [n]."""
        chosen = np.zeros(len(states), np.int64)
        for i, state in enumerate(states):
            found = TreeSearch(self.game, self.evaluator, self.params).search(state, seconds=self.seconds)
            self.made.append(found.simulations)
            chosen[i] = found.best
        return chosen


def match(evaluator: Evaluator, peer: Peer, params: SearchParams, asked: argparse.Namespace) -> dict[str, Any]:
    """The match, from az's side."""
    a: Player
    if asked.seconds is None:
        a = ModelPlayer(evaluator, params)
        b = OpenSpielPlayer(peer, evaluator.game, simulations=asked.sims)
    else:
        a = TimedPlayer(evaluator, replace(params, leaves=leaves_for(DEFAULT_SIMULATIONS)), asked.seconds)
        a.choose(evaluator.game.new_state()[None], np.zeros(1, np.int64))  # the search is compiled before the clock
        a.made.clear()
        b = OpenSpielPlayer(peer, evaluator.game, seconds=asked.seconds)

    def tell(played: int, wins: int, draws: int, losses: int) -> None:
        if played % TELL_EVERY == 0:
            print(f"{played} games: az won {wins}, drew {draws}, lost {losses}", file=sys.stderr)

    result = play_match(a, b, asked.games, asked.seed, on_progress=tell)
    made = {player.name: round(float(np.mean(player.made)), 1) for player in (a, b) if getattr(player, "made", None)}
    return {**figures(result), "simulations": asked.sims if asked.seconds is None else made, "seconds": asked.seconds}


def figures(result: MatchResult) -> dict[str, Any]:
    """az's results, also as each color, and how many of the games differ."""
    colors = {
        name: {"wins": tally.wins, "draws": tally.draws, "losses": tally.losses}
        for name, tally in (("first", result.tally_as(0)), ("second", result.tally_as(1)))
    }
    different = len({record.actions for record in result.records})
    return {**result.to_json(), **colors, "different_games": different, "mean_plies": round(result.mean_plies, 1)}


def solved(
    evaluator: Evaluator, peer: Peer, params: SearchParams, known: Sequence[SolvedPosition]
) -> dict[str, dict[str, Any]]:
    """Both sides on solved positions: by side and simulations, the figures of each phase."""
    texts = [evaluator.game.position_text(one.state) for one in known]
    found: dict[str, dict[str, Any]] = {"az": {}, "openspiel": {}}
    for budget in dict.fromkeys((0, params.simulations)):
        given = answers(evaluator.game, evaluator, known, replace(params, simulations=budget))
        told = peer.ask(texts, [0] * len(texts), simulations=budget)
        theirs = [Answer(*one) for one in zip(told["actions"], told["values"], strict=True)]
        for side, said in (("az", given), ("openspiel", theirs)):
            found[side][str(budget)] = {name: part.to_json() for name, part in by_phase(known, said).items()}
            thrown = found[side][str(budget)]["all"]["thrown"]
            line = f"{side} at {budget} simulations: {thrown['count']} of {thrown['of']} results given away"
            print(line, file=sys.stderr)
    return found


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what openspiel_train.py wrote")
    parser.add_argument("model", help="of az")
    parser.add_argument("--openspiel", metavar="PYTHON", required=True)
    parser.add_argument("--step", type=int, help="of OpenSpiel's checkpoint; default: the newest")
    parser.add_argument("--games", type=int, default=200, help="of the match; 0 leaves it out")
    parser.add_argument("--sims", type=int, default=100, help="simulations a move")
    parser.add_argument("--seconds", type=float, help="a move in the match, in place of --sims")
    parser.add_argument("--seed", type=int, default=1, help="of the openings and the searches")
    parser.add_argument("--plain", action="store_true", help="az without proofs")
    parser.add_argument("--positions", type=Path, help="solved positions in place of az's own")
    parser.add_argument("--no-solved", action="store_true", help="leave the solved positions out")
    parser.add_argument("--inference", choices=("own", "compiled"), default="compiled", help="see openspiel_actor.py")
    asked = parser.parse_args()
    if asked.games < 0 or asked.sims < 2:  # OpenSpiel's tree has moves from its second simulation on
        parser.error("--games must be 0 or more, --sims 2 or more.")
    if asked.seconds is not None and not 0 < asked.seconds <= 86_400:
        parser.error(f"--seconds is {asked.seconds:g}: it must lie above 0 and up to 86400.")
    return asked


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """The match and the solved positions. Raises AzError."""
    game = load_game("connect4")
    evaluator = load_evaluator(asked.model, game)
    known = read_positions(asked.positions, game) if asked.positions else shipped(game)
    params = SearchParams(simulations=asked.sims, solve=not asked.plain, prove=0 if asked.plain else SearchParams.prove)
    options = [str(asked.folder), "--inference", asked.inference]
    options += [] if asked.step is None else ["--step", str(asked.step)]
    peer = Peer(asked.openspiel, options, 1 if asked.seconds else os.cpu_count() or 1)
    about = {"az": evaluator.name, "az_model_id": evaluator.model_id, "openspiel": peer.about}
    about |= {"inference": asked.inference, "az_proves": not asked.plain, "seed": asked.seed}
    try:
        if not asked.no_solved:
            about["solved"] = solved(evaluator, peer, params, known)
        if asked.games:
            about["match"] = match(evaluator, peer, params, asked)
    finally:
        peer.close()
    return about


def main() -> None:
    """One JSON object on stdout."""
    try:
        print(json.dumps(measure(arguments())))
    except AzError as error:
        raise SystemExit(str(error)) from None
    except KeyboardInterrupt:
        raise SystemExit("stopped.") from None


if __name__ == "__main__":
    main()
