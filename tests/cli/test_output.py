"""What a command prints for a person: tables, no raw Python; piped, each row whole on one line; as JSON, the document itself."""

from __future__ import annotations

import errno
import json

import pytest

from ecgbatch.cli.errors import what_to_do
from ecgbatch.cli.output import print_document

FIGURE = {"value": 0.855, "low": 0.746, "high": 0.939, "n_patients": 86}
DOCUMENT = {
    "n_records": 40,
    "n_set_aside": {},
    "labels": {"mi": 18, "control": 21},
    "auroc": FIGURE,
    "against_other": {"auroc": FIGURE, "specificity": FIGURE | {"value": None, "note": "Wilson interval"}},
    "problems": [
        {"record": "a/1", "reason": "LEADS_MISSING", "detail": "missing leads Vx Vy Vz: " + "x" * 200},
        {"record": "b/2", "reason": "DAT_MISSING", "detail": ""},
    ],
    "curves": {"roc": [0.0, 1.0]},
}


def test_piped_output_is_columns_without_python_in_it(capsys):
    print_document(DOCUMENT, as_json=False)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[0].split() == ["n_records:", "40"]
    assert "n_set_aside:  none" in lines
    assert "labels:       mi 18, control 21" in lines
    assert any(line.split() == ["auroc", "0.855", "0.746", "to", "0.939", "86", "patients"] for line in lines)
    (problem,) = [line for line in lines if line.startswith("a/1")]
    assert problem.split()[1] == "LEADS_MISSING"
    assert problem.endswith("x" * 200)
    assert not any(sign in out for sign in "{}[]'" if sign not in "[]")
    assert "curves" not in out
    assert all(line == line.rstrip() for line in lines)


def test_json_is_the_document_itself(capsys):
    print_document(DOCUMENT, as_json=True)
    assert json.loads(capsys.readouterr().out) == DOCUMENT


@pytest.mark.parametrize(("file", "is_told"), [(None, True), ("/ward/work/metrics.prom", False)])
def test_full_disk_of_a_file_without_name_names_the_places_to_look_at(file, is_told):
    advice = what_to_do(OSError(errno.ENOSPC, "No space left on device", file))
    assert "make room there" in advice
    assert ("the workspace, TMPDIR or the caches" in advice) is is_told
