"""A model of az at checkers against OpenSpiel's MCTS with random rollouts, written in C++ there.

    .venv/bin/python benchmarks/peers/openspiel_checkers.py checkers --openspiel openspiel/bin/python [--games 100]

OpenSpiel's bot is `pyspiel.MCTSBot` as its own example sets it: exploration constant 2, one rollout a simulation,
proven results backed up, a fresh tree for every move. Games go in pairs: one of az's openings, colors swapped.

OpenSpiel's checkers is drawn after 40 hops without a capture and knows no repetition; az's is drawn after 80 plies
without a capture or a man's move, and at the third occurrence of a position. Both results are told: where OpenSpiel's
game ends first, it is drawn there; by az's rules the game goes on, and the same search of az's own (`rollouts:N`) moves
for OpenSpiel, whose state has no more moves. An end of its game is seen when its turn comes: a win of az on the hop
between counts as one in both. Wherever OpenSpiel is asked for a move the legal moves of both must be the same.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

UCT_C, MEGABYTES = 2.0, 2000
FILES = "abcdefgh"


def worker(simulations: int) -> None:
    """In OpenSpiel's environment: a line with a game's hops and a key in; the bot's hop, or null at its end, out."""
    import pyspiel  # pyright: ignore[reportMissingImports]

    game = pyspiel.load_game("checkers")
    for line in sys.stdin:
        question = json.loads(line)
        state = game.new_initial_state()
        for hop in question["hops"]:
            if state.is_terminal():
                break
            state.apply_action(state.string_to_action(hop))
        if state.is_terminal():
            print(json.dumps({"hop": None, "legal": []}), flush=True)
            continue
        evaluator = pyspiel.RandomRolloutEvaluator(1, question["key"])
        bot = pyspiel.MCTSBot(game, evaluator, UCT_C, simulations, MEGABYTES, True, question["key"], False)
        legal = [state.action_to_string(action) for action in state.legal_actions()]
        print(json.dumps({"hop": state.action_to_string(bot.step(state)), "legal": legal}), flush=True)


class Peer:
    """OpenSpiel's processes, one a core."""

    def __init__(self, python: str, simulations: int, processes: int) -> None:
        command = [python, __file__, "--worker", "--rollouts", str(simulations)]
        try:
            self.processes = [
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
                for _ in range(processes)
            ]
        except OSError as error:
            raise SystemExit(f"{python} cannot be started as OpenSpiel's Python: {error.strerror}.") from None

    def ask(self, games: Sequence[Game], ply: int) -> list[dict[str, Any]]:
        """Its answer for each game, in their order; the processes share them."""
        answers: list[dict[str, Any]] = []
        count = len(self.processes)
        for first in range(0, len(games), count):
            part = games[first : first + count]
            for process, one in zip(self.processes, part, strict=False):
                assert process.stdin
                key = (one.number * 1000 + ply) % 2**31
                process.stdin.write(json.dumps({"hops": one.hops, "key": key}) + "\n")
                process.stdin.flush()
            for process, _ in zip(self.processes, part, strict=False):
                assert process.stdout
                line = process.stdout.readline()
                if not line:
                    raise SystemExit("OpenSpiel's process ended without an answer; its error is above.")
                answers.append(json.loads(line))
        return answers


@dataclass
class Game:
    """One game as both sides know it."""

    number: int
    az_is: int
    state: Any
    hops: list[str] = field(default_factory=list)
    ended_there: int | None = None  # hops after which OpenSpiel's game was drawn, if it was
    result: int | None = None  # az's, by az's rules


def there(square: int) -> str:
    """A square's name on OpenSpiel's board, which is az's turned by 180 degrees."""
    row, column = divmod(square - 1, 4)
    return f"{FILES[7 - (2 * column + 1 - row % 2)]}{row + 1}"


def names_of(game: Any, state: Any) -> dict[str, int]:
    """The legal actions, a hop each, by OpenSpiel's names."""
    found: dict[str, int] = {}
    for text, actions in game.moves(state).items():
        origin, target = text.replace("x", "-").split("-")[:2]
        found[there(int(origin)) + there(int(target))] = int(actions[0])
    return found


def begin(game: Any, games: int, seed: int) -> list[Game]:
    """The games after their openings."""
    from az.engine.arena.openings import opening_stream

    made = []
    for pair, opening in enumerate(islice(opening_stream(game, seed), (games + 1) // 2)):
        for color in range(2):
            one = Game(2 * pair + color, color, game.new_state())
            for action in opening:
                step(game, one, int(action))
            made.append(one)
    return made[:games]


def step(game: Any, one: Game, action: int) -> None:
    """Play it on both boards."""
    from az.engine.game import ONGOING

    one.hops.append(next(name for name, known in names_of(game, one.state).items() if known == action))
    one.state = game.play(one.state, (action,))
    outcome = int(game.outcome(one.state))
    if outcome != ONGOING:
        one.result = outcome if int(one.state[0]) == one.az_is else -outcome


def play(options: argparse.Namespace) -> list[Game]:
    """All games side by side, a hop of each at a time."""
    import numpy as np

    from az.engine.game import load_game
    from az.engine.players import make_player

    game = load_game("checkers")
    az, stand_in = make_player(options.model, game, options.sims), make_player(f"rollouts:{options.rollouts}", game)
    peer, games, ply = (
        Peer(options.openspiel, options.rollouts, options.processes),
        begin(game, options.games, options.seed),
        0,
    )
    while running := [one for one in games if one.result is None]:
        ours = [one for one in running if int(one.state[0]) == one.az_is]
        theirs = [one for one in running if int(one.state[0]) != one.az_is]
        asked = [one for one in theirs if one.ended_there is None]
        for one, answer in zip(asked, peer.ask(asked, ply), strict=True):
            known = names_of(game, one.state)
            if answer["hop"] is None:
                one.ended_there = len(one.hops)
                continue
            if set(answer["legal"]) != set(known):
                raise SystemExit(f"the rules differ after {' '.join(one.hops)}: {sorted(answer['legal'])}"
                                 f" there, {sorted(known)} here.")  # fmt: skip
            step(game, one, known[answer["hop"]])
        for player, mine in ((az, ours), (stand_in, [one for one in theirs if one.ended_there is not None])):
            if mine:
                keys = np.array([one.number * 1000 + ply for one in mine], np.int64)
                for one, action in zip(mine, player.choose(np.stack([one.state for one in mine]), keys), strict=True):
                    step(game, one, int(action))
        ply += 1
        if ply % 10 == 0:
            print(f"after {ply} hops: {told(games)}", file=sys.stderr, flush=True)
    return games


def tally(results: Sequence[int | None]) -> dict[str, int]:
    return {"won": results.count(1), "drawn": results.count(0), "lost": results.count(-1)}


def told(games: Sequence[Game]) -> str:
    """How many are over, by az's rules and by OpenSpiel's."""
    here = tally([one.result for one in games])
    there = tally([0 if one.ended_there is not None else one.result for one in games])
    return f"{here} by az's rules, {there} by OpenSpiel's, of {len(games)}"


def main() -> None:
    """One JSON object on stdout."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="checkers")
    parser.add_argument("--openspiel", help="the Python of OpenSpiel's environment")
    parser.add_argument("--games", type=int, default=100)
    parser.add_argument("--sims", type=int, default=800, help="of az")
    parser.add_argument("--rollouts", type=int, default=2000, help="of OpenSpiel: simulations a move, a rollout each")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="of OpenSpiel")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options.rollouts)
        return
    if not options.openspiel:
        parser.error("--openspiel PYTHON is needed: see benchmarks/peers/README.md")
    if min(options.games, options.rollouts, options.processes) < 1:
        parser.error("--games, --rollouts and --processes must be 1 or more.")
    from az.engine.errors import AzError

    try:
        games = play(options)
    except AzError as error:
        raise SystemExit(str(error)) from None
    here = tally([one.result for one in games])
    there = tally([0 if one.ended_there is not None else one.result for one in games])
    different = len({tuple(one.hops) for one in games})
    print(json.dumps({"model": options.model, "sims": options.sims, "rollouts": options.rollouts,
                      "by_az_rules": here, "by_openspiel_rules": there, "different_games": different}))  # fmt: skip


if __name__ == "__main__":
    main()
