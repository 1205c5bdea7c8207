"""The options of `az train` and `az resume`: cli.py has those of most other commands."""

from __future__ import annotations

from typing import Annotated

import typer

from az.engine.errors import WrongRequest

OnIncident = Annotated[
    str | None, typer.Option(help="stop or recover (the default), when a number goes bad: docs/health.md.")
]
Precision = Annotated[
    str | None,
    typer.Option(
        help="fp32, int8, fp16, or auto: int8 where the CPU is faster with it, fp16 on a GPU, if the model has it."
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(help="Self-play on a Ray cluster: HOST:PORT, or local: docs/how-to/cluster.md."),
]
Records = Annotated[
    str | None, typer.Option(help="A folder: record files of az selfplay that appear in it become rows of the run.")
]


def with_options(settings: list[str] | None, **options: str | None) -> list[str]:
    """The settings, and those options that were given, under the names that they have there; not both of one name."""
    names = {"precision": "selfplay.precision", "on_incident": "health.on_incident"}
    given = {name: value for name, value in options.items() if value is not None}
    keys = [setting.partition("=")[0].strip() for setting in settings or []]
    for name in given:
        if key := next((key for key in keys if key in (name, names.get(name))), None):
            raise WrongRequest(f"--{name.replace('_', '-')} and --set {key}=… exclude each other: give one of them.")
    return [*(settings or []), *(f"{names[name]}={value}" for name, value in given.items() if name in names)]


def train(
    game: Annotated[str | None, typer.Argument(help="The name of a game: see az games.")] = None,
    run: Annotated[
        str | None, typer.Option(help="Name of the run, a folder under runs/; default: GAME-1, GAME-2, …")
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            help="quick (fast on two cores; the default), long (10 hours), gpu, or seed (the founding description; no"
            " time limit)."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Everything random comes from it; default: 0.")] = None,
    deterministic: Annotated[
        bool, typer.Option("--deterministic", help="Take turns: a seed gives the same bytes.")
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Default: 1.5 (tictactoe), 5 (connect4), 15 (othello6), 30 (othello), 60 (checkers, gomoku9),"
            " 90 (hex), 240 (gomoku); seed: no limit."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps, in place of minutes.")] = None,
    precision: Precision = None,
    on_incident: OnIncident = None,
    begin_from: Annotated[
        str | None, typer.Option("--from", help="A run or checkpoint to begin with; larger sizes may be --set net.…")
    ] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, such as learner.batch=512.")] = None,
    config: Annotated[str | None, typer.Option(help="A TOML as runs/NAME/config.toml; other options go first.")] = None,
    cluster: Cluster = None,
    records: Records = None,
) -> None:
    """Train a network, from zero or from what another run has learned."""
    from az.commands.train import Elsewhere, new_run

    also = {"seed": seed, "minutes": minutes, "steps": steps, "deterministic": deterministic or None}
    given = {name: None if value is None else str(value) for name, value in also.items()}
    settings = with_options(settings, precision=precision, on_incident=on_incident, **given)
    elsewhere = Elsewhere(cluster, records)
    new_run(game, run, preset, seed, deterministic, minutes, steps, settings, begin_from, config, elsewhere)


def resume(
    run: Annotated[str, typer.Argument(help="The name of a run under runs/, or its folder.")],
    minutes: Annotated[float | None, typer.Option(help="Minutes of training in all, those before included.")] = None,
    steps: Annotated[int | None, typer.Option(help="Training steps in all, those before included.")] = None,
    precision: Precision = None,
    on_incident: OnIncident = None,
    settings: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, from now on.")] = None,
    finished_ok: Annotated[bool, typer.Option("--finished-ok", help="Exit 0 where nothing is left to do.")] = False,
    cluster: Cluster = None,
    records: Records = None,
) -> None:
    """Go on with a run from its last checkpoint."""
    from az.commands.train import Elsewhere, resume_run

    limits = {"minutes": None if minutes is None else "", "steps": None if steps is None else ""}
    changes = with_options(settings, precision=precision, on_incident=on_incident, **limits)
    resume_run(run, minutes, steps, changes, finished_ok, Elsewhere(cluster, records))
