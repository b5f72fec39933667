"""What of ``test_privacy`` takes long."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgbatch.cli.exit_codes import SET_ASIDE
from tests.cli.test_end_to_end import ecgbatch
from tests.workspace import test_privacy
from tests.workspace.test_privacy import columns_of, texts_of

pytestmark = pytest.mark.slow

archive = test_privacy.archive
"""Fixture of both."""


def test_main_job_takes_both_options(archive: Path, tmp_path: Path) -> None:
    # In a process of its own: this one may have imported Prefect, which then does not see the password of the command's server.
    result = ecgbatch("run", archive, tmp_path / "work", "--pseudonymise", "--keep-comments", code=SET_ASIDE)
    assert Path(result["cohort"]).parent.name.endswith("-pseudonymous")
    assert "canarazine" in columns_of(tmp_path / "work")
    assert "canarazine" not in texts_of(Path(result["cohort"]).parent)
