"""What of ``test_speed`` takes long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.slow


def test_both_sides_find_the_same_beats_and_probabilities(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--only", "ptb", "--records", "2", "--sample", "2", "--rounds", "1"]
    page = subprocess.run([*command, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    line = next(line for line in page.splitlines() if line.startswith("Both sides did the same"))
    numbers = [int(word) for word in line.replace(",", " ").split() if word.isdigit()]
    assert numbers[0] == numbers[1] == numbers[3] > 0
    assert float(line.rsplit(" ", 1)[1].rstrip(".")) < 1e-5
    assert "a network on each of 15 leads: times faster" in page
