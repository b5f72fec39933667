"""Imports go down only, third parties have one door each, and the package imports fast."""

from __future__ import annotations

import ast
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest

from ecgbatch.signals import convert_archive
from ecgbatch.synthetic import write_archive

ROOT = Path(__file__).resolve().parents[1]
FLOORS = {"storage": set(), "ecgbatch": {"storage"}, "flows": {"ecgbatch", "storage"}}
DOORS = {
    "wfdb": {"ecgbatch/wfdb_child.py"},
    "pydicom": {"ecgbatch/dicom.py"},
    "zarr": {"storage"},
    "prefect": {"flows"},
    "dask": {"flows/cluster.py"},
    "distributed": {"flows/cluster.py"},
    "torch": {f"ecgbatch/{room}.py" for room in ("network", "random_kernels", "training", "arrhythmia")},
}
FRONT_DOOR = "ecgbatch/cli.py"
"""Stands outside the floors: it alone may call the flows (docs/adr/0003)."""


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def modules() -> list[Path]:
    return [path for floor in FLOORS for path in sorted((ROOT / floor).rglob("*.py"))]


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path):
    name = path.relative_to(ROOT).as_posix()
    floor = name.split("/")[0]
    above = (imports_of(path) & FLOORS.keys()) - FLOORS[floor] - {floor}
    assert above <= ({"flows"} if name == FRONT_DOOR else set())


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(ROOT)))
def test_third_parties_have_one_door_each(path):
    name = path.relative_to(ROOT).as_posix()
    for library in imports_of(path) & DOORS.keys():
        assert any(name == door or name.startswith(f"{door}/") for door in DOORS[library]), f"{name} imports {library}"


def test_import_of_ecgbatch_pulls_in_no_heavy_library():
    script = (
        "import sys, ecgbatch; print(sorted(set(sys.modules) & {'wfdb', 'zarr', 'prefect', 'dask', 'torch', 'numba', 'scipy'}))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_help_needs_neither_torch_nor_prefect_nor_zarr():
    script = (
        "import sys, ecgbatch.cli; "
        "print(sorted(set(sys.modules) & {'wfdb', 'zarr', 'prefect', 'dask', 'torch', 'numba', 'scipy', 'xarray'}))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_commands_that_need_neither_import_neither_torch_nor_prefect(tmp_path):
    """Start in about a second: what a command does not need is not imported."""
    write_archive(tmp_path / "archive", n_records=3, duration_s=2.0)
    convert_archive(str(tmp_path / "archive"), str(tmp_path / "work"))
    script = textwrap.dedent("""
        import contextlib, io, sys
        from ecgbatch.cli import main
        heavy = {"torch", "prefect", "distributed", "bokeh", "sklearn", "wfdb", "zarr", "xarray", "numba"}
        for line in sys.stdin.read().splitlines():
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                main(line.split())
            print(line.split()[0], *sorted(heavy & set(sys.modules)))
    """)
    names = ("config", "--help", "run --help", "convert --help", "train --help", "score --help", "report --help")
    of_work = ("gc", "status", "verify", "convert --dry-run archive", "beats --dry-run")
    commands = [*names, "inspect archive", *(f"{command} work" for command in of_work)]
    found = subprocess.run(
        [sys.executable, "-c", script], input="\n".join(commands), cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [line.split()[1:] for line in found[: len(names)]] == [[]] * len(names)
    assert len(found) == len(commands)
    assert {word for line in found[len(names) :] for word in line.split()[1:]} == {"xarray", "zarr"}


def test_every_package_is_listed_for_the_wheel():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(FLOORS)
