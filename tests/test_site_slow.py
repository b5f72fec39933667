"""What of ``test_site`` takes long: the site is made, and the quick start is done as it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_site import ROOT, SITE, blocks

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    SITE["copy_sources"](folder / "pages")
    assert SITE["build_site"](folder / "pages", folder / "site") == 0
    return folder / "site"


def test_site_asks_nobody_for_anything(made):
    """Every address that a browser would fetch by itself is the site's own; what a reader may follow may lead anywhere."""
    pages = list(made.rglob("*.html"))
    assert len(pages) > 50
    fetched = re.compile(r"<(?:script|img|link|iframe|source|video|audio|object|embed)\b[^>]*?\s(?:src|href|data)=[\"']([^\"']+)")
    for page in pages:
        for address in fetched.findall(page.read_text(encoding="utf-8")):
            assert not re.match(r"(?:https?:)?//", address), f"{page.name}: {address}"
            if not address.startswith("data:"):
                assert (page.parent / address.partition("?")[0].partition("#")[0]).exists(), f"{page.name}: {address}"
    for style in made.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//", style.read_text(encoding="utf-8")), style.name


def test_site_has_the_pages_and_the_reference(made):
    assert (made / "index.html").read_text() == (made / "README.html").read_text()
    reference = (made / "docs" / "reference.html").read_text()
    for name in ("storage.build", "storage.open_store", "storage.make_plan"):
        assert f'id="{name}"' in reference
    assert "Raises" in reference
    assert (made / "docs" / "concepts.html").exists()
    notebook = (made / "examples" / "first_look.html").read_text()
    assert notebook.count('alt="What the lines above draw"') == 2
    assert "dataframe" in notebook


def test_link_to_nothing_ends_it(tmp_path):
    pages = tmp_path / "pages"
    SITE["copy_sources"](pages)
    for page in [path for path in pages.rglob("*.md") if path.name not in ("labels.md", "contents.md")]:
        page.unlink()
    (pages / "contents.md").write_text("# Contents\n\n```{toctree}\ndocs/labels\n```\n")
    (pages / "docs" / "labels.md").write_text("# Labels\n\n[gone](gone.md)\n")
    assert SITE["build_site"](pages, tmp_path / "site") == 1


def test_quick_start_does_what_it_says(tmp_path):
    (lines,) = [text.splitlines() for page, text in blocks("sh") if page == "docs/quick-start.md"]
    assert lines[0].startswith("make install")
    assert len(lines) == 5
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, code in {"python": '"$@"', "ecgbatch": "-c 'from ecgbatch.cli import main; main()' \"$@\""}.items():
        (bin_folder / name).write_text(f"#!/bin/sh\nexec {sys.executable} {code}\n")
        (bin_folder / name).chmod(0o755)
    path = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["sh", "-ec", "\n".join(lines[1:])], cwd=tmp_path, env=os.environ | path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "work" / "reports" / "latest" / "cohort.html").exists()
    assert list((tmp_path / "page").rglob("*.html"))
