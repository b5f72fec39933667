"""The built wheel holds all that the package needs, and does the main job where there is no checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ecgbatch", "flows", "storage")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel as the build backend makes it, of a copy: a checkout's build folder may hold files that are gone."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(out)], cwd=source, check=True, capture_output=True)
    (built,) = out.glob("*.whl")
    return built


def test_wheel_holds_every_file_of_the_packages(wheel):
    held = {name for name in zipfile.ZipFile(wheel).namelist() if not name.split("/")[0].endswith(".dist-info")}
    there = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == there
    assert {"ecgbatch/weights/mi-12-leads/model.safetensors", "ecgbatch/reports/templates/record.html"} <= held


@pytest.mark.slow
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
