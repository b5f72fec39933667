"""Machine code is read where it lies and kept where it may be, and nobody runs what others could have put there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

KERNEL = """
import sys
import numpy as np
from ecgbatch.kernels import is_on_disk, kernel

@kernel
def double(x):
    return 2 * x

print(is_on_disk(double), double(21), len(double.stats.cache_hits), is_on_disk(double))
"""


@pytest.fixture
def call(tmp_path: Path):
    """Return a call of the kernel above in a process of its own, with settings; it returns what was printed, and the warning."""
    (tmp_path / "own_kernel.py").write_text(KERNEL)

    def run(**settings: str) -> tuple[str, str]:
        environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path)} | settings
        done = subprocess.run(
            [sys.executable, tmp_path / "own_kernel.py"], env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip(), done.stderr.strip()

    return run


def test_code_lies_beside_the_module_and_is_loaded_from_there(call, tmp_path: Path) -> None:
    assert call() == ("False 42 0 True", "")
    assert list((tmp_path / "__pycache__").glob("own_kernel.double*.nbc"))
    assert call() == ("True 42 1 True", "")
    assert not (tmp_path / "home").exists()


def test_where_the_place_takes_no_file_code_lies_in_the_users_cache_and_that_is_said_once(call, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    said = call(NUMBA_CACHE_DIR=str(tmp_path / "a-file"))
    assert said[0] == "False 42 0 True"
    assert said[1].startswith(f"ecgbatch: compiled code is kept in {tmp_path / 'home' / 'ecgbatch'}: ")
    assert "\n" not in said[1]
    assert call(NUMBA_CACHE_DIR=str(tmp_path / "a-file")) == ("True 42 1 True", "")


def test_without_a_home_code_lies_in_a_folder_of_the_users_own(call, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    nowhere = str(tmp_path / "a-file")
    assert "compiled code is kept in" in call(NUMBA_CACHE_DIR=nowhere, XDG_CACHE_HOME=nowhere)[1]
    assert (tmp_path / f"ecgbatch-{os.getuid()}").stat().st_mode & 0o777 == 0o700
    assert call(NUMBA_CACHE_DIR=nowhere, XDG_CACHE_HOME=nowhere) == ("True 42 1 True", "")


def test_a_folder_that_others_may_write_to_is_not_run_from(call, tmp_path: Path) -> None:
    (tmp_path / "a-file").write_text("")
    nowhere, open_to_all = str(tmp_path / "a-file"), tmp_path / f"ecgbatch-{os.getuid()}"
    call(NUMBA_CACHE_DIR=nowhere, XDG_CACHE_HOME=nowhere)
    open_to_all.chmod(0o777)
    said = call(NUMBA_CACHE_DIR=nowhere, XDG_CACHE_HOME=nowhere)
    assert said[0] == "False 42 0 False"
    assert "compiled code can be kept nowhere" in said[1]
    assert "NUMBA_CACHE_DIR names another folder" in said[1]


def test_code_that_may_be_read_but_not_written_is_taken(call, tmp_path: Path) -> None:
    """What ``make install`` compiled serves every user: numba itself would compile again for whoever cannot write there."""
    call()
    (tmp_path / "__pycache__").chmod(0o555)
    assert call() == ("True 42 1 True", "")


def test_what_is_cut_short_is_compiled_again(call, tmp_path: Path) -> None:
    call()
    for file in (tmp_path / "__pycache__").glob("own_kernel.double*.nbi"):
        file.write_bytes(file.read_bytes()[:40])
    assert call() == ("False 42 0 True", "")
    for file in (tmp_path / "__pycache__").glob("own_kernel.double*.nbc"):
        file.write_bytes(file.read_bytes()[:40])
    assert call() == ("True 42 0 True", "")
    assert not (tmp_path / "home").exists()
