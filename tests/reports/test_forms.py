"""PDF and FHIR on request: the same decision and numbers as the record's JSON, in one page and in valid resources."""

from __future__ import annotations

import json
import re
from copy import deepcopy
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES
from ecgbatch.measurements.statements import NOTES
from ecgbatch.reports import fhir, pdf, record
from ecgbatch.reports.excerpts import Excerpt
from ecgbatch.reports.layout import lay_out, traces
from ecgbatch.reports.pages import probability_text
from ecgbatch.reports.writing import report_workspace
from ecgbatch.terms import STATEMENTS
from tests.reports.report_runs import reported_run

CODES = {
    "8867-4": "heart_rate_bpm",
    "8637-1": "rr_ms",
    "rr-spread-ms": "rr_spread_ms",
    "p-ms": "p_ms",
    "8625-6": "pr_ms",
    "8633-0": "qrs_ms",
    "8634-8": "qt_ms",
    "8636-3": "qtc_fridericia_ms",
    "76635-2": "qtc_bazett_ms",
    "8626-4": "axis_p_deg",
    "8632-2": "axis_qrs_deg",
    "8638-9": "axis_t_deg",
}


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> SimpleNamespace:
    found = reported_run(tmp_path_factory.mktemp("forms"))
    report_workspace(found.work, found.run, extras=("pdf", "fhir"))
    return found


def file_of(ran: SimpleNamespace, name: str, kind: str) -> Path:
    return ran.folder / "records" / f"{ran.slugs[name]}.{kind}"


def test_every_record_gets_one_a4_page_with_the_jsons_decision_and_numbers(ran):
    from pypdf import PdfReader

    for name, report in ran.records.items():
        reader = PdfReader(file_of(ran, name, "pdf"))
        assert len(reader.pages) == 1
        box = reader.pages[0].mediabox
        assert (float(box.width), float(box.height)) == pytest.approx((297 / 25.4 * 72, 210 / 25.4 * 72), abs=0.5)
        text = " ".join(reader.pages[0].extract_text().split())
        assert report["notice"] in text
        assert report["decision_words"] in text
        assert report["provenance"]["report_digest"] in text
        if report["mi_probability"] is None:
            assert report["reason"] in text
            assert "none may be assumed" in text
            continue
        p, low, high = (probability_text(value) for value in (report["mi_probability"], *report["interval"]))
        assert report["model"]["n_members_used"] == 1
        assert f"probability {p} (range over its beats, one member {low} to {high})" in text  # never called a 95 % interval
        assert f"threshold {report['operating_point']['threshold']:.3f}" in text
        for title, key in (("Rate", "heart_rate_bpm"), ("QRS duration", "qrs_ms"), ("QT", "qt_ms")):
            value = report["measurements"][key]["value"]
            assert (f"{title} {value:.0f} " if value is not None else report["measurements"][key]["reason"]) in text
        said = report["measurements"]["statements"]
        assert all(one["words"] in text and one["note"] in text for one in said)
        assert ("nothing, no number that is measured lies beyond its limit" in text) == (not said)


def test_pdf_made_again_has_the_same_bytes(ran):
    report = ran.records[ran.broken]
    assert pdf.record_pdf(report) == pdf.record_pdf(report) == file_of(ran, ran.broken, "pdf").read_bytes()


def test_pdf_draws_at_scale():
    """A millivolt for a tenth of a second, found among the page's own drawing commands."""
    from pypdf import PdfReader

    signal = np.zeros((2, 5000), np.float32)
    signal[1, 1000:1050] = 1.0
    excerpt = Excerpt(signal, ("I", "II"), (0, 0), 0.0, 500.0)
    (strip,) = [strip for strip in lay_out(excerpt).rows if strip.panels[0].lead == "II"]
    ((x, y),) = traces(strip.panels[0])
    assert np.ptp(y) == pytest.approx(10.0, rel=0.01)
    assert np.ptp(x) == pytest.approx(250.0, rel=0.01)
    report = json.loads(json.dumps(a_report()))
    page = PdfReader(BytesIO(pdf.record_pdf(report, excerpt=excerpt))).pages[0]
    content = page.get_contents().get_data().decode("latin-1")
    lines = [np.array(re.findall(r"([\d.]+) ([\d.]+) [ml]", line), float) for line in re.findall(r"[\d. ml\n]+ S", content)]
    sizes = {tuple(np.ptp(line, axis=0).round(1)) for line in lines if len(line) > 2}
    millimetre = 72 / 25.4
    assert (round(8 * millimetre, 1), round(10 * millimetre, 1)) in sizes  # the pulse
    assert max(sizes) == pytest.approx((250 * millimetre, 10 * millimetre), rel=0.01)  # the trace, a millivolt high


def a_report() -> dict:
    from tests.reports.test_safety import a_report as made

    return made()


def test_every_bundle_parses_as_fhir_r4_and_says_what_the_json_says(ran):
    from fhir.resources.R4B.bundle import Bundle

    for name, report in ran.records.items():
        bundle = Bundle.model_validate_json(file_of(ran, name, "fhir.json").read_bytes())
        resources = [entry.resource for entry in bundle.entry]
        diagnostic = resources[0]
        assert diagnostic.get_resource_type() == "DiagnosticReport"
        observations = [one for one in resources if one.get_resource_type() == "Observation"]
        assert {one.status for one in (diagnostic, *observations)} == {"preliminary"}
        assert report["decision_words"] in diagnostic.conclusion
        assert report["notice"] in diagnostic.conclusion
        assert diagnostic.subject.identifier.value == report["patient_id"]
        assert {one.reference for one in diagnostic.result} == {
            entry.fullUrl for entry in bundle.entry if entry.resource.get_resource_type() == "Observation"
        }
        by_code = {one.code.coding[0].code: one for one in observations}
        probability = by_code["mi-probability"]
        if report["mi_probability"] is None:
            assert probability.valueQuantity is None
            assert report["reason"] in probability.dataAbsentReason.text
            continue
        assert float(probability.valueQuantity.value) == report["mi_probability"]
        parts = {one.code.coding[0].code: float(one.valueQuantity.value) for one in probability.component}
        assert [parts["probability-low"], parts["probability-high"]] == report["interval"]
        for code, key in CODES.items():
            found, told = by_code[code], report["measurements"][key]
            assert (None if found.valueQuantity is None else float(found.valueQuantity.value)) == told["value"]
            assert told["reason"] == ("" if told["value"] is not None else found.dataAbsentReason.text)
            assert found.category[0].coding[0].code == "procedure"
        said = [one.valueString for one in observations if one.code.coding[0].code == "measured-statement"]
        assert said == [one["words"] for one in report["measurements"]["statements"]]
        for key, of in LEAD_QUANTITIES.items():
            parts = by_code["st-level-j60" if key == "st_60_mv" else key.replace("_", "-")].component
            values = [None if one.valueQuantity is None else float(one.valueQuantity.value) for one in parts]
            assert values == [found[key] for found in report["measurements"]["leads"].values()]
            assert {one.valueQuantity.code for one in parts if one.valueQuantity} <= {of.unit}


def test_a_bundle_of_every_statement_and_of_no_value_is_valid_and_holds_no_code_of_a_diagnosis(ran):
    name = next(name for name, report in ran.records.items() if report["measurements"])
    measured = deepcopy(ran.records[name]["measurements"])
    said = [{"statement": one, "words": f"{one} in words", "leads": [], "note": NOTES.get(one, "")} for one in STATEMENTS]
    for part in (*(measured[key] for key in QUANTITIES), *measured["leads"].values()):
        part.update(dict.fromkeys(part) | {"reason": "flat"})
    bundle = json.loads(fhir.record_bundle(ran.records[name] | {"measurements": measured | {"statements": said}}))
    resources = [entry["resource"] for entry in bundle["entry"]]
    found = [one for one in resources if one.get("code", {}).get("coding", [{}])[0].get("code") == "measured-statement"]
    assert [one["valueString"] for one in found] == [one["words"] for one in said]
    assert NOTES["irregular_without_p"] in json.dumps(found)
    systems = {coding["system"] for one in resources for coding in one.get("code", {}).get("coding", [])}
    assert systems == {"http://loinc.org", "urn:ecgbatch:observation"}
    assert sum("dataAbsentReason" in one for one in resources) >= len(QUANTITIES)


def test_bundle_of_hostile_text_is_still_valid(ran):
    report = ran.records[ran.partial] | {"patient_id": " \x00\u202e ", "leads": {"<b>\n": ["noisy"], "": []}}
    assert json.loads(fhir.record_bundle(report))["resourceType"] == "Bundle"


def test_forms_are_made_for_a_report_that_was_kept_without_them(ran, tmp_path):
    path = file_of(ran, ran.partial, "pdf")
    before = path.read_bytes()
    path.unlink()
    report_workspace(ran.work, ran.run, extras=("pdf",))
    assert path.read_bytes() == before
    assert ran.records[ran.partial]["schema_version"] == record.SCHEMA_VERSION
