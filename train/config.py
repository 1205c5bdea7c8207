"""Everything a run depends on besides the code: frozen records, one `key` a line with its meaning, range and source.

The meanings are written into config.toml as comments, so the file explains itself. Nothing here imports torch.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from typing import Any, cast

from az.engine.errors import WrongRequest
from az.engine.selfplay.batch import SelfplayConfig
from az.engine.settings import check_value, key, parse_value, typed_value
from az.train.architecture import AUXILIARY, BLOCKS, VALUE_HEADS


@dataclass(frozen=True)
class NetConfig:
    """The network (train/architecture.py). Defaults: the founding description (preset `seed`)."""

    channels: int = key(64, "channels of the trunk", 1, 1024)
    blocks: int = key(5, "blocks of the trunk", 0, 100)
    policy_channels: int = key(2, "channels of the policy head's 1x1 convolution; Silver et al. 2017: 2", 1, 1024)
    value_channels: int = key(1, "channels of the value head's 1x1 convolution; Silver et al. 2017: 1", 1, 1024)
    value_hidden: int = key(0, "hidden units of the value head; 0 = flatten straight to one unit", 0, 8192)
    bn_momentum: float = key(0.001, "share of a batch in the batch norm's running averages (1 - decay)", 1e-6, 1.0)
    init: str = key("xavier", "initial weights; the founding description: Xavier (Glorot) uniform", one_of=("xavier",))
    block: str = key("residual", "kind of the blocks; squeeze_excite: Hu et al. 2018", one_of=BLOCKS)
    value_head: str = key("scalar", "scalar: one unit and tanh; wdl: win, draw and loss by softmax", one_of=VALUE_HEADS)
    auxiliary: str = key("", "a further output for the loss alone; root_value: the search's value", one_of=AUXILIARY)


@dataclass(frozen=True)
class LearnerConfig:
    """The loss and the optimizer. Defaults: the founding description."""

    batch: int = key(1024, "rows of one training step", 2, 65_536)
    optimizer: str = key("adam", "adam, or sgd with momentum 0.9", one_of=("adam", "sgd"))
    learning_rate: float = key(1e-4, "highest learning rate; Adam 1e-3 is the paper's default", 1e-9, 10.0)
    warmup_steps: int = key(0, "steps over which the rate rises in a line from 0", 0, 1_000_000)
    lr_final_fraction: float = key(1.0, "the rate falls by cosine to this share of itself; 1 = constant", 0.0, 1.0)
    l2: float = key(1e-4, "L2 in the loss: this times half the squared kernels of every layer; AlphaZero: 1e-4", 0.0, 1)
    masked_loss: bool = key(False, "softmax over legal moves only; peers: several times faster, +30 Elo")
    symmetries: bool = key(False, "turn every row by a random symmetry of the game (none for checkers)")
    q_mix: float = key(0.0, "share of the root's value in the value target; Willemsen 2021; 0 = result only", 0.0, 1.0)
    td_lambda: float = key(
        1.0, "value target by TD(lambda): 1 = the game's result, less = the search's opinions of later moves", 0.0, 1.0
    )
    value_weight: float = key(1.0, "weight of the value's squared error beside the policy's cross-entropy", 0.0, 100.0)
    auxiliary_weight: float = key(0.25, "weight of the squared error of net.auxiliary in the loss", 0.0, 100.0)
    grad_clip: float = key(0.0, "largest norm of the gradient; 0 = off", 0.0, 1e6)
    precision: str = key(
        "fp32",
        "of the products in forward and backward (weights and sums stay fp32); auto: bf16 where it is fast",
        one_of=("auto", "fp32", "bf16"),
    )
    cuda_graph: bool = key(False, "on a GPU: forward and backward as one graph; off until it was measured on one")
    average: float = key(0.0, "decay a step of the averaged weights that are published; 0 = off", 0.0, 0.999999)


@dataclass(frozen=True)
class ReplayConfig:
    """Which rows are trained on, and how often. Defaults: the founding description's plain window."""

    window: int = key(1_000_000, "most rows drawn from; the founding description: the last 1,000,000", 1, 10**9)
    window_start: int = key(1_000_000, "rows after which the window grows slower than the run", 1, 10**9)
    window_exponent: float = key(1.0, "window = start * (rows / start) ** this; KataGo: 0.65; 1 = plain", 0.01, 1.0)
    min_rows: int = key(10_000, "rows that must exist before the first step", 1, 10**9)
    reuse: float = key(4.0, "rows trained for every row made; KataGo and AZArcade: 4 to 8", 0.01, 1000.0)
    publish_every_steps: int = key(250, "steps between models handed to self-play; 0 = by time alone", 0, 10**6)
    publish_every_seconds: float = key(0.0, "seconds between models handed to self-play; 0 = by steps alone", 0.0, 1e7)


@dataclass(frozen=True)
class ArenaConfig:
    """Scores while the run goes on."""

    games: int = key(40, "games of one score; 0 = no scores", 0, 10_000)
    simulations: int = key(50, "simulations a move; 0 = the network alone", 0, 100_000)
    opponent: str = key("rollouts:100", "whom the newest model plays: random, rollouts:N, minimax:D or a model")
    per_run: int = key(0, "scores in a run, spread over its minutes or steps, the last at the end", 0, 10_000)
    every_minutes: float = key(0.0, "minutes between further scores; 0 = none", 0.0, 1e6)


@dataclass(frozen=True)
class HealthConfig:
    """What is done about numbers that go bad (docs/health.md)."""

    on_incident: str = key("recover", "put the state back and go on, or stop there", one_of=("recover", "stop"))
    preflight: str = key("stop", "when a look at one step finds something left out", one_of=("stop", "warn", "off"))


@dataclass(frozen=True)
class RunConfig:
    """One training run, resolved. (game, config, seed) in deterministic mode give the same weights."""

    game: str = key("", "the game: see az games")
    preset: str = key("quick", "the preset this came from, before settings")
    az_version: str = key("", "the az that wrote this")
    seed: int = key(0, "everything random comes from it", 0, 2**63 - 1)
    minutes: float = key(0.0, "minutes of the run; 0 = no limit", 0.0, 1e6)
    steps: int = key(0, "training steps of the run; 0 = no limit", 0, 10**9)
    workers: int = key(0, "self-play workers; 0 = one a core", 0, 4096)
    device: str = key("auto", "where the network trains", one_of=("auto", "cpu", "cuda"))
    deterministic: bool = key(False, "take turns (play, then train), so that a seed gives the same run again")
    games_per_turn: int = key(64, "games of a turn, when deterministic", 1, 10_000)
    steps_per_turn: int = key(0, "steps of a turn, when deterministic; 0 = as replay.reuse says", 0, 10**6)
    checkpoint_minutes: float = key(5.0, "minutes between checkpoints", 0.001, 1e6)
    checkpoint_steps: int = key(0, "steps between checkpoints; 0 = by time alone", 0, 10**9)
    keep_checkpoints: int = key(3, "newest checkpoints that are kept", 1, 1_000_000)
    net: NetConfig = field(default_factory=NetConfig)
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    replay: ReplayConfig = field(default_factory=ReplayConfig)
    selfplay: SelfplayConfig = field(default_factory=SelfplayConfig)
    arena: ArenaConfig = field(default_factory=ArenaConfig)
    health: HealthConfig = field(default_factory=HealthConfig)

    @property
    def provider(self) -> str:
        """Where self-play evaluates: a GPU's rounding is not the same everywhere."""
        return "cpu" if self.deterministic else "auto"


SECTIONS: dict[str, type[Any]] = {
    "net": NetConfig,
    "learner": LearnerConfig,
    "replay": ReplayConfig,
    "selfplay": SelfplayConfig,
    "arena": ArenaConfig,
    "health": HealthConfig,
}


def all_keys() -> dict[str, Field[Any]]:
    """Every key as it is written (`seed`, `learner.batch`, …) and its field, in the file's order."""
    found: dict[str, Field[Any]] = {}
    for prefix, section in {"": RunConfig, **{name + ".": kind for name, kind in SECTIONS.items()}}.items():
        for item in fields(section):
            if item.name not in SECTIONS:
                found[prefix + item.name] = item
    return found


def to_toml(config: RunConfig) -> str:
    """The whole configuration as TOML, each key with its meaning; `from_toml` gives the same record back."""
    config = config if config.az_version else replace(config, az_version=installed_version())
    lines = _toml_lines(config)
    for name in SECTIONS:
        lines += ["", f"[{name}]", *_toml_lines(getattr(config, name))]
    return "\n".join(lines) + "\n"


def from_toml(text: str, base: RunConfig | None = None) -> RunConfig:
    """Read what `to_toml` wrote, or a shorter file: keys left out are as in `base`, else have their default.

    Raises WrongRequest for a key that there is not, and for a value of another type or out of range.
    """
    return _checked_build(RunConfig() if base is None else base, toml_values(text))


def toml_values(text: str) -> dict[str, Any]:
    """The keys of such a file as they are written on the command line, and their values. Raises WrongRequest."""
    try:
        tree = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError too: a number of thousands of digits
        raise WrongRequest(f"the configuration is not TOML: {error}.") from None
    known = all_keys()
    values: dict[str, Any] = {}
    for name, value in tree.items():
        found = [(name, value)]
        if name in SECTIONS and isinstance(value, dict):
            found = [(f"{name}.{key}", leaf) for key, leaf in cast("dict[str, Any]", value).items()]
        for dotted, leaf in found:
            values[dotted] = typed_value(dotted, leaf, _known(dotted, known))
    return values


def with_settings(config: RunConfig, settings: Sequence[str]) -> RunConfig:
    """The configuration with settings such as "learner.batch=512" laid over it. Raises WrongRequest."""
    known = all_keys()
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = (part.strip() for part in setting.partition("="))
        if not equals:
            raise WrongRequest(f"'{setting}' is not a setting: write KEY=VALUE, such as learner.batch=512.")
        values[name] = parse_value(name, text, _known(name, known))
    return _checked_build(config, values)


def check(config: RunConfig) -> None:
    """Raises WrongRequest, in one sentence, for the first value that is out of range or at odds with another."""
    for name, item in all_keys().items():
        check_value(name, _get(config, name), item)
    if not re.fullmatch(r"[A-Za-z0-9_.-]*", config.game):
        raise WrongRequest(f"game is '{config.game!a}': a game's name has letters, digits, '_', '.' and '-' only.")
    _at_most(config, "selfplay.fast_simulations", "selfplay.simulations")
    _at_most(config, "replay.window_start", "replay.window")
    _at_most(config, "replay.min_rows", "replay.window")
    if not config.replay.publish_every_steps and not config.replay.publish_every_seconds:
        raise WrongRequest(
            "replay.publish_every_steps and replay.publish_every_seconds are both 0: self-play would never"
            " see a new model; set one of them."
        )


def _checked_build(config: RunConfig, values: Mapping[str, Any]) -> RunConfig:
    for name, value in values.items():
        section, dot, leaf = name.partition(".")
        if dot:
            config = replace(config, **{section: replace(getattr(config, section), **{leaf: value})})
        else:
            config = replace(config, **{name: value})
    check(config)
    return config


def installed_version() -> str:
    try:
        return version("az-engine")
    except PackageNotFoundError:  # run from a bare checkout
        return "unknown"


def _toml_lines(record: Any) -> list[str]:
    lines: list[str] = []
    for item in fields(record):
        value = getattr(record, item.name)
        if is_dataclass(value):
            continue
        if isinstance(value, bool):
            text = "true" if value else "false"
        else:
            text = json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
        lines.append(f"{item.name} = {text}  # {item.metadata['meaning']}")
    return lines


def _initials(name: str) -> str:
    """What many call it: lr for learner.learning_rate; "" for a single word."""
    words = name.rpartition(".")[2].split("_")
    return "".join(word[:1] for word in words) if len(words) > 1 else ""


def _known(name: str, known: Mapping[str, Field[Any]]) -> Field[Any]:
    if name in known:
        return known[name]
    same_leaf = [k for k in known if k.rpartition(".")[2] == name.rpartition(".")[2]]
    same_leaf = same_leaf or [k for k in known if _initials(k) == name.rpartition(".")[2]]
    near = same_leaf or get_close_matches(name, known, 3) or get_close_matches(name.rpartition(".")[2], known, 3)
    if name in SECTIONS:
        hint = f"it is a section, with the keys {', '.join(item.name for item in fields(SECTIONS[name]))}"
    elif near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = f"the sections are {', '.join(SECTIONS)}."
    raise WrongRequest(f"there is no key '{name}': {hint}".rstrip(".") + ("" if hint.endswith("?") else "."))


def _get(config: RunConfig, name: str) -> Any:
    section, dot, leaf = name.partition(".")
    return getattr(getattr(config, section), leaf) if dot else getattr(config, name)


def _at_most(config: RunConfig, low: str, high: str) -> None:
    small, large = _get(config, low), _get(config, high)
    if small > large:
        raise WrongRequest(f"{low} is {small}: it must not be above {high}, which is {large}.")
