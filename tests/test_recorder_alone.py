"""A step that is run again on one rank of several: no collective of it reaches another rank."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
import torch.distributed as dist

from az.train.health.ranks.collectives import _greatest
from az.train.health.trace import surroundings

OWN = torch.tensor([1.0, 2.0])


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is rank 1 of 2, without the other: what reached it would wait for ever, or raise here."""
    monkeypatch.setattr(surroundings, "is_distributed", lambda: True)
    with patch.object(dist, "get_rank", lambda _=None: 1), surroundings.alone():
        yield


def calls():
    """(name, what the collective is to write, the call)"""
    two = torch.zeros(2, 2)
    flat, whole = torch.zeros(4), torch.tensor([1.0, 2.0, 3.0, 4.0])
    out, parts = torch.zeros(2), [torch.zeros(2), torch.zeros(2)]
    yield "all_gather", parts, [OWN, OWN], lambda: dist.all_gather(parts, OWN)
    for name in ("all_gather_into_tensor", "all_gather_single"):
        if hasattr(dist, name):
            yield (
                name,
                [two, flat],
                [torch.stack([OWN, OWN]), torch.cat([OWN, OWN])],
                lambda name=name: [getattr(dist, name)(one, OWN) for one in (two, flat)],
            )
    yield "reduce_scatter_tensor", [out], [whole[2:]], lambda: dist.reduce_scatter_tensor(out, whole)
    yield "reduce_scatter", [out], [whole[2:]], lambda: dist.reduce_scatter(out, list(whole.view(2, 2)))
    yield "all_to_all_single", [flat], [whole], lambda: dist.all_to_all_single(flat, whole)
    yield "all_to_all", parts, list(whole.view(2, 2)), lambda: dist.all_to_all(parts, list(whole.view(2, 2)))
    yield "gather", parts, [OWN, OWN], lambda: dist.gather(OWN, parts)
    yield "gather, named", parts, [OWN, OWN], lambda: dist.gather(OWN, gather_list=parts)

    def waited():
        work = dist.all_reduce(out.zero_(), async_op=True)
        assert work is not None
        work.wait()

    yield "all_reduce", [out], [torch.zeros(2)], waited


@pytest.mark.usefixtures("second_of_two")
def test_every_collective_is_answered_with_what_this_rank_sends():
    for name, written, wanted, call in calls():
        for one in written:
            one.zero_()
        call()
        assert all(map(torch.equal, written, wanted)), name


@pytest.mark.usefixtures("second_of_two")
def test_objects_are_the_own_ones():
    held = [None, None]
    dist.all_gather_object(held, {"a": 1})
    assert held == [{"a": 1}, {"a": 1}]
    assert dist.batch_isend_irecv([]) == []


def test_every_collective_of_torch_is_known():
    words = ("gather", "scatter", "reduce", "broadcast", "barrier", "to_all")
    names = {n for n in dir(dist) if any(word in n for word in words) and n.islower() and not n.startswith("_")}
    names = {n for n in names if callable(getattr(dist, n))}
    assert names - {"scatter_object_list"} <= set(surroundings.COLLECTIVES)


@pytest.mark.parametrize(("values", "good"), [([1e30, -1e38], True), ([1.0, torch.nan], False), ([torch.inf], False)])
def test_the_look_at_the_own_gradients_has_no_overflow_of_its_own(values, good):
    kinds = [torch.tensor(values), torch.ones(3, dtype=torch.float16), torch.ones(2, 2).to_sparse(), torch.ones(0)]
    assert all(map(torch.isfinite, _greatest(kinds))) == good
