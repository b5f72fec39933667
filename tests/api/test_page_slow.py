"""Every snippet of docs/api.md runs, in its order, and gives what the page says."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.api.test_page import ROOT, snippets_of

pytestmark = pytest.mark.slow
PAGE = ROOT / "docs" / "api.md"


def test_the_snippets_run_in_order(nights, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(nights.work, "demo-output/work", symlinks=True)
    snippets = snippets_of(PAGE)
    names: dict = {}
    for snippet in snippets:
        if "ecgbatch.train(" in snippet:  # minutes: tests/training has it
            continue
        few = snippet.replace("folds(5)", "folds(2)")  # the patients of this workspace are few
        exec(compile(few, "docs/api.md", "exec"), names)
    assert len(snippets) >= 14
    assert names["first_seconds"].shape == (int(2 * names["fs"]),)
    assert names["median_beat"].sizes == {"lead": 2, "sample": 88}
    assert names["n"] == names["beats"].sizes["beat"]
    assert np.isfinite(names["loss"].item())
    assert set(names["own"].index) <= set(names["testing"])
    assert names["own"].between(0, 1).all()
    assert names["compared"]["auroc"]["difference"]["n_patients"] > 1
    assert names["conversion"].n_records == names["extraction"].n_records == names["measuring"].n_records == 6
    assert Path(names["made"]["cohort"]).is_file()
