"""The search's behaviour, as one number. A change that is meant to make it faster must leave the number as it is."""

from az.engine.bench.signature import signature

EXPECTED = 263700940347409  # changed on 2026-11-30: a walk goes on where a player has one move only


def test_the_search_behaves_as_it_did():
    assert signature() == EXPECTED
