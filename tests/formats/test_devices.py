"""What all device formats owe: mutants and bombs refused in little time, other XML no record, the same ECG as a WFDB record."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.archive.finding import find_records
from ecgbatch.archive.listing import list_archive
from ecgbatch.formats import devices
from ecgbatch.formats.device_record import MAX_DEVICE_BYTES
from ecgbatch.formats.header import REASONS, WARNINGS, UnreadableRecord
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import in_millivolts, read_record
from ecgbatch.formats.xml_tree import root_name
from ecgbatch.terms import STATUS
from tests.formats import device_files
from tests.formats.cart_files import aecg_with_cart, muse_with_cart, scp_with_cart, sierra_with_cart
from tests.formats.device_files import TWELVE, as_wfdb, ecg, muse, sierra
from tests.formats.mutants import changed_bytes, changed_text
from tests.formats.scp_files import OWN, assembled, repaired, scp

BEATS = [(0, 60 + 80 * i, 90 + 80 * i, 130 + 80 * i) for i in range(3)]


def _scp_of_beats(leads: device_files.Leads) -> bytes:
    """Return leads from which reference beats were subtracted; nothing is decimated, so that all samples come back."""
    reference = {lead: values[59:129].copy() for lead, values in leads.items()}
    return scp(leads, reference=reference, beats=BEATS, fiducial=31)


FILES: dict[str, tuple[str, Callable[[device_files.Leads], bytes]]] = {
    "muse": ("r.xml", muse_with_cart),
    "aecg": ("r.xml", aecg_with_cart),
    "sierra": ("r.xml", sierra_with_cart),
    "scp": ("r.scp", scp_with_cart),
    "scp, own tables": ("r.scp", partial(scp, tables=OWN, differences=1)),
    "scp, beats": ("r.scp", _scp_of_beats),
}
"""By format: a name, and what writes leads of 5 uV a step at 250 Hz."""


@pytest.mark.parametrize("kind", FILES)
def test_the_same_ecg_as_wfdb_has_the_same_millivolts(tmp_path: Path, kind: str) -> None:
    name, write = FILES[kind]
    truth = ecg(TWELVE)
    (tmp_path / name).write_bytes(write(truth))
    as_wfdb(truth, 250, 5).write(tmp_path)
    ours, same = read_record(tmp_path, name), read_record(tmp_path, "r")
    assert tuple(ours["lead"].values) == TWELVE
    assert ours.attrs["sampling_frequency_hz"] == same.attrs["sampling_frequency_hz"]
    np.testing.assert_array_equal(in_millivolts(ours).values, in_millivolts(same).values)


def judge_mutants(folder: Path, kind: str, *, seed: int, n: int) -> float:
    """Write, read and judge mutants: whatever is wrong is a reason, told alike before and at reading; return the longest time.

    Of the processor: how long others keep a busy machine is no fault of a mutant's.
    """
    name, write = FILES[kind]
    content, rng, longest = write(ecg(n=300)), np.random.default_rng(seed), 0.0
    for _ in range(n):
        is_text = name.endswith(".xml") and rng.random() < 0.6
        mutant = (changed_text if is_text else changed_bytes)(content, rng)
        has_right_crc = kind.startswith("scp") and rng.random() < 0.8  # else little would be decoded
        (folder / name).write_bytes(repaired(mutant) if has_right_crc else mutant)
        start = time.process_time()
        found, code = inspect_record(folder, name), ""
        try:
            assert set(read_record(folder, name).attrs["warnings"]) <= WARNINGS.keys()
        except UnreadableRecord as error:
            code = error.code
        assert found.reason == code
        assert code in REASONS or found.status == STATUS["ok"]
        longest = max(longest, time.process_time() - start)
    return longest


@pytest.mark.parametrize("kind", FILES)
def test_mutants_raise_nothing_but_reasons_that_are_told_before_reading(tmp_path: Path, kind: str) -> None:
    assert judge_mutants(tmp_path, kind, seed=0, n=200) < 5


LAUGHS = "".join(f'<!ENTITY l{i + 1} "{f"&l{i};" * 10}">' for i in range(9))
BOMBS: dict[str, tuple[bytes, str]] = {
    "a billion laughs": (
        f'<!DOCTYPE RestingECG [<!ENTITY l0 "ha">{LAUGHS}]><RestingECG>&l9;</RestingECG>'.encode(),
        "XML_UNSAFE",
    ),
    "a long entity often": (
        f'<!DOCTYPE RestingECG [<!ENTITY a "{"x" * 100_000}">]><RestingECG>{"&a;" * 100_000}</RestingECG>'.encode(),
        "XML_UNSAFE",
    ),
    "an external entity": (
        b'<!DOCTYPE RestingECG [<!ENTITY a SYSTEM "file:///etc/passwd">]><RestingECG>&a;</RestingECG>',
        "XML_UNSAFE",
    ),
    "a parameter entity": (
        b'<!DOCTYPE RestingECG [<!ENTITY % a SYSTEM "http://127.0.0.1:9/x"> %a;]><RestingECG/>',
        "XML_UNSAFE",
    ),
    "attributes by default": (
        f'<!DOCTYPE RestingECG [<!ATTLIST a b CDATA "{"x" * 100_000}">]><RestingECG>{"<a/>" * 100_000}</RestingECG>'.encode(),
        "XML_UNSAFE",
    ),
    "an entity of an outer document type": (b'<!DOCTYPE RestingECG SYSTEM "x"><RestingECG>&a;</RestingECG>', "XML_UNSAFE"),
    "depth": (b"<RestingECG>" + b"<a>" * 1_000_000, "HEADER_LIMIT"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_xml_bombs_and_entities_are_refused_at_once_and_in_little_memory(tmp_path: Path, bomb: str) -> None:
    content, code = BOMBS[bomb]
    (tmp_path / "r.xml").write_bytes(content)
    assert find_records(tmp_path) == ["r.xml"]
    started = time.process_time()
    assert inspect_record(tmp_path, "r.xml").reason == code
    assert time.process_time() - started < 0.1
    tracemalloc.start()
    inspect_record(tmp_path, "r.xml")
    assert tracemalloc.get_traced_memory()[1] < 100e6
    tracemalloc.stop()


def test_many_elements_are_refused_in_little_time(tmp_path: Path) -> None:
    (tmp_path / "r.xml").write_bytes(b"<RestingECG>" + b"<a/>" * 200_000)
    started = time.process_time()
    assert inspect_record(tmp_path, "r.xml").reason == "HEADER_LIMIT"
    assert time.process_time() - started < 2


def test_a_file_beyond_the_limit_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "r.xml").open("wb") as file:
        file.write(b"<RestingECG>")
        file.truncate(MAX_DEVICE_BYTES + 1)
    assert inspect_record(tmp_path, "r.xml").reason == "TOO_LONG"


NO_ECG = {
    "web.xml": b"<html><body>RestingECG</body></html>",
    "empty.xml": b"",
    "text.xml": b"RestingECG",
    "comment.xml": b"<!-- <RestingECG> --><catalogue/>",
    "wide.xml": '<?xml version="1.0" encoding="utf-16"?><report/>'.encode("utf-16"),
    "bytes.xml": bytes(range(256)) * 10,
    "open.xml": b"<!-- without end <RestingECG>",
}


def test_other_xml_is_no_record_and_no_error(tmp_path: Path) -> None:
    for name, content in NO_ECG.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "r.xml").write_bytes(muse(ecg()))
    assert find_records(tmp_path) == ["r.xml"]
    (tmp_path / "RECORDS").write_text("r.xml\nweb.xml\n")
    told = list_archive(tmp_path)
    assert told["reason"].values.tolist() == ["", "FMT_UNSUPPORTED"]


def test_roots_are_found_behind_whatever_may_stand_before_them() -> None:
    heads = {
        b"<RestingECG>": "RestingECG",
        b"\xef\xbb\xbf<?xml version='1.0'?>\n<!-- a > b -->\n<!DOCTYPE RestingECG SYSTEM 'x'>\n<RestingECG>": "RestingECG",
        b"<x:AnnotatedECG xmlns:x='urn:hl7-org:v3'>": "AnnotatedECG",
        "<?xml version='1.0'?><restingecgdata a='>'>".encode("utf-16"): "restingecgdata",
        b"<!DOCTYPE RestingECG [<!ENTITY a 'b'>]><other>": "RestingECG",
        b"<RestingECG": "",
        b"<": "",
        b"": "",
    }
    assert {head: root_name(head) for head in heads} == heads


def test_one_parsed_record_is_not_parsed_twice(tmp_path: Path) -> None:
    devices.parsed_lately.cache_clear()
    (tmp_path / "r.xml").write_bytes(muse(ecg()))
    read_record(tmp_path, "r.xml")
    assert devices.parsed_lately.cache_info().hits == 1


SCP_BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "leads of one bit a sample": (lambda: _scp_of_zeros(255, 65_534), "TOO_LONG"),
    "codes that are searched for": (lambda: _scp_of_zeros(60, 65_534, n_codes=256), "DECODER_FAILED"),
    "beats without end": (lambda: _scp_of_zeros(200, 100, n_beats=65_535), "HEADER_LIMIT"),
}


def _scp_of_zeros(n_leads: int, n_bytes: int, *, n_codes: int = 0, n_beats: int = 0) -> bytes:
    """Return leads of nothing but zero bits: a sample each, or with ``n_codes`` a search for the last of long codes."""
    leads = b"".join(struct.pack("<IIB", 1, 8 * n_bytes if not n_codes else n_bytes // 2, 100 + i % 150) for i in range(n_leads))
    codes = b"".join(struct.pack("<BBBhI", 13, 13, 1, 0, 0x1FFF if i < n_codes - 1 else 1 << 12) for i in range(n_codes))
    parts = {
        2: struct.pack("<HH", 1, n_codes) + codes if n_codes else struct.pack("<H", 19999),
        3: struct.pack("<BB", n_leads, 5 if n_beats else 4) + leads,
        6: struct.pack("<HHBB", 5000, 2000, 2, 0) + struct.pack("<H", n_bytes) * n_leads + bytes(n_bytes * n_leads),
    }
    if n_beats:
        parts[4] = struct.pack("<HHH", 100, 1, n_beats) + struct.pack("<HIII", 0, 1, 1, 50) * n_beats
        parts[5] = parts[6]
    return assembled(parts)


@pytest.mark.parametrize("bomb", SCP_BOMBS)
def test_scp_bombs_are_refused_in_little_time_and_memory(tmp_path: Path, bomb: str) -> None:
    make, code = SCP_BOMBS[bomb]
    (tmp_path / "r.scp").write_bytes(make())
    inspect_record(tmp_path, "r.scp")  # machine code is made
    started = time.process_time()
    assert inspect_record(tmp_path, "r.scp").reason == code
    assert time.process_time() - started < 2
    tracemalloc.start()
    inspect_record(tmp_path, "r.scp")
    assert tracemalloc.get_traced_memory()[1] < 300e6
    tracemalloc.stop()


def test_an_lzw_code_that_grows_without_end_is_refused(tmp_path: Path) -> None:
    content = sierra({lead: np.zeros(100_000, np.int64) for lead in TWELVE}, version="1.03")
    (tmp_path / "r.xml").write_bytes(content.replace(b'"400000"', b'"4000"'))
    started = time.process_time()
    assert inspect_record(tmp_path, "r.xml").reason == "DAT_TOO_LONG"
    assert time.process_time() - started < 1
