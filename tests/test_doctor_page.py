"""The parts of the doctor's page: curves, the picture of the way, text."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from az.train.architecture import drawing
from az.train.config import NetConfig
from az.train.doctor.diagram import columns, picture, stops
from az.train.doctor.style import text
from az.train.doctor.trends import text_curve, thinned, trends


def az(blocks):
    return {"kind": "az", "columns": drawing(NetConfig(blocks=blocks))}


def test_a_curve_keeps_its_spikes():
    points = [(i, 1.0) for i in range(10_000)]
    points[4321] = (4321, 50.0)
    kept = thinned(points)
    assert len(kept) <= 160
    assert (4321, 50.0) in kept
    assert [step for step, _ in kept] == sorted(step for step, _ in kept)
    drawn = text_curve({"points": points})
    assert drawn.count("█") == 1
    assert text_curve({"points": points}, plain=True).isascii()


def test_signs_that_are_none_are_left_out():
    lines = [{"kind": "step", "step": 1, "signs": {"max_logit": float("nan")}}, {"kind": "step", "step": 2, "signs": None}, {"kind": "step"}]  # fmt: skip  # noqa: E501
    assert trends(lines) == []


def test_another_network_is_drawn_by_the_modules_that_the_fault_went_through():
    spread = [("forward", "encoder.0"), ("forward", "decoder"), ("loss", ""), ("backward", ""), ("backward", "decoder"), ("backward", ""), ("optimizer", "")]  # fmt: skip  # noqa: E501
    parts = [{"phase": phase, "module": module, "op": "aten::mul"} for phase, module in spread]
    facts = {"phase": "forward", "module": None, "op": None, "network": {"kind": "other", "blocks": 0}}
    facts["evidence"] = {"spread": parts}
    way = stops(facts)
    assert [stop.node for stop in way] == ["f.encoder.0", "f.decoder", "loss", "b.loss", "b.decoder", "optimizer"]
    assert [name for column in columns(facts, way) for name, _ in column] == ["encoder.0", "decoder"]
    ET.fromstring(picture(facts, way))


def test_the_gradient_s_way_back_through_the_own_network():
    places = [
        "",
        "policy_out",
        "",
        "policy_stem.norm",
        "policy_stem.conv",
        "blocks.1",
        "blocks.1.conv1",
        "",
        "stem.conv",
    ]
    spread = [{"phase": "backward", "module": module, "op": "MulBackward0"} for module in places]
    facts = {
        "phase": "backward",
        "module": None,
        "op": "LogBackward0",
        "network": az(2),
    }
    facts["evidence"] = {"spread": [*spread, {"phase": "optimizer", "module": "", "op": "aten::_foreach_norm"}]}
    way = stops(facts)
    assert [stop.node for stop in way] == ["b.loss", "b.policy", "b.blocks.1", "b.stem", "optimizer"]
    assert way[1].ops == ["policy_out: MulBackward0", "MulBackward0", *[f"policy_stem.{n}: MulBackward0" for n in ("norm", "conv")]]  # fmt: skip  # noqa: E501
    drawn = ET.fromstring(picture(facts, way))
    assert {g.get("data-node") for g in drawn.iter("g") if "reached" in g.get("class", "")} == {s.node for s in way}


def test_a_fault_before_the_step_and_one_of_the_averages_have_their_places():
    facts = {"phase": "data", "module": None, "op": None, "network": az(1), "evidence": {}}  # fmt: skip
    assert [stop.node for stop in stops(facts)] == ["batch"]
    facts |= {"phase": "buffers", "module": "stem.norm", "op": "aten::native_batch_norm"}
    facts["evidence"] = {"spread": [{"phase": "forward", "module": "stem.norm", "op": "aten::native_batch_norm"}]}
    assert [stop.node for stop in stops(facts)] == ["f.stem", "buffers"]


def test_text_of_a_page_holds_what_xml_can_hold():
    assert text("a<b>&\x00") == "a&lt;b&gt;&amp;\ufffd"
