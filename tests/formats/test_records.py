"""Records: every stored sample is what was recorded, and what cannot be read is refused, quickly and with its reason."""

from __future__ import annotations

import os
import time
import tracemalloc
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import wfdb
from blake3 import blake3

from ecgbatch.formats import files, header, inspection, signal_files, wfdb_signal
from ecgbatch.formats.header import UnreadableRecord
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import in_millivolts, read_record
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, STATUS
from tests.formats.wfdb_files import WIDTH, Lead, Record, simple, wave


def refusal(folder: Path, name: str = "r") -> str:
    with pytest.raises(UnreadableRecord) as caught:
        read_record(folder, name)
    assert caught.value.record_name == name
    assert caught.value.detail
    return caught.value.code


def as_wfdb_reads_it(path: Path) -> dict[str, np.ndarray]:
    """Return every lead's stored samples by wfdb, under the names that we give them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = wfdb.rdrecord(str(path), physical=False)
    return {header.canonical_lead(name): record.d_signal[:, i] for i, name in enumerate(record.sig_name)}


REAL = {"ptb-full": 1, "ptb": 4, "ptb-10s": 3, "ptbxl": 12, "mitdb-ds1": 6, "nstdb": 1}
"""Folder to every how many records are compared in the fast form."""


def compare_with_wfdb(folder: Path, every: int) -> int:
    names = (folder / "RECORDS").read_text().split()[::every]
    n_compared = 0
    for name in names:
        if inspect_record(folder, name).status == STATUS["partial"]:
            continue  # wfdb cannot read a record that lacks a file
        record = read_record(folder, name)
        truth = as_wfdb_reads_it(folder / name)
        assert set(record["lead"].values.tolist()) == set(truth), name
        for lead, signal in zip(record["lead"].values.tolist(), record["signal"].values, strict=True):
            np.testing.assert_array_equal(signal, truth[lead], err_msg=f"{name} {lead}")
        n_compared += 1
    return n_compared


@pytest.mark.parametrize("folder", REAL)
def test_every_stored_sample_of_real_records_is_wfdbs(test_data: Path, folder: str) -> None:
    assert compare_with_wfdb(test_data / folder, REAL[folder])


def test_record_without_its_second_file_keeps_its_twelve_leads(test_data: Path) -> None:
    lines = (test_data / "ptb" / "RECORDS").read_text().split()
    partial = [name for name in lines if inspect_record(test_data / "ptb", name).status == STATUS["partial"]]
    assert sorted(name.rpartition("/")[2] for name in partial) == ["s0059lre", "s0087lre", "s0111lre", "s0130lre"]
    record = read_record(test_data / "ptb", partial[0])
    assert record.sizes["lead"] == 12
    assert (record.attrs["reason"], record.attrs["status"]) == ("LEADS_MISSING", STATUS["partial"])
    path = next((test_data / "ptb").glob(f"{partial[0]}.dat"))
    raw = np.fromfile(path, "<i2").reshape(-1, 12).T
    np.testing.assert_array_equal(np.sort(record["signal"].values, axis=0), np.sort(raw, axis=0))


@pytest.mark.parametrize("fmt", WIDTH)
@pytest.mark.parametrize("n_frames", [300, 301, 302])
def test_every_format_gives_the_samples_that_were_written_and_that_wfdb_reads(tmp_path: Path, fmt: int, n_frames: int) -> None:
    if fmt in inspection.FLAC_FORMATS and n_frames != 301:
        pytest.skip("FLAC has no groups of samples: one length is enough")
    written = simple(n_frames, fmt=fmt).write(tmp_path)
    record = read_record(written, "r")
    truth = as_wfdb_reads_it(tmp_path / "r")
    for i, lead in enumerate(simple(n_frames, fmt=fmt).leads):
        np.testing.assert_array_equal(record["signal"].values[i], lead.samples[:, 0])
        np.testing.assert_array_equal(record["signal"].values[i], truth[lead.name])
    assert record.attrs["warnings"] == []


@pytest.mark.parametrize("fmt", [fmt for fmt in WIDTH if fmt not in {8, 508, 516, 524}])
def test_missing_samples_of_every_format_become_one_mark(tmp_path: Path, fmt: int) -> None:
    values = wave(60, min(WIDTH[fmt], 16), step=90)
    values[[3, 40]] = -(2 ** (WIDTH[fmt] - 1))
    Record([Lead("II", values, fmt=fmt)]).write(tmp_path)
    record = read_record(tmp_path, "r")
    assert np.flatnonzero(record["signal"].values[0] == MISSING_SAMPLE).tolist() == [3, 40]
    assert record["lead_flags"].values[0] == LEAD_FLAGS["gaps"]
    assert record.attrs["warnings"] == ["GAPS"]
    assert np.isnan(in_millivolts(record).values[0, [3, 40]]).all()


@pytest.mark.parametrize("fmt", [24, 32])
@pytest.mark.parametrize("value", [32768, -32768, -40000, 2**22])
def test_samples_beyond_sixteen_bits_are_refused_not_wrapped(tmp_path: Path, fmt: int, value: int) -> None:
    values = wave(50, 16)
    values[7] = value
    Record([Lead("II", values, fmt=fmt)]).write(tmp_path)
    assert refusal(tmp_path) == "RANGE"


def test_bits_that_format_311_does_not_use_change_nothing(tmp_path: Path) -> None:
    simple(300, fmt=311).write(tmp_path)
    expected = read_record(tmp_path, "r")["signal"].values
    content = np.fromfile(tmp_path / "r.dat", "u1")
    content[3::4] |= 0xC0
    content.tofile(tmp_path / "r.dat")
    np.testing.assert_array_equal(read_record(tmp_path, "r")["signal"].values, expected)


def test_files_of_several_formats_rates_offsets_and_skews_are_one_record(tmp_path: Path) -> None:
    leads = [
        Lead("V1", wave(400, 16, 1), "a.dat", 16, skew=3),
        Lead("II", wave(400, 16, 2), "a.dat", 16),
        Lead("I", wave(400, 12, 3, per_frame=4), "b.dat", 212),
        Lead("PLETH", wave(400, 12, 4, per_frame=2), "b.dat", 212),
        Lead("Vx", wave(400, 16, 5), "c.mat", 61, offset=24),
    ]
    Record(leads).write(tmp_path)
    record = read_record(tmp_path, "r")
    assert record["lead"].values.tolist() == ["II", "V1", "Vx"]
    assert record.attrs["warnings"] == ["GAPS", "OTHER_RATES_LEFT_OUT", "SKEW_APPLIED"]
    assert record.attrs["status_detail"] == "left out, at another rate than 250 Hz: I (1000 Hz)"
    signal = dict(zip(record["lead"].values.tolist(), record["signal"].values, strict=True))
    np.testing.assert_array_equal(signal["V1"][:-3], leads[0].samples[3:, 0])
    assert (signal["V1"][-3:] == MISSING_SAMPLE).all()
    np.testing.assert_array_equal(signal["II"], leads[1].samples[:, 0])
    np.testing.assert_array_equal(signal["Vx"], leads[4].samples[:, 0])


def test_fixed_layout_joins_segments_and_marks_gaps(tmp_path: Path) -> None:
    a, b = replace(simple(100, seed=1), name="a"), replace(simple(80, seed=7), name="b")
    for part in (a, b):
        leads = [replace(lead, file=f"{part.name}.dat") for lead in part.leads]
        replace(part, leads=leads).write(tmp_path)
    (tmp_path / "r.hea").write_text("r/4 3 250 230\na 100\n~ 20\nb 80\n~ 30\n")
    record = read_record(tmp_path, "r")
    truth = np.full((3, 230), MISSING_SAMPLE)
    truth[:, :100] = [lead.samples[:, 0] for lead in a.leads]
    truth[:, 120:200] = [lead.samples[:, 0] for lead in b.leads]
    np.testing.assert_array_equal(record["signal"].values, truth)
    assert record.attrs["warnings"] == ["GAPS"]


def test_variable_layout_has_missing_samples_where_a_segment_lacks_a_lead(tmp_path: Path) -> None:
    whole = simple(100)
    first = Record([replace(whole.leads[i], file="a.dat") for i in (0, 1)], "a")
    second = Record([replace(whole.leads[i], file="b.dat") for i in (1, 2)], "b")
    first.write(tmp_path)
    second.write(tmp_path)
    layout = "".join(f"~ 0 1000 16 0 0 0 0 {lead}\n" for lead in ("I", "II", "V1"))
    (tmp_path / "lay.hea").write_text(f"lay 3 250 0\n{layout}".replace(" 250 0\n", " 250\n"))
    (tmp_path / "r.hea").write_text("r/3 3 250 200\nlay 0\na 100\nb 100\n")
    signal = read_record(tmp_path, "r")["signal"].values
    assert (signal[0, 100:] == MISSING_SAMPLE).all()
    assert (signal[2, :100] == MISSING_SAMPLE).all()
    np.testing.assert_array_equal(signal[1], np.tile(whole.leads[1].samples[:, 0], 2))


def test_millivolts_are_gain_and_baseline_applied_once(tmp_path: Path) -> None:
    Record([Lead("I", wave(50, 16), gain="2000(100)/mV"), Lead("II", wave(50, 16, 1), gain="0.5/uV")]).write(tmp_path)
    record = read_record(tmp_path, "r")
    expected = [(wave(50, 16)[:, 0] - 100) / 2000, wave(50, 16, 1)[:, 0] / 500]
    np.testing.assert_allclose(in_millivolts(record).values, expected, rtol=1e-6)
    assert in_millivolts(record).attrs["units"] == "mV"


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    simple(200).write(tmp_path)
    content = (tmp_path / "r.dat").read_bytes()
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(content), 400, replace=False).tolist():
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        (tmp_path / "r.dat").write_bytes(changed)
        assert refusal(tmp_path) == "CHECKSUM_MISMATCH"


def test_header_without_checksums_is_read_and_said_to_be_unverified(tmp_path: Path) -> None:
    Record([Lead("II", wave(50, 16), tail="16 0 0 0 0")]).write(tmp_path)
    record = read_record(tmp_path, "r")
    assert record.attrs["warnings"] == ["CHECKSUM_UNVERIFIED"]
    assert record["lead_flags"].values[0] == LEAD_FLAGS["unverified"]


def test_format_mistaken_for_another_of_the_same_size_is_noticed_by_first_samples(tmp_path: Path) -> None:
    simple(200, fmt=160).write(tmp_path)
    header = tmp_path / "r.hea"
    header.write_text(header.read_text().replace(" 160 ", " 16 "))
    assert refusal(tmp_path) == "INIT_MISMATCH"


def test_source_digest_is_of_header_and_files_in_header_order(tmp_path: Path) -> None:
    Record([Lead("I", wave(50, 16), "b.dat"), Lead("II", wave(50, 12), "a.dat", 212)]).write(tmp_path)
    content = b"".join((tmp_path / name).read_bytes() for name in ("r.hea", "b.dat", "a.dat"))
    assert read_record(tmp_path, "r").attrs["source_digest"] == f"blake3:{blake3(content).hexdigest()}"


def in_place_of(folder: Path, name: str, kind: str) -> None:
    (folder / name).unlink()
    makers = {
        "pipe": os.mkfifo,
        "folder": lambda path: path.mkdir(),
        "zeros": lambda path: path.symlink_to("/dev/zero"),
        "outside": lambda path: path.symlink_to("/etc/passwd"),
        "loop": lambda path: path.symlink_to(path.name),
    }
    makers[kind](folder / name)


@pytest.mark.parametrize("name", ["r.hea", "r.dat"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "zeros", "outside", "loop"])
def test_what_is_no_file_of_the_archive_is_never_opened(tmp_path: Path, name: str, kind: str) -> None:
    simple().write(tmp_path)
    in_place_of(tmp_path, name, kind)
    start = time.perf_counter()
    code = refusal(tmp_path)
    assert time.perf_counter() - start < 1
    assert code == {"pipe": "NOT_REGULAR_FILE", "folder": "NOT_REGULAR_FILE"}.get(kind, "SYMLINK_ESCAPE")


def test_link_inside_the_archive_is_followed(tmp_path: Path) -> None:
    simple().write(tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "r.dat").rename(tmp_path / "store" / "annex")
    (tmp_path / "r.dat").symlink_to("store/annex")
    assert read_record(tmp_path, "r").sizes["sample"] == 500


@pytest.mark.parametrize("when", ["before", "while"])
def test_file_that_changes_between_inspection_and_reading_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    simple().write(tmp_path)
    real, data = files.open_regular, tmp_path / "r.dat"

    def opened(path: str) -> tuple[int, os.stat_result]:
        if when == "before":
            data.write_bytes(data.read_bytes()[:-6] + b"\0" * 6)
        found = real(path)
        if when == "while":
            os.truncate(data, 100)
        return found

    monkeypatch.setattr(signal_files, "open_regular", opened)  # where samples are read; inspection opens by its own name
    assert refusal(tmp_path) == "CHANGED_WHILE_READING"


BOMBS = {
    "samples": ("r 1 250 1000000000000\nr.dat 16 1000 16 0 0 0 0 II\n", "DAT_TRUNCATED"),
    "samples of FLAC": ("r 1 250 1000000000000\nr.dat 516 1000 16 0 0 0 0 II\n", "TOO_LONG"),
    "signals": ("r 100000000 250 500\n", "HEADER_LIMIT"),
    "signal lines": ("r 300000 250 500\n" + "r.dat 16 1000 16 0 0 0 0 II\n" * 300_000, "HEADER_TOO_BIG"),
    "short lines": ("r 300000 250 500\n" + "a 1\n" * 250_000, "HEADER_LIMIT"),
    "a long line": ("r 1 250 500\nr.dat 16 1000 16 0 0 0 0 " + "x" * 200_000 + "\n", "LINE_TOO_LONG"),
    "spaces": ("r 1 250 500\nr.dat 16" + " " * 1_000_000 + "\n", "LINE_TOO_LONG"),
    "frame": ("r 1 250 500\nr.dat 16x1000000000 1000 16 0 0 0 0 II\n", "HEADER_LIMIT"),
    "skew": ("r 1 250 500\nr.dat 16:999999999 1000 16 0 0 0 0 II\n", "HEADER_LIMIT"),
    "offset": ("r 1 250 500\nr.dat 16+999999999999999999 1000 16 0 0 0 0 II\n", "DAT_TRUNCATED"),
    "comments": ("r 1 250 500\nr.dat 16 1000 16 0 0 0 0 II\n" + "# x\n" * 25_000_000, "HEADER_TOO_BIG"),
    "gap": ("r/2 1 250 10000000500\na 500\n~ 10000000000\n", "TOO_LONG"),
    "segments": ("r/100000000 1 250 500\na 500\n", "SEGMENT_LIMIT"),
    "digits": ("r 1 250 " + "9" * 4000 + "\nr.dat 16 1000 16 0 0 0 0 II\n", "LENGTH_INVALID"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_refused_at_once_and_in_little_memory(tmp_path: Path, bomb: str) -> None:
    content, code = BOMBS[bomb]
    Record([replace(simple().leads[0], file="a.dat")], "a").write(tmp_path)
    (tmp_path / "r.dat").write_bytes(b"\0" * 1000)
    (tmp_path / "r.hea").write_text(content)
    start = time.perf_counter()
    found = inspect_record(tmp_path, "r")
    assert time.perf_counter() - start < 0.1
    assert found.reason == code, found.status_detail
    tracemalloc.start()
    assert refusal(tmp_path) == code
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6


def test_laughs_in_laughs_are_cut_at_the_first_level(tmp_path: Path) -> None:
    simple().write(tmp_path)
    for level in range(12):
        inner = "r" if level == 0 else f"n{level - 1}"
        (tmp_path / f"n{level}.hea").write_text(f"n{level}/10 3 250\n" + f"{inner} {500 * 10**level}\n" * 10)
    assert [inspect_record(tmp_path, name).reason for name in ("n1", "n11")] == ["SEGMENT_LIMIT", "TOO_LONG"]
    assert inspect_record(tmp_path, "n0").status == STATUS["ok"]


def flac(folder: Path) -> Path:
    simple(300, fmt=516).write(folder)
    return folder / "r.dat"


def test_flac_that_cannot_be_decoded_is_a_reason_and_not_an_error(tmp_path: Path) -> None:
    path = flac(tmp_path)
    path.write_bytes(path.read_bytes()[:40] + b"\0" * 200)
    assert refusal(tmp_path) == "DECODER_FAILED"


def test_flac_that_is_longer_than_stated_needs_checksums(tmp_path: Path) -> None:
    flac(tmp_path)
    lines = "".join(f"r.dat 516 1000 16 0 0 0 0 {lead}\n" for lead in ("I", "II", "V1"))
    (tmp_path / "r.hea").write_text(f"r 3 250 299\n{lines}")
    assert refusal(tmp_path) == "DAT_TOO_LONG"
    (tmp_path / "r.hea").write_text(f"r 3 250 300\n{lines}")
    assert read_record(tmp_path, "r").attrs["warnings"] == ["CHECKSUM_UNVERIFIED"]


@pytest.mark.parametrize(("limit", "value"), [("_CHILD_SECONDS", -1e-4), ("_CHILD_BYTES", 60 << 20)])
def test_decoder_beyond_its_limits_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: float) -> None:
    flac(tmp_path)
    monkeypatch.setattr(wfdb_signal, limit, value)
    assert refusal(tmp_path) in {"DECODER_LIMIT", "DECODER_FAILED"}


def test_refusals_travel_between_processes(tmp_path: Path) -> None:
    error = UnreadableRecord("DAT_EMPTY", "r.dat has 0 bytes", "a/r")
    kind, arguments = error.__reduce__()
    again = kind(*arguments)
    assert (again.code, again.detail, again.record_name, str(again)) == (
        error.code,
        error.detail,
        error.record_name,
        str(error),
    )
