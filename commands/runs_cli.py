"""The options of `az runs`, `az export-run` and `az import-run`: cli.py has those of all other commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from az.commands.output_cli import Json, emit
from az.engine.errors import WrongRequest

runs_app = typer.Typer(
    name="runs",
    help="The training runs: list, compare, plot, delete.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
Runs = Annotated[list[str], typer.Argument(metavar="RUN …", help="Names under runs/, or folders.")]


@runs_app.callback(invoke_without_command=True)
def runs(context: typer.Context) -> None:
    """The training runs under runs/: list (also without a word), compare, plot, delete."""
    if context.invoked_subcommand is None:
        list_()


@runs_app.command("list")
def list_(as_json: Json = False) -> None:
    """Every run: game, preset, state, steps, time, incidents, strength."""
    from az.commands.runs import list_runs, runs_text

    found = list_runs()
    emit(as_json, {"runs": found}, "" if as_json else runs_text(found))


@runs_app.command()
def compare(runs: Runs, as_json: Json = False) -> None:
    """Where the configurations differ, and strength at equal rows and at equal time."""
    from az.commands.runs import compare_runs, compare_text

    found = compare_runs(runs)
    emit(as_json, found, "" if as_json else compare_text(found))


@runs_app.command()
def plot(runs: Runs, out: Annotated[str, typer.Option(help="FILE.svg or FILE.png.")]) -> None:
    """Draw losses, entropy, throughput and strength of one run or several."""
    from az.commands.runs import plot_runs

    print(plot_runs(runs, out))


@runs_app.command()
def delete(
    runs: Runs,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete runs that no process uses; asks first."""
    from az.commands.runs import delete_runs

    if not yes and not sys.stdin.isatty():
        raise WrongRequest("deleting asks first, and there is no terminal to ask on: give --yes.")
    gone = delete_runs(runs, lambda question: yes or typer.confirm(question))
    for path in gone:
        print(f"{path}: deleted")
    if not gone:
        raise typer.Exit(1)


def export_run(
    run: Annotated[str, typer.Argument(help="A run (its newest model), RUN@best or RUN@12.")],
    file: Annotated[Path, typer.Argument(help="The file to write, such as c4.zip.")],
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    checkpoint: Annotated[
        bool, typer.Option("--checkpoint", help="Also its newest checkpoint: az train --from can begin from it.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Pack a run's model, card, configuration and score into one file."""
    from az.commands.run_files import export_run as write

    found = write(run, file, force, checkpoint)
    text = f"{file}: {found['run']}, model {found['model']}, {sum(found['files'].values()) / 1e6:.1f} MB unpacked"
    emit(as_json, found, text)


def import_run(
    file: Annotated[Path, typer.Argument(help="A file of az export-run.")],
    name: Annotated[str | None, typer.Option(help="Name of the run; default: the one that it had.")] = None,
    as_json: Json = False,
) -> None:
    """Make a run under runs/ of such a file: to look at, measure, play with, and begin another one from."""
    from az.commands.run_files import import_run as read

    found = read(file, name)
    text = f"{found['folder']}: model {found['model']}\nPlay against it: az play {found['game']} --model {found['run']}"
    if found["checkpoint"] is not None:
        text += f"\nTrain on from it: az train {found['game']} --from {found['run']}"
    emit(as_json, found, text)
