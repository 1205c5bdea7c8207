"""Configurations: round trip, typed settings, one sentence for every mistake."""

import dataclasses
import json

import pytest
from hostile_values import values
from hypothesis import given, settings
from hypothesis import strategies as st

from az.engine.errors import WrongRequest
from az.engine.game import game_names, load_game
from az.train.config import ArenaConfig, RunConfig, all_keys, check, from_toml, to_toml, with_settings
from az.train.presets import PRESETS, preset


@pytest.mark.parametrize("game", game_names())
@pytest.mark.parametrize("name", list(PRESETS))
def test_every_preset_survives_the_round_trip(game, name):
    config = preset(game, name)
    text = to_toml(config)
    again = from_toml(text)
    assert again.az_version
    assert dataclasses.replace(again, az_version="") == config
    assert to_toml(again) == text


def test_a_game_that_is_not_ours_has_presets_too(monkeypatch):
    strange = dataclasses.replace(load_game("tictactoe"), name="strange", planes_shape=(9, 11, 11))
    monkeypatch.setattr("az.train.presets.load_game", lambda _: strange)
    assert preset("strange", "quick").net.blocks == 5
    assert preset("strange", "seed").net.channels == 64


def test_the_seed_preset_is_the_founding_description():
    config = preset("tictactoe", "seed")
    net, learner, replay = config.net, config.learner, config.replay
    assert (net.channels, net.blocks, net.policy_channels, net.value_channels, net.value_hidden) == (64, 5, 2, 1, 0)
    assert (net.bn_momentum, net.init) == (0.001, "xavier")
    assert (learner.batch, learner.optimizer, learner.learning_rate, learner.l2) == (1024, "adam", 1e-4, 1e-4)
    assert (learner.masked_loss, learner.symmetries, learner.q_mix, learner.lr_final_fraction) == (False, False, 0, 1)
    assert (replay.window, replay.window_start, replay.window_exponent) == (1_000_000, 1_000_000, 1.0)
    assert (config.selfplay.simulations, config.selfplay.full_fraction) == (100, 1.0)


def test_settings_are_typed():
    config = with_settings(
        preset("tictactoe", "quick"),
        ["learner.batch=64", " selfplay.solve = false", "learner.learning_rate=1e-3", "device=cpu", "seed=1_000"],
    )
    assert (config.learner.batch, config.selfplay.solve, config.learner.learning_rate) == (64, False, 1e-3)
    assert (config.device, config.seed) == ("cpu", 1000)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("learner.batch", "not a setting"),
        ("learner.bach=3", "did you mean learner.batch"),
        ("learner.lr=3", "did you mean learner.learning_rate"),
        ("batch=3", "did you mean learner.batch"),
        ("selfplay.batch=3", "did you mean learner.batch"),
        ("learner=3", "section"),
        ("=3", "no key ''"),
        ("a.b.c=3", "sections are"),
        ("learner.batch=many", "learner.batch is 'many': it wants a whole number"),
        ("learner.batch=0", "learner.batch is 0: it must lie between 2 and"),
        ("learner.batch=1.5", "whole number"),
        ("learner.batch=" + "9" * 5000, "whole number"),
        ("learner.learning_rate=nan", "learner.learning_rate is nan"),
        ("learner.learning_rate=inf", "between"),
        ("learner.l2=-1", "learner.l2 is -1.0"),
        ("selfplay.solve=yes", "true or false"),
        ("selfplay.algorithm=alphabeta", "puct or gumbel"),
        ("device=tpu", "auto or cpu or cuda"),
        ("selfplay.fast_simulations=5000", "must not be above selfplay.simulations"),
        ("replay.publish_every_steps=0", "both 0"),
        ("game=a b", "letters"),
    ],
)
def test_a_bad_setting_is_one_sentence(setting, sentence):
    with pytest.raises(WrongRequest) as caught:
        with_settings(preset("tictactoe", "quick"), [setting])
    assert sentence in str(caught.value)
    assert str(caught.value)[-1] in ".?"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed =", "not TOML"),
        ("sed = 1", "did you mean seed"),
        ("[learner]\nbatch = true", "whole number"),
        ("[learner]\nlearning_rate = '1'", "a number"),
        ("[learner]\nlearning_rate = 1" + "0" * 400, "enormous"),
        ("[learner.batch]\nx = 1", "whole number"),
        ("learner = 3", "section"),
        ("[learnr]\nbatch = 3", "no key 'learnr'"),
        ("[selfplay]\nc_puct = inf", "selfplay.c_puct is inf"),
    ],
)
def test_a_bad_file_is_one_sentence(text, sentence):
    with pytest.raises(WrongRequest, match=sentence):
        from_toml(text)


def test_a_short_file_has_the_defaults_and_whole_numbers_are_floats_too():
    config = from_toml('game = "connect4"\n[learner]\ngrad_clip = 1')
    assert config.learner.grad_clip == 1.0
    assert isinstance(config.learner.grad_clip, float)
    assert config.learner.batch == RunConfig().learner.batch


def test_check_sees_records_made_by_hand():
    with pytest.raises(WrongRequest, match=r"arena.games is -1"):
        check(dataclasses.replace(RunConfig(), arena=ArenaConfig(games=-1)))


def test_every_key_has_a_meaning_in_the_file():
    lines = [line for line in to_toml(RunConfig(game="connect4")).splitlines() if "=" in line.split("#")[0]]
    assert len(lines) == len(all_keys())
    assert all(len(line.partition("  # ")[2]) > 5 for line in lines)


QUICK = preset("tictactoe", "quick")
KEYS = st.sampled_from([*all_keys(), "learner", "lerner.batch", "batch", "", "a.b.c"]) | st.text(max_size=12)
NUMBER = st.integers() | st.floats(allow_subnormal=False) | st.booleans().map(lambda value: str(value).lower())
VALUES = (
    NUMBER.map(str) | st.text(max_size=12) | st.sampled_from(["auto", "gumbel", "1e400", "1_0", "9" * 5000, " 8 ", ""])
)


def faults_of(make):
    """[] for a configuration that survives its file, or for one sentence without control characters."""
    try:
        config = make()
    except WrongRequest as error:
        text = str(error)
        return [] if text.isprintable() and text[-1] in ".?" and len(text) < 1000 else [text]
    check(config)
    again = dataclasses.replace(from_toml(to_toml(config)), az_version=config.az_version)
    return [] if again == config else [to_toml(config)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.builds("{}={}".format, KEYS, VALUES) | st.text(max_size=20), min_size=1, max_size=3))
def test_any_setting_is_taken_or_one_sentence(drawn):
    assert faults_of(lambda: with_settings(QUICK, drawn)) == []


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.sampled_from(list(all_keys())), st.data())
def test_any_value_of_the_right_kind_is_taken_or_out_of_its_range(name, data):
    kind = type(all_keys()[name].default)
    value = data.draw(
        {bool: st.booleans(), int: st.integers(0, 10**7), float: st.floats(0, 100, allow_subnormal=False)}.get(
            kind, st.text()
        )
    )
    assert faults_of(lambda: with_settings(QUICK, [f"{name}={str(value).lower()}"])) == []


def toml_of(value):
    return json.dumps(value) if not isinstance(value, float) else repr(value)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.text(max_size=60) | st.builds("[{}]\n{} = {}".format, KEYS, KEYS, values.map(toml_of)))
def test_any_file_is_read_or_one_sentence(text):
    assert faults_of(lambda: from_toml(text)) == []
