"""A record's report as FHIR R4: a bundle of a preliminary DiagnosticReport, its Observations and the software as Device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from ecgbatch.formats.cart import NUMBERS
from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES
from ecgbatch.reports.words import LEAD_WORDS, explain_reason

STATUS = "preliminary"
"""Of every resource: nobody has confirmed it."""

_LOINC = "http://loinc.org"
_UCUM = "http://unitsofmeasure.org"
_OWN = "urn:ecgbatch:observation"
_ABSENT = "http://terminology.hl7.org/CodeSystem/data-absent-reason"
_CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
_LOINC_OF: Mapping[str, tuple[tuple[str, str], ...]] = {
    "heart_rate_bpm": (("8867-4", "Heart rate"),),
    "rr_ms": (("8637-1", "R-R interval by EKG"),),
    "pr_ms": (("8625-6", "P-R interval"),),
    "qrs_ms": (("8633-0", "QRS duration"),),
    "qt_ms": (("8634-8", "Q-T interval"),),
    "qtc_ms": (("8636-3", "Q-T interval corrected"),),
    "qtc_fridericia_ms": (
        ("8636-3", "Q-T interval corrected"),
        ("76634-5", "Q-T interval corrected based on Fridericia formula"),
    ),
    "qtc_bazett_ms": (("76635-2", "Q-T interval corrected based on Bazett formula"),),
    "axis_p_deg": (("8626-4", "P wave axis"),),
    "axis_qrs_deg": (("8632-2", "QRS axis"),),
    "axis_t_deg": (("8638-9", "T wave axis"),),
}
"""LOINC codes of measurements. Those without one here (P duration, spread of RR) have a code of our own: LOINC's of P duration is
of one lead, its SDNN of a long recording. An own code is the quantity's name."""

_UCUM_OF = {"min-1": "/min", "degree": "deg"}
_CART = "the electrocardiograph that recorded the ECG"
_LEAD_CODES = {"st_60_mv": "st-level-j60"}
"""Own codes that are not the quantity's name with hyphens."""

Resource = dict[str, Any]


def check_installed() -> None:
    """Raise ``ValueError`` if the library that checks FHIR resources is not installed."""
    try:
        import fhir.resources  # noqa: F401
    except ImportError as error:
        raise ValueError("--fhir needs fhir.resources, which is not installed; run: pip install 'ecgbatch[fhir]'") from error


def record_bundle(report: Mapping[str, Any]) -> bytes:
    """Return the bundle as JSON, checked against the models of FHIR R4 (4.3.0, R4B); the same report gives the same bytes.

    Raises
    ------
    ValueError
        If the models refuse it: a bug.

    """
    from fhir.resources.R4B.bundle import Bundle

    digest = report["provenance"]["report_digest"]
    device = _device(report)
    observations = [_probability(report), *_measured(report), *_statements(report), *_of_leads(report), *_quality(report)]
    shared = {"status": STATUS, "subject": _subject(report), **_issued(report)}
    by = {"device": {"reference": _urn(digest, "device")}}
    observations = [observation | shared | by for observation in observations]
    observations += [observation | shared | {"device": {"display": _CART}} for observation in _of_cart(report)]
    results = [_urn(digest, f"observation{number}") for number in range(len(observations))]
    cautions = [caution["words"] for caution in report["cautions"]]
    said = (report["decision_words"] + ".", _why(report), *cautions, report["notice"], report["scope"])
    conclusion = " ".join(part for part in said if part)
    diagnostic = {
        "resourceType": "DiagnosticReport",
        **shared,
        "identifier": [{"system": "urn:ecgbatch:report", "value": digest}],
        "code": _concept(_LOINC, "11524-6", "EKG study"),
        "result": [{"reference": urn} for urn in results],
        "conclusion": conclusion,
    }
    entries = [(_urn(digest, "report"), diagnostic), (_urn(digest, "device"), device), *zip(results, observations, strict=True)]
    bundle: Resource = {"resourceType": "Bundle", "type": "collection"}
    if report["provenance"]["created"]:
        bundle["timestamp"] = report["provenance"]["created"]
    bundle["entry"] = [{"fullUrl": urn, "resource": resource} for urn, resource in entries]
    Bundle.model_validate(bundle)
    return json.dumps(bundle, indent=1, ensure_ascii=False).encode("utf-8", "replace")


def _urn(digest: str, name: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, f'ecgbatch/{digest}/{name}')}"


def _concept(system: str, code: str, text: str) -> Resource:
    return {"coding": [{"system": system, "code": code, "display": text}], "text": text}


def _quantity(value: float, unit: str) -> Resource:
    return {"value": value, "unit": unit, "system": _UCUM, "code": unit}


def _subject(report: Mapping[str, Any]) -> Resource:
    return {"identifier": {"system": "urn:ecgbatch:patient", "value": _text(report["patient_id"])}}


def _text(text: str) -> str:
    """Return text as FHIR takes it: not empty, without control characters and without spaces at its ends."""
    return "".join(mark if mark.isprintable() else "\N{REPLACEMENT CHARACTER}" for mark in text).strip() or "unknown"


def _issued(report: Mapping[str, Any]) -> Resource:
    return {"issued": report["provenance"]["created"]} if report["provenance"]["created"] else {}


def _device(report: Mapping[str, Any]) -> Resource:
    return {
        "resourceType": "Device",
        "deviceName": [{"name": "ecgbatch", "type": "model-name"}],
        "version": [{"value": report["provenance"]["ecgbatch_version"]}],
        "identifier": [{"system": "urn:ecgbatch:model", "value": report["model"]["digest"] or "unknown"}],
        "note": [{"text": report["notice"]}],
    }


def _absent(reason: str) -> Resource:
    coding = {"system": _ABSENT, "code": "not-performed", "display": "Not Performed"}
    return {"dataAbsentReason": {"coding": [coding], "text": _text(reason)}}


def _why(report: Mapping[str, Any]) -> str:
    if report["mi_probability"] is not None:
        return ""
    why, _ = explain_reason(report["reason"], is_scored=False)
    return f"{why or 'No reason stated'} ({report['reason'] or 'no code'})."


def _probability(report: Mapping[str, Any]) -> Resource:
    found: Resource = {
        "resourceType": "Observation",
        "code": _concept(_OWN, "mi-probability", "Probability of myocardial infarction, computed"),
        "interpretation": [{"text": report["decision_words"]}],
        "note": [{"text": f"{report['notice']} {report['scope']}"}],
    }
    if report["mi_probability"] is None:
        return found | _absent(_why(report))
    parts = [("decision-threshold", "Operating point", report["operating_point"]["threshold"])]
    if report["interval"]:
        of = "range over its beats, one member" if report["model"]["n_members_used"] == 1 else "95 % interval"
        names = (("probability-low", f"Lower end of the {of}"), ("probability-high", f"Upper end of the {of}"))
        parts += [(code, text, value) for (code, text), value in zip(names, report["interval"], strict=True)]
    parts += [("abnormal-probability", "Probability of any heart disease, computed", report["abnormal_probability"])]
    put_back = "Probability of myocardial infarction with exchanged leads put back, for information"
    parts += [("probability-put-back", put_back, report["probability_put_back"])]
    known = [(code, text, value) for code, text, value in parts if value is not None]
    components = [{"code": _concept(_OWN, code, text), "valueQuantity": _quantity(value, "1")} for code, text, value in known]
    return found | {"valueQuantity": _quantity(report["mi_probability"], "1"), "component": components}


def _measured(report: Mapping[str, Any]) -> list[Resource]:
    """Return an Observation of each quantity of the record; one without a value says why."""
    if not report["measurements"]:
        return []
    resources = []
    for name, of in QUANTITIES.items():
        known = _LOINC_OF.get(name)
        coding = [{"system": _LOINC, "code": code, "display": text} for code, text in known or ()]
        code = {"coding": coding or [_own(name, of.title)], "text": of.title}
        note = {"note": [{"text": report["measurements"]["method"]}]}
        resources.append(_procedure(code) | _value(report["measurements"][name], of.unit) | note)
    return resources


def _of_leads(report: Mapping[str, Any]) -> list[Resource]:
    """Return an Observation of each quantity of leads, a component a lead."""
    leads = report["measurements"]["leads"] if report["measurements"] else {}
    resources = []
    for name, of in LEAD_QUANTITIES.items() if leads else ():
        components = [
            {"code": {"text": _text(f"{of.title}, lead {lead}")}}
            | _value({"value": found[name], "reason": found["reason"] or "not measured"}, of.unit)
            for lead, found in leads.items()
        ]
        coding = [_own(_LEAD_CODES.get(name, name), of.meaning)]
        resources.append(_procedure({"coding": coding, "text": f"{of.title} of each lead"}) | {"component": components})
    return resources


def _statements(report: Mapping[str, Any]) -> list[Resource]:
    """Return an Observation of each statement, in words: no code of a diagnosis, since none is one."""
    resources = []
    for said in report["measurements"]["statements"] if report["measurements"] else ():
        text = "Statement that follows from measurements alone, by published limits; not a diagnosis"
        code = {"coding": [_own("measured-statement", text), _own(said["statement"], said["statement"])], "text": text}
        note = {"note": [{"text": said["note"]}]} if said["note"] else {}
        resources.append(_procedure(code) | {"valueString": said["words"]} | note)
    return resources


def _of_cart(report: Mapping[str, Any]) -> list[Resource]:
    """Return an Observation of each number and coded statement that the electrocardiograph itself stated."""
    if not report["cart"]:
        return []
    note = {"note": [{"text": "Stated by the electrocardiograph in its file; no part of what is computed here"}]}
    resources = []
    for name, found in report["cart"]["numbers"].items():
        title = QUANTITIES[name].title if name in QUANTITIES else name
        coding = [{"system": _LOINC, "code": code, "display": text} for code, text in _LOINC_OF.get(name, ())]
        code = {"coding": coding or [_own(name, title)], "text": f"{title}, the cart's"}
        resources.append(_procedure(code) | _value(found, NUMBERS[name].unit) | note)
    for said in report["cart"]["statements"]:
        code = {"coding": [_own("cart-statement", "Statement of the electrocardiograph")]}
        words = f"{said['words'] or said['code']} ({said['code']}, {said['system']})"
        resources.append(_procedure(code) | {"valueString": _text(words)} | note)
    return resources


def _own(name: str, text: str) -> Resource:
    return {"system": _OWN, "code": name.replace("_", "-"), "display": text}


def _procedure(code: Resource) -> Resource:
    category = {"coding": [{"system": _CATEGORY, "code": "procedure", "display": "Procedure"}]}
    return {"resourceType": "Observation", "category": [category], "code": code}


def _value(found: Mapping[str, Any], unit: str) -> Resource:
    """Return a figure of a record's JSON as FHIR's value, or why there is none; ``unit`` as a store writes it."""
    if found["value"] is None:
        return _absent(found["reason"])
    return {"valueQuantity": _quantity(found["value"], _UCUM_OF.get(unit, unit))}


def _quality(report: Mapping[str, Any]) -> list[Resource]:
    components = [
        {
            "code": {"text": _text(f"Quality of lead {lead}")},
            "valueString": ", ".join(LEAD_WORDS[flag] for flag in flags) or "good",
        }
        for lead, flags in report["leads"].items()
    ]
    quality = {"resourceType": "Observation", "code": _concept(_OWN, "signal-quality", "Signal quality, lead by lead")}
    return [quality | {"component": components}] if components else []
