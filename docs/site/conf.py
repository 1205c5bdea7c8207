"""The documentation site: Sphinx reads the pages where they lie, so that every link works on GitHub and here.

`make docs` builds it into build/site. The navigation is made from the lists of docs/index.md. A page loads nothing
from another host, and the search works in pages opened from the disk.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

from generated import MAKERS  # noqa: E402

project, author, project_copyright = "az", "the authors of az", "the authors of az, MIT license"
extensions = ["myst_parser"]
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**.md", "benchmarks/**.md", "train/**.md"]
exclude_patterns = [".*", "build", "dist", "runs", "games", "tests", "engine", "models", "*.egg-info"]
myst_heading_anchors = 4
highlight_language = "text"  # of blocks that name none: commands, and what programs print

html_theme = "furo"
html_title = "az"
language = "en"
html_copy_source = False
html_show_sphinx = False
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"

START = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>az</title><meta http-equiv="refresh" content="0; url=docs/index.html">
<p><a href="docs/index.html">The pages of az</a></p></html>
"""
MADE = re.compile(r"^<!-- made: (\w+)(?: (\S+))? -->$", re.MULTILINE)
SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
PAGE = re.compile(r"\[([^]]+)\]\((?!https?:)([^)#\s]+)\.md\)")


def navigation(index: str) -> str:
    """A hidden table of contents for each section of the index, of the pages that its list names."""
    parts = SECTION.split(index)[1:]
    return "".join(
        f"\n```{{toctree}}\n:hidden:\n:caption: {title}\n\n"
        + "".join(f"{name} <{page}>\n" for name, page in PAGE.findall(text))
        + "```\n"
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    )


def _complete(_: Any, name: str, source: list[str]) -> None:
    """What stands only on the site: the navigation, and pages made from the code."""
    source[0] = MADE.sub(lambda found: MAKERS[found[1]](found[2]), source[0])
    if name == root_doc:
        source[0] += navigation(source[0])


def _finish(app: Any, error: Exception | None) -> None:
    """The first page, and two things that screen readers and keyboards miss in the theme's pages."""
    if error is not None:
        return
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text("utf-8").replace('role="heading"><span', 'role="heading" aria-level="2"><span')
        text = text.replace('<div class="table-wrapper', '<div tabindex="0" class="table-wrapper')
        page.write_text(text.replace("<pre>", '<pre tabindex="0">'), "utf-8")
    (Path(app.outdir) / "index.html").write_text(START, "utf-8")


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("source-read", _complete)
    app.connect("build-finished", _finish)
