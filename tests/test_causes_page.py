"""docs/causes.md: every cause has its place, and every example is named what its heading says."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from command_line import ROOT

from az.train.health.causes import CAUSES

PAGE = (ROOT / "docs" / "causes.md").read_text("utf-8")
HEAD, *PARTS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
TEXTS = {part.partition("\n")[0]: part for part in PARTS}


def code(text: str) -> str | None:
    found = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    return found[1] if found else None


EXAMPLES = {cause: example for cause, text in TEXTS.items() if (example := code(text)) is not None}


def test_every_cause_has_its_place_with_an_example_or_why_there_is_none():
    assert list(TEXTS) == list(CAUSES)
    assert len(EXAMPLES) >= 32
    for cause, lines in TEXTS.items():
        text = " ".join(lines.split())
        assert CAUSES[cause].words[1:] in text
        assert CAUSES[cause].fix in text
        assert "- How it looks: " in text
        assert (cause in EXAMPLES) is not ("- No example: " in text), cause


@pytest.mark.parametrize("cause", EXAMPLES)
def test_the_example_is_named_by_its_cause(cause: str, tmp_path: Path):
    torch.set_num_threads(1)
    script = tmp_path / f"{cause}.py"
    text = f"{code(HEAD)}\n\n{EXAMPLES[cause]}"
    assert "from flightrecorder import" in text
    script.write_text(text.replace("from flightrecorder import", "from az.train.health import"), "utf-8")
    made: dict[str, Any] = runpy.run_path(str(script))
    incident = made["incident"]
    assert incident is not None
    assert incident.cause == cause, str(incident)
