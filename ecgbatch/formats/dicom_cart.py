"""What the device said of a DICOM ECG: numbers and concepts of its waveform annotations, coded as PS3.16 has them."""

from __future__ import annotations

from collections.abc import Callable, Container
from types import MappingProxyType
from typing import Any

from ecgbatch.formats.cart import Told

_MEASURED = MappingProxyType(
    {"5.10.2.1-3": "rr_ms", "5.13.5-1": "rr_ms", "5.13.5-7": "pr_ms", "5.13.5-9": "qrs_ms", "5.13.5-11": "qt_ms"}
    | {"5.10.2.5-5": "qtc_ms", "5.10.3-11": "axis_p_deg", "5.10.3-13": "axis_qrs_deg", "5.10.3-15": "axis_t_deg"}
    | {"5.10.2.5-1": "heart_rate_bpm", "5.10.2.5-3": "atrial_rate_bpm"}
    | {"8867-4": "heart_rate_bpm", "8637-1": "rr_ms", "8625-6": "pr_ms", "8633-0": "qrs_ms", "8634-8": "qt_ms"}
    | {"8636-3": "qtc_ms", "8626-4": "axis_p_deg", "8632-2": "axis_qrs_deg", "8638-9": "axis_t_deg"}
    | {"76634-5": "qtc_fridericia_ms", "76635-2": "qtc_bazett_ms"}
)
"""Codes of SCP-ECG (CID 3228 and 3229 as exporters write them) and of LOINC."""
_NUMBER_SYSTEMS = frozenset({"SCPECG", "LN"})
_STATEMENT_SYSTEMS = MappingProxyType({"SCPECG": "SCP-ECG", "SCT": "SNOMED CT", "SRT": "SNOMED RT", "MDC": "MDC", "LN": "LOINC"})
_MOST_ANNOTATIONS = 10_000
_TEMPORAL_RANGE_TYPE = 0x0040A130


def tell(dataset: Any, told: Told) -> None:
    """Tell the annotations that are of the whole recording: those of beats and waves have a place in time."""
    for annotation in list(dataset.get("WaveformAnnotationSequence", None) or ())[:_MOST_ANNOTATIONS]:
        if _TEMPORAL_RANGE_TYPE in annotation:
            continue
        code, system, _ = _concept(annotation, "ConceptNameCodeSequence", _NUMBER_SYSTEMS)
        name = _MEASURED.get(code)
        if name is not None and "NumericValue" in annotation:
            unit, _, _ = _concept(annotation, "MeasurementUnitsCodeSequence")
            told.number(name, _text(annotation["NumericValue"]), unit)
        code, system, meaning = _concept(annotation, "ConceptCodeSequence", _STATEMENT_SYSTEMS)
        if system:
            told.statement(code, _STATEMENT_SYSTEMS[system], meaning())
        if "UnformattedTextValue" in annotation:
            told.words(_text(annotation["UnformattedTextValue"]))


def _concept(annotation: Any, keyword: str, systems: Container[str] | None = None) -> tuple[str, str, Callable[[], str]]:
    """Return code, coding scheme and what gives the meaning of the first item of a sequence.

    Empty where there is none, or one of another scheme than ``systems``. pydicom takes 0.1 ms for each value that is looked at.
    """
    items = annotation.get(keyword, None)

    def told(name: str) -> str:
        return str(items[0].get(name, "") or "").strip() if items else ""

    system = told("CodingSchemeDesignator") if items and systems is not None else ""
    if not items or (systems is not None and system not in systems):
        return "", "", lambda: ""
    return told("CodeValue"), system, lambda: told("CodeMeaning")


def _text(element: Any) -> str:
    value = element.value
    return str(getattr(value, "original_string", value) if value is not None else "")
