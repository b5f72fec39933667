"""Reports are safe: header text stays text, files stay in their folder, and nothing personal but the allow-list gets out."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import html5lib
import numpy as np
import pytest

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.reports.operating_point import model_summary
from ecgbatch.reports.record import Edition, record_report
from ecgbatch.reports.record_page import Drawn, record_page
from ecgbatch.reports.writing import record_slugs, report_workspace
from ecgbatch.scores.stage import score_workspace
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from ecgbatch.workspace.runs import Timing, log_file, name_log, write_run
from storage import list_stores, open_store
from tests.reports.attacks import ATTACKS
from tests.reports.report_runs import untrained_model

KNOWN = frozenset(
    [
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "svg",
        "defs",
        "g",
        "path",
        "rect",
        "text",
        "use",
        "header",
        "main",
        "footer",
        "section",
        "div",
        "p",
        "h1",
        "h2",
        "h3",
        "bdi",
        "b",
        "strong",
        "ul",
        "li",
        "ol",
        "dl",
        "dt",
        "dd",
        "span",
        "code",
        "data",
        "a",
        "nav",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "caption",
        "figure",
        "figcaption",
        "label",
        "input",
        "select",
        "option",
        "button",
        "br",
        "noscript",
        "script",
        "polyline",
        "polygon",
        "circle",
    ]
)
"""Elements that our templates and drawings are made of."""


def dangers(text: str, *, scripts: int = 0) -> list[str]:
    """What a browser would find in a page that must not be there, by the parser of the HTML standard."""
    document = html5lib.parse(text, treebuilder="etree", namespaceHTMLElements=False)
    found, n_scripts = [], 0
    for element in document.iter():
        if not isinstance(element.tag, str):
            continue
        tag = re.sub(r"\{.*\}", "", element.tag)
        if tag not in KNOWN:
            found.append(f"element {tag}")
        n_scripts += tag == "script" and element.get("type") != "application/json"
        for name, value in ((str(key), entry) for key, entry in element.attrib.items()):
            is_url = name.endswith(("href", "src", "action", "data", "srcset"))
            if name.startswith("on") or (is_url and re.match(r"(?i)\s*(https?:|//|javascript|data:|vbscript)", value)):
                found.append(f"{tag} {name}={value[:60]}")
            if name == "http-equiv" and value != "Content-Security-Policy":
                found.append(f"meta {value}")
    policies = [one.get("content") for one in document.iter("meta") if one.get("http-equiv") == "Content-Security-Policy"]
    if len(policies) != 1 or not policies[0].startswith("default-src 'none'") or "unsafe" in policies[0]:
        found.append(f"policies {policies}")
    return found + ([f"{n_scripts} scripts"] if n_scripts != scripts else [])


def a_report() -> dict[str, Any]:
    """A report with every text field filled, of a record that is not scored."""
    row = {
        "record_name": "a/b",
        "patient_id": "p",
        "status": 2,
        "decision": 3,
        "reason": "DAT_TRUNCATED",
        "threshold": None,
        "mi_probability": None,
        "probability_low": None,
        "probability_high": None,
        "n_beats_detected": 0,
        "n_beats_scored": 0,
        "beat_agreement": None,
        "heart_rate_bpm": None,
        "age_years": 50.0,
        "sex": 1,
        "label": 2,
        "signals_store": "s",
        "beats_store": "b",
        "n_members_used": 0,
    }
    source = {
        "status": 1,
        "status_detail": "d",
        "warnings": "W",
        "label_rule": "r",
        "diagnosis": "x",
        "infarct_location": "l",
        "infarct_age": "acute",
        "source_digest": "0",
        "sampling_frequency_hz": 500.0,
        "n_samples": 5000,
        "lead": np.array(["I", "II"], object),
        "lead_flags": np.array([0, 8]),
    }
    model = model_summary({"name": "m", "digest": "d", "operating_point": {"chosen_on": "c"}})
    return record_report(row, source, None, Edition(model, "c", "a", run="r"))


def attacked(value: Any, attack: str) -> Any:
    """The same document with every free text replaced by an attack."""
    words = {"status", "decision", "label", "sex", "flags"}
    if isinstance(value, dict):
        return {key: entry if key in words else attacked(entry, attack) for key, entry in value.items()}
    if isinstance(value, list):
        return [attacked(entry, attack) for entry in value]
    return attack if isinstance(value, str) else value


def test_five_hundred_strings_in_every_text_of_a_record_stay_text():
    assert len(set(ATTACKS)) >= 500
    report = a_report()
    for attack in ATTACKS:
        changed = attacked(report, attack) | {"leads": {attack: ["noisy"], attack + "2": []}}
        assert dangers(record_page(changed, Drawn()), scripts=1) == [], attack


@pytest.fixture(scope="module")
def hostile(tmp_path_factory) -> SimpleNamespace:
    """A finished run over records whose headers hold an attack in every field, and canaries where persons are described."""
    folder = tmp_path_factory.mktemp("hostile")
    archive, work = folder / "archive", str(folder / "work")
    write_archive(archive, ArchiveShape(n_records=16, duration_s=6.0, sampling_frequency_hz=250.0), seed=8)
    names = (archive / "RECORDS").read_text().split()
    attacks = iter(ATTACKS * 2)
    canaries = []
    for number, name in enumerate(names):
        header = archive / f"{name}.hea"
        lines = header.read_text().splitlines()
        for place, line in enumerate(lines):
            if line.startswith("# "):
                key = line.partition(":")[0]
                lines[place] = f"{key}: {' '.join(next(attacks).split())}" if number % 2 else line
            elif re.search(r" (i|ii|iii|av.|v\w)$", line) and number % 4 == 3:
                lines[place] = f"{line.rpartition(' ')[0]} {''.join(next(attacks).split())[:60]}"
        for what in ("Name", "ECG date", "Infarction date", "Phone", "Address", "Therapy", "Physician", "Remark"):
            canaries.append(f"KANARI{len(canaries):04d}")
            lines.append(f"# {what}: {canaries[-1]} 12-Oct-1990")
        header.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="replace")
    broken = archive / f"{names[2]}.dat"
    broken.write_bytes(broken.read_bytes()[:-9])
    with log_file(work):
        convert_archive(str(archive), work)
        extract_beats(work, BeatSettings())
        timing = Timing()
        with timing.stage("score"):
            run = score_workspace(work, untrained_model(folder / "model"))
        write_run(work, run, {"seconds": timing.seconds})
        said = report_workspace(work, run, extras=("pdf", "fhir"))
        name_log(work, run)
    return SimpleNamespace(work=Path(work), folder=Path(said["reports"]), names=names, canaries=canaries)


def test_attacks_in_real_headers_leave_no_script_handler_or_outside_address(hostile):
    pages = sorted((hostile.folder / "records").glob("*.html"))
    assert len(pages) == len(hostile.names)
    for page in pages:
        assert dangers(page.read_text(), scripts=1) == [], page.name
    assert dangers((hostile.folder / "cohort.html").read_text(), scripts=1) == []


def test_attacks_in_real_headers_leave_no_formula_in_the_csv(hostile):
    with (hostile.folder / "scores.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert len(rows) == 1 + len(hostile.names)
    for row in rows[1:]:
        for cell in row:
            assert not cell.startswith(("=", "+", "@", "\t", "\r")), cell
            assert not cell.startswith("-") or re.fullmatch(r"-?[\d.e-]+", cell), cell


def test_nothing_that_describes_a_person_leaves_by_any_output_or_log(hostile):
    """Canaries in names, dates and remarks: in no file, whatever its form, and in no text of a store."""
    canary = re.compile(rb"KANARI\d{4}|12-Oct-1990")
    seen = 0
    for path in hostile.work.rglob("*"):
        if path.is_file():
            seen += 1
            assert not canary.search(path.read_bytes()), path
    assert seen > 3 * len(hostile.names)
    for kind in ("signals", "peaks", "beats", "measurements", "scores"):
        for store in list_stores(hostile.work, kind):
            texts = [v.values for v in open_store(store).variables.values() if v.dtype.kind not in "iufb"]
            said = "\n".join(str(text) for column in texts for text in np.ravel(column))
            assert not canary.search(said.encode("utf-8", "replace")), store
    from pypdf import PdfReader

    for path in (hostile.folder / "records").glob("*.pdf"):
        text = PdfReader(path).pages[0].extract_text()
        assert not canary.search(text.encode()), path


def test_reports_name_only_what_is_on_the_allow_list(hostile):
    """A new field of a report needs a thought about privacy: add it here when it has had one."""
    personal = {"patient_id", "age_years", "sex", "diagnosis", "infarct_location", "infarct_age", "label", "label_rule"}
    report = json.loads(next((hostile.folder / "records").glob("*[0-9]syn.json")).read_text())
    schema = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "record.json").read_text())
    assert set(report) == set(schema["required"])
    assert personal < set(report)
    assert not {key for key in report if re.search(r"date|name|comment|address|phone", key)} - {"record_name"}


@pytest.mark.parametrize("count", [1000])
def test_file_names_cannot_leave_their_folder(count):
    random = np.random.default_rng(5)
    pieces = ("..", "/", "\\", "C:", "%2e%2e", "\x00", "\n", "~", "con", ".hidden", "a", "ä", "\u202e", "*", "?", "|", "$(x)")
    names = ["".join(random.choice(pieces, 6)) for _ in range(count)]
    names += ["../../etc/passwd", "/etc/passwd", "..", ".", "", "a" * 999]
    slugs = record_slugs(names)
    assert len({slug.casefold() for slug in slugs.values()}) == len(set(names))
    root = Path("/reports/records")
    for name, slug in slugs.items():
        path = root / f"{slug}.html"
        assert path.parent == root, name
        assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,150}", slug), name
