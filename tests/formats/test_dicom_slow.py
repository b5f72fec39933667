"""What of ``test_dicom`` takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formats.test_dicom import judge_mutants

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(1, 6))
def test_two_thousand_mutated_headers_never_raise_and_give_no_wrong_sample(tmp_path: Path, seed: int) -> None:
    judge_mutants(tmp_path, seed=seed, n=400)
