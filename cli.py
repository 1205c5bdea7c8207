"""The command `az`: thin, and quick to start; everything heavy is imported inside the command that needs it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from az.commands.output_cli import Json, emit
from az.commands.protocols.protocols_cli import gtp, hub, nboard
from az.commands.runs_cli import export_run, import_run, runs_app
from az.commands.train_cli import Precision, resume, train, with_options
from az.engine.errors import AzError, WrongRequest
from az.engine.system.stopping import Stopped
from az.engine.system.streams import complain, forget_stdout, open_closed_streams
from az.engine.usage import ending_of, knows

app = typer.Typer(
    name="az",
    help="Train an AlphaZero, trust it, and play against it.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

app.add_typer(runs_app)
app.command("export-run")(export_run)
app.command("import-run")(import_run)

MAX_SEED = 2**63 - 1
MAX_GAME = 10**11  # a run that has such records can still number on from there
Game = Annotated[str, typer.Argument(help="The name of a game: see az games.")]
Model = Annotated[str, typer.Argument(help="An ONNX file, a run (its newest model) or a shipped model.")]
PLAYER = "A model, random, rollouts:N (N random games a move), minimax:D (D actions deep) or level:1 … level:10."
Seed = Annotated[int, typer.Option(help="Everything random comes from it.")]
MatchCluster = Annotated[
    str | None, typer.Option("--cluster", help="A Ray cluster that plays the games: HOST:PORT, or local.")
]


def _progress(text: str) -> None:
    """A line for a person who waits; a program that reads stderr is not troubled."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def _within(value: int, low: int, high: int, option: str) -> None:
    if not low <= value <= high:
        raise WrongRequest(f"{option} is {value}: it must lie between {low} and {high}.")


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"az {version('az-engine')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="The version.")
    ] = False,
) -> None:
    """Train an AlphaZero, trust it, and play against it."""


@app.command()
def games(as_json: Json = False) -> None:
    """List the games."""
    from az.commands.games import games_text, list_games

    found = list_games()
    emit(as_json, found, games_text(found))


@app.command()
def check(game: Game, games: Annotated[int, typer.Option(help="Random games.")] = 50, seed: Seed = 0, as_json: Json = False) -> None:  # fmt: skip  # noqa: E501
    """Check a game against the laws of the contract."""
    from az.commands.check import check_command

    _within(games, 1, 1_000_000, "--games")
    _within(seed, 0, MAX_SEED, "--seed")
    found, text = check_command(game, games, seed, _progress)
    emit(as_json, found, text)
    if found["broken"]:
        raise typer.Exit(1)


@app.command()
def perft(
    game: Game,
    depth: Annotated[int, typer.Argument(help="Plies, from 0 to 100.")],
    position: Annotated[str | None, typer.Option(help="Where to start, in the game's position text.")] = None,
    hops: Annotated[bool, typer.Option("--hops", help="Count every hop of a multiple jump as a ply.")] = False,
    as_json: Json = False,
) -> None:
    """Count the sequences of so many plies, as people count them."""
    from az.commands.perft import perft_command

    count = perft_command(game, depth, position, hops)
    emit(as_json, {"game": game, "depth": depth, "count": count}, f"{count}")


app.command()(train)
app.command()(resume)


@app.command()
def selfplay(
    model: Model,
    games: Annotated[int, typer.Option(help="How many: games 0 … N-1.")],
    out: Annotated[Path, typer.Option(help="Folder for the record files.")],
    first: Annotated[
        int | None, typer.Option(help="Games K … K+N-1: a part of a longer run, for one of many machines.")
    ] = None,
    seed: Seed = 0,
    threads: Annotated[int, typer.Option(help="Threads; changes the speed, not a byte.")] = 1,
    batch: Annotated[int, typer.Option(help="Games in flight a thread; changes the speed, not a byte.")] = 64,
    sims: Annotated[int, typer.Option(help="Simulations a move.")] = 100,
    precision: Precision = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, such as temperature=1.")] = None,
    as_json: Json = False,
) -> None:
    """Play games of a model against itself into record files."""
    from az.commands.selfplay import selfplay_command
    from az.engine.system.cores import most_workers

    for value, high, option in (
        (games, 10**9, "--games"), (threads, most_workers(), "--threads"), (batch, 65_536, "--batch"),
        (sims, 10**6, "--sims"),
    ):  # fmt: skip
        _within(value, 1, high, option)
    _within(seed, 0, MAX_SEED, "--seed")
    _within(first or 0, 0, MAX_GAME - games, "--first")
    settings = with_options(settings, precision=precision)
    values = selfplay_command(model, games, seed, out, threads, batch, sims, settings, as_json, first)
    text = "{games} games, {rows} rows, {seconds:.1f} s, {simulations_per_s:,.0f} simulations a second → {out}"
    emit(as_json, values, text.format(**values))


@app.command()
def export(
    checkpoint: Annotated[Path, typer.Argument(help="RUN/checkpoints/step-…, or a run: its newest.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    as_json: Json = False,
) -> None:
    """Prove a checkpoint finite and write it as ONNX."""
    from az.commands.export import export_command

    card = export_command(checkpoint, out, force)
    emit(as_json, card, f"{out}: step {card['step']}, torch and onnxruntime differ by {card['parity_error']:.1e}")


@app.command()
def arena(
    a: Annotated[str, typer.Argument(help=PLAYER)],
    b: Annotated[str, typer.Argument(help=PLAYER)],
    games: Annotated[int, typer.Option(help="Games; colors are paired.")] = 100,
    sims: Annotated[int, typer.Option(help="Simulations a move of the models; 0 = the network alone.")] = 200,
    sims_b: Annotated[int | None, typer.Option(help="Simulations of the model B; default: --sims.")] = None,
    seed: Seed = 0,
    game: Annotated[str | None, typer.Option(help="The game, where neither player is a model.")] = None,
    sprt: Annotated[str | None, typer.Option(help="ELO0:ELO1, stop as soon as it is decided which holds.")] = None,
    cluster: MatchCluster = None,
    as_json: Json = False,
) -> None:
    """Match of two players: a model, random, rollouts:N, minimax:D or level:L. Figures are from A's side."""
    from az.commands.arena import match_command

    for value, option in ((sims, "--sims"), (sims if sims_b is None else sims_b, "--sims-b")):
        _within(value, 0, 10**6, option)
    _within(seed, 0, MAX_SEED, "--seed")
    values = match_command(a, b, games, sims, sims_b, seed, game, sprt, as_json, cluster)
    if as_json:
        print(json.dumps(values))


@app.command()
def score(
    model: Annotated[str, typer.Argument(help="An ONNX file, a shipped model, or a run: its versions are compared.")],
    sims: Annotated[str, typer.Option(help="Simulations a move, with commas; 0 = the network alone.")] = "0,100",
    positions: Annotated[str | None, typer.Option(help="A file of solved positions, where not az's own.")] = None,
    games: Annotated[int, typer.Option(help="Games of each match of the ladder; 0 = no ladder.")] = 20,
    picture: Annotated[str | None, typer.Option(help="FILE.svg or .png: how the run has learned.")] = None,
    seed: Seed = 0,
    cluster: MatchCluster = None,
    as_json: Json = False,
) -> None:
    """How good a network is: solved positions, its value against known outcomes, a ladder of players."""
    from az.commands.score import score_command, score_text
    from az.engine.system.waiting import Waiting

    _within(games, 0, 10**6, "--games")
    _within(seed, 0, MAX_SEED, "--seed")
    with Waiting() as waiting:
        values = score_command(model, sims, positions, games, seed, waiting.stage, picture, cluster)
    emit(as_json, values, "" if as_json else score_text(values))


@app.command()
def bench(
    game: Annotated[str, typer.Argument(help="See az games.")] = "connect4",
    model: Annotated[str | None, typer.Option(help="An ONNX file, where not the fixed one.")] = None,
    repeats: Annotated[int, typer.Option(help="Runs; figures are their medians.")] = 5,
    seconds: Annotated[float, typer.Option(help="Seconds of each phase of a run.")] = 2.0,
    threads: Annotated[int, typer.Option(help="Processes side by side; 0 = one a core.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure what this machine can do and what az makes of it."""
    from az.commands.bench import bench_command, bench_text
    from az.engine.system.cores import most_workers

    _within(repeats, 1, 1000, "--repeats")
    _within(threads, 0, most_workers(), "--threads")
    if not 0.05 <= seconds <= 3600:
        raise WrongRequest(f"--seconds is {seconds}: it must lie between 0.05 and 3600.")
    values = bench_command(game, model, repeats, seconds, threads, lambda text: print(text, file=sys.stderr))
    emit(as_json, values, "" if as_json else bench_text(values))


@app.command()
def doctor(
    target: Annotated[str, typer.Argument(metavar="RUN|INCIDENT", help="A run, or RUN/health/incident-NNNN.")],
    html: Annotated[Path | None, typer.Option(help="The page to write; of an incident: INCIDENT/page.html.")] = None,
    no_replay: Annotated[bool, typer.Option("--no-replay", help="Only look: run nothing again.")] = False,
    as_json: Json = False,
) -> None:
    """Explain an incident and run it again, or tell how a run is."""
    from az.commands.doctor import doctor as examine
    from az.train.doctor.text import text_of

    facts = examine(target, not no_replay, html, lambda text: print(text, file=sys.stderr))
    emit(as_json, facts, "" if as_json else text_of(facts, not knows("▁█")))


@app.command()
def drill(
    seeds: Annotated[int, typer.Option(help="Seeds of every fault; each strikes somewhere else.")] = 2,
    only: Annotated[str | None, typer.Option(help="Faults, such as D01,D21.")] = None,
    controls: Annotated[bool, typer.Option(help="Fly the controls too, which must stay silent.")] = True,
    clean_steps: Annotated[int, typer.Option(help="Steps of the run without a fault.")] = 300,
    as_json: Json = False,
) -> None:
    """Put known faults into short runs and see whether each is stopped, named and undone."""
    from az.commands.drill.command import answer, drill_command, summary

    _within(seeds, 1, 10_000, "--seeds")
    _within(clean_steps, 1, 10**7, "--clean-steps")
    names = [name.strip() for name in only.split(",")] if only is not None else []
    say = sys.stderr if as_json else sys.stdout
    values = drill_command(seeds, names, controls, clean_steps, lambda text: print(text, flush=True, file=say))
    emit(as_json, values, "" if as_json else summary(values))
    if not answer(values):
        raise typer.Exit(1)


@app.command()
def play(
    game: Annotated[str | None, typer.Argument(help="See az games; default: the model's, or connect4.")] = None,
    model: Annotated[str | None, typer.Option(help=f"{PLAYER} Default: the shipped model, or rollouts.")] = None,
    sims: Annotated[int | None, typer.Option(help="Simulations of the engine for each move; default: 400.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds of the engine for each move.")] = None,
    level: Annotated[int | None, typer.Option(help="1 for a beginner … 10 for full strength.")] = None,
    second: Annotated[bool, typer.Option("--second", help="Let the engine begin.")] = False,
    position: Annotated[str | None, typer.Option(help="Where to start, in the game's position text.")] = None,
    load: Annotated[Path | None, typer.Option(help="A saved game, PDN, GGF or a list of moves to begin with.")] = None,
    number: Annotated[int | None, typer.Option(help="Which game of the file; default: the first.")] = None,
    web: Annotated[bool, typer.Option("--web", help="On a board in the browser; more options: az web.")] = False,
) -> None:
    """Play against a model, or another player, in the terminal or the browser."""
    from az.commands.play import check_effort, check_load, play_command

    if web:
        from az.commands.web import web_command

        check_effort(sims, seconds, level)
        check_load(load, number, position)
        human = 1 if second else 0
        code = web_command(
            game, model, sims=sims, seconds=seconds, level=level, human=human, position=position, file=load,
            number=number,
        )  # fmt: skip
        raise typer.Exit(code)
    raise typer.Exit(play_command(game, model, sims, seconds, 1 if second else 0, position, level, load, number))


@app.command()
def web(
    model: Annotated[str | None, typer.Argument(help="An ONNX file, a run or a shipped model.")] = None,
    port: Annotated[int | None, typer.Option(help="Default: 8420, or any that is free.")] = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only say where it is.")] = False,
) -> None:
    """Play and analyze on a board in the browser: a server on this machine alone."""
    from az.commands.web import web_command

    raise typer.Exit(web_command(None, model, port=port, browser=not no_browser))


@app.command()
def analyze(
    model: Annotated[str | None, typer.Argument(help="An ONNX file, a run or a shipped model.")] = None,
    sims: Annotated[int | None, typer.Option(help="Simulations of a request that does not say; default: 400.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds of a request that does not say.")] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of requests and answers.")] = False,
) -> None:
    """Answer questions about positions: JSON lines in and out (docs/analysis.md)."""
    from az.commands.analyze import analyze_command
    from az.engine.analysis.answers import schema_text

    if schema:
        print(schema_text(), end="")
        return
    if model is None:
        raise WrongRequest("missing argument 'model': name an ONNX file, a run or a shipped model.")
    raise typer.Exit(analyze_command(model, sims, seconds))


for _speak in (hub, nboard, gtp):
    app.command()(_speak)


def main() -> NoReturn:
    """Expected errors are one sentence on stderr; exit 0 done, 1 the answer is no, 2 the request was wrong."""
    # A thread of torch that waits must not keep a core from self-play, or from whatever else runs: it spins otherwise.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    open_closed_streams()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except AzError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, Stopped) as stop:
        complain("stopped.")
        sys.exit(getattr(stop, "exit_code", 130))
    except BrokenPipeError:
        forget_stdout()
        sys.exit(1)
    except Exception as error:
        ending = ending_of(error)
        if ending is None:
            raise
        if isinstance(error, OSError):
            forget_stdout()
        if ending[1] is not None:
            complain(ending[1])
        sys.exit(ending[0])


if __name__ == "__main__":
    main()
