"""Levels for people: weights as stated, wins that are seen are taken, answers depend on position and key alone."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from az.engine.errors import WrongRequest
from az.engine.game import LOSS, WIN, game_names, load_game
from az.engine.inference.evaluator import UniformEvaluator
from az.engine.players import make_player
from az.engine.players.levels import LEVELS, OF_GAMES, LevelPlayer, drawn, level_of
from az.engine.rng import key_of
from az.engine.search.params import UNKNOWN, SearchParams
from az.engine.search.result import SearchResult
from az.engine.terminal.play import Engine, play

GAME = load_game("connect4")


def answer(priors: list[float], values: list[float], proven: list[int], root: int = UNKNOWN) -> SearchResult:
    """A search of three moves, 10 to 12, of which it would play 11."""
    return SearchResult(
        actions=np.array([10, 11, 12]),
        visits=np.array([1, 5, 2]),
        priors=np.array(priors, np.float32),
        values=np.array(values, np.float32),
        proven=np.array(proven, np.int8),
        policy=np.array([0.2, 0.6, 0.2]),
        value=0.0,
        root_proven=root,
        simulations=8,
        best=11,
        pv=(11,),
    )


def counts(result: SearchResult, temperature: float, draws: int = 3000) -> list[int]:
    found = [drawn(result, temperature, key_of("level", k)) for k in range(draws)]
    return [found.count(action) for action in (10, 11, 12)]


@pytest.mark.nojit
def test_moves_are_drawn_by_prior_and_value() -> None:
    priors, values = [0.04, 0.64, 0.32], [0.3, -0.1, 0.1]
    weights = np.sqrt(priors) * np.exp(5.0 * np.array(values))
    expected = 3000 * weights / weights.sum()
    found = counts(answer(priors, values, [UNKNOWN] * 3), 2.0)
    assert ((found - expected) ** 2 / expected).sum() < 13.8  # chi squared, 2 degrees of freedom, 99.9 %


@pytest.mark.nojit
def test_a_seen_win_is_taken_and_a_seen_loss_counts_as_one() -> None:
    assert counts(answer([0.3] * 3, [0.0] * 3, [UNKNOWN, WIN, UNKNOWN], WIN), 1.0, 50) == [0, 50, 0]
    found = counts(answer([1 / 3] * 3, [0.9, 0.0, 0.0], [LOSS, UNKNOWN, UNKNOWN]), 0.1, 500)
    assert found[0] == 0  # the value of a proven loss is -1, whatever its walks have seen
    assert counts(answer([0.3] * 3, [0.9, 0.0, 0.0], [UNKNOWN] * 3), 0.0, 20) == [0, 20, 0]


@pytest.mark.parametrize("number", [1, 5, len(LEVELS)])
def test_an_answer_depends_on_its_row_and_key_alone(number: int) -> None:
    player = LevelPlayer(UniformEvaluator(GAME), number, SearchParams())
    states = np.stack([GAME.parse_position(text) for text in ("", "4", "112233", "4444") * 2])
    keys = np.array([key_of("test", i) for i in range(8)])
    together = player.choose(states, keys)
    assert list(together) == [player.choose(states[i : i + 1], keys[i : i + 1])[0] for i in range(8)]


def test_levels_only_grow() -> None:
    for levels in (LEVELS, *OF_GAMES.values()):
        assert len(levels) == 10
        assert [level.simulations for level in levels] == sorted(level.simulations for level in levels)
        assert [level.temperature for level in levels] == sorted((level.temperature for level in levels), reverse=True)
        assert levels[-1].temperature == 0
    assert set(OF_GAMES) <= set(game_names())  # a misspelt game would have no level of its own
    assert level_of(1, "checkers") != level_of(1, "connect4") != level_of(1, "hex") == LEVELS[0]
    for number in (0, 11, -1):
        with pytest.raises(WrongRequest, match="levels go from 1 to 10"):
            level_of(number)


def test_players_by_name() -> None:
    assert make_player("level:3", GAME).name == "level:3@connect4"
    assert make_player("level:3@connect4", GAME).name == "level:3@connect4"
    with pytest.raises(WrongRequest, match="write level:4@MODEL"):
        make_player("level:4", load_game("gomoku"))
    with pytest.raises(WrongRequest, match="no model 'nothing'"):
        make_player("level:4@nothing", GAME)


def talk(*lines: str) -> str:
    out = io.StringIO()
    engine = Engine(GAME, UniformEvaluator(GAME), SearchParams(), 50, None)
    engine.at_level(2, 5)
    console = Console(file=out, width=80, highlight=False, markup=False, emoji=False, color_system=None)
    stdin = io.StringIO("".join(line + "\n" for line in lines))
    assert play(GAME, engine.evaluator, SearchParams(), stdin=stdin, console=console, engine=engine) == 0
    return out.getvalue()


def test_a_level_at_the_board() -> None:
    shown = talk("4", "hint", "level", "level 99", "level full", "4", "quit")
    assert "It plays at level 2 of 10. Type a move" in shown
    assert "8 simulations" in shown  # of its own move
    assert "50 simulations" in shown  # of the hint: at full strength
    assert "there is no level 99: levels go from 1 to 10." in shown
    assert "It plays at level 2 of 10; type level and a number, or level full." in shown
    assert "From now on it thinks for 50 simulations a move." in shown


def test_another_seed_is_another_game() -> None:
    first = {LevelPlayer(UniformEvaluator(GAME), 1).choose(GAME.new_state()[None], np.array([k]))[0] for k in range(9)}
    assert len(first) > 1
