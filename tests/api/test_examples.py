"""The examples run, offline, and show what they say."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import ecgbatch
from ecgbatch.terms import LEADS

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_every_example_has_its_row():
    rows = re.findall(r"^\| \[([\w.]+)\]\(\1\) \|", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(rows) == sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb"))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_touches_no_private_name(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    used = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    imported = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert not [name for name in used if name.startswith("_")]
    assert not [name for name in imported if name.split(".")[0] in ("ecgbatch", "flows", "storage")]


def test_an_own_network_is_trained_by_patient_and_compared(nights):
    table = runpy.run_path(str(EXAMPLES / "own_network.py"))["main"](nights.work, 2, 2)
    assert table.index.tolist() == ["own network", "ours", "age alone", "own network minus ours"]
    workspace = ecgbatch.open_workspace(nights.work)
    learnt = workspace.records[(workspace.folds(2) >= 0) & workspace.records["mi"].isin([0, 1])]
    assert (table["n_patients"] == learnt["patient_id"].nunique()).all()
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    assert table["value"]["own network minus ours"] == pytest.approx(table["value"]["own network"] - table["value"]["ours"])


def test_plain_xarray_gives_every_record_as_the_package_does(nights):
    records = runpy.run_path(str(EXAMPLES / "plain_xarray.py"))["Records"](nights.work)
    workspace = ecgbatch.open_workspace(nights.work)
    assert list(records.places) == workspace.records.index.tolist()
    for name, status in workspace.records["status"].items():
        found = records.millivolts(name)
        if status == "set_aside":
            assert found.sizes["lead"] == 0
            continue
        own = workspace.signals(name)
        np.testing.assert_allclose(found.sel(lead=list(LEADS[:12])).values, own.sel(lead=list(LEADS[:12])).values, atol=1e-5)
        assert found["lead"].values.tolist() == own["lead"].values.tolist()
