"""What of ``test_accounting`` takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.signals.test_accounting import judge

pytestmark = pytest.mark.slow


def test_bad_tenth_of_a_thousand_changes_nothing_for_the_good_and_is_all_set_aside(tmp_path: Path) -> None:
    judge(tmp_path, 1000)
