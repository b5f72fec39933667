"""Real records, shipped model: exchanged arms are never called, and a copy in other units scores the same."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.model.files import shipped_model
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import DECISION, SCORE_FLAGS
from ecgbatch.terms import LEADS as ALL_LEADS
from storage import open_store

LEADS = ALL_LEADS[:12]
N_RECORDS = 24
TAKEN_FROM = {"I": ("I", -1), "II": ("III", 1), "III": ("II", 1), "aVR": ("aVL", 1), "aVL": ("aVR", 1)}
"""What each lead holds when the arms are exchanged (Einthoven, Goldberger)."""


@pytest.fixture(scope="module")
def scored(test_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, xr.Dataset]:
    """Healthy PTB-XL records as they are, with the arms exchanged, and twice with each lead on a scale of its own."""
    healthy = [
        row["record"]
        for row in csv.DictReader((test_data / "ptbxl" / "labels.csv").read_text().splitlines())
        if row["label"] == "control"
    ]
    root, found = tmp_path_factory.mktemp("real"), {}
    scales = dict(zip(("scaled", "scaled otherwise"), np.random.default_rng(0).uniform(0.5, 2.0, (2, 12)), strict=True))
    for kind in ("as recorded", "arms exchanged", *scales):
        archive = root / kind
        archive.mkdir()
        for number, name in enumerate(healthy[:N_RECORDS]):
            steps = np.fromfile(test_data / "ptbxl" / f"{name}.dat", "<i2").reshape(-1, 12)
            right = dict(zip(LEADS, steps.T, strict=True))
            if kind == "arms exchanged":
                right |= {lead: sign * right[source] for lead, (source, sign) in TAKEN_FROM.items()}
            gains = 2000 * scales.get(kind, np.ones(12))
            signals = "".join(
                f"r{number:03d}.dat 16 {gain:.6f}/mV 16 0 {right[lead][0]} {right[lead].sum() & 0xFFFF} 0 {lead}\n"
                for lead, gain in zip(LEADS, gains, strict=True)
            )
            (archive / f"r{number:03d}.hea").write_text(f"r{number:03d} 12 250 {len(steps)}\n{signals}")
            np.stack([right[lead] for lead in LEADS], axis=1).astype("<i2").tofile(archive / f"r{number:03d}.dat")
        (archive / "RECORDS").write_text("".join(f"r{number:03d}\n" for number in range(N_RECORDS)))
        work = str(root / f"{kind} work")
        convert_archive(str(archive), work)
        extract_beats(work, BeatSettings())
        found[kind] = open_store(scores_path(work, score_workspace(work, str(shipped_model())))).load()
    return found


def test_exchanged_arms_are_named_and_never_called(scored: dict[str, xr.Dataset]) -> None:
    """On all 340 healthy records of the folder 335 are flagged and none is called (docs/model.md)."""
    wrong, right = scored["arms exchanged"], scored["as recorded"]
    is_flagged = wrong["score_flags"].values & SCORE_FLAGS["electrodes_exchanged"] > 0
    assert is_flagged.sum() >= N_RECORDS - 1
    assert (wrong["exchange"].values[is_flagged] == "LA-RA").all()
    assert (wrong["decision"].values != DECISION["mi_indicated"]).all()
    assert (right["score_flags"].values & SCORE_FLAGS["electrodes_exchanged"] == 0).all()
    # Put back, each has the score of the record in place; not that of the original, which fewer members may score.
    back = wrong["probability_put_back"].values[is_flagged]
    assert np.abs(back - scored["scaled"]["mi_probability"].values[is_flagged]).max() < 0.03


def test_copies_on_other_scales_score_the_same(scored: dict[str, xr.Dataset]) -> None:
    """Each lead on a scale of its own, as in a normalised copy: rounding to microvolts is all that differs.

    Two copies, neither of which a member knows by its beats: the record itself is scored by those that never saw it alone.
    """
    one, two = scored["scaled"], scored["scaled otherwise"]
    assert np.abs(one["mi_probability"].values - two["mi_probability"].values).max() < 0.02
    assert (one["decision"].values == two["decision"].values).all()
