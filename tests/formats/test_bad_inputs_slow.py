"""What of ``test_bad_inputs`` takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formats.mutants import judge_mutants
from tests.formats.test_bad_inputs import FORMATS

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("fmt", FORMATS)
def test_ten_thousand_mutants_never_raise_and_store_no_wrong_sample(tmp_path: Path, fmt: int, seed: int) -> None:
    told = judge_mutants(tmp_path, fmt, seed=seed + 100, n=200)
    assert told["exceptions"] == told["wrong"] == told["disagree"] == 0, told
    assert told["longest_ms"] < 5000


def test_flac_mutants_never_raise_and_store_no_wrong_sample(tmp_path: Path) -> None:
    told = judge_mutants(tmp_path, 516, seed=1, n=40)
    assert told["exceptions"] == told["wrong"] == told["disagree"] == 0, told
