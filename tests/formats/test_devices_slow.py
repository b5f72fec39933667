"""What of ``test_devices`` takes long."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.formats.records import read_record
from ecgbatch.model.files import shipped_model
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals.stage import convert_archive
from storage import open_store
from tests.formats.device_files import aecg, as_wfdb, muse, sierra
from tests.formats.scp_files import OWN, scp
from tests.formats.test_devices import FILES, judge_mutants

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", range(1, 6))
@pytest.mark.parametrize("kind", FILES)
def test_two_thousand_mutants_of_each_format_raise_nothing_but_reasons(tmp_path: Path, kind: str, seed: int) -> None:
    assert judge_mutants(tmp_path, kind, seed=seed, n=400) < 5


def test_one_ecg_has_one_score_in_whatever_format_it_comes(test_data: Path, tmp_path: Path) -> None:
    record = read_record(test_data / "formats/scp-ecg", "Example.scp")
    leads = dict(zip(record["lead"].values.tolist(), record["signal"].values.astype(np.int64), strict=True))
    archive = as_wfdb(leads, 500, 2.5).write(tmp_path / "archive")
    files = {
        "muse.xml": muse(leads, 500, step="2.5"),
        "aecg.xml": aecg(leads, fs=500, step="2.5"),
        "old.xml": sierra(leads, 500, version="1.03", step="2.5"),
        "new.xml": sierra(leads, 500, step="2.5"),
        "r.scp": scp(leads, 500, microvolts=2.5, tables=OWN),
    }
    for name, content in files.items():
        (archive / name).write_bytes(content)
    eight = {lead: values for lead, values in leads.items() if lead not in {"III", "aVR", "aVL", "aVF"}}
    (archive / "eight.xml").write_bytes(muse(eight, 500, step="2.5"))
    work = str(tmp_path / "work")
    convert_archive(str(archive), work)
    extract_beats(work, BeatSettings())
    scores = open_store(scores_path(work, score_workspace(work, str(shipped_model())))).load()
    told = dict(zip(scores["record_name"].values.tolist(), scores["mi_probability"].values.tolist(), strict=True))
    assert told.keys() == {"r", "eight.xml", *files}
    assert len({told[name] for name in ("r", *files)}) == 1
    assert abs(told["eight.xml"] - told["r"]) < 0.005  # its aVR, aVL and aVF are not rounded
