"""The snippets of README run, and give every record; those of docs/api.md: test_page_slow.py."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import ecgbatch

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"


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
