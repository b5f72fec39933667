"""Every snippet of docs/api.md and of README runs, in its order, and gives what the page says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np

import ecgbatch

ROOT = Path(__file__).resolve().parents[2]
PAGE, README = ROOT / "docs" / "api.md", ROOT / "README.md"


def snippets_of(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


def test_the_snippets_of_readme_give_every_record_by_name_with_missing_samples_as_nan(nights, tmp_path, monkeypatch, capsys):
    (tmp_path / "demo-output").mkdir()
    (tmp_path / "demo-output" / "work").symlink_to(nights.work)
    monkeypatch.chdir(tmp_path)
    ours, plain = snippets_of(README)
    names: dict = {}
    exec(compile(ours, "README.md", "exec"), names)
    exec(compile(plain, "README.md", "exec"), names)
    workspace = ecgbatch.open_workspace(nights.work)
    assert list(names["in_millivolts"]) == workspace.records.index.tolist()
    assert set(names["millivolts"]) == set(workspace.records.index) - {nights.broken}
    for name, own in names["millivolts"].items():
        found = names["in_millivolts"][name].sel(lead=own["lead"].values.tolist())
        np.testing.assert_allclose(found.values, own.values, atol=1e-5)
        assert bool(np.isnan(own.values).any()) == (name == nights.faulty)
    assert names["beats"].sizes["record"] == len(workspace.records)
    assert nights.broken in capsys.readouterr().out


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
    assert names["conversion"].n_records == names["extraction"].n_records == names["measuring"].n_records == 6
    assert Path(names["made"]["cohort"]).is_file()
