"""What of ``test_devices`` takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.formats.test_devices import FILES, judge_mutants

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("kind", FILES)
def test_two_thousand_mutants_of_each_format_raise_nothing_but_reasons(tmp_path: Path, kind: str, seed: int) -> None:
    assert judge_mutants(tmp_path, kind, seed=seed, n=400) < 5
