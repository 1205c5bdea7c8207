"""Matches: fair, repeatable, the same however they are batched, and won by the better player."""

from __future__ import annotations

import json

import numpy as np
import pytest

from az.engine.arena import match as arena
from az.engine.arena.elo import Sprt, elo_difference
from az.engine.arena.match import MatchResult, play_match
from az.engine.errors import Refused, WrongRequest
from az.engine.game import ONGOING, load_game
from az.engine.players import RandomPlayer, make_player

TICTACTOE = load_game("tictactoe")


def match(a: str, b: str, games: int, seed: int = 1, name: str = "tictactoe", **options) -> MatchResult:
    game = load_game(name)
    return play_match(make_player(a, game), make_player(b, game), games, seed, **options)


def test_perfect_players_draw():
    result = match("minimax:9", "minimax:9", 60)
    assert (result.tally.wins, result.tally.draws, result.tally.losses) == (0, 60, 0)
    assert result.pairs == (0, 0, 30, 0, 0)


def test_a_perfect_player_never_loses():
    result = match("minimax:9", "random", 100)
    assert result.tally.losses == 0
    assert result.tally.score > 0.8
    assert result.elo.low > 100


@pytest.mark.parametrize("name", ["tictactoe", "connect4"])
def test_rollouts_beat_random(name: str):
    result = match("rollouts:200", "random", 40, name=name)
    assert result.tally.score > 0.85
    assert result.elo.low > 0


@pytest.mark.nojit
def test_every_game_is_a_real_game_and_colours_are_paired():
    result = match("minimax:2", "random", 7)
    assert [record.number for record in result.records] == list(range(7))
    for record in result.records:
        assert record.a_is == record.number % 2
        state = TICTACTOE.new_state()
        for action in record.actions:
            assert TICTACTOE.mask(state)[action]
            TICTACTOE.apply(state, action)
        outcome = TICTACTOE.outcome(state)
        assert outcome != ONGOING
        assert record.result == (outcome if state[0] == record.a_is else -outcome)
    for first, second in zip(result.records[0::2], result.records[1::2], strict=False):
        assert first.actions[: first.opening] == second.actions[: second.opening]
        assert first.opening == second.opening
    assert sum(result.pairs) == 3
    assert result.tally_as(0).games == 4
    assert result.tally_as(1).games == 3
    assert result.mean_plies == sum(len(record.actions) for record in result.records) / 7


def test_a_seed_is_a_match():
    first = match("random", "minimax:1", 12, seed=5)
    assert first == match("random", "minimax:1", 12, seed=5)
    assert first.records != match("random", "minimax:1", 12, seed=6).records
    assert first.records[:4] == match("random", "minimax:1", 4, seed=5).records


def test_batches_and_threads_change_nothing(monkeypatch: pytest.MonkeyPatch):
    whole = match("random", "minimax:1", 10)
    assert match("random", "minimax:1", 10, threads=3) == whole
    monkeypatch.setattr(arena, "SIDE_BY_SIDE", 2)
    assert match("random", "minimax:1", 10) == whole


@pytest.mark.parametrize(("a", "b"), [("random", "rollouts:30"), ("rollouts:30", "minimax:2")])
def test_players_swapped_mirror_the_match(a: str, b: str):
    ours, theirs = match(a, b, 40), match(b, a, 40)
    assert {(r.actions, r.a_is, r.result) for r in ours.records} == {
        (r.actions, 1 - r.a_is, -r.result) for r in theirs.records
    }
    assert ours.pairs == theirs.pairs[::-1]
    assert (ours.elo.elo, ours.elo.low, ours.elo.high) == pytest.approx(
        (-theirs.elo.elo, -theirs.elo.high, -theirs.elo.low)
    )


@pytest.mark.nojit
def test_the_two_games_of_a_pair_are_not_one_game_twice():
    """Their random numbers differ: else a player against itself would always split the pair."""
    result = match("random", "random", 30)
    assert result.pairs != (0, 0, 15, 0, 0)


@pytest.mark.nojit
def test_json_and_progress():
    heard = []
    result = match("minimax:1", "random", 8, on_progress=lambda *figures: heard.append(figures))
    figures = result.to_json()
    assert list(figures) == ["games", "wins", "draws", "losses", "score", "elo", "elo_low", "elo_high"]
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    tally = result.tally
    assert heard[-1] == (8, tally.wins, tally.draws, tally.losses)
    assert [done for done, *_ in heard] == list(range(1, 9))
    assert figures["score"] == (tally.wins + tally.draws / 2) / 8
    assert figures["elo"] == elo_difference(tally.wins, tally.draws, tally.losses).elo


def test_a_sequential_test_stops_at_the_same_game_however_it_is_batched(monkeypatch: pytest.MonkeyPatch):
    sprt = Sprt(0.0, 50.0)
    result = match("minimax:3", "random", 2000, sprt=sprt)
    assert result.decision == "H1"
    assert result.to_json()["sprt"] == "H1"
    games = len(result.records)
    assert games < 400
    assert games % 2 == 0
    monkeypatch.setattr(arena, "SIDE_BY_SIDE_SPRT", 10)
    assert match("minimax:3", "random", 2000, sprt=sprt, threads=2) == result
    assert match("minimax:3", "random", games - 2, sprt=sprt).decision is None
    assert match("minimax:3", "random", games).records == result.records


@pytest.mark.nojit
def test_wrong_matches_are_refused():
    player = RandomPlayer(TICTACTOE)
    for games, threads in ((0, 1), (-2, 1), (2, 0)):
        with pytest.raises(WrongRequest):
            play_match(player, player, games, 1, threads)
    with pytest.raises(WrongRequest, match="of one game"):
        play_match(player, RandomPlayer(load_game("connect4")), 2, 1)


@pytest.mark.nojit
def test_an_illegal_choice_is_named():
    class Stubborn(RandomPlayer):
        name = "stubborn"

        def choose(self, states, keys):  # noqa: ARG002
            return np.zeros(len(states), np.int64)

    with pytest.raises(Refused, match="stubborn chose action 0, which is illegal"):
        play_match(Stubborn(TICTACTOE), RandomPlayer(TICTACTOE), 20, 1)


def test_a_name_with_colons_is_printed_as_it_is(capsys):
    from az.engine.terminal.console import console

    console().print("random against rollouts:100: 0 won [bold]")
    assert capsys.readouterr().out == "random against rollouts:100: 0 won [bold]\n"
