"""Make the documentation's site, build/site: `python docs/make_site.py`, or `make docs`.

The pages are those of the repository, at the same places relative to one another, so that their links hold on GitHub and here;
two are added, of what Python programs call, and of contents, and notebooks become pages, with the pictures that they keep.
A link to nothing ends it with exit code 1.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("docs", "deploy", "benchmarks", "examples")
"""Whose pages belong to the site, with those at the top."""

PACKAGES = ("ecgbatch.api", "storage")
"""Documented by their docstrings, in this order, where they are there."""


MENU = {
    "Start": ("README", "docs/quick-start", "docs/concepts", "docs/install"),
    "How to": (
        "docs/real-recordings", "docs/commands", "docs/api", "examples/README", "examples/first_look", "docs/labels",
        "docs/nightly", "docs/serve", "docs/viewer", "docs/privacy", "docs/onnx", "deploy/RUNBOOK",
    ),
    "What it finds": ("docs/reports", "docs/beat-detection", "docs/measurements", "docs/model", "docs/quality"),
    "Reference": ("docs/reference", "docs/stores", "docs/fields", "docs/schema/README", "docs/formats", "docs/reason-codes"),
    "How good": ("docs/PERFORMANCE", "docs/SCALE", "docs/RELIABILITY", "benchmarks/README"),
    "Inside": ("ARCHITECTURE", "docs/adr/README", "CONTRIBUTING", "SECURITY", "CHANGELOG", "docs/README"),
}  # fmt: skip
"""Pages by what a reader wants, without their suffix; what is not there yet is left out."""


def copy_sources(target: Path) -> None:
    """Copy all pages, and the files that they link or show, to where they lie in the repository."""
    shutil.rmtree(target, ignore_errors=True)
    for page in pages():
        place = target / page.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        text = page.read_text(encoding="utf-8")
        # What GitHub draws takes a program from elsewhere to draw: on the site it stays words.
        place.write_text(_with_folders_as_files(page, text).replace("```mermaid\n", "```text\n"), encoding="utf-8")
        for linked in filter(Path.is_file, _linked(page, text)):
            (target / linked.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            if linked.suffix != ".md":
                shutil.copy(linked, target / linked.relative_to(ROOT))
    for notebook in notebooks():
        write_notebook(notebook, (target / notebook.relative_to(ROOT)).with_suffix(".md"))
    (target / "docs" / "reference.md").write_text(reference(), encoding="utf-8")
    (target / "contents.md").write_text(contents(), encoding="utf-8")
    shutil.copy(ROOT / "docs" / "site.py", target / "conf.py")


def pages() -> list[Path]:
    """Return every page of the repository that belongs to the site."""
    return sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))])


def notebooks() -> list[Path]:
    """Return every notebook that becomes a page."""
    return sorted((ROOT / "examples").glob("*.ipynb"))


def write_notebook(notebook: Path, page: Path) -> None:
    """Write a notebook as a page: its words, its code, and what its cells gave when it last ran; pictures are files beside it."""
    shutil.copy(notebook, page.with_suffix(".ipynb"))
    parts = []
    for number, cell in enumerate(json.loads(notebook.read_text(encoding="utf-8"))["cells"]):
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        parts += [_shown(output, page.with_name(f"{page.stem}-{number}.png")) for output in cell.get("outputs", [])]
    parts.append(f"[This page as a notebook]({notebook.name}), to run and to change.")
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _shown(output: dict[str, Any], picture: Path) -> str:
    """Return what one output of a cell is on a page: a picture, written to its file, a table, or text."""
    data = output.get("data", {})
    if "image/png" in data:
        picture.write_bytes(base64.b64decode("".join(data["image/png"])))
        return f"![What the lines above draw]({picture.name})"
    if "text/html" in data:
        table = "".join(data["text/html"]).replace('border="1" class="', 'class="docutils ')
        # Dressed as the site's own tables: a wide one scrolls by itself.
        return f'```{{raw}} html\n<div class="table-wrapper docutils container">\n{table}\n</div>\n```'
    return "```text\n" + "".join(output.get("text") or data["text/plain"]).rstrip() + "\n```"


def _linked(page: Path, text: str) -> list[Path]:
    targets = re.findall(r"\]\(([^)\s#]+)(?:#[^)]*)?\)", text)
    return [(page.parent / target).resolve() for target in targets if not re.match(r"[a-z]+:", target)]


def _with_folders_as_files(page: Path, text: str) -> str:
    """Name a linked folder's page where it has one; of one without, leave the words: a site lists none. Notebooks are pages."""

    def renamed(match: re.Match[str]) -> str:
        words, target = match.groups()
        if (page.parent / target).resolve() in notebooks():
            return f"[{words}]({target.removesuffix('.ipynb')}.md)"
        if re.match(r"[a-z]+:|#", target) or not (page.parent / target).is_dir():
            return match.group(0)
        return f"[{words}]({target.rstrip('/')}/README.md)" if (page.parent / target / "README.md").is_file() else words

    return re.sub(r"\[([^\]]*)\]\(([^)\s]+)\)", renamed, text)


def reference() -> str:
    """Return the page of what programs call, which mkdocstrings fills from the docstrings."""
    there = [name for name in PACKAGES if ROOT.joinpath(*name.split("."), "__init__.py").is_file()]
    parts = [f"## {name}\n\n{_AUTODOC.format(name=name)}" for name in there]
    return (
        "# Python reference\n\nWritten from the docstrings; what is not here is the package's own, and may change.\n\n"
        + "\n".join(parts)
    )


_AUTODOC = """```{{eval-rst}}
.. automodule:: {name}
   :members:
   :imported-members:
```
"""


def contents() -> str:
    """Return the page of contents, from which the site's menu is made; what no list here names is not on it."""
    listed = ["# Contents\n"]
    for caption, names in MENU.items():
        made = {"docs/reference", *(notebook.relative_to(ROOT).with_suffix("").as_posix() for notebook in notebooks())}
        there = [name for name in names if (ROOT / f"{name}.md").is_file() or name in made]
        listed.append(_TREE.format(caption=caption, pages="\n".join(there)))
    decisions = sorted(page.stem for page in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    tree = _TREE.format(caption="Decisions", pages="\n".join(f"docs/adr/{name}" for name in decisions))
    return "\n".join([*listed, tree.replace(":maxdepth:", ":hidden:\n:maxdepth:")])


_TREE = """```{{toctree}}
:caption: {caption}
:maxdepth: 1

{pages}
```
"""


def build_site(sources: Path, site: Path) -> int:
    """Make a site of copied pages; return Sphinx's exit code, which is 1 where a link leads to nothing."""
    # Not within this process: the packages it reads are to be those beside these pages, whatever others are imported here.
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    kept = ["-d", str(sources.with_name("doctrees"))]
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", *kept, str(sources), str(site)]
    code = subprocess.run(command, cwd=sources, env=os.environ | {"PYTHONPATH": path}, check=False).returncode  # noqa: S603
    if code == 0:
        shutil.copy(site / "README.html", site / "index.html")
    return code


def main() -> int:
    """Copy the pages and make the site of them."""
    sources, site = ROOT / "build" / "pages", ROOT / "build" / "site"
    shutil.rmtree(site, ignore_errors=True)
    copy_sources(sources)
    code = build_site(sources, site)
    print(f"documentation: {site / 'index.html'}" if code == 0 else "the site was not made: see above which page")
    return code


if __name__ == "__main__":
    sys.exit(main())
