"""The example that goes from an archive to a cohort page."""

from __future__ import annotations

import re
import runpy
import shutil
from pathlib import Path

import pytest

from tests.api.test_examples import EXAMPLES

pytestmark = pytest.mark.slow


def test_an_archive_becomes_a_cohort_page(nights, copied, capsys):
    shutil.rmtree(Path(copied.work) / "scores")
    runpy.run_path(str(EXAMPLES / "archive_to_cohort.py"))["main"](str(nights.archive), copied.work)
    printed = capsys.readouterr().out
    page = Path(re.search(r"Cohort page: (.+)", printed)[1])
    assert page.name == "cohort.html"
    assert "mi_not_indicated" in printed
    assert page.is_file()
