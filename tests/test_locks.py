"""One lock a version of Python, and a Makefile that takes the one of its interpreter, or says why not."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSIONS = re.search(r"^PYTHON_VERSIONS := (.+)$", (ROOT / "Makefile").read_text(), re.M)[1].split()


def locked(version: str) -> dict[str, str]:
    return pins_of((ROOT / "requirements" / f"lock-{version}.txt").read_text())


def pins_of(text: str) -> dict[str, str]:
    return {canonicalize_name(name): pinned for name, pinned in re.findall(r"^([\w.-]+)(?:\[.+\])?==(\S+)", text, re.M)}


def wanted(version: str) -> list[Requirement]:
    """Return what the package and its developers need there; torch has a file of its own."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"], *(line for name in ("dev", "dicom", "pdf", "fhir") for line in extras[name])]
    found = [Requirement(line) for line in lines]
    return [
        one
        for one in found
        if one.name not in ("ecgbatch", "torch") and (one.marker is None or one.marker.evaluate({"python_version": version}))
    ]


def test_each_version_that_the_package_allows_has_a_lock():
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [version for version in ("3.10", *VERSIONS, "3.15") if version in allowed] == VERSIONS
    assert sorted(path.name for path in (ROOT / "requirements").glob("lock-*.txt")) == [f"lock-{v}.txt" for v in VERSIONS]
    assert [f"Programming Language :: Python :: {version}" for version in VERSIONS] == PROJECT["classifiers"][1:]


@pytest.mark.parametrize("version", VERSIONS)
def test_lock_has_all_that_is_needed_and_nothing_of_cuda(version):
    pins = locked(version)
    for requirement in wanted(version):
        assert pins[canonicalize_name(requirement.name)] in requirement.specifier, str(requirement)
    assert not {name for name in pins if name.startswith(("nvidia", "cuda", "triton", "torch"))}


def test_image_has_what_the_package_needs_in_the_versions_of_the_lock_and_no_tool_of_developers():
    pins = pins_of((ROOT / "requirements" / "image.txt").read_text())
    assert pins.items() <= locked("3.11").items()
    extras = PROJECT["optional-dependencies"]
    needed = [Requirement(line).name for line in [*PROJECT["dependencies"], *extras["dicom"], *extras["pdf"], *extras["fhir"]]]
    assert {canonicalize_name(name) for name in needed} - pins.keys() == {"torch"}
    assert not pins.keys() & {"pytest", "mypy", "ruff", "moto", "selenium", "sphinx"}


@pytest.mark.parametrize(("python", "found"), [("an older one", "3.9"), ("no-python-here", "not there")])
def test_install_says_which_pythons_will_do(python, found, tmp_path):
    for name in ("Makefile", "pyproject.toml", "requirements"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    if found == "3.9":
        python = tmp_path / "python"
        python.write_text(f"#!/bin/sh\nexec {sys.executable} -c 'print(\"3.9\")'\n")
        python.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make", "install", f"PYTHON={python}"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert f"ecgbatch installs with Python {' '.join(VERSIONS)}, and {python} is {found}. Name another" in done.stdout
    assert not (tmp_path / ".venv").exists()
