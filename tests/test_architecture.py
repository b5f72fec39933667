"""The house: who may import whom, doors that name what is used, rooms where they are expected, and a package that starts fast."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive

ROOT = Path(__file__).resolve().parents[1]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
WINGS = sorted(path.parent.name for path in (ROOT / "ecgbatch").glob("*/__init__.py"))
GROUND = {"__init__", "__main__", "kernels", "settings", "terms", "machine_code", "own_packages"}


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of pyproject.toml on the packages in a folder."""
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_imports_follow_the_contracts():
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in done.stdout


PLANTED = {
    "upwards": ("ecgbatch/beats/rhythm.py", "from ecgbatch.reports import ecg_paper", "wings"),
    "between wings of one line": ("ecgbatch/formats/edf.py", "from ecgbatch.model import splits", "wings"),
    "from storage": ("storage/plan.py", "from ecgbatch import terms", "wings"),
    "from storage, of the package itself": ("storage/plan.py", "from ecgbatch import __version__", "storage"),
    "a loop of rooms": ("ecgbatch/beats/rhythm.py", "from ecgbatch.beats import record", "loops"),
    "a loop for types only": (
        "ecgbatch/model/splits.py",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ecgbatch.model.members import members_for",
        "loops",
    ),
    "past a library's door, in a function": ("ecgbatch/formats/records.py", "def f():\n    import wfdb", "wfdb"),
}
"""Name to file, what is written at its end, and the contract that this breaks."""


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """The packages, and the contracts on them, in a folder of their own."""
    folder = tmp_path_factory.mktemp("house")
    for package in ("ecgbatch", "flows", "storage"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def lint_planted(path: Path, lines: str) -> subprocess.CompletedProcess[str]:
    """Check the contracts of a copy while lines stand at the end of one of its files, which lies in a package there."""
    whole = path.read_text()
    path.write_text(f"{whole}\n{lines}\n")
    try:
        return lint_imports(next(folder for folder in path.parents if (folder / "pyproject.toml").is_file()))
    finally:
        path.write_text(whole)


@pytest.mark.parametrize("case", PLANTED)
def test_a_wrong_import_breaks_its_contract(copy, case):
    name, line, contract = PLANTED[case]
    done = lint_planted(copy / name, line)
    (told,) = (each["name"] for each in CONTRACTS if each["id"] == contract)
    assert done.returncode == 1
    assert is_broken(told, done.stdout), done.stdout


def is_broken(contract: str, printed: str) -> bool:
    return re.search(re.escape(contract).replace("\\ ", r"\s+") + r"\s+BROKEN", printed) is not None


def test_every_library_that_has_a_door_is_refused_elsewhere(copy):
    doors = {each["name"]: each["protected_modules"] for each in CONTRACTS if each["type"] == "protected"}
    libraries = [library for behind in doors.values() for library in behind]
    printed = lint_planted(copy / "ecgbatch" / "terms.py", "\n".join(f"import {library}" for library in libraries)).stdout
    assert [name for name in doors if not is_broken(name, printed)] == []
    assert [library for library in libraries if f"ecgbatch.terms -> {library} " not in printed] == []


def test_every_wing_stands_on_a_floor():
    (floors,) = (each["layers"] for each in CONTRACTS if each["id"] == "wings")
    named = {module.strip() for floor in floors for module in floor.split("|")}
    assert named == {f"ecgbatch.{name}" for name in (*WINGS, *(GROUND - {"__init__"}))} | {"flows", "storage"}


def test_only_the_ground_lies_beside_the_wings():
    assert {path.stem for path in (ROOT / "ecgbatch").glob("*.py")} == GROUND


def test_tests_mirror_the_wings():
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/__init__.py")}
    assert folders == {*WINGS, "storage", "flows", "benchmarks"}


def test_what_lasts_and_what_needs_a_browser_is_found_by_name():
    mark, browser = "pytest.mark." + "slow", "tests." + "chromium import"
    for path in (ROOT / "tests").rglob("test_*.py"):
        text, is_rehearsal = path.read_text(), path.stem == "test_rehearsal"
        assert (mark in text) == (path.stem.endswith("_slow") or is_rehearsal), path
        assert (browser in text) == ("_browser" in path.stem) or is_rehearsal, path


@cache
def names_taken() -> dict[str, dict[str, set[str]]]:
    """Return by wing and room what code outside the wing takes of it."""
    taken: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for path in (path for package in ("ecgbatch", "flows") for path in (ROOT / package).rglob("*.py")):
        tree = ast.parse(path.read_text())
        wing = path.relative_to(ROOT).parts[1]
        used: dict[str, set[str]] = defaultdict(set)
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                used[node.value.id].add(node.attr)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("ecgbatch.") for alias in node.names), f"{path}: say from where which name"
            match (node.module or "").split(".") if isinstance(node, ast.ImportFrom) else []:
                case ["ecgbatch", other] if other in WINGS and other != wing:
                    for alias in node.names:
                        taken[other][alias.name] |= used[alias.asname or alias.name]
                case ["ecgbatch", other, room] if other in WINGS and other != wing:
                    taken[other][room] |= {alias.name for alias in node.names}
    return taken


@pytest.mark.parametrize("wing", [wing for wing in WINGS if wing != "cli"])
def test_a_door_names_what_other_wings_use(wing):
    """The list at a wing's door is what is used of it: what is not there is the wing's own, and may change with it alone."""
    text = ast.get_docstring(ast.parse((ROOT / "ecgbatch" / wing / "__init__.py").read_text()))
    listed = text[text.index("Other wings use:") :]
    named = {
        entry[1]: set(re.findall(r"``(\w+)``", entry[2]))
        for entry in re.finditer(r"^- ``(\w+)``: (.*(?:\n  .*)*)", listed, re.MULTILINE)
    }
    assert named == names_taken()[wing]


MOST_LINES, MOST_LINES_OF_FUNCTION, MOST_PARAMETERS = 500, 60, 7

NUMBA_COUNTS = {
    f"ecgbatch/model/{name}"
    for name in ("vectors.py answer", "vectors.py convolve", "vectors.py from_points", "tile_kernels.py typed")
}
"""A signature that is not ours to choose: the parameters of an intrinsic are those that kernels call it with."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def rooms() -> Iterator[tuple[str, str]]:
    """Yield name and text of every module."""
    for path in (path for package in ("ecgbatch", "flows", "storage") for path in (ROOT / package).rglob("*.py")):
        yield path.relative_to(ROOT).as_posix(), path.read_text()


def functions() -> Iterator[tuple[str, Function]]:
    """Yield every function but kernels, whose loops are one piece and whose arrays cannot be gathered."""
    for name, text in rooms():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, Function) and not any(ast.unparse(one) == "kernel" for one in node.decorator_list):
                yield f"{name} {node.name}", node


def test_no_room_and_no_function_is_longer_than_can_be_read_at_once():
    long = {name for name, text in rooms() if len(text.splitlines()) > MOST_LINES}
    long |= {name for name, node in functions() if node.end_lineno - node.lineno + 1 > MOST_LINES_OF_FUNCTION}
    assert long == set(), "find the seam: another room, or a function of its own"


def test_no_function_is_told_more_than_can_be_kept_in_mind():
    """Commands are told what a user may say, and flows what a schedule may: neither can be gathered into one thing."""
    many = set()
    for name, node in functions():
        is_flow = any(ast.unparse(one).startswith("flow(") for one in node.decorator_list)
        told = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
        if len(told) > MOST_PARAMETERS and not is_flow and not name.startswith("ecgbatch/cli/"):
            many.add(name)
    many -= NUMBA_COUNTS
    assert many == set(), "what travels together becomes one frozen dataclass"


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
    write_archive(tmp_path / "archive", ArchiveShape(n_records=3, duration_s=2.0))
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
