"""The list of all records on the cohort's page: its columns and filters, declared once, and its data as the page's script has it.

The data are the table's columns (``tables.COLUMNS``) in the order of reading: the script shows, filters and exports these alone.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ecgbatch.figures.curves import REMARKABLE
from ecgbatch.reports import triage, words
from ecgbatch.reports.tables import COLUMNS, MASKS, Table
from ecgbatch.terms import DECISION, LABEL, LEAD_FLAGS, QUALITY, SEX, STATUS


class Shown(NamedTuple):
    """A column of the page's list, a filter of it, or both.

    Parameters
    ----------
    name
        Of the table's column.
    title
        Of the list's column, and of the filter.
    filter
        ``choice`` (one of its words), ``words`` (a cell holds several), ``range`` (from, to) or nothing.
    is_column
        False: only a filter.
    digits
        Of a number; None: as it is.
    beside
        Columns whose words stand small below, where they say something.
    then
        Another column that follows in the same cell, and the word between.

    """

    name: str
    title: str
    filter: str = ""
    is_column: bool = True
    digits: int | None = None
    beside: tuple[str, ...] = ()
    then: tuple[str, str] | None = None


LIST: Sequence[Shown] = (
    Shown("record_name", "Record"),
    Shown("patient_id", "Patient"),
    Shown("needs_look", "Needs a look", "choice", is_column=False),
    Shown("since_last_run", "Since the last run", "words", is_column=False),
    Shown("decision", "Decision", "choice", beside=("indeterminate_because", "exchange", "reason")),
    Shown("indeterminate_because", "Indeterminate because", "words", is_column=False),
    Shown("mi_probability", "Probability", "range", digits=3),
    Shown("probability_low", "Interval", digits=3, then=("probability_high", "to")),
    Shown("disagreement", "Disagreement", "words"),
    Shown("label", "Label", "choice"),
    Shown("statements", "Statements", "words"),
    Shown("quality", "Quality", "choice", beside=("lead_flags",)),
    Shown("lead_flags", "Remark on a lead", "words", is_column=False),
    Shown("exchange", "Electrodes exchanged", "choice", is_column=False),
    Shown("status", "Files", "choice", is_column=False),
    Shown("reason", "Reason", "choice", is_column=False),
    Shown("age_years", "Age", "range", digits=0),
    Shown("sex", "Sex", "choice"),
    Shown("heart_rate_bpm", "Rate /min", "range", digits=0),
    Shown("qrs_ms", "QRS ms", "range", digits=0),
    Shown("qtc_fridericia_ms", "QTc ms", "range", digits=0),
    Shown("axis_qrs_deg", "QRS axis °", "range", digits=0),
    Shown("st_largest_mv", "Largest ST mV", "range", digits=2),
    Shown("n_beats_scored", "Beats scored", then=("n_beats_detected", "of")),
)
"""In the order of the page. One whose column is known of no record (measurements that were not made) is left out."""

WORDS: Mapping[str, Mapping[str, str]] = {
    "needs_look": {"contradicted": "not indicated, but contradicted", "poor_recording": "not indicated, poor recording"},
    "decision": {"mi_indicated": "MI indicated", "mi_not_indicated": "MI not indicated"},
    "indeterminate_because": {
        "electrodes_exchanged": "electrodes exchanged",
        "unlike_training": "unlike training",
        "close_to_threshold": "close to the threshold",
    },
    "exchange": words.EXCHANGE_WORDS,
    "label": {"mi": "infarction", "control": "healthy", "other": "other disease"},
    "quality": {"good": "good", "remarks": "remarks", "not_usable": "not usable"},
    "lead_flags": words.LEAD_WORDS,
    "statements": words.STATEMENT_NAMES,
    "status": {"ok": "whole", "partial": "partial: leads missing", "set_aside": "set aside: cannot be used"},
    "disagreement": {
        "missed_mi": "infarction missed",
        "false_alarm": "healthy, called",
        "other_called": "other disease, called",
        "statement": "not called, a statement speaks for it",
    },
}
"""What the page says for a column's words; of others, the word with spaces for underscores."""

ORDER: Mapping[str, Sequence[str]] = {
    "needs_look": tuple(triage.NEEDS_LOOK),
    "decision": tuple(DECISION),
    "label": tuple(LABEL),
    "sex": tuple(SEX),
    "quality": tuple(QUALITY),
    "status": tuple(STATUS),
}
_SIGNS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"  # base64's


def data(table: Table) -> Iterator[tuple[str, Any]]:
    """Yield what the page's script reads, part by part; 50,000 records take about 6 MB.

    ``n`` (records), ``list`` (``LIST``), ``csv`` (``COLUMNS``), ``several`` (columns whose cells hold several words), ``quiet``
    (words that say something of a source as a whole, not of a lead), ``words`` (``WORDS``); then each column: its key is ``=``
    and its name, its value what ``encoded`` makes of it.
    """
    shown = [one for one in LIST if table.has(one.name)]
    names = [*COLUMNS, *(one.name for one in shown if one.name not in COLUMNS)]
    yield "n", table.n_records
    yield "list", [{key: value for key, value in one._asdict().items() if value not in (None, "", ())} for one in shown]
    yield "csv", list(COLUMNS)
    yield "several", [name for name in names if name in MASKS]
    yield "quiet", [word for word, bit in LEAD_FLAGS.items() if not bit & REMARKABLE]
    yield "words", {name: words for name, words in WORDS.items() if name in names}
    for name in names:
        yield f"={name}", _column(table, name)


def _column(table: Table, name: str) -> Any:
    values = table.column(name, table.order)
    if name == "report":  # from a rule, or its own name
        names = table.column("record_name", table.order)
        values = [0 if f"records/{of.replace('/', '__')}.html" == path else path for of, path in zip(names, values, strict=True)]
    if name == "patient_id":  # often the record's folder
        names = table.column("record_name", table.order)
        values = [0 if of.split("/")[0] == who else who for of, who in zip(names, values, strict=True)]
    return encoded(values, first=ORDER.get(name, ()), is_float=_is_float(table, name))


def _is_float(table: Table, name: str) -> bool:
    values = table.scores[name].values if name in table.scores else table.facts.get(name)
    return values is not None and values.dtype.kind == "f"


def encoded(values: Sequence[Any], *, first: Sequence[Any] = (), is_float: bool = False) -> dict[str, Any]:
    """Return a column in few characters, for JSON.

    Returns
    -------
    dict
        Of up to 4096 distinct values ``{"of": values, "code": signs}``: a row is one sign of base64 (two of more than 64 values),
        and that is its place in ``of``: ``first``, then in order, None last. Of many numbers ``{"f4": base64}``, float32 in
        little endian with NaN unknown, or ``i4``. Else ``{"all": values}``. ``float``: whole numbers have a point.

    """
    distinct = set(values)
    kind = {"float": True} if is_float else {}
    if len(distinct) <= len(_SIGNS) ** 2:
        of = [value for value in first if value in distinct]
        of += sorted(distinct - {*of, None}, key=lambda value: (isinstance(value, str), value))
        of += [None] if None in distinct else []
        sign = {value: _signs(place, wide=len(of) > len(_SIGNS)) for place, value in enumerate(of)}
        return {"of": of, "code": "".join([sign[value] for value in values])} | kind
    if is_float and all(value is None or float(str(np.float32(value))) == value for value in distinct):
        numbers = np.array([math.nan if value is None else value for value in values], "<f4")
        return {"f4": b64encode(numbers.tobytes()).decode()} | kind
    if not is_float and all(type(value) is int and abs(value) < 2**31 for value in distinct):
        return {"i4": b64encode(np.array(values, "<i4").tobytes()).decode()}
    return {"all": list(values)} | kind


def _signs(place: int, *, wide: bool) -> str:
    return (_SIGNS[place // len(_SIGNS)] if wide else "") + _SIGNS[place % len(_SIGNS)]
