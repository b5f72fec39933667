"""Which signals vote on beats: those called ECGs, and of unknown names only where there is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ecgbatch.archive.listing import list_archive, summarise
from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.beats.shard import present_leads, voting_leads
from ecgbatch.formats.leads import canonical_lead, is_ecg, is_known
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LEAD_FLAGS
from storage import list_stores, open_store
from tests.formats.test_edf import Signal, edf

RATE = 250


def votes(flags: dict[str, int]) -> list[str]:
    voting, _ = voting_leads(np.array(list(flags.values()), np.uint16).tobytes(), tuple(flags))
    return [lead for lead, is_one in zip(flags, voting.tolist(), strict=True) if is_one]


@pytest.mark.parametrize("name", ["ECG_L", "ECG L", "EKG1-EKG2", "ECG1-ECG2", "ECG+", "EKG Left", "ecg_chest"])
def test_what_is_called_an_ecg_and_no_lead_votes_and_is_said_to_be_unknown(name: str) -> None:
    lead = canonical_lead(name)
    assert is_ecg(lead, False)
    assert not is_known(lead)
    assert votes({"C3": 0, lead: 0}) == [lead]


def test_unknown_names_vote_where_there_is_nothing_better() -> None:
    noisy, flat = LEAD_FLAGS["noisy"], LEAD_FLAGS["flat"]
    assert votes({"C3": 0, "II": 0, "X1": 0}) == ["II"]
    assert votes({"C3": 0, "X1": 0}) == ["C3", "X1"]
    assert votes({"C3": 0, "II": noisy}) == ["II"]  # noise of an ECG rather than an EEG
    assert votes({"C3": 0, "II": flat}) == ["C3"]  # else nothing would be looked at; the lead's flag says why
    assert votes({"II": 0, "V1": noisy, "MLII": 0, "RESP": 0}) == ["II", "MLII"]


def test_unknown_names_keep_their_windows() -> None:
    flags = np.zeros(3, np.uint16).tobytes()
    assert present_leads(flags, ("C3", "II", "RESP")).tolist() == [True, True, False]


def test_an_eeg_at_the_ecgs_rate_moves_no_beat(tmp_path: Path) -> None:
    time_s = np.arange(30 * RATE) / RATE
    beats = np.rint(2000 * np.exp(-0.5 * ((time_s % 0.8 - 0.4) / 0.012) ** 2)).astype(np.int64).reshape(30, RATE)
    spikes = np.rint(20_000 * np.exp(-0.5 * ((time_s % 0.5 - 0.2) / 0.015) ** 2)).astype(np.int64).reshape(30, RATE)
    (tmp_path / "a").mkdir()
    eeg = [Signal(name, spikes) for name in ("C3", "C4", "T3")]
    (tmp_path / "a" / "r.edf").write_bytes(edf(Signal("ECG_L", beats), *eeg))
    assert summarise(list_archive(tmp_path / "a"))["leads_unknown"] == {"C3": 1, "C4": 1, "ECG_L": 1, "T3": 1}
    work = str(tmp_path / "w")
    convert_archive(str(tmp_path / "a"), work)
    extract_beats(work, BeatSettings())
    (path,) = list_stores(work, "beats")
    store = open_store(path)
    found_s = store["r_sample"].values / RATE
    inside = (found_s > 1) & (found_s < 29)
    np.testing.assert_allclose(found_s[inside] % 0.8, 0.4, atol=0.02)
    assert inside.sum() == 35
    assert store.attrs["settings"]["without_vote"] == ["C3", "C4", "T3"]
