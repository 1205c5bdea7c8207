"""The pages of the documentation site, as far as they can be checked without building it.

What needs Sphinx, a browser, a kernel or minutes: tests/test_site_built.py.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
from command_line import ROOT, run_az

sys.path.insert(0, str(ROOT / "docs" / "site"))

from generated import commands_page, functions_page, markdown, notebook_page, public_names

INDEX = ROOT / "docs" / "index.md"
NOTEBOOK = "docs/notebooks/first-network.ipynb"
# The dated log and the decisions say what was called how at the time.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if page.name not in ("log.md", "decisions.md")]
INLINE = re.compile(r"`az ([^`]+)`")
IN_BLOCK = re.compile(r"^ *(?:.*\| *)?(?:\.venv/bin/)?az ([^#|]+)")


def commands_of(text: str) -> list[str]:
    """What stands after `az` in the lines of blocks of the shell or of no language, and in the prose of a page."""
    found, language = list[str](), None
    for line in re.sub(r" *\\\n *", " ", text.replace("\\|", "¦")).splitlines():
        if line.lstrip().startswith("```"):
            language = line.strip().strip("`") if language is None else None
        elif language is None:
            found += INLINE.findall(line)
        elif language in ("", "sh"):
            found += IN_BLOCK.findall(line)
    return [command.strip() for command in found]


def faults(command: str) -> list[str]:
    """Words of a command line that az does not know."""
    from typer.main import get_command

    from az.cli import app

    words = [word.strip("[]()…,.;:") for word in shlex.split(command.replace("'", "").replace('"', ""))]
    words = [word for word in words if word and "<" not in word and ">" not in word]
    known = get_command(app).commands  # pyright: ignore[reportAttributeAccessIssue]  # a group
    if not words or words[0].startswith("-") or words[0].isupper() or words[0] == "…":
        return [] if not words or words[0] in ("--help", "--version", "COMMAND", "GAME", "…") else words[:1]
    if words[0] not in known:
        return words[:1]
    asked_of = known[words[0]]
    if len(words) > 1 and words[1] in getattr(asked_of, "commands", {}):  # such as `az runs list`
        asked_of = asked_of.commands[words[1]]
    options = {name for each in asked_of.params for name in (*each.opts, *each.secondary_opts)} | {"--help"}
    asked = [part for word in words[1:] for part in re.split(r"[¦\[\] ]", word) if part.startswith("--")]
    return [f"{words[0]} {option}" for option in asked if option.partition("=")[0] not in options | {"--"}]


def test_commands_are_found_and_mistakes_seen():
    text = "`az train G [--minutes M \\| --nonsense N]`\n```sh\necho | az analyse c\naz games  # --x\n```\n"
    text += "```text\naz no\n```\n```\naz score longer \\\n    --pictures c.svg\n```\n"
    assert commands_of(text) == [
        "train G [--minutes M ¦ --nonsense N]",
        "analyse c",
        "games",
        "score longer --pictures c.svg",
    ]
    assert [faults(one) for one in commands_of(text)] == [["train --nonsense"], ["analyse"], [], ["score --pictures"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_of_a_page_is_known_with_its_options(page: Path):
    assert {command: faults(command) for command in commands_of(page.read_text("utf-8")) if faults(command)} == {}


def test_the_pages_speak_of_every_command_and_help_answers():
    said = "\n".join(page.read_text("utf-8") for page in PAGES)
    names = re.findall(r"^## `az (\S+)`$", commands_page(None), re.MULTILINE)
    assert len(names) > 12
    for name in names:
        assert f"az {name}" in said, name
        answer = run_az(name, "--help")
        assert (answer.code, answer.err) == (0, "")
        assert "Usage" in answer.out


def test_the_index_lists_every_page_once():
    links = re.findall(r"\]\(([^)#\s]+\.md)\)", INDEX.read_text("utf-8").partition("\n## ")[2])
    listed = [(INDEX.parent / link).resolve() for link in links]
    pages = {page.resolve() for page in (ROOT / "docs").rglob("*.md")} - {INDEX.resolve()}
    assert sorted(page for page in set(listed) if listed.count(page) > 1) == []
    assert sorted(pages - set(listed)) == []


@pytest.mark.parametrize("package", ["engine", "train/health"])
def test_the_reference_has_every_public_name_with_a_docstring(package):
    names = public_names(package)
    page = functions_page(package)
    assert len(names) >= 5
    for name in names:
        entry = page.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert "```python" in entry, name
        prose = re.sub(r"```.*?```", "", entry, flags=re.DOTALL).partition("\nDefined in")[0]
        assert len(prose.split()) > 3, name


def test_the_reference_names_what_python_gives():
    import az.engine
    import az.train.health

    assert set(public_names("engine")) == set(vars(az.engine)["_HOME"])
    assert set(public_names("train/health")) == set(az.train.health.__all__)


def test_docstrings_become_markdown():
    assert markdown("[n, 3] of `a*b` * <x>\n\n    a * b") == "\\[n, 3\\] of `a*b` \\* \\<x>\n\n    a * b"


def test_the_notebook_is_kept_without_outputs():
    cells = json.loads((ROOT / NOTEBOOK).read_text("utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [(cell["outputs"], cell["execution_count"]) for cell in code] == [([], None)] * len(code)
    assert notebook_page(NOTEBOOK).count("```python\n") == len(code) > 3
