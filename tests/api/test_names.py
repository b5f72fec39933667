"""The package's public names: what they are, that they cost nothing until they are used, and that their page has them all."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import ecgbatch

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {"torch", "dask", "prefect", "zarr", "pandas", "xarray", "numba", "scipy", "wfdb", "numpy"}


def test_every_public_name_is_there_and_type_checkers_see_the_same():
    assert set(dir(ecgbatch)) == {"__version__", *ecgbatch._ROOM_OF}
    (block,) = (node for node in ast.parse(Path(ecgbatch.__file__).read_text()).body if isinstance(node, ast.If))
    seen = {(alias.asname, f"{node.module}") for node in block.body for alias in node.names}
    assert seen == {(name, f"ecgbatch.api.{room}") for name, room in ecgbatch._ROOM_OF.items()}
    for name, room in ecgbatch._ROOM_OF.items():
        assert callable(getattr(ecgbatch, name)), (name, room)
        assert getattr(ecgbatch, name).__doc__


def test_no_public_name_is_that_of_a_wing():
    """A wing that is imported becomes the package's attribute, and would take the name's place."""
    assert not set(ecgbatch._ROOM_OF) & {path.stem for path in (ROOT / "ecgbatch").iterdir()}


def test_import_is_light_and_only_the_dataset_brings_torch(nights):
    script = textwrap.dedent(f"""
        import sys
        heavy = {HEAVY!r}
        import ecgbatch
        dir(ecgbatch)
        print(*sorted(heavy & set(sys.modules)))
        workspace = ecgbatch.open_workspace({nights.work!r})
        workspace.records, workspace.signals({nights.faulty!r}).values, next(workspace.iter_beats(5)), workspace.folds(2)
        print(*sorted({{"torch", "prefect", "distributed"}} & set(sys.modules)))
        next(iter(workspace.torch_beats(5)))
        print(*sorted({{"torch", "prefect", "distributed"}} & set(sys.modules)))
    """)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert found.splitlines() == ["", "", "torch"]


def test_the_page_has_every_public_name():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    members = [
        name
        for name, one in vars(ecgbatch.Workspace).items()
        if not name.startswith("_") and (callable(one) or hasattr(one, "func"))
    ]
    assert len(members) == 8
    for name in (*ecgbatch._ROOM_OF, *members):
        assert re.search(rf"^#+ .*`[\w.]*\b{name}\b", page, re.MULTILINE), name
