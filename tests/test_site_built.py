"""The site as it is built, the tutorial followed in a fresh clone, and the notebook run: `make test-integrations`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from command_line import ROOT

pytestmark = pytest.mark.integrations

TUTORIAL = ROOT / "docs" / "tutorial.md"
LOADED = re.compile(r"""<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)="(?:https?:)?//[^"]*""")


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    pytest.importorskip("sphinx")
    out = tmp_path_factory.mktemp("site")
    words = ["-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-b", "html", "-c", "docs/site", ".", str(out)]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return out


def test_no_page_loads_anything_from_elsewhere(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 30
    assert {page.name: found for page in pages if (found := LOADED.findall(page.read_text("utf-8")))} == {}
    styles = [*site.rglob("*.css")]
    assert [
        style.name for style in styles if re.search(r"(?:@import|url\()\s*[\"']?(?:https?:)?//", style.read_text())
    ] == []


def test_in_a_browser_from_the_disk(site):
    """Chromium, by playwright, on files: the search answers, no page is wider than a phone, axe finds nothing."""
    playwright = pytest.importorskip("playwright.sync_api")
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for width, scheme in ((360, "light"), (360, "dark"), (1440, "light"), (1440, "dark")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            asked: list[str] = []
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            for name in ("index", "tutorial", "reference/engine", "reference/commands", "health"):
                page.goto((site / "docs" / f"{name}.html").as_uri())
                assert page.evaluate("document.documentElement.scrollWidth") <= width, name
                broken = axe.run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response["violations"]
                assert [rule["id"] for rule in broken] == [], name
            page.goto((site / "search.html").as_uri() + "?q=domineering")
            page.wait_for_selector("#search-results li a")
            assert "tutorial" in (page.locator("#search-results li a").first.get_attribute("href") or "")
            assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
        browser.close()


@pytest.fixture
def clone(tmp_path) -> Path:
    """A fresh clone whose `make setup` has been done: an environment with the packages of this one."""
    folder = tmp_path / "az"
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder)], check=True)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / ".venv")], check=True)
    python = folder / ".venv" / "bin" / "python"
    inside = subprocess.check_output(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    here = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
    (Path(inside.strip()) / "0az.pth").write_text("\n".join([str(folder / ".typecheck"), *here]) + "\n")
    command = folder / ".venv" / "bin" / "az"
    command.write_text(f"#!{python}\nfrom az.cli import main\nmain()\n")
    command.chmod(0o755)
    (folder / ".venv" / ".ready").touch()
    return folder


def test_the_tutorial_followed_to_the_letter(clone):
    """Its game is saved, its commands are run one after the other; only minutes and games are fewer."""
    game = blocks(TUTORIAL, "python")
    assert len(game) == 1
    (clone / "engine" / "games" / "domineering.py").write_text(game[0], "utf-8")
    script = "".join(blocks(TUTORIAL, "sh"))
    for long, short in (
        ("--minutes 5", "--minutes 0.5"),
        ("--minutes 10", "--minutes 0.7"),
        ("--games 100", "--games 4"),
    ):
        assert long in script
        script = script.replace(long, short)
    done = subprocess.run(
        ["bash", "-ec", script], cwd=clone, input="c4\nhint\nquit\n", capture_output=True, text=True, timeout=1200,
        check=False, env={**os.environ, "AZ_CACHE_DIR": str(clone / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "domineering obeys every law" in done.stdout
    assert "Horizontal" in done.stdout
    assert done.stdout.count("newest model") == 2  # after `az train`, and after `az resume`
    assert "minutes = 0.7" in (clone / "runs" / "domineering-1" / "config.toml").read_text("utf-8")


@pytest.mark.parametrize("page", ["recorder", "python"])
def test_the_python_of_a_page_runs(page, tmp_path):
    (code,) = blocks(ROOT / "docs" / "how-to" / f"{page}.md", "python")
    (tmp_path / "page.py").write_text(code, "utf-8")
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    if page == "recorder":
        assert "batch-not-finite" in done.stdout
        assert "rows of the batch: 5" in done.stdout


def test_the_notebook_runs(tmp_path):
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("nbclient")
    import nbformat  # pyright: ignore[reportMissingImports]  # comes with nbclient

    notebook = nbformat.read(ROOT / "docs" / "notebooks" / "first-network.ipynb", as_version=4)
    client.NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert "with a search:" in "".join(output.get("text", "") for output in outputs)
