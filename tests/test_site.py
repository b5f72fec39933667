"""The site of the documentation: every page is on its menu, and what stands in code on a page is code."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SITE = runpy.run_path(str(ROOT / "docs" / "make_site.py"))
PAGES = SITE["pages"]()


def blocks(language: str) -> list[tuple[str, str]]:
    """Return page and text of every block of code in a language."""
    found = [(page, re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)) for page in PAGES]
    return [(page.relative_to(ROOT).as_posix(), text) for page, texts in found for text in texts]


def test_every_page_is_on_the_menu_and_nothing_else():
    there = {page.relative_to(ROOT).with_suffix("").as_posix() for page in (*PAGES, *SITE["notebooks"]())} - {"docs/reference"}
    decisions = {name for name in there if re.match(r"docs/adr/\d", name)}
    listed = re.findall(r"^[\w./-]+$", SITE["contents"](), re.M)
    assert sorted(listed) == sorted({*there, "docs/reference"})
    assert len(decisions) >= 27
    not_yet = {"docs/api", "examples/README"}
    assert {name for names in SITE["MENU"].values() for name in names} - {*there, "docs/reference"} <= not_yet


@pytest.mark.parametrize(("page", "text"), blocks("python"), ids=lambda value: value if len(value) < 40 else "")
def test_python_on_a_page_is_python(page, text):
    ast.parse(text)


def test_folder_that_is_linked_becomes_its_page_or_words():
    renamed = SITE["_with_folders_as_files"]
    text = "[a](../benchmarks) [b](../deploy/slurm/) [c](stores.md) [d](https://x.org/docs/)"
    assert renamed(ROOT / "docs" / "model.md", text) == "[a](../benchmarks/README.md) b [c](stores.md) [d](https://x.org/docs/)"


def test_a_notebook_is_a_page_with_its_pictures_and_tables(tmp_path):
    (notebook,) = SITE["notebooks"]()
    SITE["write_notebook"](notebook, tmp_path / "first_look.md")
    text = (tmp_path / "first_look.md").read_text()
    assert text.startswith("# A first look")
    pictures = re.findall(r"^!\[What the lines above draw\]\((.*)\)$", text, re.M)
    assert len(pictures) == 2
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert text.count('<div class="table-wrapper docutils container">') == text.count('<table class="docutils dataframe">') == 2
    assert "```text\nAUROC by patient" in text
    assert (tmp_path / "first_look.ipynb").read_bytes() == notebook.read_bytes()
    renamed = SITE["_with_folders_as_files"]
    assert renamed(ROOT / "examples" / "README.md", "[x.ipynb](first_look.ipynb)") == "[x.ipynb](first_look.md)"


def test_reference_names_only_packages_that_are_there():
    named = re.findall(r"^\.\. automodule:: (\S+)", SITE["reference"](), re.M)
    assert "storage" in named
    assert all(ROOT.joinpath(*name.split("."), "__init__.py").is_file() for name in named)
