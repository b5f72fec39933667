"""Privacy: what identifies a person stays in the archive, or in the workspace, unless it is asked for."""

from __future__ import annotations

import csv
import json
import re
import shutil
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ecgbatch import cli
from ecgbatch.archive.watch import LookOptions
from ecgbatch.cli.exit_codes import SET_ASIDE
from ecgbatch.model.files import shipped_model
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.workspace.privacy import KEY_FILE, TABLE_FILE, Pseudonyms, workspace_pseudonyms
from storage import list_stores, open_store
from tests.formats.dicom_files import ecg, encoded, group, waves
from tests.formats.test_bad_inputs import GOOD

SECRETS = ("Canary", "Zaphod", "11:22:33", "07/08/1990", "29-Sep-90", "canarazine", "MRN4711", "19500101", "97")
"""Planted in every place of a header that may hold a person's data; 97 is an age."""
COMMENTS = (
    *("age: 97", "sex: female", "Reason for admission: Myocardial infarction", "ECG date: 07/08/1990"),
    *("Infarction date (acute): 29-Sep-90", "Name: Zaphod Canary", "Therapy: canarazine", "Patient MRN4711, born 19500101"),
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic archive with a canary in every record, one of them set aside, and one more in DICOM."""
    folder = tmp_path_factory.mktemp("private") / "archive"
    write_archive(folder, ArchiveShape(n_records=6, duration_s=10.0, sampling_frequency_hz=250.0), seed=2)
    for number, header in enumerate(sorted(folder.glob("**/*.hea"))):
        lines = header.read_text().splitlines()
        kept = [line for line in lines[1:] if not line.startswith("#")]
        header.write_text("\n".join([f"{lines[0]} 11:22:33 07/08/1990", *kept, *(f"# {text}" for text in COMMENTS), ""]))
        if number == 3:
            data = header.with_suffix(".dat")
            data.write_bytes(data.read_bytes()[:-1])
    (folder / "RECORDS").unlink(missing_ok=True)
    (folder / "patient999").mkdir()
    (folder / "patient999" / "d.dcm").write_bytes(encoded(ecg(group(("I", "II", "V1"), waves(3, 2500)))))
    return folder


def command(*arguments: str | Path) -> dict[str, Any]:
    with pytest.raises(SystemExit) as ended, redirect_stdout(StringIO()) as out:
        cli.main([*map(str, arguments), "--workers", "1", "--json"])
    assert ended.value.code == SET_ASIDE
    printed: dict[str, Any] = json.loads(out.getvalue())
    return printed


def reported(archive: Path, work: Path, *options: str) -> str:
    """Convert, find beats, score and report, each with its own command; return the cohort page's path."""
    command("convert", archive, work, *options)
    command("beats", work)
    command("score", work, "--model", shipped_model())
    return str(command("report", work)["cohort"])


def texts_of(folder: Path) -> str:
    """Return the text of every file, and its path, below a folder; samples of stores are decoded as columns elsewhere."""
    parts = [f"{path.relative_to(folder)} " + path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    return "\n".join(parts)


def columns_of(work: Path) -> str:
    """Return every small column of every store as text."""
    parts = []
    for kind in ("signals", "peaks", "beats", "measurements", "scores"):
        for path in list_stores(work, kind):
            store = open_store(path)
            small = [name for name, variable in store.variables.items() if variable.ndim == 1 and variable.size < 10_000]
            parts += [repr(store[name].values.tolist()) for name in small if store[name].dtype.kind not in "fiu"]
            parts.append(repr(store["age_years"].values.tolist() if "age_years" in store else ""))
    return "\n".join(parts)


def test_no_canary_leaves_the_archive_and_names_only_unless_pseudonymised(archive: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    printed = reported(archive, work)
    reports = Path(printed).parent
    pages = "\n".join(path.read_text() for path in reports.rglob("*.html"))
    for secret in SECRETS[:-1]:
        assert secret not in texts_of(work) + columns_of(work) + printed, secret
    assert "90+ years" in pages
    assert "97.0" not in columns_of(work)
    (store,) = (open_store(path) for path in list_stores(work, "signals"))
    known = [
        year for name, year in zip(store["record_name"].values, store["recording_year"].values, strict=True) if ".dcm" not in name
    ]
    assert set(known) == {1990}  # of the planted date, the year alone
    names = {path.parent.name for path in archive.glob("*/*.*")}
    assert len(names) >= 3
    assert all(name in pages for name in names)

    hidden = command("report", work, "--pseudonymise")
    folder = Path(hidden["cohort"]).parent
    assert folder != reports
    text = texts_of(folder) + json.dumps(hidden["counts"])
    for secret in (*SECRETS[:-1], "patient0", "patient9", "d.dcm"):
        assert secret not in text, secret
    assert hidden["counts"]["n_records"] == 7
    pseudonyms = workspace_pseudonyms(work)
    pages = {path.stem for path in (folder / "records").glob("*.html")}
    table = (work / TABLE_FILE).read_text().splitlines()[1:]
    assert pages == {line.split(",")[1] for line in table} == {pseudonyms.record(line.split(",")[0]) for line in table}
    assert (work / KEY_FILE).stat().st_mode & 0o077 == 0
    assert_no_order_of_the_archive_is_left(folder)


def assert_no_order_of_the_archive_is_left(folder: Path) -> None:
    """Rows are sorted by pseudonym in every form of the table, and number no row of a store."""
    with (folder / "scores.csv").open(newline="") as file:
        in_csv = list(csv.DictReader(file))
    for rows in (in_csv, pq.read_table(folder / "scores.parquet").to_pylist()):
        names = [row["record_name"] for row in rows]
        assert names == sorted(names)
        assert len(set(names)) == 7
        assert {row[name] for row in rows for name in ("signals_row", "beats_row")} in ({""}, {None})
    page = (folder / "cohort.html").read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    for name in ("=signals_row", "=beats_row"):
        assert data[name]["of"] == [None]
    listed = data["=record_name"]
    assert [row["record_name"] for row in sorted(in_csv, key=lambda row: int(row["needs_look_rank"]))] == [
        listed["of"]["ABCDEFGHIJKLMNOPQRSTUVWXYZ".index(sign)] for sign in listed["code"]
    ]
    without = [row["record_name"] for row in in_csv if row["decision"] == "not_scorable"]
    said = re.findall(r'href="records/(r-[0-9a-f]+).html"', page.partition("Records without a score")[2].partition("</table>")[0])
    assert sorted(said) == sorted(without)


def test_comments_are_kept_and_shown_only_when_asked(tmp_path: Path) -> None:
    folder = replace(GOOD, comments=COMMENTS).write(tmp_path / "a")
    assert folder.is_dir()
    work = str(tmp_path / "w")
    plain = convert_archive(str(folder), work)
    assert "comments" not in open_store(f"{work}/signals/{plain.stores[0]}.zarr").variables
    kept = convert_archive(str(folder), work, LookOptions(keep_comments=True))
    assert (kept.n_new, len(kept.stores)) == (1, 1)
    comments = open_store(f"{work}/signals/{kept.stores[0]}.zarr")["comments"].values.tolist()
    assert comments == ["\n".join(COMMENTS)]
    assert convert_archive(str(folder), work, LookOptions(keep_comments=True)).n_new == 0
    assert convert_archive(str(folder), work).stores == plain.stores


def test_kept_comments_are_on_the_records_page_and_in_its_json(archive: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(archive / "patient001", tmp_path / "one" / "patient001")
    (tmp_path / "one" / "bad.hea").write_text("")
    records = Path(reported(tmp_path / "one", work, "--keep-comments")).parent / "records"
    for path in records.glob("patient001*.json"):
        assert json.loads(path.read_text())["comments"] == list(COMMENTS)
    assert "canarazine" in next(records.glob("patient001*.html")).read_text()
    hidden = Path(command("report", work, "--pseudonymise")["cohort"]).parent
    assert "canarazine" not in texts_of(hidden)


def test_pseudonyms_are_the_workspaces_own_and_stay_the_same(tmp_path: Path) -> None:
    one, again, other = (workspace_pseudonyms(tmp_path / name) for name in ("a", "a", "b"))
    assert one.record("patient001/s") == again.record("patient001/s") != other.record("patient001/s")
    assert one.record("x") != one.patient("x")
    assert len({Pseudonyms(b"k" * 32).record(str(number)) for number in range(1000)}) == 1000


@pytest.mark.parametrize("content", [b"", b"zz", b"00" * 31, b"\xff"])
def test_key_that_is_none_is_refused_and_not_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / KEY_FILE).write_bytes(content)
    with pytest.raises(ValueError, match="expected 32 bytes in hexadecimal; put the file back"):
        workspace_pseudonyms(tmp_path)
    assert (tmp_path / KEY_FILE).read_bytes() == content
