"""Which run a text means, what lies in its folder, and its configuration as plain values."""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any, cast

from az.engine.errors import Refused, WrongRequest
from az.engine.inference.model_resolver import RUNS, published_models
from az.engine.printable import quoted
from az.engine.system.safe_read import MB, is_regular, read_regular

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
INCIDENT = re.compile(r"incident-[0-9]{4,9}")
CHECKPOINT = re.compile(r"step-[0-9]{9,13}")
MOST_CONFIG = MB  # bytes
Config = dict[str, Any]


def run_names(runs: Path = RUNS) -> list[str]:
    """The names of the runs under `runs`, in order."""
    return sorted(path.parent.name for path in runs.glob("*/config.toml") if NAME.fullmatch(path.parent.name))


def find_run(text: str, runs: Path = RUNS) -> Path:
    """The folder of a run: a path to one, or a name under `runs`. Raises WrongRequest that names what comes near."""
    for place in (Path(text).expanduser(), runs / text):
        if text.strip() and is_regular(place / "config.toml"):
            return place
    names = run_names(runs)
    near = get_close_matches(text, names, 1)
    there = f"the runs are {', '.join(names)}" if names else "there are no runs here; make one with `az train GAME`"
    raise WrongRequest(f"there is no run '{quoted(text)}': {f'did you mean {near[0]}?' if near else there + '.'}")


def named_run(name: str, runs: Path = RUNS) -> Path:
    """The folder of a run by its name alone: never outside `runs`. Raises WrongRequest."""
    if not NAME.fullmatch(name) or not is_regular(runs / name / "config.toml"):
        raise WrongRequest(f"there is no run '{quoted(name)}' now: the list of runs shows those there are.")
    return runs / name


def config_of(run: Path) -> Config:
    """The run's configuration: "seed", "learner.batch", … and their values. Raises Refused."""
    path = run / "config.toml"
    try:
        tree = tomllib.loads(read_regular(path, MOST_CONFIG).decode())
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError):
        raise Refused(f"{path} is no configuration of a run: it is not TOML.") from None
    flat: Config = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{leaf}": item for leaf, item in cast("Config", value).items()}
        else:
            flat[name] = value
    return flat


def incidents(run: Path) -> list[Path]:
    """The folders of its incidents, oldest first."""
    found = [path for path in (run / "health").glob("incident-*") if INCIDENT.fullmatch(path.name)]
    return sorted((path for path in found if path.is_dir()), key=lambda path: int(path.name.partition("-")[2]))


def checkpoints(run: Path) -> list[Path]:
    """The folders of its checkpoints, oldest first."""
    found = [path for path in (run / "checkpoints").glob("step-*") if CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.partition("-")[2]))


def models(run: Path) -> list[Path]:
    """Its published models, oldest first: without its card a model is not published."""
    return published_models(run / "models")
