"""`az train` and `az resume`: from a person's request to a run that a person likes to watch."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

from az.engine.errors import NothingToDo, Refused, WrongRequest
from az.engine.game import compile_rules, load_game
from az.engine.inference.model_resolver import newest_model
from az.engine.players import make_player
from az.engine.system.disk_errors import sentence
from az.engine.system.safe_read import read_regular
from az.engine.system.stopping import on_stop_signal, raise_stopped
from az.engine.system.waiting import Waiting, modules_loaded
from az.engine.terminal.progress import TrainingDisplay
from az.train.cluster.request import HERE, Elsewhere
from az.train.config import RunConfig, check, from_toml, toml_values, with_settings
from az.train.machine import check_machine
from az.train.presets import preset as load_preset
from az.train.run.folder import MOST_CONFIG, RUNS, RunFolder, free_name, run_path

DETERMINISTIC_STEPS = 500
FIXED = ("game", "preset", "seed", "deterministic", "net")  # what a run that has begun cannot change


def new_run(
    game: str | None,
    name: str | None,
    preset: str | None,
    seed: int | None,
    deterministic: bool,
    minutes: float | None,
    steps: int | None,
    settings: list[str],
    begin_from: str | None = None,
    file: str | None = None,
    elsewhere: Elsewhere = HERE,
) -> None:
    """Make the run's folder and train. Raises WrongRequest for a request that cannot be met.

    file: a TOML file as runs/NAME/config.toml, in place of the preset's settings; what else is given goes before it.

    begin_from: a checkpoint, or a run: the weights that it begins with; its network takes the place of the preset's,
    and net.… in `settings` makes it larger.

    elsewhere: other machines that make games.
    """
    if minutes is not None and steps is not None:
        raise WrongRequest("--minutes and --steps exclude each other: give one of them.")
    base = _begin_with(game, preset, file)
    game, preset = base.game, base.preset
    deterministic = deterministic or (file is not None and base.deterministic)
    if deterministic and minutes is not None:
        raise WrongRequest(
            "a deterministic run cannot be limited by --minutes (no two minutes are alike): use --steps."
        )
    config = replace(base, seed=base.seed if seed is None else seed, deterministic=deterministic)
    config = with_settings(_limited(config, minutes, steps), settings)
    for key, wanted, instead in (("game", game, "az train GAME"), ("preset", preset, "--preset")):
        if getattr(config, key) != wanted:
            raise WrongRequest(f"{key} cannot be changed by --set: use {instead}.")
    if config.deterministic and not config.steps:
        config = replace(config, steps=DETERMINISTIC_STEPS)
    if config.deterministic:
        config = replace(config, minutes=0.0)
    elsewhere.check(config)
    path = run_path(free_name(game) if name is None else name)
    with on_stop_signal(raise_stopped):
        _try_out(config)
        first = None
        if begin_from is not None:
            from az.train.run.beginning import find_source, fitted, planted

            source = find_source(begin_from, RUNS)
            config = fitted(config, source, settings)
            first = planted(source, load_game(game), config)
        _train(RunFolder.create(path, config, first), config, elsewhere)


def _begin_with(game: str | None, preset: str | None, file: str | None) -> RunConfig:
    """The preset's configuration for the game, or the file's: keys that it leaves out are as in its preset."""
    if file is None:
        if game is None:
            raise WrongRequest("missing argument 'game': write az train GAME, or --config FILE that names one.")
        return load_preset(game, preset or "quick")
    path = Path(file).expanduser()
    try:
        text = read_regular(path, MOST_CONFIG).decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise WrongRequest(f"the configuration '{file}' cannot be read: {reason}.") from None
    try:
        values = toml_values(text)
        named = str(values.get("game") or "")
        if not (game or named):
            raise WrongRequest('it names no game: add game = "NAME", or give az train GAME')
        if game and named and game != named:
            raise WrongRequest(f"it is of {named}, not of {game}: leave {game} out, or give another file")
        base = load_preset(game or named, preset or str(values.get("preset") or "quick"))
        found = from_toml(text, base)
    except WrongRequest as error:
        raise WrongRequest(f"the configuration '{file}': {error}") from None
    return replace(found, game=base.game, preset=base.preset, az_version="")


def resume_run(
    name: str, minutes: float | None, steps: int | None, settings: list[str], finished_ok: bool = False,
    elsewhere: Elsewhere = HERE,
) -> None:  # fmt: skip
    """Go on with a run, from now on with these settings. Raises WrongRequest or Refused.

    finished_ok: a run whose minutes or steps are over is said to be, and that is no error.
    """
    if minutes is not None and steps is not None:
        raise WrongRequest("--minutes and --steps exclude each other: give one of them.")
    folder, config = RunFolder.open(run_path(name))
    try:
        load_game(config.game)
    except WrongRequest as error:
        raise Refused(f"{folder.path / 'config.toml'} asks for a game that cannot be played: {error}") from None
    changed = with_settings(_limited(config, minutes, steps), settings)
    for key in FIXED:
        if getattr(changed, key) != getattr(config, key):
            raise WrongRequest(f"{key} of a run that has begun cannot be changed: make a new run with az train.")
    elsewhere.check(changed)
    with on_stop_signal(raise_stopped):
        _try_out(changed)
        try:
            _train(folder, changed, elsewhere, keep=changed != config)
        except NothingToDo as finished:
            if not finished_ok:
                raise
            print(finished)


def _try_out(config: RunConfig) -> None:
    """What would fail later fails now: a refused request leaves no folder behind. Raises WrongRequest or Refused."""
    game = load_game(config.game)
    check_machine(config, game)
    compile_rules(game)
    if config.arena.games:
        make_player(config.arena.opponent, game, config.arena.simulations)
    with Waiting() as waiting:
        waiting.stage(modules_loaded("PyTorch"))  # which takes seconds, and is needed only from here on
        from az.train.process import device_of

        device_of(config)
        for module in ("az.export.run_services", "az.train.run.loop"):
            import_module(module)


def _limited(config: RunConfig, minutes: float | None, steps: int | None) -> RunConfig:
    """A limit of one kind takes the place of the preset's limit of the other."""
    for value, option in ((minutes, "--minutes"), (steps, "--steps")):
        if value is not None and not value > 0:
            raise WrongRequest(f"{option} is {value}: it must be above 0.")
    if minutes is not None:
        config = replace(config, minutes=minutes, steps=0)
    if steps is not None:
        config = replace(config, steps=steps, minutes=0.0)
    check(config)
    return config


def _train(folder: RunFolder, config: RunConfig, elsewhere: Elsewhere, keep: bool = False) -> None:
    """keep: the configuration is not the folder's; it becomes so once nothing refuses the request."""
    from az.export.run_services import RunServices
    from az.train.run.loop import Run

    name = folder.path.name
    try:
        with TrainingDisplay(f"{config.game} · {config.preset} · {name}") as display:
            display.between = modules_loaded("what a run needs")

            def report(stats: dict[str, Any]) -> None:
                display.update({key: value for key, value in stats.items() if value is not None})

            services = RunServices(load_game(config.game), config, display.message)
            run = Run(folder, config, services, report, display.message, elsewhere.selfplay())
            if keep:
                folder.keep_config(config)
            run.train()
    except BrokenPipeError:
        raise
    except OSError as error:  # the disk is full, …: nothing half-written is left
        raise WrongRequest(sentence(error, f"go on with `az resume {name}`")) from error
    finally:
        with suppress(OSError):
            folder.unlock()
    newest = newest_model(folder.models)
    print(f"{folder.path}: {run.learner.steps} steps, newest model {newest.name if newest else 'none'}")
    if run.stop_asked:
        print(f"Go on with: az resume {name}")
    else:
        print(f"Play against it: az play {config.game} --model {name}")
        print(f"Measure it:      az arena {name} rollouts:200 --sims 50")
