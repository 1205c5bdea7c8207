"""Games of self-play that end where the search has proven their result."""

from __future__ import annotations

from dataclasses import replace

import pytest

from az.engine.game import load_game
from az.engine.inference.evaluator import HashEvaluator
from az.engine.records.format import FinishedGame
from az.engine.search.prove import make_prover, prove_position
from az.engine.selfplay.batch import SelfplayBatch, SelfplayConfig

CONNECT4 = load_game("connect4")
CONFIG = SelfplayConfig(
    simulations=40, fast_simulations=40, opening_plies=20, solve=True, prove=200, temperature_plies=10
)
NEVER, GAMES = 1e-12, 60  # a share of which no game of these is: the same random numbers are drawn


def games(config: SelfplayConfig) -> dict[int, FinishedGame]:
    jobs = iter([(k, HashEvaluator(CONNECT4)) for k in range(GAMES)])
    batch = SelfplayBatch(CONNECT4, config, 3, 16)
    return {game.k: game for game in batch.play(lambda: next(jobs, None))}


@pytest.fixture(scope="module")
def whole() -> dict[int, FinishedGame]:
    return games(replace(CONFIG, adjudicate=NEVER))


@pytest.fixture(scope="module")
def ended() -> dict[int, FinishedGame]:
    return games(replace(CONFIG, adjudicate=1.0))


def told(game: FinishedGame) -> list[tuple[list[int], float, int]]:
    return [(row.state.tolist(), row.root_value, row.ply) for row in game.rows]


def test_a_game_ends_at_its_first_proof_with_what_is_proven(ended: dict[int, FinishedGame]):
    prover, early = make_prover(CONNECT4), 0
    for game in ended.values():
        final = game.rows[-1]
        if game.plies > final.ply:  # the rules ended it before a proof
            continue
        early += 1
        rules = CONNECT4.apply, CONNECT4.legal, CONNECT4.outcome
        truth = prove_position[CONNECT4.dtype](prover, final.state.copy(), 5_000_000, *rules)
        assert truth == final.root_value == game.outcomes[-1]
        first_player = int(final.state[0]) == 0
        assert game.outcome_first == (truth if first_player else -truth)
    assert early > GAMES // 2


def test_an_ended_game_is_the_beginning_of_the_whole_one(
    whole: dict[int, FinishedGame], ended: dict[int, FinishedGame]
):
    rows = {"whole": 0, "ended": 0}
    for k, game in ended.items():
        assert told(game) == told(whole[k])[: len(game.rows)]
        rows["ended"] += len(game.rows)
        rows["whole"] += len(whole[k].rows)
    assert rows["ended"] < 0.9 * rows["whole"]


def test_a_share_of_the_games_is_ended(whole: dict[int, FinishedGame], ended: dict[int, FinishedGame]):
    half = games(replace(CONFIG, adjudicate=0.5))
    differ = [k for k in whole if told(whole[k]) != told(ended[k])]
    short = [k for k in differ if told(half[k]) == told(ended[k])]
    assert all(told(half[k]) in (told(ended[k]), told(whole[k])) for k in half)
    assert 0.25 * len(differ) < len(short) < 0.75 * len(differ)


def test_a_search_that_proves_nothing_ends_no_game():
    unproven = replace(CONFIG, solve=False, prove=0)
    alike = games(replace(unproven, adjudicate=1.0)), games(replace(unproven, adjudicate=NEVER))
    assert {k: told(game) for k, game in alike[0].items()} == {k: told(game) for k, game in alike[1].items()}


def test_a_record_without_it_is_as_before():
    assert "adjudicate" not in SelfplayConfig().header()
    assert SelfplayConfig(adjudicate=0.5).header()["adjudicate"] == 0.5
