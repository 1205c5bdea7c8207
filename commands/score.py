"""`az score`: everything known about how good a network is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from az.commands.arena import hall_on
from az.engine.arena.match import Hall
from az.engine.errors import WrongRequest
from az.engine.game import Game, load_game
from az.engine.inference.model_resolver import RUNS, load_evaluator, published_models, resolve_model
from az.engine.players import ModelPlayer, Player, make_player
from az.engine.score.ladder import climb
from az.engine.score.positions import SolvedPosition, read_positions, shipped
from az.engine.score.solved import Answer, answers, by_phase, calibration
from az.engine.search.params import SearchParams

RUNGS = ("random", "rollouts:50", "rollouts:200", "minimax:2", "minimax:4")
MOST_VERSIONS = 5  # of a run, on the ladder

Say = Callable[[str], None]


def simulations_of(text: str) -> list[int]:
    """Of --sims: whole numbers with commas between them. Raises WrongRequest."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) < 8 for part in parts) or len(parts) > 8:
        raise WrongRequest(f"--sims is '{text}': write up to 8 numbers of simulations, such as 0,100,800.")
    return list(dict.fromkeys(int(part) for part in parts))


def score_command(
    model: str, sims: str, positions: str | None, games: int, seed: int, say: Say, picture: str | None = None,
    cluster: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measure a model, or the versions of a run. games: of each match of the ladder; 0 leaves it out.

    picture: a file for the curve of the run; it is drawn first, since it takes no time. cluster: a Ray cluster that
    plays the ladder's matches; the solved positions are searched here.
    """
    budgets = simulations_of(sims)
    if cluster is not None:  # a wrong request is said before the work
        from az.train.cluster.request import check_address

        check_address(cluster)
    drawn = None if picture is None else draw_curve(model, picture)
    paths = _versions(model)
    newest = load_evaluator(str(paths[-1]))
    game = newest.game
    known = read_positions(Path(positions), game) if positions else shipped(game)
    found: dict[str, Any] = {"model": newest.name, "game": game.name, "versions": []}
    if drawn is not None:
        found["picture"] = str(drawn)
    if known:
        say(f"{len(known):,} solved positions")
        found["versions"] = [_measured(game, path, known, budgets, say) for path in paths]
    if games:
        with hall_on(cluster, game, lambda text: print(text, file=sys.stderr)) as hall:
            found["ladder"] = _ladder(game, paths, max(budgets), games, seed, say, hall)
    return found


def run_of(model: str) -> Path | None:
    """The folder of the run that is meant; None for a model."""
    return next((run for run in (Path(model).expanduser(), RUNS / model) if run.is_dir()), None)


def draw_curve(model: str, picture: str) -> Path:
    """Draw how a run has learned. Raises WrongRequest where that is impossible."""
    from az.train.doctor.curves import check_format, draw, points
    from az.train.doctor.trends import read_log

    run, path = run_of(model), Path(picture).expanduser()
    check_format(path)
    if run is None:
        raise WrongRequest(f"{model} is a model, and a picture shows how a run has learned: give a run.")
    draw(points(read_log(run / "log.jsonl")[0]), run.name, path)
    return path


def _versions(model: str) -> list[Path]:
    """The model; of a run up to MOST_VERSIONS of its published models, oldest first."""
    newest = resolve_model(model)
    models = published_models(newest.parent) if run_of(model) is not None else [newest]
    steps = max(1, min(MOST_VERSIONS, len(models)) - 1)
    return [models[i * (len(models) - 1) // steps] for i in range(steps + 1)] if len(models) > 1 else models


def _measured(
    game: Game, path: Path, known: Sequence[SolvedPosition], budgets: Sequence[int], say: Say
) -> dict[str, Any]:
    evaluator = load_evaluator(str(path), game)
    solved: dict[str, Any] = {}
    alone: list[Answer] = []
    for simulations in budgets:

        def done(count: int, simulations: int = simulations) -> None:
            say(f"{evaluator.name} at {simulations} simulations: {count:,} of {len(known):,} positions")

        given = answers(game, evaluator, known, SearchParams(simulations=simulations), done)
        solved[str(simulations)] = {phase: part.to_json() for phase, part in by_phase(known, given).items()}
        alone = alone or given
    bins = [asdict(part) for part in calibration(known, alone)]
    return {"model": evaluator.name, "solved": solved, "calibration": bins}


def _ladder(
    game: Game, paths: Sequence[Path], simulations: int, games: int, seed: int, say: Say, hall: Hall | None
) -> dict[str, Any]:
    params = SearchParams(simulations=simulations)
    versions: list[Player] = []
    for path in paths:
        evaluator = load_evaluator(str(path), game)
        versions.append(ModelPlayer(evaluator, params, f"{evaluator.name} at {simulations}"))
    rungs = [make_player(name, load_game(game.name)) for name in RUNGS]
    made = climb(rungs, versions, games, seed, lambda title, played: say(f"{title}: {played} of {games} games"), hall)
    return {"ratings": [asdict(one) for one in made.ratings], "matches": [asdict(one) for one in made.matches]}


def score_text(found: dict[str, Any]) -> str:
    """The report for people."""
    lines = [f"{found['model']} ({found['game']})"]
    if not found["versions"]:
        lines.append("No solved positions are known of this game (--positions FILE gives some).")
    for version in found["versions"]:
        lines += ["", f"{version['model']}: moves that give the result away, of solved positions (95 % interval)"]
        lines += _solved_lines(version["solved"])
        lines += ["the network's value against the outcome: " + _calibration_line(version["calibration"])]
    if "ladder" in found:
        lines += ["", "Elo above random play (95 % interval):"]
        order = sorted(found["ladder"]["ratings"], key=lambda one: -one["elo"])
        lines += [
            f"{one['elo']:+7.0f} [{one['low']:+.0f}, {one['high']:+.0f}]  {one['name']}, {one['games']} games"
            for one in order
        ]
    if "picture" in found:
        lines += ["", f"How it has learned: {found['picture']}"]
    return "\n".join(lines)


def _solved_lines(solved: dict[str, Any]) -> list[str]:
    lines: list[str] = []
    for simulations, phases in solved.items():
        name = "network alone" if simulations == "0" else f"{int(simulations):,} simulations"
        parts = [f"{phase} {_share(part['thrown'])}" for phase, part in phases.items()]
        lines.append(f"  {name:<18}" + ", ".join(parts))
    return lines


def _share(part: dict[str, Any]) -> str:
    if part["share"] is None:
        return "–"
    return f"{100 * part['share']:.1f} % [{100 * part['low']:.1f}, {100 * part['high']:.1f}]"


def _calibration_line(bins: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{one['said']:+.2f} is {one['true']:+.2f}" for one in bins)
