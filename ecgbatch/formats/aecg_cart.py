"""What the device said of an HL7 annotated ECG: the annotations of its sets, numbers of all leads and coded statements."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from types import MappingProxyType

from ecgbatch.formats.cart import Told
from ecgbatch.formats.xml_tree import Element

_MEASURED = MappingProxyType(
    {"MDC_ECG_HEART_RATE": "heart_rate_bpm", "MDC_ECG_HEART_RATE_VENT": "heart_rate_bpm"}
    | {"MDC_ECG_HEART_RATE_ATRIAL": "atrial_rate_bpm", "MDC_ECG_TIME_PD_RR": "rr_ms", "MDC_ECG_TIME_PD_P": "p_ms"}
    | {"MDC_ECG_TIME_PD_PR": "pr_ms", "MDC_ECG_TIME_PD_QRS": "qrs_ms", "MDC_ECG_TIME_PD_QT": "qt_ms"}
    | {"MDC_ECG_TIME_PD_QTC": "qtc_ms", "MDC_ECG_TIME_PD_QTCB": "qtc_bazett_ms", "MDC_ECG_TIME_PD_QTCF": "qtc_fridericia_ms"}
    | {"MDC_ECG_ANGLE_P_FRONT": "axis_p_deg", "MDC_ECG_ANGLE_QRS_FRONT": "axis_qrs_deg", "MDC_ECG_ANGLE_T_FRONT": "axis_t_deg"}
    | {"MINDRAY_ECG_P_AXIS": "axis_p_deg", "MINDRAY_ECG_QRS_AXIS": "axis_qrs_deg", "MINDRAY_ECG_T_AXIS": "axis_t_deg"}
)
"""Codes of ISO/IEEE 11073-10102 (MDC) in capitals, and those that a maker put in their place."""
_STATEMENTS = ("MDC_ECG_RHY", "MDC_ECG_INTERPRETATION", "MDC_ECG_INTERPRETATION_STATEMENT", "MDC_ECG_INTERPRETATION_SUMMARY")
_FREE = frozenset({"MDC_ECG_INTERPRETATION_COMMENT"})
_SYSTEMS = MappingProxyType({"2.16.840.1.113883.6.24": "MDC", "2.16.840.1.113883.6.96": "SNOMED CT"})
_LEAD, _BEAT = "MDC_ECG_LEAD", "MDC_ECG_BEAT"
_ANNOTATION = ("component", "annotation")
_MOST_ANNOTATIONS = 10_000


def tell(series: Element, told: Told) -> None:
    """Tell what is annotated on a series, and on those derived of it, by a device: a person's set is not the cart's.

    Annotations of one lead are left out. Those of beats count where all beats agree: then they are the record's.
    """
    sets = [*series.all("subjectOf", "annotationSet")]
    sets += series.all("derivation", "derivedSeries", "subjectOf", "annotationSet")
    beats: list[Element] = []
    for one in sets:
        if next(one.all("author", "assignedEntity", "assignedAuthorType", "assignedPerson"), None) is None:
            _tell_all(one, told, beats)
    of_beats: dict[str, set[tuple[str, str]]] = {}
    for beat in beats:
        for annotation in _below(beat):
            if stated := _number_of(annotation):
                of_beats.setdefault(stated[0], set()).add(stated[1:])
    for name, values in of_beats.items():
        if len(values) == 1:
            told.number(name, *values.pop())


def _tell_all(one: Element, told: Told, beats: list[Element]) -> None:
    for annotation in _below(one, beats):
        code = annotation.value("code", name="code")
        if stated := _number_of(annotation):
            told.number(*stated)
        if code in _STATEMENTS:
            value = annotation.first("value").attributes
            system = _SYSTEMS.get(value.get("codeSystem", ""), "")
            if system:
                told.statement(value.get("code", ""), system, value.get("displayName", ""))
            told.words(annotation.told("value"))
        elif code in _FREE:
            told.free(annotation.told("value"))


def _number_of(annotation: Element) -> tuple[str, str, str] | None:
    """Return name, value and unit of a number; None of any other annotation."""
    name = _MEASURED.get(annotation.value("code", name="code").upper())
    value = annotation.first("value").attributes
    return (name, value.get("value", ""), value.get("unit", "")) if name is not None else None


def _below(element: Element, beats: list[Element] | None = None) -> Iterator[Element]:
    """Yield the annotations below an element, those of single leads left out; those of beats are put into ``beats``."""
    waiting = deque(element.all(*_ANNOTATION))
    for _ in range(_MOST_ANNOTATIONS):
        if not waiting:
            return
        annotation = waiting.popleft()
        if any(_LEAD in place.value("code", name="code") for place in annotation.all(*_BOUNDARY)):
            continue
        if beats is not None and annotation.value("code", name="code") == _BEAT:
            beats.append(annotation)
            continue
        yield annotation
        waiting += annotation.all(*_ANNOTATION)


_BOUNDARY = ("support", "supportingROI", "component", "boundary")
