"""EDF files: the same record as from WFDB, every sample as wfdb reads it, and what cannot be read is refused."""

from __future__ import annotations

import datetime
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import edfio
import numpy as np
import pytest
from blake3 import blake3
from wfdb.io.convert.edf import read_edf

from ecgbatch.archive.finding import find_records
from ecgbatch.archive.listing import list_archive
from ecgbatch.formats.edf import parse_edf
from ecgbatch.formats.header import REASONS, WARNINGS, UnreadableRecord
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import in_millivolts, read_record
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, STATUS
from storage import open_store
from tests.formats.wfdb_files import Lead, Record, Samples, wave


@dataclass(frozen=True)
class Signal:
    """One signal of an EDF file; ``samples`` (data record, sample)."""

    label: str
    samples: Samples
    unit: str = "mV"
    physical: tuple[str, str] = ("-16.3835", "16.3835")
    digital: tuple[str, str] = ("-32767", "32767")


def edf(*signals: Signal, duration: str = "1", reserved: str = "", n_records: str | None = None) -> bytes:
    n = len(signals[0].samples)
    general = [("0", 8), ("X F 01-JAN-1950 Zaphod_Canary", 80), ("Startdate 02-MAR-2002", 80), ("02.03.02", 8), ("10.11.12", 8)]
    general += [
        (str(256 * (1 + len(signals))), 8),
        (reserved, 44),
        (n_records or str(n), 8),
        (duration, 8),
        (str(len(signals)), 4),
    ]
    columns = [
        *[[(signal.label, 16) for signal in signals], [("", 80)] * len(signals), [(signal.unit, 8) for signal in signals]],
        *[[(signal.physical[i], 8) for signal in signals] for i in (0, 1)],
        *[[(signal.digital[i], 8) for signal in signals] for i in (0, 1)],
        *[[("", 80)] * len(signals), [(str(signal.samples.shape[1]), 8) for signal in signals], [("", 32)] * len(signals)],
    ]
    header = "".join(text.ljust(width)[:width] for text, width in [*general, *(field for column in columns for field in column)])
    return header.encode("latin-1") + np.concatenate([signal.samples for signal in signals], axis=1).astype("<i2").tobytes()


def lead(name: str, seed: int = 0, rate: int = 250, n_records: int = 4) -> Signal:
    return Signal(name, wave(n_records * rate, 16, seed, step=90).reshape(n_records, rate))


GOOD = (lead("ECG II", 1), lead("V1", 2), lead("I", 3))


def test_samples_are_those_written_and_those_wfdb_reads(tmp_path: Path) -> None:
    (tmp_path / "r.edf").write_bytes(edf(*GOOD))
    record = read_record(tmp_path, "r.edf")
    assert record["lead"].values.tolist() == ["I", "II", "V1"]
    for row, signal in zip(record["signal"].values, (GOOD[2], GOOD[0], GOOD[1]), strict=True):
        np.testing.assert_array_equal(row, signal.samples.reshape(-1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = read_edf(str(tmp_path / "r.edf"))
    # wfdb 4.3.1 rounds the zero down: its values are one ADC step (0.0005 mV) below those of the EDF standard.
    np.testing.assert_allclose(in_millivolts(record).values[[1, 2, 0]].T, truth.p_signal + 0.0005, atol=1e-6)
    assert record.attrs["sampling_frequency_hz"] == truth.fs == 250
    assert record.attrs["source_digest"] == "blake3:" + blake3((tmp_path / "r.edf").read_bytes()).hexdigest()
    assert record.attrs["warnings"] == ["CHECKSUM_UNVERIFIED"]
    assert (record["lead_flags"].values == LEAD_FLAGS["unverified"]).all()


def test_same_signal_as_edf_and_as_wfdb_is_stored_alike(tmp_path: Path) -> None:
    signals = [lead(name, i) for i, name in enumerate(("I", "II"))]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "r.edf").write_bytes(edf(*signals))
    leads = [Lead(signal.label, signal.samples.reshape(-1, 1), gain="2000") for signal in signals]
    Record(leads).write(tmp_path / "b")
    stored = []
    for name in ("a", "b"):
        (digest,) = convert_archive(str(tmp_path / name), str(tmp_path / f"w{name}")).stores
        stored.append(open_store(str(tmp_path / f"w{name}" / "signals" / f"{digest}.zarr")).load())
    for key in ("signal", "lead", "adc_gain", "baseline", "checksum", "n_samples", "sampling_frequency_hz", "status"):
        np.testing.assert_array_equal(stored[0][key].values, stored[1][key].values, err_msg=key)


def test_edf_files_are_found_beside_headers_and_in_lists(tmp_path: Path) -> None:
    Record([Lead("II", wave(300, 16))]).write(tmp_path / "p")
    (tmp_path / "p" / "x.edf").write_bytes(edf(*GOOD))
    (tmp_path / "y.EDF").write_bytes(edf(*GOOD))
    assert find_records(tmp_path) == ["p/r", "p/x.edf", "y.EDF"]
    (tmp_path / "RECORDS").write_text("p/x.edf\nnone.edf\n")
    listing = list_archive(tmp_path, read_data=True)
    assert listing["reason"].values.tolist() == ["", "LISTED_MISSING"]
    assert listing["leads"].values.tolist() == ["I II V1", ""]


def test_rates_beside_the_leads_and_annotations_are_left_out(tmp_path: Path) -> None:
    others = (lead("SpO2", 5, rate=1), lead("EEG Fpz", 6, rate=500), lead("EDF Annotations", 7, rate=60))
    (tmp_path / "r.edf").write_bytes(edf(others[0], *GOOD[:2], *others[1:], GOOD[2], reserved="EDF+C"))
    record = read_record(tmp_path, "r.edf")
    assert record["lead"].values.tolist() == ["I", "II", "V1"]
    np.testing.assert_array_equal(record["signal"].values[0], GOOD[2].samples.reshape(-1))
    assert "OTHER_RATES_LEFT_OUT" in record.attrs["warnings"]


def test_units_scales_and_zeros_are_applied(tmp_path: Path) -> None:
    signals = (
        replace(GOOD[0], unit="uV", physical=("-16383.5", "16383.5")),
        replace(GOOD[1], unit="µV", physical=("-1000", "2000"), digital=("0", "3000")),
        replace(GOOD[2], unit="%"),
    )
    (tmp_path / "r.edf").write_bytes(edf(*signals))
    record = read_record(tmp_path, "r.edf")
    assert record["adc_gain"].values.tolist() == [2000, 2000, 1000]
    assert record["baseline"].values.tolist() == [0, 0, 1000]
    assert record["lead_flags"].values.tolist() == [768, 256, 256]
    assert "UNITS_UNKNOWN" in record.attrs["warnings"]


def test_lowest_sample_counts_as_missing(tmp_path: Path) -> None:
    samples = GOOD[0].samples.copy()
    samples[1, 7] = MISSING_SAMPLE
    (tmp_path / "r.edf").write_bytes(edf(replace(GOOD[0], samples=samples)))
    record = read_record(tmp_path, "r.edf")
    assert record["lead_flags"].values[0] == LEAD_FLAGS["unverified"] | LEAD_FLAGS["gaps"]


def test_nothing_of_the_patient_is_kept() -> None:
    assert "Canary" not in repr(parse_edf(edf(*GOOD)))
    assert "1950" not in repr(parse_edf(edf(*GOOD)))


def test_patients_code_and_sex_of_edf_plus_make_a_patient_without_a_name() -> None:
    general = "MCH-0234567 F 02-MAY-1951 Haagse_Harry"
    contents = [edf(*GOOD, reserved="EDF+C").replace(b"X F 01-JAN-1950 Zaphod_Canary".ljust(80), text.encode().ljust(80))
                for text in (general, general.replace("F 02-MAY-1951 Haagse_Harry", "X X X"), "X X X X")]  # fmt: skip
    headers = [parse_edf(content).header for content in contents]
    assert headers[0].patient == headers[1].patient != ""
    assert headers[2].patient == ""
    assert [header.comments for header in headers] == [("Sex: F",), (), ()]
    assert not any(secret in repr(headers) for secret in ("MCH", "1951", "Harry"))


def test_files_that_edfio_writes_are_read_as_edfio_reads_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    walks = [np.clip(np.cumsum(rng.normal(0, 0.02, 1500)), -4, 4) for _ in range(3)]
    signals = [
        edfio.EdfSignal(walks[0], 500, label="ECG I", physical_dimension="mV", physical_range=(-5, 5)),
        edfio.EdfSignal(1000 * walks[1], 500, label="II", physical_dimension="uV", physical_range=(-5000, 5000)),
        edfio.EdfSignal(walks[2], 500, label="V1", physical_dimension="mV", physical_range=(-4, 6), digital_range=(0, 4095)),
        edfio.EdfSignal(np.arange(30.0), 10, label="SpO2", physical_dimension="%"),
    ]
    patient, recording = edfio.Patient(code="A1", sex="M", name="Zaphod"), edfio.Recording(startdate=datetime.date(2002, 3, 2))
    notes = [edfio.EdfAnnotation(0.5, None, "pain"), edfio.EdfAnnotation(2.0, 0.1, "")]
    for name, given in (("a", {}), ("b", {"annotations": notes}), ("c", {"data_record_duration": 0.1, "annotations": notes})):
        edfio.Edf(signals, patient=patient, recording=recording, **given).write(tmp_path / f"{name}.edf")
        record, truth = read_record(tmp_path, f"{name}.edf"), edfio.read_edf(tmp_path / f"{name}.edf")
        assert record["lead"].values.tolist() == ["I", "II", "V1"]
        for row, signal, scale in zip(record["signal"].values, truth.signals[:3], (1, 1e-3, 1), strict=True):
            np.testing.assert_array_equal(row, signal.digital)
            lead = record.isel(lead=record["lead"].values.tolist().index(signal.label.removeprefix("ECG ")))
            millivolts = (row - float(lead["baseline"])) / float(lead["adc_gain"])
            np.testing.assert_allclose(millivolts, signal.data * scale, atol=0.51 / float(lead["adc_gain"]))


CONTENT = edf(*GOOD)


def put(at: int, text: str) -> bytes:
    return CONTENT[:at] + text.encode() + CONTENT[at + len(text) :]


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "HEADER_SYNTAX"),
    "short": (CONTENT[:200], "HEADER_SYNTAX"),
    "BDF": (b"\xffBIOSEMI" + CONTENT[8:], "HEADER_SYNTAX"),
    "WFDB header": (b"r 1 250 500\n" * 40, "HEADER_SYNTAX"),
    "zeros": (b"\0" * 5000, "HEADER_SYNTAX"),
    "EDF+D without annotations": (edf(*GOOD, reserved="EDF+D"), "FMT_UNSUPPORTED"),
    "cut in the header": (CONTENT[:700], "HEADER_TRUNCATED"),
    "cut in the samples": (CONTENT[:-1], "DAT_TRUNCATED"),
    "without samples": (CONTENT[:1024], "DAT_TRUNCATED"),
    "more samples": (CONTENT + b"\0" * 1500, "DAT_TOO_LONG"),
    "still recording": (edf(*GOOD, n_records="-1"), "LENGTH_INVALID"),
    "no data records": (edf(*GOOD, n_records="0"), "LENGTH_INVALID"),
    "99999999 data records": (edf(*GOOD, n_records="99999999"), "DAT_TRUNCATED"),
    "duration 0": (edf(*GOOD, duration="0"), "FS_INVALID"),
    "duration negative": (edf(*GOOD, duration="-1"), "FS_INVALID"),
    "duration of an hour": (edf(*GOOD, duration="3600"), "FS_INVALID"),
    "duration nan": (edf(*GOOD, duration="nan"), "HEADER_SYNTAX"),
    "duration 1e-99": (edf(*GOOD, duration="1e-99"), "FS_INVALID"),
    "no signals": (put(252, "0   "), "NSIG_ZERO"),
    "9999 signals": (put(252, "9999"), "HEADER_LIMIT"),
    "-1 signals": (put(252, "-1  "), "NSIG_ZERO"),
    "two signals": (put(252, "2   "), "HEADER_TRUNCATED"),
    "x signals": (put(252, "x   "), "HEADER_SYNTAX"),
    "two of one name": (edf(GOOD[0], replace(GOOD[1], label="lead II")), "LEADS_DUPLICATE"),
    "no name": (edf(replace(GOOD[0], label="")), "LEADS_UNNAMED"),
    "annotations only": (edf(replace(GOOD[0], label="EDF Annotations")), "NSIG_ZERO"),
    "one physical value": (edf(replace(GOOD[0], physical=("5", "5"))), "GAIN_INVALID"),
    "one digital value": (edf(replace(GOOD[0], digital=("5", "5"))), "GAIN_INVALID"),
    "gain beyond": (edf(replace(GOOD[0], physical=("0", "1e-9"))), "GAIN_INVALID"),
    "limit nan": (edf(replace(GOOD[0], physical=("nan", "5"))), "HEADER_SYNTAX"),
    "limit comma": (edf(replace(GOOD[0], physical=("-5,5", "5,5"))), "HEADER_SYNTAX"),
    "digital fraction": (edf(replace(GOOD[0], digital=("0.5", "100"))), "HEADER_SYNTAX"),
    "no samples a record": (put(256 + 3 * 216, "0       "), "DAT_TOO_LONG"),
    "many samples a record": (put(256 + 3 * 216, "99999999"), "HEADER_LIMIT"),
    "zero between": (edf(replace(GOOD[0], physical=("-1.00003", "2"), digital=("-1000", "2000"))), "BASELINE_ROUNDED"),
}


def test_a_negative_gain_turns_the_samples_and_keeps_their_millivolts(tmp_path: Path) -> None:
    (tmp_path / "r.edf").write_bytes(edf(GOOD[0]))
    low, high = GOOD[0].physical
    (tmp_path / "t.edf").write_bytes(edf(replace(GOOD[0], physical=(high, low))))
    plain, turned = (read_record(tmp_path, name) for name in ("r.edf", "t.edf"))
    middle = (float(low) + float(high)) / 2
    np.testing.assert_allclose(in_millivolts(turned).values, 2 * middle - in_millivolts(plain).values, atol=1e-3)
    assert (turned["adc_gain"].values > 0).all()


def test_a_channel_that_cannot_be_used_costs_no_other(tmp_path: Path) -> None:
    marker = replace(GOOD[0], label="Marker", physical=("0", "0"))
    (tmp_path / "r.edf").write_bytes(edf(GOOD[0], marker))
    record = read_record(tmp_path, "r.edf")
    assert record.sizes["lead"] == 1
    assert "CHANNEL_LEFT_OUT" in record.attrs["warnings"]
    assert "Marker" in record.attrs["status_detail"]


@pytest.mark.parametrize("case", BAD)
def test_each_bad_file_has_its_verdict(tmp_path: Path, case: str) -> None:
    content, code = BAD[case]
    (tmp_path / "r.edf").write_bytes(content)
    found = inspect_record(tmp_path, "r.edf")
    if code in WARNINGS:
        assert found.status == STATUS["ok"]
        assert code in read_record(tmp_path, "r.edf").attrs["warnings"]
        return
    assert (found.reason, found.leads) == (code, ())
    with pytest.raises(UnreadableRecord):
        read_record(tmp_path, "r.edf")


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (os.mkfifo, "NOT_REGULAR_FILE"),
        (lambda path: path.mkdir(), "NOT_REGULAR_FILE"),
        (lambda path: path.symlink_to("/dev/zero"), "SYMLINK_ESCAPE"),
        (lambda path: (path.write_bytes(CONTENT), os.truncate(path, 1 << 40)), "DAT_TOO_LONG"),
    ],
    ids=["pipe", "folder", "zeros", "terabyte"],
)
def test_what_is_no_edf_file_of_the_archive_is_refused_at_once(tmp_path: Path, make: Callable[[Path], object], code: str) -> None:
    make(tmp_path / "r.edf")
    assert inspect_record(tmp_path, "r.edf").reason == code


def test_mutated_headers_never_raise(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = {signal.samples.astype("<i2").tobytes() for signal in GOOD}
    for _ in range(300):
        content = bytearray(CONTENT)
        for at in rng.integers(0, 1024, rng.integers(1, 5)).tolist():
            content[at] = int(rng.choice(list(b"0123456789 .-+eEx\xb5\0\xff")))
        (tmp_path / "r.edf").write_bytes(content)
        found = inspect_record(tmp_path, "r.edf")
        if found.status == STATUS["set_aside"]:
            assert found.reason in REASONS
            continue
        record = read_record(tmp_path, "r.edf")
        assert {row.tobytes() for row in record["signal"].values} <= truth
