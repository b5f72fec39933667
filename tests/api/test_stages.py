"""The stages as plain calls: what is done already is not done again, and what is asked for wrongly is refused in words."""

from __future__ import annotations

from pathlib import Path

import pytest

import ecgbatch
from ecgbatch.model.definition import ModelError
from storage import UnfinishedStore, list_stores

WRONG = {
    "an archive that is not there": (
        lambda _: ecgbatch.convert("nowhere", "new"),
        ValueError,
        "nowhere: expected a folder of WFDB records",
    ),
    "a label table that is not there": (
        lambda work: ecgbatch.convert(".", work, labels="labels.csv"),
        ValueError,
        "labels: expected a CSV .*found no file labels.csv",
    ),
    "a method": (lambda work: ecgbatch.find_beats(work, method="best"), ValueError, "'robust' or 'kachuee', found 'best'"),
    "a reference alone": (
        lambda work: ecgbatch.find_beats(work, reference="atr"),
        ValueError,
        "reference and archive go together",
    ),
    "a recipe": (lambda work: ecgbatch.train(work, recipe="cake"), ValueError, "recipe must be one of .*found 'cake'"),
    "a model": (lambda work: ecgbatch.score(work, model="gone"), ModelError, "no model 'gone' ships"),
    "a run": (lambda work: ecgbatch.report(work, run="gone"), ValueError, "expected the name of a run .*found none named 'gone'"),
    "pages": (lambda work: ecgbatch.report(work, pages="some"), ValueError, "'all', 'called' or 'none'"),
    "a form": (lambda work: ecgbatch.report(work, extras=("docx",)), ValueError, "expected any of pdf, fhir, found docx"),
}
"""What is wrong to what is called with a workspace's place, the exception and its words."""


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_asked_for_wrongly_is_refused_in_words(nights, monkeypatch, tmp_path, wrong):
    call, kind, words = WRONG[wrong]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(kind, match=words):
        call(nights.work)


def test_a_stage_before_its_turn_says_what_to_run_first(tmp_path):
    with pytest.raises(UnfinishedStore, match="run `ecgbatch convert ARCHIVE"):
        ecgbatch.find_beats(tmp_path / "w")
    with pytest.raises(ValueError, match="score the records first"):
        ecgbatch.report(tmp_path / "w")


def test_what_is_done_is_not_done_again_and_progress_is_heard(nights, copied):
    heard: list[tuple[str, int, int]] = []
    compute = ecgbatch.Compute(workers=1, on_progress=lambda *told: heard.append(told))
    stores = {kind: list_stores(copied.work, kind) for kind in ("signals", "peaks", "beats", "measurements", "scores")}
    done = ecgbatch.convert(nights.archive, Path(copied.work), compute=compute)
    assert (done.n_new, done.n_records) == (0, 15)
    assert sum(done.set_aside.values()) == 1
    assert ecgbatch.find_beats(copied.work, compute=compute).n_records >= 15
    assert ecgbatch.measure(copied.work).n_measured > 10
    run = ecgbatch.score(copied.work, compute=compute)
    assert {kind: list_stores(copied.work, kind) for kind in stores} == stores
    assert ecgbatch.open_workspace(copied.work).scores.attrs["run"] == run
    assert {told[0].split()[0] for told in heard} <= {"R", "beats", "measure", "score", "signals", "compiling,"}
