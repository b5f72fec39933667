"""Recordings of one patient beside one another: which are shown on a page, in which order, and what has changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from markupsafe import Markup
from numpy.typing import NDArray

from ecgbatch.reports.pages import number_html, probability_html
from ecgbatch.reports.svg import escaped
from ecgbatch.signals.lookup import records_at
from ecgbatch.terms import DECISION, LEADS
from ecgbatch.workspace.privacy import days_apart
from storage import folder_at, load_columns

MOST_SHOWN = 6
"""Other recordings that a page shows, of however many: the one before it, and the nearest in time."""

MOST_CHANGES = 5
"""Of each quantity, on the cohort's page."""

OF_RECORD = ("mi_probability", "heart_rate_bpm", "qrs_ms", "qtc_fridericia_ms")
OF_LEADS = ("st_60_mv", "t_mv")
"""Compared lead by lead; the largest change is told."""


class Compared(NamedTuple):
    """How a quantity is named on a page, its unit, and the decimals that a difference keeps and shows."""

    title: str
    unit: str
    digits: int


COMPARED: Mapping[str, Compared] = {
    "mi_probability": Compared("Probability", "", 3),
    "heart_rate_bpm": Compared("Rate", "/min", 0),
    "qrs_ms": Compared("QRS", "ms", 0),
    "qtc_fridericia_ms": Compared("QTc (Fridericia)", "ms", 0),
    "st_60_mv": Compared("ST at J+60", "mV", 2),
    "t_mv": Compared("T", "mV", 2),
}
"""Quantities of ``OF_RECORD`` and ``OF_LEADS``, in the order of a page."""

OF_SCORES = ("record_name", "decision", "signals_store", "signals_row", "beats_store", "beats_row")

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


class Source(NamedTuple):
    """Where samples and beats of a recording lie."""

    signals_store: str
    signals_row: int
    beats_store: str
    beats_row: int


class Serial(NamedTuple):
    """What a record's report says of the patient's other recordings."""

    n_others: int
    entries: list[dict[str, Any]]
    """As ``serial`` of the record's JSON has them, in order of time; ``MOST_SHOWN`` at most."""
    source: Source | None
    """Where that recording lies whose median beat is drawn with this record's: the one before it, else the nearest."""


NONE = Serial(0, [], None)

NO_CHANGES: Mapping[str, Any] = {"n_patients": 0, "n_pairs": 0, "n_undated": 0, "changes": {name: [] for name in COMPARED}}
"""``Series.changes`` where no patient has more than one recording."""


@dataclass(frozen=True)
class Series:
    """The recordings of patients who have more than one, side by side and in order of time; all arrays (recording,).

    The order is that of days, of one day that of names; recordings of an unknown day stand last, by name.
    """

    record: Ints
    """Place in the scores, increasing nowhere."""
    patient: Ints
    day: Ints
    """Moved by the patient's own number of days; -1 unknown."""
    values: Mapping[str, Floats]
    """``OF_RECORD``, and of ``OF_LEADS`` (recording, lead) in the order of ``LEADS``; NaN where not measured."""
    scores: Mapping[str, NDArray[Any]]
    """Columns of all records, ``OF_SCORES``: names as they are shown, decisions, places in stores."""
    slugs: NDArray[Any]
    place: NDArray[np.int32]
    """Of each record of the scores, its place here; -1 where it is its patient's only one."""

    def of(self, record: int) -> Serial:
        """Return what the report of a record says of the others of its patient."""
        here = int(self.place[record])
        if here < 0:
            return NONE
        start, stop = (int(np.searchsorted(self.patient, self.patient[here], side)) for side in ("left", "right"))
        shown, beside = self._nearest(here, start, stop)
        entries = [self._entry(here, other) | {"is_drawn": other == beside} for other in shown]
        return Serial(stop - start - 1, entries, self._source(beside))

    def _nearest(self, here: int, start: int, stop: int) -> tuple[list[int], int]:
        """Return the places of the recordings to show, in order, and of the one to draw beside this one."""
        near = range(max(start, here - MOST_SHOWN), min(stop, here + MOST_SHOWN + 1))
        undated = start + int(np.count_nonzero(self.day[start:stop] >= 0))
        others = np.array(sorted({*near, *range(undated, min(stop, undated + MOST_SHOWN))} - {here}), np.int64)
        days = days_apart(np.broadcast_to(self.day[here], others.shape), self.day[others])
        before = others[(others < here) & np.isfinite(days)]
        beside = int(before[-1]) if before.size else int(others[np.lexsort((np.abs(others - here), np.abs(days)))[0]])
        order = np.lexsort((np.abs(others - here), np.abs(days), others != beside))
        return sorted(others[order[:MOST_SHOWN]].tolist()), beside

    def _entry(self, here: int, other: int) -> dict[str, Any]:
        record = int(self.record[other])
        days = float(days_apart(self.day[here], self.day[other]))
        changes = {name: _change(values[here], values[other]) for name, values in self.values.items()}
        return {
            "record_name": str(self.scores["record_name"][record]),
            "report": f"{self.slugs[record]}.html" if self.slugs[record] else "",
            "days_from_this": int(days) if np.isfinite(days) else None,
            "decision": _DECISION_WORDS[int(self.scores["decision"][record])],
            **{name: _stated(self.values[name][other]) for name in OF_RECORD},
            "differences": {name: _rounded(change, name) for name, (change, _) in changes.items()},
            **{name: str(self.scores[name][record]) for name in ("signals_store", "beats_store")},
            "leads": {name: LEADS[lead] if lead >= 0 else "" for name, (_, lead) in changes.items() if name in OF_LEADS},
        }

    def _source(self, other: int) -> Source:
        record = int(self.record[other])
        return Source(*(self.scores[name][record : record + 1].tolist()[0] for name in Source._fields))

    def changes(self) -> dict[str, Any]:
        """Return the largest changes from one recording to the patient's next: ``largest_changes`` of the cohort's JSON."""
        days = days_apart(self.day[:-1], self.day[1:])
        first = np.flatnonzero((self.patient[:-1] == self.patient[1:]) & np.isfinite(days))
        found = {
            "n_patients": int(np.unique(self.patient).size),
            "n_pairs": int(first.size),
            "n_undated": int(np.count_nonzero(self.day < 0)),
        }
        return found | {"changes": {name: self._largest(name, first) for name in COMPARED}}

    def _largest(self, name: str, first: Ints) -> list[dict[str, Any]]:
        values = self.values[name]
        size = np.abs(values[first + 1] - values[first])
        size = _most(size) if size.ndim > 1 else size
        # Of equal ones the first of the archive: the order must not depend on how patients are numbered.
        order = np.lexsort((self.record[first + 1], -np.where(np.isfinite(size), size, -1.0)))
        pairs = (self._pair(name, int(first[place])) for place in order[:MOST_CHANGES].tolist() if size[place] > 0)
        return [pair for pair in pairs if pair["change"]]

    def _pair(self, name: str, place: int) -> dict[str, Any]:
        change, lead = _change(self.values[name][place + 1], self.values[name][place])
        then, now = (int(record) for record in self.record[place : place + 2])
        return {
            "record_name": str(self.scores["record_name"][now]),
            "earlier_record_name": str(self.scores["record_name"][then]),
            "report": f"records/{self.slugs[now]}.html" if self.slugs[now] else "",
            "days": int(self.day[place + 1] - self.day[place]),
            "change": _rounded(change, name),
            "lead": LEADS[lead] if lead >= 0 else "",
        }


_DECISION_WORDS = {value: word for word, value in DECISION.items()}


def _change(now: Any, then: Any) -> tuple[float, int]:
    """Return now less then, and -1; of leads the largest such change and the lead's place in ``LEADS``."""
    change = np.subtract(now, then, dtype=float)
    if not change.ndim:
        return float(change), -1
    if not np.isfinite(change).any():
        return np.nan, -1
    lead = int(np.nanargmax(np.abs(change)))
    return float(change[lead]), lead


def _most(values: Floats) -> Floats:
    """Return the largest value of each row, NaN where all are."""
    return np.where(np.isfinite(values).any(axis=1), np.nanmax(np.nan_to_num(values, nan=-1.0), axis=1), np.nan)


def _stated(value: Any) -> float | None:
    """Return a value as that recording's own report states it: float32 in its shortest decimal form."""
    return float(str(value)) if np.isfinite(value) else None


def _rounded(value: Any, name: str) -> float | None:
    return round(float(value), COMPARED[name].digits) + 0.0 if np.isfinite(value) else None  # no -0


class Beside:
    """``Series.of`` for each record of a task; only that travels to another machine, not everybody's recordings."""

    def __init__(self, series: Series, records: Ints) -> None:
        self._series, self._records = series, records

    def __iter__(self) -> Iterator[Serial]:
        """Yield what the report of each record says."""
        return (self._series.of(record) for record in self._records.tolist())

    def __reduce__(self) -> tuple[type[list[Serial]], tuple[list[Serial]]]:
        """Travel as the list of what it yields."""
        return list, (list(self),)


ORDINARY_CHANGE: Mapping[str, float] = {
    "mi_probability": 0.034,
    "heart_rate_bpm": 4,
    "qrs_ms": 3,
    "qtc_fridericia_ms": 10,
    "st_60_mv": 0.08,
    "t_mv": 0.18,
}
"""By how much 95 of 100 pairs of neighbouring ten-second pieces of one recording differ at most: 120 pairs of 40 PTB recordings
(``benchmarks/accuracy/repeat_variation.py``)."""


def _ordinary() -> str:
    told = []
    for name, most in ORDINARY_CHANGE.items():
        title, unit, digits = COMPARED[name]
        told.append(f"{title[0].lower()}{title[1:]}" if name in ("mi_probability", "heart_rate_bpm") else title)
        told[-1] += f" {most:.{digits}f}{' ' if unit and not unit.startswith('/') else ''}{unit}"
    return (
        "What is ordinary: ten-second pieces of one recording, where nothing has changed, differ in 95 of 100 pairs by at most: "
        f"{', '.join(told)} (120 pairs of 40 recordings). Recordings of other days, electrodes put on anew, may differ by more."
    )


ORDINARY = _ordinary()
"""Said beside changes, which are judged by the reader."""


def serial_words(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a record's page says of its patient's recordings: ``rows``, this one among the others, and their order.

    ``order`` is ``known``, ``partly`` or ``unknown``; ``beside`` is the other recording whose median beat is drawn.
    """
    entries = report["serial"]
    dated = [entry for entry in entries if entry["days_from_this"] is not None]
    later = [place for place, entry in enumerate(entries) if _is_after(entry, report, is_dated=bool(dated))]
    rows = [{"is_this": False, "when": _when(entry["days_from_this"]), **entry} for entry in entries]
    beside = next((row for row in rows if row["is_drawn"]), None)
    measured = report["measurements"] or {}
    own = {name: report[name] if name in report else measured.get(name, {}).get("value") for name in OF_RECORD}
    this = {"is_this": True, "when": "this recording", "record_name": report["record_name"], "decision": report["decision"]}
    rows.insert(later[0] if later else len(entries), this | own)
    order = "known" if len(dated) == len(entries) else "partly" if dated else "unknown"
    said = {"rows": rows, "beside": beside, "order": order, "n_shown": len(entries)}
    return said | {"heads": _HEADS, "ordinary": ORDINARY}


_HEADS = Markup(  # noqa: S704 - ours
    "".join(f'<th scope="col" class="n">{of.title}{f", {of.unit}" if of.unit else ""}</th>' for of in COMPARED.values())
)


def serial_rows(rows: Sequence[Mapping[str, Any]], *, has_links: bool) -> Markup:
    """Return the table's rows of ``serial_words``; with links to the others' pages, where those are there."""
    return Markup("\n".join(_row(row, has_links=has_links) for row in rows))  # noqa: S704 - escaped


def _row(row: Mapping[str, Any], *, has_links: bool) -> str:
    name = f"<bdi>{escaped(row['record_name'])}</bdi>"
    if row["is_this"]:
        name = f"<b>{name}</b>"
    elif row["report"] and has_links:
        name = f'<a href="{escaped(row["report"])}">{name}</a>'
    decision = escaped(row["decision"].replace("_", " ").replace("mi ", "MI "))
    cells = "\n".join(_cell(row, quantity, of) for quantity, of in COMPARED.items())
    this = ' class="this"' if row["is_this"] else ""
    return f"<tr{this}><td>{name}</td><td>{escaped(row['when'])}</td><td>{decision}</td>\n{cells}\n</tr>"


def _cell(row: Mapping[str, Any], name: str, of: Compared) -> str:
    """Return a value and, of another recording, how far this one differs; of leads the difference alone."""
    change = None if row["is_this"] else row["differences"][name]
    changed = "" if change is None else f"<b>{'+' if change > 0 else ''}{number_html(change, of.digits)}</b>"
    if name in OF_LEADS:
        said = f"{changed}<br>in <bdi>{escaped(row['leads'][name])}</bdi>" if changed else "not measured in both"
        return f'<td class="n">{"" if row["is_this"] else said}</td>'
    value = row[name]
    text = probability_html(value, "none") if name == "mi_probability" else number_html(value, of.digits, "not measured")
    return f'<td class="n">{text}{"<br>" if changed else ""}{changed}</td>'


def _is_after(entry: Mapping[str, Any], report: Mapping[str, Any], *, is_dated: bool) -> bool:
    days = entry["days_from_this"]
    if days is None and is_dated:
        return True
    return (days or 0) > 0 or (not days and entry["record_name"] > report["record_name"])


def _when(days: int | None) -> str:
    if days is None:
        return "order unknown"
    if days == 0:
        return "the same day"
    return f"{abs(days):,} day{'s' if abs(days) > 1 else ''} {'before' if days < 0 else 'after'}"


def series_of(work: str, scores: xr.Dataset, slugs: NDArray[Any]) -> Series:
    """Gather the recordings of every patient who has more than one; of the others nothing is read.

    Parameters
    ----------
    scores
        Small columns of a scores store, names as they are to be shown.
    slugs : (record,) text
        File names of the records' pages; empty where there is none.

    """
    patient = np.unique(scores["patient_id"].values, return_inverse=True)[1]
    records = np.flatnonzero(np.bincount(patient)[patient] > 1)
    of_signals = _signals(work, scores, records)
    is_known = of_signals["patient_unknown"].values == 0
    is_known &= np.bincount(patient[records[is_known]], minlength=patient.size)[patient[records]] > 1
    records, day = records[is_known], of_signals["acquired_day"].values[is_known]
    name = np.unique(scores["record_name"].values[records], return_inverse=True)[1]
    order = np.lexsort((name, day, day < 0, patient[records]))
    records = records[order]
    place = np.full(scores.sizes["record"], -1, np.int32)
    place[records] = np.arange(records.size, dtype=np.int32)
    values: dict[str, Floats] = {name: scores[name].values[records] for name in OF_RECORD[:2]}
    values |= _measured(work, scores, records)
    told = {name: scores[name].values for name in OF_SCORES}
    return Series(records, patient[records], day[order], {name: values[name] for name in COMPARED}, told, slugs, place)


def _signals(work: str, scores: xr.Dataset, records: Ints) -> xr.Dataset:
    """Return ``patient_unknown`` and ``acquired_day`` of records; an earlier version's store knows no day."""
    stores = scores["signals_store"].values[records].tolist()
    rows = scores["signals_row"].values[records]
    return records_at(work, {"stores": stores, "rows": rows}, ("patient_unknown", "acquired_day"))


def _measured(work: str, scores: xr.Dataset, records: Ints) -> dict[str, Floats]:
    """Return what was measured of records; NaN where it was not, of scores that name no measurements, and of leads not in
    ``LEADS``.
    """
    shape = dict.fromkeys(OF_RECORD[2:], (records.size,)) | dict.fromkeys(OF_LEADS, (records.size, len(LEADS)))
    if "measurements_store" not in scores:
        return {name: np.broadcast_to(np.float32(np.nan), size) for name, size in shape.items()}
    found = {name: np.full(size, np.nan, np.float32) for name, size in shape.items()}
    digests, number_of = np.unique(scores["measurements_store"].values[records], return_inverse=True)
    rows = scores["beats_row"].values[records]
    for number, digest in enumerate(digests.tolist()):
        if not digest:
            continue
        store = load_columns(folder_at(work).path(f"measurements/{digest}.zarr"), ("lead", *found))
        here, own = np.flatnonzero(number_of == number), store["lead"].values.tolist()
        known = [lead for lead in LEADS if lead in own]
        for name in found.keys() & set(store.variables):
            values = store[name].values[rows[here]]
            if name in OF_RECORD:
                found[name][here] = values
            else:
                there = [LEADS.index(lead) for lead in known]
                found[name][here[:, None], there] = values[:, [own.index(lead) for lead in known]]
    return found
