"""What of ``test_wheel`` takes long."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest

from tests import test_wheel

pytestmark = pytest.mark.slow

wheel = test_wheel.wheel
"""Fixture of both."""


def test_wheel_alone_runs_the_main_job(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    subprocess.run([binaries / "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    site = subprocess.run(
        [binaries / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    # What it depends on is taken from here; the checkout, which a .pth file there names, is not found by this.
    (Path(site) / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    found = subprocess.run(
        [
            binaries / "python",
            "-c",
            "import ecgbatch, flows, storage; print(*(m.__file__ for m in (ecgbatch, flows, storage)))",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert all(Path(path).is_relative_to(site) for path in found)
    done = subprocess.run(
        [binaries / "ecgbatch", "demo", str(tmp_path / "out"), "--json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["counts"]["n_scored"] == result["counts"]["n_records"] == 60
    assert Path(result["cohort"]).is_file()
    # The models that ship, and the folder of their weights, are in it too.
    again = [binaries / "ecgbatch", "run", str(tmp_path / "out" / "synthetic-archive"), str(tmp_path / "work"), "--json"]
    assert subprocess.run(again, cwd=tmp_path, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif("ECGBATCH_TEST_INSTALL" not in os.environ, reason="downloads 2 GB: make test-wheel does it")
def test_wheel_by_plain_pip_without_the_lock_runs_the_demo_and_warns_of_nothing(wheel, tmp_path):
    """As a user gets it: the newest of everything that the bounds allow, which no lock has seen."""
    venv.create(tmp_path / "venv", with_pip=True)
    binaries = tmp_path / "venv" / "bin"
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ECGBATCH", "PREFECT"))}
    # Python compiles what it imports; pip, the whole of PyTorch, which takes it longer than all else.
    for command in (["install", "--quiet", "--no-compile", f"{wheel}[dicom,pdf,fhir]"], ["check"]):
        done = subprocess.run([binaries / "pip", *command], cwd=tmp_path, env=plain, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    demo = [binaries / "ecgbatch", "demo", str(tmp_path / "out"), "--json"]
    again = ["run", str(tmp_path / "out" / "synthetic-archive"), str(tmp_path / "work"), "--pdf", "--fhir", "--prefect", "--json"]
    for command in (demo, [binaries / "ecgbatch", *again]):
        own = plain | {"PREFECT_HOME": str(tmp_path / "prefect")}
        done = subprocess.run(command, cwd=tmp_path, env=own, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["counts"]["n_scored"] == 60
        assert not re.findall(r"(?i)^.*(?:warning|deprecat|traceback).*$", done.stderr, re.M)
