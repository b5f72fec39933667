"""Inputs of the field, each standing for a kind (``data/cases``), and their kin: what comes out is what the formats say."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.archive.listing import list_archive
from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.formats.header import UnreadableRecord, patient_of
from ecgbatch.formats.leads import canonical_lead, is_ecg, is_known, samples_a_frame, which_are_ecgs
from ecgbatch.formats.records import in_millivolts, read_record
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LEADS
from storage import open_store

SETTINGS = BeatSettings()


def lead_mv(archive: Path, name: str, lead: str) -> np.ndarray:
    record = read_record(archive, name)
    return in_millivolts(record).values[record["lead"].values.tolist().index(lead)]


def r_peaks_s(archive: Path, work: Path) -> np.ndarray:
    """Times of the R peaks of an archive's only record."""
    convert_archive(str(archive), str(work))
    (path,) = extract_beats(str(work), SETTINGS).stores
    fs = list_archive(archive)["sampling_frequency_hz"].values[0]
    return open_store(path)["r_sample"].values / fs


def is_found(found_s: np.ndarray, truth_s: np.ndarray) -> bool:
    return len(found_s) == len(truth_s) and np.abs(found_s - truth_s).max() < 0.05


def test_every_sample_of_every_lead_at_its_own_rate(test_data):
    archive = test_data / "cases/samples-a-frame/a-icu"
    record = read_record(archive, "icu")
    assert record.attrs["sampling_frequency_hz"] == 250.0
    truth = np.load(test_data / "cases/samples-a-frame/a_truth_mv_II_250Hz.npy")
    assert np.abs(lead_mv(archive, "icu", "II") - truth).max() < 0.0006
    assert record["lead"].values.tolist() == ["II", "aVR", "V"]


def write_frames(folder: Path, signals: dict[str, tuple[np.ndarray, str]], frame_hz: float, name: str = "x") -> None:
    """Write a record in format 16: of each signal its samples (frame, sample of the frame), and its gain and units."""
    frames = np.concatenate([values for values, _ in signals.values()], axis=1).astype("<i2")
    (folder / f"{name}.dat").write_bytes(frames.tobytes())
    lines = [f"{name} {len(signals)} {frame_hz:g} {len(frames)}"]
    for lead, (values, gain) in signals.items():
        total = int(values.astype(np.int64).sum()) % 65536
        lines.append(f"{name}.dat 16x{values.shape[1]} {gain} 16 0 {int(values[0, 0])} {total} 0 {lead}")
    (folder / f"{name}.hea").write_text("\n".join([*lines, ""]))


@pytest.mark.parametrize(("frame_hz", "per_frame"), [(1.0, 250), (62.5, 4), (125.0, 2)])
def test_frames_of_any_length_give_the_lead_as_it_was(frame_hz, per_frame, tmp_path):
    values = np.arange(20 * per_frame).reshape(20, per_frame)
    pressure = np.arange(20)[:, None] + 100
    write_frames(tmp_path, {"II": (values, "1000/mV"), "V5": (values + 7, "1000/mV"), "ABP": (pressure, "20/mmHg")}, frame_hz)
    record = read_record(tmp_path, "x")
    assert record.attrs["sampling_frequency_hz"] == frame_hz * per_frame
    assert record.attrs["warnings"] == ["OTHER_RATES_LEFT_OUT", "UNITS_UNKNOWN"]
    assert record["lead"].values.tolist() == ["II", "V5"]
    np.testing.assert_array_equal(record["signal"].values, [values.ravel(), values.ravel() + 7])


def test_an_ecg_lead_of_another_rate_is_left_out_and_named(tmp_path):
    slow, fast = np.arange(500).reshape(250, 2), np.arange(1000).reshape(250, 4)
    write_frames(tmp_path, {"I": (slow, "1000/mV"), "II": (fast, "1000/mV"), "V1": (fast, "1000/mV")}, 125.0)
    record = read_record(tmp_path, "x")
    assert record.attrs["sampling_frequency_hz"] == 500.0
    assert record.attrs["status_detail"] == "left out, at another rate than 500 Hz: I (250 Hz)"


@pytest.mark.parametrize(
    ("counts", "ecgs", "chosen"),
    [
        ((1, 4, 4), (1, 1, 1), 4),
        ((1, 4), (1, 1), 4),
        ((8, 8, 4), (0, 0, 1), 4),
        ((8, 2, 2), (0, 0, 0), 2),
        ((2, 2, 4), (1, 1, 1), 2),
    ],
)
def test_the_records_rate_is_that_of_most_ecg_leads_then_the_higher(counts, ecgs, chosen):
    assert samples_a_frame(counts, ecgs) == chosen


def test_the_ecg_of_a_polysomnogram_is_kept_whatever_its_rate(test_data, tmp_path):
    archive = test_data / "cases/edf-slow-ecg/a"
    assert list_archive(archive)["leads"].values.tolist() == ["ECG"]
    assert is_found(r_peaks_s(archive, tmp_path), np.load(test_data / "cases/edf-slow-ecg/truth_R_s.npy"))


def test_pressures_have_no_vote(test_data, tmp_path):
    archive = test_data / "cases/other-signals-vote/a"
    assert is_found(r_peaks_s(archive, tmp_path), np.load(test_data / "cases/other-signals-vote/a_truth_R_s.npy"))


@pytest.mark.parametrize("units", ["80/mmHg", "80/NU", "0", "1000/mV"])
@pytest.mark.parametrize("name", ["RESP", "PLETH", "ABP"])
def test_what_is_no_ecg_has_no_vote_whatever_its_units(name, units, tmp_path):
    time_s = np.arange(7500) / 125.0
    ecg = np.rint(1000 * np.exp(-0.5 * ((time_s % 0.8 - 0.4) / 0.012) ** 2))
    wave = np.rint(900 * np.sin(2 * np.pi * 1.25 * time_s) ** 21)
    (tmp_path / "a").mkdir()
    write_frames(tmp_path / "a", {"II": (ecg[:, None], "1000/mV"), name: (wave[:, None], units)}, 125.0)
    assert is_found(r_peaks_s(tmp_path / "a", tmp_path / "w"), np.arange(75) * 0.8 + 0.4)


def test_which_signals_are_ecgs():
    leads = ["II", "RESP", "X1", "EEG_C3-A2", "MLII", "X2"]
    assert which_are_ecgs(leads, [True, True, True, True, True, False]) == [True, False, True, False, True, False]
    assert which_are_ecgs(["X2", "ABP"], [False, False]) == [True, False]  # a normalised ECG of unknown name has no better one
    assert is_ecg("II", False)
    assert is_ecg("Abdomen_1", True)
    assert not is_ecg("C4-A1", True)


def test_a_layout_may_state_no_samples(test_data):
    truth = np.load(test_data / "cases/layout-length-zero/a-layout_truth_mv_II.npy")
    found = lead_mv(test_data / "cases/layout-length-zero/a-layout", "m", "II")
    assert found.shape == (3000,)
    assert np.flatnonzero(np.isnan(found)).tolist() == list(range(1000, 1500))
    assert np.nanmax(np.abs(found - truth)) < 0.501 / 100  # the truth is not in steps


def test_each_segments_own_gain_gives_its_millivolts(test_data):
    truth = np.load(test_data / "cases/segment-gains/a_truth_mv_II.npy")
    archive = test_data / "cases/segment-gains/a"
    assert np.nanmax(np.abs(lead_mv(archive, "m", "II") - truth)) < 0.501 / 53 + 0.5 / (8 * 86)
    assert "SCALES_JOINED" in read_record(archive, "m").attrs["warnings"]


def test_segments_have_their_leads_own_rate_too(tmp_path):
    values = np.arange(400).reshape(100, 4)
    write_frames(tmp_path, {"II": (values, "200/mV"), "RESP": (values[:, :1], "100/NU")}, 62.5, "m_1")
    write_frames(tmp_path, {"RESP": (values[:, :1], "100/NU")}, 62.5, "m_2")
    write_frames(tmp_path, {"II": (values + 1, "100(5)/mV")}, 62.5, "m_3")
    lines = ["m_layout 2 62.5 0", "~ 0x4 200/mV 16 0 0 0 0 II", "~ 0 100/NU 16 0 0 0 0 RESP", ""]
    (tmp_path / "m_layout.hea").write_text("\n".join(lines))
    (tmp_path / "m.hea").write_text("m/5 2 62.5 350\nm_layout 0\nm_1 100\n~ 50\nm_2 100\nm_3 100\n")
    record = read_record(tmp_path, "m")
    assert record.attrs["sampling_frequency_hz"] == 250.0
    assert record["lead"].values.tolist() == ["II"]
    expected = np.full(1400, np.nan)
    expected[:400], expected[1000:] = values.ravel() / 200, (values.ravel() + 1 - 5) / 100
    np.testing.assert_allclose(lead_mv(tmp_path, "m", "II"), expected, atol=1 / 3200)


def test_two_signals_of_one_name_are_told_apart_but_not_two_that_claim_one_standard_lead(test_data, tmp_path):
    assert read_record(test_data / "cases/same-name/a", "h00")["lead"].values.tolist() == ["ECG", "ECG_#2"]
    values = np.arange(500)[:, None]
    lines = dict.fromkeys(("II", "Lead II"), (values, "200/mV"))
    write_frames(tmp_path, lines, 250.0)
    with pytest.raises(UnreadableRecord, match="LEADS_DUPLICATE"):
        read_record(tmp_path, "x")


def test_signal_lines_beyond_the_stated_number_are_not_the_records(test_data):
    record = read_record(test_data / "cases/extra-signal-lines/a", "x")
    assert record["lead"].values.tolist() == ["I", "II"]
    assert record.attrs["warnings"] == ["SIGNALS_IGNORED"]


DIALECTS = {
    "I": "I|DI|D1|D I|EKG I|ECG-I|ECG_I|Abl. I|Ableitung I|lead_I|Lead 1|MDC_ECG_LEAD_I|I+|ECG Lead I|LA-RA|L1"
    "|Derivación I|отведение I|I-REF|I誘導|第Ⅰ誘導|第I導联|ECG(I)|EKG [I]|I.|I/mV",
    "II": "II|DII|D II|Lead II (ECG)|II [mV]|ekg ii|LL-RA|Dérivation II|MDC_ECG_LEAD_II|ECG II-Ref|II ECG Lead|ECG - II"
    "|Extremitätenableitung II|afl. II|II отведение",
    "III": "DIII|III+|Abl III|LL-LA",
    "aVR": "AVR|avr|EKG aVR|MDC_ECG_LEAD_AVR|aVR+|aV R|Goldberger aVR|ECG-aVR|dér. aVR",
    "-aVR": "-aVR|-AVR|Lead -aVR|ECG -aVR|\u2212aVR|(-)aVR|minus aVR|-aVR (mV)|MDC_ECG_LEAD_MINUS_AVR",
    "V3": "v3|ECG V3|ECG C3|Lead V3|Abl. V3|MDC_ECG_LEAD_V3|V 3|V03|Brustwand V3|Wilson V3|V3-REF",
    "V3R": "V3R|Lead V3R|MDC_ECG_LEAD_V3R",
    "Vx": "Vx|VX|Frank X|MDC_ECG_LEAD_X|VCG X",
}


@pytest.mark.parametrize("lead", DIALECTS)
def test_lead_names_of_the_worlds_devices(lead):
    names = DIALECTS[lead].split("|")
    assert {name: canonical_lead(name) for name in names} == dict.fromkeys(names, lead)


@pytest.mark.parametrize(
    "name",
    [
        *("MLII", "V3R", "-aVR", "V7", "C3", "MCL1", "CM5", "V", "ECG", "ECG1", "Nehb D", "aVR-", "RA-LA", "Lead -I", "-I"),
        *("VR", "I-II", "ECG I-II", "C3-REF", "ECG X", "Channel I", "EKG 2", "II (filtered)"),
    ],
)
def test_other_leads_are_taken_for_no_standard_lead(name):
    assert canonical_lead(name) == name.replace(" ", "_")


def test_an_unknown_name_is_said(tmp_path):
    values = np.arange(500)[:, None]
    write_frames(tmp_path, {"II": (values, "200/mV"), "Quux": (values, "200/mV")}, 250.0)
    assert read_record(tmp_path, "x").attrs["warnings"] == ["LEADS_UNKNOWN"]
    assert all(map(is_known, ["II", "MLII", "ECG", "ECG_#2", "RESP", "V3R", "EEG_C3-A2", "ABP"]))


def test_mimics_folders_and_subject_comments_name_the_patient(test_data, tmp_path):
    listing = list_archive(test_data / "cases/folder-patients/files")
    assert listing["patient_id"].values.tolist() == ["10000001", "10000001", "10000002"]
    assert not listing["patient_unknown"].values.any()
    values = np.arange(500)[:, None]
    for name, comment in (("a", "# <subject_id>: 10000001"), ("b", "# Subject: 7"), ("c", "# subjective: none")):
        write_frames(tmp_path, {"II": (values, "200/mV")}, 250.0, name)
        with (tmp_path / f"{name}.hea").open("a") as file:
            file.write(f"{comment}\n")
    assert list_archive(tmp_path)["patient_id"].values.tolist() == ["10000001", "7", "c"]


def test_edf_patient_fields_of_no_form_merge_nobody(test_data):
    listing = list_archive(test_data / "cases/edf-patients/a")
    assert len(set(listing["patient_id"].values.tolist())) == 4
    assert listing["patient_unknown"].values.all()


@pytest.mark.parametrize(
    ("case", "name", "leads", "n_samples"),
    [
        ("dicom-groups", "rest_and_rhythm.dcm", list(LEADS[:12]), 5000),
        ("dicom-channels", "holter.dcm", ["Channel_1", "Channel_2", "Channel_3"], 5000),
        ("dicom-values", "long_number.dcm", list(LEADS[:12]), 5000),
        ("dicom-class", "cathlab.dcm", list(LEADS[:12]), 5000),
    ],
)
def test_dicom_by_its_leads(case, name, leads, n_samples, test_data):
    pytest.importorskip("pydicom")
    record = read_record(test_data / "cases" / case / "a", name)
    assert record["lead"].values.tolist() == leads
    assert record.attrs["n_samples"] == n_samples
    assert record.attrs["status_detail"] == ("left out: II of 60 s at 500 Hz" if case == "dicom-groups" else "")


def test_iec_names_of_chest_leads_are_known_by_their_company(tmp_path):
    values = np.arange(500)[:, None]
    chest = [f"C{n}" for n in range(1, 7)]
    write_frames(tmp_path, dict.fromkeys(["I", "II", *chest], (values, "200/mV")), 250.0, "ecg")
    write_frames(tmp_path, dict.fromkeys(["I", "II", *chest, "Cz"], (values, "200/mV")), 250.0, "eeg")
    assert read_record(tmp_path, "ecg")["lead"].values.tolist() == ["I", "II", *LEADS[6:12]]
    assert {*chest} <= set(read_record(tmp_path, "eeg")["lead"].values.tolist())


def test_a_negative_gain_of_a_signal_line_turns_its_samples_and_keeps_its_millivolts(tmp_path):
    values = np.arange(-300, 300)[:, None]
    values[7] = -32768  # missing, and has no opposite
    write_frames(
        tmp_path, {"I": (values, "200/mV"), "II": (values, "-200(10)/mV"), "V": (values.repeat(2, axis=1), "-50/mV")}, 250.0
    )
    record = read_record(tmp_path, "x")
    assert record.attrs["warnings"] == ["GAIN_NEGATIVE", "GAPS", "OTHER_RATES_LEFT_OUT"]
    assert record["adc_gain"].values.tolist() == [200.0, 200.0]
    expected = np.where(values.ravel() == -32768, np.nan, (values.ravel() - 10) / -200)
    np.testing.assert_allclose(lead_mv(tmp_path, "x", "II"), expected, atol=1e-6)


def test_a_gain_may_change_its_sign_at_a_segment(tmp_path):
    values = np.arange(100, 500)[:, None]
    for name, gain in (("m_1", "200/mV"), ("m_2", "-150(7)/mV"), ("m_3", "200/mV")):
        write_frames(tmp_path, {"II": (values, gain)}, 250.0, name)
    (tmp_path / "m.hea").write_text("m/3 1 250 1200\nm_1 400\nm_2 400\nm_3 400\n")
    plain = values.ravel() / 200
    expected = np.concatenate([plain, (values.ravel() - 7) / -150, plain])
    np.testing.assert_allclose(lead_mv(tmp_path, "m", "II"), expected, atol=0.5 / 1600)


def test_a_layout_is_no_record_where_headers_are_searched_for(test_data, tmp_path):
    shutil.copytree(test_data / "cases/segment-gains/a", tmp_path / "a")
    (tmp_path / "a" / "RECORDS").chmod(0o600)
    (tmp_path / "a").chmod(0o700)
    (tmp_path / "a" / "RECORDS").unlink()
    listing = list_archive(tmp_path / "a")
    assert listing["record_name"].values.tolist() == ["m", "m_0001", "m_0002"]
    assert not listing["status"].values.any()


def test_waveforms_of_many_samples_a_frame_in_segments_of_varying_layout(tmp_path):
    ecg, slow = np.arange(6000).reshape(30, 200) - 3000, np.arange(30 * 50).reshape(30, 50)
    write_frames(tmp_path, {"II": (ecg[:10], "200/mV"), "ABP": (slow[:10], "20/mmHg")}, 1.0, "m_1")
    write_frames(tmp_path, {"V": (ecg[10:20], "100/mV"), "Temp": (slow[10:20, :1], "30/degC")}, 1.0, "m_2")
    write_frames(tmp_path, {"ABP": (slow[20:], "20/mmHg"), "II": (ecg[20:], "-150(7)/mV")}, 1.0, "m_3")
    lines = ["m_layout 4 1 0", "~ 0x200 200/mV 16 0 0 0 0 II", "~ 0x200 100/mV 16 0 0 0 0 V"]
    lines += ["~ 0x50 20/mmHg 16 0 0 0 0 ABP", "~ 0x1 30/degC 16 0 0 0 0 Temp", ""]
    (tmp_path / "m_layout.hea").write_text("\n".join(lines))
    (tmp_path / "m.hea").write_text("m/5 4 1 35\nm_layout 0\nm_1 10\n~ 5\nm_2 10\nm_3 10\n")
    record = read_record(tmp_path, "m")
    assert (record.attrs["sampling_frequency_hz"], record["lead"].values.tolist()) == (200.0, ["II", "V"])
    expected = np.full(7000, np.nan)
    expected[:2000], expected[5000:] = ecg[:10].ravel() / 200, (ecg[20:].ravel() - 7) / -150
    np.testing.assert_allclose(lead_mv(tmp_path, "m", "II"), expected, atol=0.5 / 1600)
    assert list_archive(tmp_path)["record_name"].values.tolist() == ["m", "m_1", "m_2", "m_3"]


@pytest.mark.parametrize(
    "identifier", ["", "X", "000", "ANONYMOUS", "anonymized", "Unknown", "n/a", "Patient ID", "de-identified", "TEST", "no-id"]
)
def test_what_stands_for_a_number_that_was_taken_out_names_nobody(identifier):
    assert patient_of(identifier) == ""
    assert patient_of(f"{identifier}17") != ""
