"""Errors of strict type checks in engine and train may only become fewer."""

import pytest
from strict_errors import ROOT, counted, folder_of, known, risen


def test_a_folder_with_more_errors_is_named():
    assert risen({"engine": 1, "train": 2, "train/run": 1}, {"engine": 1, "train": 3}) == {"train/run": "0 -> 1"}
    assert folder_of(ROOT / "engine" / "search" / "deeper" / "file.py") == "engine/search"
    assert folder_of(ROOT / "engine" / "board.py") == "engine"


@pytest.mark.slow
def test_strict_errors_only_become_fewer():
    now, before = counted(), known()
    assert not risen(now, before), "new strict errors: basedpyright says which with '# pyright: strict' in the file"
    assert now == before, "fewer strict errors than before, well done: write it down with python tests/strict_errors.py"
