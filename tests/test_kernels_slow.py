"""What of ``test_kernels`` takes long."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_the_first_use_on_a_machine_says_that_it_compiles(tmp_path: Path) -> None:
    script = "from ecgbatch.beats.warm import warm_up; warm_up(lambda done, total: print(done, total))"
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert said == ["0 2\n1 2\n2 2\n", ""]
