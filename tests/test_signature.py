"""The search's behaviour, as one number. A change that is meant to make it faster must leave the number as it is."""

from az.engine.bench.signature import signature

EXPECTED = 29575584515138  # changed on 2026-11-22: the search's first


def test_the_search_behaves_as_it_did():
    assert signature() == EXPECTED
