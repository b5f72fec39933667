"""Packages of others that are called ``flows`` or ``storage`` stand first on the path, and ours are found all the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ecgbatch.own_packages import BESIDE, ROOT
from ecgbatch.synthetic.archive import ArchiveShape, write_archive

TYPED = "import sys; from ecgbatch.cli import main; main(sys.argv[1:])"


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    """A folder of somebody's own flows, with a package and a module named as ours, which do nothing of what ours do."""
    folder = tmp_path / "theirs"
    (folder / "flows").mkdir(parents=True)
    (folder / "flows" / "__init__.py").write_text("mine = 1\n")
    (folder / "storage.py").write_text("mine = 2\n")
    return folder


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    write_archive(tmp_path / "archive", ArchiveShape(n_records=2, duration_s=10.0), seed=8)
    return tmp_path / "archive"


def path_with(*folders: Path) -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(map(str, [*folders, ROOT]))}


def python(code: str, *arguments: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code as ``python -c`` does: the present folder stands before all others."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=300
    )


def importing_theirs(theirs: Path, name: str) -> None:
    """Have every Python that has the folder on its path import what bears a name of ours as it starts."""
    (theirs / "sitecustomize.py").write_text(f"import {name}\n")


@pytest.mark.parametrize("where", ["working folder", "PYTHONPATH"])
def test_command_line_takes_ours(where, theirs, archive, tmp_path):
    cwd, environment = (theirs, path_with()) if where == "working folder" else (tmp_path, path_with(theirs))
    work = tmp_path / "work"
    done = python(TYPED, "run", archive, work, "--dry-run", "--json", cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["convert"]["records"] == 2


@pytest.mark.parametrize("name", BESIDE)
def test_command_line_names_what_was_imported_before(name, theirs, archive, tmp_path):
    importing_theirs(theirs, name)
    done = python(TYPED, "inspect", archive, cwd=tmp_path, **path_with(theirs))
    assert done.returncode == 1
    assert str(theirs / {"flows": "flows", "storage": "storage.py"}[name]) in done.stderr
    assert f"expected the package '{name}' of ecgbatch" in done.stderr
    assert "Traceback" not in done.stderr


def test_path_stays_as_it_is_where_nobody_has_our_names(tmp_path):
    code = (
        "import sys; before = [*sys.path]; from ecgbatch.own_packages import ours_first; ours_first(); print(sys.path == before)"
    )
    assert python(code, cwd=tmp_path, **path_with()).stdout == "True\n"


def test_night_of_a_schedule_names_what_was_imported_before(theirs, tmp_path):
    importing_theirs(theirs, "flows")
    night = [sys.executable, "-P", str(ROOT / "flows" / "night.py")]
    done = subprocess.run(
        night, cwd=tmp_path, env=os.environ | path_with(theirs), capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert f"found another: {theirs / 'flows'}" in done.stderr
    assert "Traceback" not in done.stderr
