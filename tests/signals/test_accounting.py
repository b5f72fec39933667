"""Accounting: what is listed is stored or set aside, bad records change nothing for good ones, and repaired ones come back."""

from __future__ import annotations

import json
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from ecgbatch import cli
from ecgbatch.cli import exit_codes
from ecgbatch.formats.header import REASONS
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import source_digest
from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.signals.table import SIGNALS
from ecgbatch.terms import STATUS
from storage import list_stores, open_store
from tests.formats.test_bad_inputs import CASES, GOOD
from tests.formats.wfdb_files import Lead, Record, wave

BAD = [edit for edit, code in CASES.values() if code in REASONS and code not in {"LEADS_MISSING", "DECODER_FAILED"}]


def record(number: int) -> Record:
    leads = [replace(lead, samples=wave(300, 16, 10 * number + i, step=90)) for i, lead in enumerate(GOOD.leads)]
    return replace(GOOD, leads=leads)


def archives(folder: Path, n: int) -> tuple[Path, Path, list[bool]]:
    """Write a clean archive and one where every tenth record is spoilt, each in its own way; say which are good."""
    clean, spoilt = folder / "clean", folder / "spoilt"
    good = [number % 10 != 3 for number in range(n)]
    names = [f"patient{number:04d}/r" for number in range(n)]
    for number, name in enumerate(names):
        record(number).write((clean / name).parent)
        record(number).write((spoilt / name).parent)
        if not good[number]:
            BAD[(7 * number) % len(BAD)]((spoilt / name).parent)
    for archive in (clean, spoilt):
        (archive / "RECORDS").write_text("\n".join(names))
    return clean, spoilt, good


def rows(work: Path) -> dict[str, dict[str, object]]:
    """Return every stored row by its record's name: all variables, as bytes where they are arrays."""
    found = {}
    for path in list_stores(work, "signals"):
        store = open_store(path).load()
        for row, name in enumerate(store["record_name"].values.tolist()):
            n = int(store["n_samples"].values[row])
            found[name] = {key: np.asarray(store[key].values[row]).tolist() for key in SIGNALS.columns()}
            found[name]["signal"] = store["signal"].values[row, :, :n].tobytes()
    return found


def judge(folder: Path, n: int) -> None:
    clean, spoilt, good = archives(folder, n)
    n_bad = good.count(False)
    printed = []
    for archive, code in ((clean, exit_codes.OK), (spoilt, exit_codes.SET_ASIDE)):
        with pytest.raises(SystemExit) as ended, redirect_stdout(StringIO()) as out:
            cli.main(["convert", str(archive), str(folder / f"{archive.name}-work"), "--workers", "1", "--json"])
        assert ended.value.code == code
        printed.append(out.getvalue())
    told = json.loads(printed[1])
    assert (told["n_records"], sum(told["n_set_aside"].values())) == (n, n_bad)
    expected, found = rows(folder / "clean-work"), rows(folder / "spoilt-work")
    assert expected.keys() == found.keys()
    assert len(found) == n
    for (name, row), is_good in zip(found.items(), [good[int(name[7:11])] for name in found], strict=True):
        if is_good:
            assert row == expected[name]
        else:
            assert row["status"] == STATUS["set_aside"]
            assert row["reason"] in REASONS
            assert row["status_detail"]
            assert row["source_digest"] == source_digest(spoilt, name)
            header = spoilt / f"{name}.hea"
            is_readable = header.is_file() and not header.is_symlink() and 0 < header.stat().st_size <= 1 << 20
            assert row["source_digest"] or not is_readable


def test_bad_tenth_changes_nothing_for_the_good_and_is_all_set_aside(tmp_path: Path) -> None:
    judge(tmp_path, 100)


def test_digest_of_a_record_set_aside_is_that_of_its_files(tmp_path: Path) -> None:
    GOOD.write(tmp_path / "a")
    data = tmp_path / "a" / "r.dat"
    data.write_bytes(data.read_bytes()[:-2])
    content = b"".join((tmp_path / "a" / name).read_bytes() for name in ("r.hea", "r.dat", "r.xyz"))
    convert_archive(str(tmp_path / "a"), str(tmp_path / "w"))
    (row,) = rows(tmp_path / "w").values()
    assert (row["reason"], row["source_digest"]) == ("DAT_TRUNCATED", f"blake3:{blake3(content).hexdigest()}")


@pytest.mark.parametrize("spoil", ["flip", "cut", "gone"])
def test_repaired_record_is_read_again_and_only_it(tmp_path: Path, spoil: str) -> None:
    archive, work = tmp_path / "a", tmp_path / "w"
    for number in range(3):
        record(number).write(archive / f"p{number}")
    data = archive / "p1" / "r.dat"
    content = data.read_bytes()
    {
        "flip": lambda: data.write_bytes(bytes([content[0] ^ 1]) + content[1:]),
        "cut": lambda: data.write_bytes(content[:-8]),
        "gone": data.unlink,
    }[spoil]()
    assert sum(convert_archive(str(archive), str(work)).set_aside.values()) == 1
    assert convert_archive(str(archive), str(work)).n_new == 0
    data.write_bytes(content)
    repaired = convert_archive(str(archive), str(work))
    assert (repaired.n_new, repaired.set_aside) == (1, {})
    assert convert_archive(str(archive), str(work)).n_new == 0
    assert current_records(str(work))["status"].values.tolist() == [0, 0, 0]


@pytest.mark.parametrize("fmt", [24, 32, 61, 80, 160, 212, 310, 311, 8, 516])
def test_same_signal_in_every_format_is_stored_as_the_same_samples(tmp_path: Path, fmt: int) -> None:
    """Within the format's range: 8 bits for 80, 10 for 310 and 311."""
    width = {80: 8, 310: 10, 311: 10, 212: 12}.get(fmt, 16)
    stored = []
    for number in (16, fmt):
        leads = [Lead(name, wave(400, width, i, step=60), fmt=number) for i, name in enumerate(("I", "II", "V1"))]
        Record(leads).write(tmp_path / str(number))
        convert_archive(str(tmp_path / str(number)), str(tmp_path / f"w{number}"))
        (row,) = rows(tmp_path / f"w{number}").values()
        stored.append({key: row[key] for key in row if key not in {"fingerprint", "source_digest", "age_years"}})
    assert stored[0] == stored[1]


def test_dates_and_comments_leave_no_trace_in_the_store_but_the_year(tmp_path: Path) -> None:
    private = replace(GOOD, comments=[*GOOD.comments, "ECG date: 07/08/1990", "Name: Zaphod Canary", "Therapy: canarazine"])
    folder = private.write(tmp_path / "a")
    header = folder / "r.hea"
    header.write_text(header.read_text().replace("r 5 250 300", "r 5 250 300 11:22:33 07/08/1990"))
    convert_archive(str(folder), str(tmp_path / "w"))
    stored = b"".join(path.read_bytes() for path in (tmp_path / "w").rglob("*") if path.is_file())
    (row,) = rows(tmp_path / "w").values()
    assert row.pop("recording_year") == 1990
    text = stored.decode("latin-1") + json.dumps({key: value for key, value in row.items() if key != "signal"})
    for secret in ("1990", "11:22:33", "Zaphod", "canarazine", "07/08"):
        assert secret not in text


@pytest.mark.parametrize(
    "line",
    [
        "Zaphod Canary 07/08/1990 4711471147",
        "r Canary 07/08/1990",
        "r 5 07/08/1990 Canary",
        "r 5 250 07/08/1990",
        "r 5 250 Canary",
        "r 5 250 300 10:00:00 07/08/1990 Zaphod Canary",
        "Canary: 5 250 300",
        "r/2 5 250 300",
        "r/7 5 250 300",
    ],
)
@pytest.mark.parametrize(
    "second", ["", "Zaphod Canary 07/08/1990", "r.dat Canary 2000", "r.dat 16 Canary", "r.dat 16 1 07/08/1990"]
)
def test_why_a_record_is_set_aside_tells_no_name_and_no_date(tmp_path: Path, line: str, second: str) -> None:
    header = GOOD.write(tmp_path) / "r.hea"
    lines = header.read_text().replace("r 5 250 300", line).split("\n")
    header.write_text("\n".join([lines[0], second or lines[1], *lines[2:]]))
    found = inspect_record(tmp_path, "r")
    assert found.status == STATUS["set_aside"]
    for secret in ("Canary", "Zaphod", "1990", "07/08", "4711"):
        assert secret not in found.status_detail


def test_the_same_archive_elsewhere_gives_the_same_stores(tmp_path: Path) -> None:
    _, spoilt, _ = archives(tmp_path, 20)
    shutil.copytree(spoilt, tmp_path / "copy", symlinks=True, copy_function=_copy)
    stores = [convert_archive(str(archive), str(tmp_path / f"w{archive.name}")).stores for archive in (spoilt, tmp_path / "copy")]
    assert stores[0] == stores[1]
    assert np.array_equal(*(sorted(rows(tmp_path / f"w{name}")) for name in ("spoilt", "copy")))


def _copy(source: str, target: str) -> object:
    return shutil.copy2(source, target) if Path(source).is_file() else None
