"""All reports as data, and pages of all records, of those called, or of none."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pyarrow.parquet as pq
import pytest
import xarray as xr

from ecgbatch.reports import documents, record_files, writing
from ecgbatch.reports.chosen_pages import MOST_OF_ALL, checked_pages, has_page, mode_for, stated_mode
from ecgbatch.reports.files import json_lines
from ecgbatch.reports.writing import report_record, report_workspace
from ecgbatch.terms import DECISION, LABEL, STATUS
from ecgbatch.upkeep.verify import verify_workspace
from storage import folder_at, seal_again
from tests.reports.report_runs import reported_run

SCHEMA = json.loads(Path("docs/schema/record.json").read_text())


@pytest.fixture(scope="module")
def first(tmp_path_factory) -> SimpleNamespace:
    return reported_run(tmp_path_factory.mktemp("documents"))


@pytest.fixture
def reported(first, tmp_path) -> SimpleNamespace:
    """The run, in a workspace that the test may change."""
    work = shutil.copytree(first.work, tmp_path / "work", symlinks=True)
    return SimpleNamespace(**{**vars(first), "work": str(work), "folder": work / "reports" / first.run})


def problems_of_workspace(work: str) -> list[str]:
    return [problem for problems in verify_workspace(work).values() for problem in problems]


def table_of(run: SimpleNamespace) -> dict[str, dict[str, Any]]:
    return {row["record_name"]: row for row in pq.read_table(run.folder / "records.parquet").to_pylist()}


def files_of(run: SimpleNamespace) -> set[str]:
    return {path.name for path in (run.folder / "records").iterdir()}


def links_of(page: Path) -> set[str]:
    """What a page leads to below its folder: links of its text, not of its data."""
    text = page.read_text()
    return {found for found in re.findall(r'<a href="([^"#]+)["#]', text) if not found.startswith(("http", "../"))}


def test_every_record_is_a_row_with_its_whole_report_set_aside_ones_too(reported):
    rows = table_of(reported)
    assert rows.keys() == set(reported.names)
    assert list(rows[reported.names[0]]) == list(documents.COLUMNS)
    assert rows[reported.broken]["status"] == "set_aside"
    for name, row in rows.items():
        jsonschema.validate(json.loads(row["json"]), SCHEMA)
        assert row["json"] == (reported.folder / "records" / f"{reported.slugs[name]}.json").read_text()
        assert row["report"] == f"records/{reported.slugs[name]}.html"
        assert row["report_digest"] == json.loads(row["json"])["provenance"]["report_digest"]
    meta = pq.read_schema(reported.folder / "records.parquet").metadata
    assert meta[b"run"].decode() == reported.run


def test_called_are_those_a_person_looks_at():
    decisions, labels = np.meshgrid([*DECISION.values()], [*LABEL.values()], indexing="ij")
    scores = xr.Dataset({"decision": ("record", decisions.ravel()), "label": ("record", labels.ravel())})
    without = [(DECISION["mi_not_indicated"], LABEL[word]) for word in ("control", "other", "unknown")]
    both = zip(decisions.ravel().tolist(), labels.ravel().tolist(), strict=True)
    assert has_page(scores, "called").tolist() == [pair not in without for pair in both]


@pytest.fixture
def every_other(monkeypatch) -> None:
    """Call every other record and the one set aside: random weights call them all."""

    def chosen(scores: xr.Dataset, mode: str) -> np.ndarray:
        some = (np.arange(scores.sizes["record"]) % 2 == 0) | (scores["status"].values == STATUS["set_aside"])
        return some if mode == "called" else has_page(scores, mode)

    monkeypatch.setattr(writing, "has_page", chosen)


@pytest.mark.usefixtures("every_other")
def test_called_records_alone_get_pages_and_every_row_stays_what_it_was(reported):
    before = table_of(reported)
    said = report_workspace(reported.work, reported.run, pages="called")
    rows = table_of(reported)
    names = reported.scores["record_name"].values.tolist()
    called = {*names[::2], reported.broken}
    assert called < set(names)
    assert {name for name, row in rows.items() if row["report"]} == called
    assert files_of(reported) == {f"{reported.slugs[name]}.{kind}" for name in called for kind in ("html", "json")}
    cohort = json.loads((reported.folder / "cohort.json").read_text())
    assert cohort["pages"] == {"mode": "called", "n_pages": len(called), "n_records": len(rows)}
    assert f"{len(called)} of {len(rows)} records have a page" in said["pages"]
    assert "--record" in said["pages"]
    for name in rows:  # but for links to pages that are not there any more
        then, now = (json.loads(one[name]["json"]) for one in (before, rows))
        assert {key: now[key] for key in now if key not in ("serial", "provenance")} == {
            key: then[key] for key in then if key not in ("serial", "provenance")
        }
    assert problems_of_workspace(reported.work) == []


@pytest.mark.usefixtures("every_other")
@pytest.mark.parametrize("mode", ["all", "called", "none"])
def test_links_lead_to_pages_that_are_there(reported, mode):
    report_workspace(reported.work, reported.run, pages=mode)
    pages = [reported.folder / "cohort.html", *(reported.folder / "records").glob("*.html")]
    for page in pages:
        for link in links_of(page):
            assert (page.parent / link).is_file(), (page.name, link)
    listed = re.findall(r'<a href="records/', (reported.folder / "cohort.html").read_text())
    assert bool(listed) == (mode != "none")
    table = pq.read_table(reported.folder / "scores.parquet", columns=["record_name", "report"]).to_pylist()
    assert sum(bool(row["report"]) for row in table) == len(pages) - 1


def test_pages_come_back_when_all_are_asked_for_and_those_there_are_kept(reported):
    report_workspace(reported.work, reported.run, pages="none")
    assert files_of(reported) == set()
    report_workspace(reported.work, reported.run, pages="all")
    assert files_of(reported) == {f"{slug}.{kind}" for slug in reported.slugs.values() for kind in ("html", "json")}
    page = reported.folder / "records" / f"{reported.slugs[reported.names[0]]}.html"
    inode = page.stat().st_ino
    report_workspace(reported.work, reported.run, pages="all")
    assert page.stat().st_ino == inode


def test_one_record_has_its_page_at_any_time(reported, tmp_path):
    report_workspace(reported.work, reported.run, pages="none")
    name = reported.names[2]
    made = report_record(reported.work, reported.run, name)
    assert Path(made["page"]).read_text().endswith("</html>")
    assert Path(made["json"]).read_text() == table_of(reported)[name]["json"]
    assert files_of(reported) == {f"{reported.slugs[name]}.{kind}" for kind in ("html", "json")}
    assert problems_of_workspace(reported.work) == []
    apart = report_record(reported.work, reported.run, name, place=str(tmp_path / "apart"))
    assert Path(apart["page"]).parent == tmp_path / "apart"
    assert links_of(Path(apart["page"])) == set()
    assert "cohort.html" not in Path(apart["page"]).read_text().split("<script>")[0]
    with pytest.raises(ValueError, match="none named 'patient'"):
        report_record(reported.work, reported.run, "patient")


def test_pseudonymous_rows_name_nobody_and_do_not_tell_the_archives_order(reported):
    report_workspace(reported.work, reported.run, pages="called", pseudonymise=True)
    folder = reported.folder.with_name(f"{reported.run}-pseudonymous")
    rows = pq.read_table(folder / "records.parquet").to_pylist()
    names = [row["record_name"] for row in rows]
    assert names == sorted(names)
    text = json.dumps(rows)
    assert not any(name in text or name.split("/")[0] in text for name in reported.names)
    made = report_record(reported.work, reported.run, reported.names[2], pseudonymise=True)
    assert made["record"] in names
    assert reported.names[2] not in Path(made["page"]).read_text()


def test_blocks_lie_in_order_whatever_order_they_come_in(reported):
    def backwards(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterable[Any]:
        return [function(task) for task in tasks][::-1]

    before = (reported.folder / "records.parquet").read_bytes()
    report_workspace(reported.work, reported.run, map=backwards)
    assert (reported.folder / "records.parquet").read_bytes() == before


def test_verify_finds_a_damaged_table_of_reports(reported):
    path = reported.folder / "records.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert any("records.parquet" in problem for problem in problems_of_workspace(reported.work))


def test_mode_is_as_asked_else_as_set_else_by_number(monkeypatch, reported):
    assert mode_for(None, MOST_OF_ALL) == "all"
    assert mode_for(None, MOST_OF_ALL + 1) == "called"
    monkeypatch.setenv("ECGBATCH_PAGES", "none")
    assert mode_for(None, 3) == "none"
    assert mode_for("all", 10**6) == "all"
    with pytest.raises(ValueError, match="pages"):
        checked_pages("some")
    assert not has_page(reported.scores, "none").any()
    assert has_page(reported.scores, "all").all()
    folder = folder_at(reported.work)
    assert stated_mode(folder, f"reports/{reported.run}") == "all"
    assert stated_mode(folder, "reports/nowhere") is None


def test_a_seal_made_again_knows_every_file(tmp_path):
    from storage import folder_problems, seal_folder

    folder = folder_at(tmp_path)
    for name in ("a", "b/c", "d"):
        folder.put(f"r/{name}", name.encode())
    seal_folder(folder, "r")
    folder.put("r/b/c", b"other")
    folder.put("r/b/new", b"new")
    seal_again(folder, "r", ["b/c", "b/new"])
    assert list(folder_problems(folder, "r")) == []
    whole = folder.read("r/manifest.json")
    seal_folder(folder, "r")
    assert folder.read("r/manifest.json") == whole


def test_text_of_lines_holds_them_to_a_twentieth_of_a_millimetre():
    from ecgbatch.reports.svg import THIN_MM, UNITS_PER_MM, path

    rng = np.random.default_rng(3)
    x = np.arange(2500.0)
    y = np.cumsum(rng.normal(0, 3, x.size)) + 1000
    numbers = np.array(re.findall(r"-?\d+", path(x, y).replace("M", " ").replace("l", " ")), float).reshape(-1, 2)
    points = np.cumsum(numbers, axis=0)
    assert points[0].tolist() == [0, round(y[0])]
    assert points[-1].tolist() == [2499, round(y[-1])]
    drawn = np.interp(x, points[:, 0], points[:, 1])
    assert np.abs(drawn - y).max() <= 4 * THIN_MM * UNITS_PER_MM + 1
    assert path(np.array([3.0]), np.array([-4.0])) == "M3-4h0"
    assert path(np.array([3.0, 5.0]), np.array([-4.0, 12.0])) == "M3-4l2 16"
    assert path(x, np.full(x.size, np.nan)) == ""


@pytest.mark.parametrize("mode", ["all", "none"])
def test_what_is_spelled_before_a_record_is_measured_and_drawn_is_what_its_report_says_in_the_end(reported, monkeypatch, mode):
    spelled = []

    def as_spelled_anew(report, said):
        spelled.append((len(said), json_lines(report, said) == json_lines(report)))
        return json_lines(report, said)

    shutil.rmtree(reported.folder)
    monkeypatch.setattr(record_files, "json_lines", as_spelled_anew)
    made = report_workspace(reported.work, reported.run, pages=mode)
    assert len(spelled) == made["counts"]["n_records"]
    assert all(n_said > 30 and is_same for n_said, is_same in spelled)
