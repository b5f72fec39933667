"""After ``ecgbatch warm`` no command compiles: long, since everything is compiled once more in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ecgbatch.synthetic.archive import ArchiveShape, write_archive

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of machine code that ``warm`` has made."""
    folder = tmp_path_factory.mktemp("kept")
    assert json.loads(command(folder)("warm", "--json"))["kept_in"] == str(folder)
    return folder


def command(kept: Path) -> Callable[..., str]:
    """Return a call of the command line that keeps its machine code in a folder."""

    def run(*arguments: str | Path) -> str:
        call = [sys.executable, "-c", "from ecgbatch.cli import main; main()", *map(str, arguments)]
        environment = os.environ | {"NUMBA_CACHE_DIR": str(kept)}
        done = subprocess.run(call, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode in (0, 3), done.stderr
        return done.stdout

    return run


def test_nothing_is_left_to_compile(kept: Path, tmp_path: Path) -> None:
    """Archives whose records differ in leads, rates and lengths ask for other machine code than those that are all alike."""
    made, ecgbatch = sorted(kept.rglob("*.nbc")), command(kept)
    assert len(made) > 60
    for n, (rate, n_leads, seconds) in enumerate([(1000.0, 15, 30.0), (250.0, 15, 12.0), (100.0, 12, 9.0)]):
        folder = tmp_path / "archive" / str(n)
        write_archive(folder, ArchiveShape(n_records=3, sampling_frequency_hz=rate, n_leads=n_leads, duration_s=seconds), seed=n)
    ecgbatch("demo", tmp_path / "demo")
    ecgbatch("run", tmp_path / "archive", tmp_path / "work")
    ecgbatch("beats", tmp_path / "work", "--method", "kachuee")
    ecgbatch("run", tmp_path / "archive" / "1", tmp_path / "lead-ii", "--model", "mi-lead-ii")
    assert sorted(kept.rglob("*.nbc")) == made


def test_nothing_is_left_to_compile_for_files_of_devices(kept: Path, test_data: Path, tmp_path: Path) -> None:
    made = sorted(kept.rglob("*.nbc"))
    command(kept)("convert", test_data / "formats", tmp_path / "work")
    assert sorted(kept.rglob("*.nbc")) == made
