"""`az bench`: the figures of a game on this machine, each a median of ratios that were taken in one run."""

from __future__ import annotations

import multiprocessing
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from az.engine.bench.meters import Bench, BenchPool, answer_of, memory_main
from az.engine.bench.signature import signature
from az.engine.errors import Refused, WrongRequest
from az.engine.game import Game, load_game
from az.engine.inference.model_resolver import SHIPPED, load_evaluator, resolve_model
from az.engine.inference.precision import load_precision, variant_of
from az.engine.selfplay.warmup import warm_up
from az.engine.system.child import Child
from az.engine.system.cores import usable_cores

PHASES = ("raw_fp32", "raw_int8", "search_nocache", "search", "one_tree")
BARE_TYPER = "import typer; a = typer.Typer(); a.command()(lambda: None); a(['--help'])"


def bench_models(game: Game, model: str | None, say: Callable[[str], None]) -> tuple[dict[str, Path], str, str]:
    """(files by precision, the precision that a run would choose, why). A quantized file that this machine answers
    otherwise than the one that wrote it is left out, and said.

    Raises WrongRequest where the game has no fixed model and none is given, Refused when that fails a check.
    """
    path = SHIPPED / "bench" / f"{game.name}.onnx" if model is None else resolve_model(model)
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in (SHIPPED / "bench").glob("*.onnx") if "." not in p.stem))
        raise WrongRequest(
            f"no fixed model of {game.name} comes with az: give one with --model, or measure one of {known}."
        )
    load_evaluator(str(path), game)  # one that is refused is refused here and not in every process
    models = {"fp32": path}
    quantized = variant_of(path, "int8")
    if quantized != path and quantized.is_file():
        try:
            load_evaluator(str(quantized), game)
            models["int8"] = quantized
        except Refused as refusal:
            say(f"int8 is not measured: {refusal}")
    evaluator, why = load_precision(path, game, "auto", "cpu")
    return models, "int8" if "int8" in models and evaluator.precision == "int8" else "fp32", why


def spread(values: list[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "runs": len(values)}


def search_figures(bench: Bench, cores: int, repeats: int, seconds: float) -> dict[str, Any]:
    """Rates and ratios of one pool of processes, phases alternating."""
    phases = [phase for phase in PHASES if phase != "raw_int8" or "int8" in bench.models]
    pool = BenchPool(bench, cores)
    rates: dict[str, list[float]] = {phase: [] for phase in phases}
    extra: dict[str, list[float]] = {"hit_rate": [], "positions_per_s": []}
    try:
        for phase in phases:
            pool.measure(phase, 3.0 if phase.startswith("search") else 0.5)  # to the middle of play, and warm
        for _ in range(repeats):
            for phase in phases:
                figures = pool.measure(phase, seconds)
                rates[phase].append(figures["per_s"])
                if phase == "search":
                    extra["hit_rate"].append(figures["hit_rate"])
                    extra["positions_per_s"].append(figures["positions_per_s"])
    finally:
        pool.close()
    raw = rates[f"raw_{bench.precision}"]
    ratios = {f"{name}_over_raw": rates[phase] for name, phase in (("search", "search"), ("one_tree", "one_tree"))}
    ratios["search_over_raw_nocache"] = rates["search_nocache"]
    found = {name: spread([a / b for a, b in zip(values, raw, strict=True)]) for name, values in ratios.items()}
    if "raw_int8" in rates:
        pairs = zip(rates["raw_int8"], rates["raw_fp32"], strict=True)
        found["int8_over_fp32"] = spread([a / b for a, b in pairs])
    return {
        "raw_evals_per_s": {name[4:]: spread(values) for name, values in rates.items() if name.startswith("raw_")},
        "simulations_per_s": {name: spread(rates[name]) for name in PHASES[2:]},
        "selfplay_positions_per_s": spread(extra["positions_per_s"]),
        "cache_hit_rate": spread(extra["hit_rate"]),
        "ratios": found,
    }


def start_figures(repeats: int = 5) -> dict[str, Any]:
    """Seconds of `az --help` and of a bare typer program's, alternating."""
    here = [sys.executable, "-c", "from az.cli import main; import sys; sys.argv = ['az', '--help']; main()"]
    bare = [sys.executable, "-c", BARE_TYPER]
    seconds: dict[str, list[float]] = {"help": [], "typer": []}
    for _ in range(repeats):
        for name, command in (("help", here), ("typer", bare)):
            begun = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            seconds[name].append(time.perf_counter() - begun)
    ratios = [a / b for a, b in zip(seconds["help"], seconds["typer"], strict=True)]
    return {"help_s": spread(seconds["help"]), "help_over_typer": spread(ratios)}


def memory_figure(game: Game, model: Path, seconds: float, slots: int = 256, simulations: int = 800) -> float:
    """Bytes resident of a process that plays so many games at once."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = Child(memory_main, (game.name, model, slots, simulations, seconds, theirs))
    process.start()
    theirs.close()
    held = float(answer_of(process, ours))
    process.join()
    process.end()
    return held


def bench_command(
    game_name: str, model: str | None, repeats: int, seconds: float, threads: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Measure; returns everything for --json. Progress goes to `say`."""
    game = load_game(game_name)
    models, precision, why = bench_models(game, model, say)
    cores = threads or usable_cores()
    warm_up(game, say)
    say(f"{game.name} in {why}, {cores} processes, {repeats} runs of {seconds:g} s a phase …")
    figures = search_figures(Bench(game.name, models, precision, 0), cores, repeats, seconds)
    ratios = figures.pop("ratios")
    if find_spec("torch") is not None:
        from az.train.bench import learner_rates

        say("the learner …")
        rates = learner_rates(game, repeats, max(1.0, seconds))
        figures["learner_rows_per_s"] = spread(rates["learner"])
        ratios["learner_over_torch"] = spread([a / b for a, b in zip(rates["learner"], rates["torch"], strict=True)])
    say("start-up and memory …")
    figures |= start_figures(repeats)
    figures["memory_bytes"] = memory_figure(game, models[precision], seconds=min(15.0, 8 * seconds))
    return {
        "game": game.name,
        "model": str(models[precision].name),
        "precision": precision,
        "precision_why": why,
        "processes": cores,
        **{name: value["median"] for name, value in ratios.items()},
        "raw_evals_per_s": {name: value["median"] for name, value in figures["raw_evals_per_s"].items()},
        "cache_hit_rate": figures["cache_hit_rate"]["median"],
        "memory_bytes": figures["memory_bytes"],
        "spread": {**ratios, **{name: value for name, value in figures.items() if name != "memory_bytes"}},
        "signature": signature(),
    }


def bench_text(values: dict[str, Any]) -> str:
    """The same for people."""
    lines = [f"{values['game']}, {values['precision_why']}, {values['processes']} processes; median (least – greatest)"]

    def line(name: str, found: dict[str, float], form: str) -> None:
        shown = [format(found[key], form) for key in ("median", "low", "high")]
        lines.append(f"  {name:<44} {shown[0]:>10}  ({shown[1]} – {shown[2]})")

    spreads = values["spread"]
    for precision, found in spreads["raw_evals_per_s"].items():
        line(f"onnxruntime alone, {precision}, evaluations/s", found, ",.0f")
    for name, found in spreads["simulations_per_s"].items():
        line(f"simulations/s, {NAMES[name]}", found, ",.0f")
    line("self-play, positions/s", spreads["selfplay_positions_per_s"], ",.0f")
    if "learner_rows_per_s" in spreads:
        line("learner, rows/s", spreads["learner_rows_per_s"], ",.0f")
    line("cache hits", spreads["cache_hit_rate"], ".1%")
    for name, text in RATIOS.items():
        if name in spreads:
            line(text, spreads[name], ".2f")
    line("az --help, seconds", spreads["help_s"], ".2f")
    lines.append(f"  {'memory of 256 games × 800 simulations':<44} {values['memory_bytes'] / 2**20:>10,.0f}  MiB")
    lines.append(f"  {'signature of the search':<44} {values['signature']:>10}")
    return "\n".join(lines)


NAMES = {
    "search_nocache": "many games, cache off",
    "search": "many games",
    "one_tree": "one tree of 1,600, 32 leaves in flight",
}
RATIOS = {
    "search_over_raw_nocache": "many games, cache off ÷ onnxruntime alone",
    "search_over_raw": "many games ÷ onnxruntime alone",
    "one_tree_over_raw": "one tree ÷ onnxruntime alone",
    "int8_over_fp32": "int8 ÷ fp32, onnxruntime alone",
    "learner_over_torch": "learner ÷ bare torch loop",
    "help_over_typer": "az --help ÷ a bare typer program",
}
