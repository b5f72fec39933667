"""A run's records as a table: its columns and what they mean, as CSV and as Parquet."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.figures.drift import CHANGES
from ecgbatch.figures.of_scores import indeterminate_flags
from ecgbatch.formats.leads import which_are_ecgs
from ecgbatch.measurements.quantities import QUANTITIES, REASONS
from ecgbatch.reports import triage
from ecgbatch.reports.cart import cart_facts
from ecgbatch.reports.files import utf8
from ecgbatch.reports.lead_columns import LEAD_COLUMNS, LeadValues
from ecgbatch.scores.table import SCORES
from ecgbatch.terms import DECISION, INDETERMINATE_KINDS, LABEL, LEAD_FLAGS, NOTICE, QUALITY, SCORE_FLAGS, SEX, STATEMENTS, STATUS
from storage import TEXT

Facts = Mapping[str, NDArray[Any]]
"""What the cohort's reports say of each record beside its scores: the columns of ``FACTS``, (record,) each, in their order."""

MEASURED: Mapping[str, str] = {"measured_heart_rate_bpm" if name == "heart_rate_bpm" else name: name for name in QUANTITIES}
"""Columns of measurements and the quantity in each; the rate has another name, since that of the whole record has its own."""

FACTS: Mapping[str, Any] = {
    "slug": TEXT,
    "lead_flags": np.dtype(np.int64),
    "flags_by_lead": TEXT,
    "quality": np.dtype(np.int8),
    "warnings": TEXT,
    "patient_unknown": np.dtype(np.int8),
    "reason_detail": TEXT,
    "diagnosis": TEXT,
    "infarct_location": TEXT,
    "infarct_age": TEXT,
    "duration_s": np.dtype(np.float64),
    "n_leads_usable": np.dtype(np.int32),
    "n_leads_scored": np.dtype(np.int32),
    "leads_derived": TEXT,
    "leads_unknown": TEXT,
    "recording_year": np.dtype(np.int32),
    "statements": np.dtype(np.int64),
    "st_largest_mv": np.dtype(np.float32),
    "not_measured": TEXT,
    "cart_numbers": TEXT,
    "cart_statements": TEXT,
    **dict.fromkeys(MEASURED, np.dtype(np.float32)),
}
"""Types of ``Facts``: file name of its pages (empty: it has none), ``terms.LEAD_FLAGS`` that any lead has, ``flags_by_lead`` and
``triage.quality`` as ``lead_facts`` gives them, from ``statements`` on what ``measured_facts`` gives, the rest as the record's
JSON says it; a length unknown is NaN, a year unknown -1. Arrays, since a dict a record would take six kilobytes of each."""

COLUMNS: Mapping[str, str] = {
    "record_name": "path of the header below the archive, without .hea",
    "patient_id": "patient identifier",
    "patient_unknown": "1 where the archive names no patient and the record stands for itself",
    "status": "of its files: ok, partial (some leads missing) or set_aside (they cannot be used)",
    "reason": "code of why it is set aside, not scorable or partial",
    "decision": "mi_indicated, mi_not_indicated, indeterminate or not_scorable (set aside, or too few beats or leads)",
    "mi_probability": "probability of myocardial infarction; empty where not scored",
    "probability_low": "lower end of its 95 % interval; with one member used, of its range over beats",
    "probability_high": "upper end of its 95 % interval; with one member used, of its range over beats",
    "threshold": "operating point applied to this record",
    "n_beats_detected": "R peaks found",
    "n_beats_scored": "beats scored",
    "beat_agreement": "share of scored beats on the decision's side of the threshold",
    "heart_rate_bpm": "median heart rate, per minute",
    "n_members_used": "members of the model that never saw this patient",
    "n_leads_usable": "leads without a fault: neither absent, flat, noisy, clipped, with gaps nor of implausible amplitude",
    "duration_s": "length of the recording, in seconds",
    "label": "reference label: mi, control, other or unknown",
    "mi": "1 infarction, 0 healthy control, -1 other or unknown",
    "age_years": "age; 90 means 90 or older",
    "sex": "female, male or unknown",
    "diagnosis": "diagnosis stated by the archive",
    "infarct_location": "place of the infarction stated by the archive",
    "signals_store": "digest of the signals store that holds the record",
    "signals_row": "its row there; empty in pseudonymous tables",
    "beats_store": "digest of the beats store that holds its beats; empty where there is none",
    "beats_row": "its row there; empty in pseudonymous tables",
    "report": "path of the record's page, from the folder of this table; empty where none was made",
    "abnormal_probability": "probability of any heart disease, infarction or another; empty where not scored or not known",
    "indeterminate_because": "why it is indeterminate: electrodes_exchanged, unlike_training, close_to_threshold",
    "exchange": "electrodes that were probably exchanged: LA-RA or RA-LL; empty: none seem, or which is unclear",
    "probability_put_back": "probability of infarction with those leads put back, for information; empty where none is named",
    "score_flags": "what to know about the score: one_member and the words of indeterminate_because, a space between",
    "needs_look": f"group in which it is read, the first that holds: {', '.join(triage.NEEDS_LOOK)}",
    "needs_look_rank": "its place in the order of reading, from 1: by group, the higher probability first",
    "disagreement": f"what the decision contradicts: {', '.join(triage.DISAGREEMENTS)}; a space between",
    "quality": "good (no remark on any lead), remarks, or not_usable (fewer than two thirds of its leads without a fault)",
    "warnings": "codes of what was odd in its files, a space between",
    "lead_flags": "remarks that any of its leads has, a space between",
    "flags_by_lead": "remarks lead by lead, as I:noisy;V1:flat clipped; leads without one are left out",
    "novelty": "distance from the recordings of training; 99 of 100 of those lie below 1; empty where not measured",
    "since_last_run": "new, changed (its files) or decided_otherwise, since the run before; a space between",
    "measurements_store": "digest of the store that holds its measurements, in row beats_row; empty where there is none",
    **{
        column: f"{QUANTITIES[name].meaning}; {QUANTITIES[name].unit}, of the ten seconds on paper; empty where it has no value"
        for column, name in MEASURED.items()
    },
    "st_largest_mv": "level at J of the lead where it is furthest from the line before QRS, mV; empty where none is known",
    "statements": "what follows from the measured numbers alone, by published limits (terms.STATEMENTS); a space between",
    "not_measured": "quantities without a value and why, as pr_ms:no_p;qt_ms:no_wave",
    "n_leads_scored": "leads that the probability stands on; 0 where not scored",
    "leads_derived": "those of them that the record does not hold: computed from I and II; a space between",
    "leads_unknown": "leads of the record whose names are none that is known; a space between",
    "cart_numbers": "what the electrocardiograph itself measured, as heart_rate_bpm:69;pr_ms:180; no part of the score",
    "cart_statements": "codes of what it stated itself, semicolons between; no part of the score or the label",
}
"""Columns of scores.parquet and scores.csv, in order; names and meanings stay, new ones are added at the end. In scores.parquet
those of the leads (``lead_columns.LEAD_COLUMNS``) follow."""

_WORDS: Mapping[str, Mapping[str, int]] = {"status": STATUS, "decision": DECISION, "label": LABEL, "sex": SEX, "quality": QUALITY}
MASKS: Mapping[str, Mapping[str, int]] = {
    "indeterminate_because": {kind: SCORE_FLAGS[kind] for kind in INDETERMINATE_KINDS},
    "score_flags": SCORE_FLAGS,
    "disagreement": triage.DISAGREEMENTS,
    "lead_flags": LEAD_FLAGS,
    "since_last_run": CHANGES,
    "statements": STATEMENTS,
}
"""Columns that hold bits, as words with a space between, and what the bits mean."""

_ROWS_AT_A_TIME = 4096  # of a table, as Python values
_ROWS_OF_GROUP = 65_536  # of a Parquet file: what of the records' leads is held at once
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def lead_facts(leads: Sequence[str], lead_flags: NDArray[np.integer[Any]], *, is_set_aside: bool) -> dict[str, Any]:
    """Return what ``FACTS`` says of a record's leads: names and ``terms.LEAD_FLAGS``, (lead,)."""
    said = []
    for lead, mask in zip(leads, lead_flags.tolist(), strict=True):
        if mask:
            plain = lead.replace(";", "_").replace(":", "_")  # they part what is said
            said.append(f"{plain}:{' '.join(word for word, bit in LEAD_FLAGS.items() if mask & bit)}")
    return {
        "lead_flags": int(np.bitwise_or.reduce(lead_flags)),
        "flags_by_lead": ";".join(said),
        "quality": triage.quality(lead_flags[_are_ecgs(leads, lead_flags)], is_set_aside=is_set_aside),
    }


def listed_facts(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``FACTS`` says of lists of a record's JSON."""
    said = {name: " ".join(report[name]) for name in ("warnings", "leads_derived", "leads_unknown")}
    return said | {"n_leads_scored": len(report["leads_scored"])} | cart_facts(report)


def _are_ecgs(leads: Sequence[str], lead_flags: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    return np.array(which_are_ecgs(leads, ((lead_flags & LEAD_FLAGS["not_millivolts"]) == 0).tolist()), bool)


def measured_facts(row: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return what ``FACTS`` says of a record's measurements; ``row`` of their store, None where there is none."""
    if row is None:
        return dict.fromkeys(MEASURED) | {"statements": 0, "st_largest_mv": None, "not_measured": ""}
    st = row["st_j_mv"][np.isfinite(row["st_j_mv"])]
    word = {code: word for word, code in REASONS.items()}
    why = [f"{name}:{word[row[f'{name}_reason']]}" for name in QUANTITIES if row[f"{name}_reason"]]
    return {column: row[name] for column, name in MEASURED.items()} | {
        "statements": int(row["statements"]),
        "st_largest_mv": float(st[np.abs(st).argmax()]) if st.size else None,
        "not_measured": ";".join(why),
    }


class Table:
    """A run's records: ``scores`` (variables of ``scores.stage.SCORES`` on ``record``) and ``facts``, and what follows from both.

    Rows are in the order given; ``order`` is that of reading (``triage.reading_order``).
    """

    def __init__(self, scores: xr.Dataset, facts: Facts) -> None:
        self.scores, self.facts = scores, facts
        self.n_records = scores.sizes["record"]

    @cached_property
    def group(self) -> NDArray[np.int64]:
        """Return the place of each record's group in ``triage.NEEDS_LOOK``, (record,)."""
        return triage.needs_look(self.scores, self.facts)

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Return the records' places in the order of reading, (record,)."""
        return triage.reading_order(self.scores, self.group)

    @cached_property
    def disagreement(self) -> NDArray[np.int64]:
        """Return the bits of ``triage.DISAGREEMENTS`` of each record, (record,)."""
        return triage.disagreements(self.scores, self.facts)

    @cached_property
    def _rank(self) -> NDArray[np.int64]:
        rank = np.empty(self.n_records, np.int64)
        rank[self.order] = np.arange(1, self.n_records + 1)
        return rank

    def has(self, name: str) -> bool:
        """Tell whether a column is known of these records; of measurements, of any of them."""
        if name in MEASURED or name == "st_largest_mv":
            return bool(np.isfinite(self.facts[name]).any())
        return name in COLUMNS or name in self.scores or name in self.facts

    def column(self, name: str, chosen: Any = slice(None)) -> list[Any]:
        """Return a column of the chosen records (a slice, or their places) as Python values: unknown is None, flags are words."""
        if name == "report":
            return [f"records/{slug}.html" if slug else "" for slug in self.facts["slug"][chosen].tolist()]
        if name == "needs_look":
            words = tuple(triage.NEEDS_LOOK)
            return [words[place] for place in self.group[chosen].tolist()]
        if name in _WORDS:
            word = {value: word for word, value in _WORDS[name].items()}
            return [word[value] for value in self._values(name)[chosen].tolist()]
        values = self._values(name)
        if values is None:  # of an earlier version's store, or left out of pseudonymous tables
            is_text = name in MASKS or (name in SCORES.variables and SCORES.variables[name].dtype == "string")
            return ["" if is_text else None] * len(self.facts["slug"][chosen])
        return _words(values[chosen], MASKS[name]) if name in MASKS else known(values[chosen])

    def rows(self, chosen: Any) -> list[dict[str, Any]]:
        """Return ``COLUMNS`` of the chosen records, a dict each."""
        columns = [self.column(name, chosen) for name in COLUMNS]
        return [dict(zip(COLUMNS, values, strict=True)) for values in zip(*columns, strict=True)]

    def _values(self, name: str) -> Any:
        if name == "needs_look_rank":
            return self._rank
        if name == "disagreement":
            return self.disagreement
        if name == "indeterminate_because":
            return indeterminate_flags(self.scores)
        return self.scores[name].values if name in self.scores else self.facts.get(name)


def _words(values: NDArray[Any], flags: Mapping[str, int]) -> list[str]:
    masks = values.tolist()
    words = {mask: " ".join(word for word, bit in flags.items() if mask & bit) for mask in set(masks)}
    return [words[mask] for mask in masks]


def known(values: NDArray[Any]) -> list[Any]:
    """Return Python values; NaN is None, float32 keeps its shortest decimal form."""
    if values.dtype.kind != "f":
        return list(values.tolist())
    return [float(str(value)) if np.isfinite(value) else None for value in values]


def csv_table(table: Table) -> bytes:
    """Return the table as CSV in UTF-8; text that a spreadsheet would take for a formula gets an apostrophe in front."""
    out = io.BytesIO()
    out.write(utf8(csv_lines([name] for name in COLUMNS)))
    for start in range(0, table.n_records, _ROWS_AT_A_TIME):
        chosen = slice(start, start + _ROWS_AT_A_TIME)
        out.write(utf8(csv_lines([table.column(name, chosen) for name in COLUMNS])))
    return out.getvalue()


def csv_lines(columns: Iterable[Sequence[Any]]) -> str:
    """Return columns of Python values as lines of CSV."""
    return "".join(",".join(map(_cell, row)) + "\n" for row in zip(*columns, strict=True))


def _cell(value: Any) -> str:
    """Return a cell of RFC 4180; Python's writer leaves a lone carriage return bare, and readers break the row there."""
    text = "" if value is None else str(value)
    text = f"'{text}" if isinstance(value, str) and text.startswith(_FORMULA) else text
    return '"' + text.replace('"', '""') + '"' if set(text) & set('",\r\n') else text


def parquet_table(table: Table, options: Mapping[str, Any], leads: LeadValues | None = None) -> bytes:
    """Return the table as a Parquet file; every column carries its meaning, the file names run, model and notice.

    ``leads`` gives ``LEAD_COLUMNS``, in the table's order; without it they are null.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {name: _arrow_type(pa, name) for name in COLUMNS} | dict.fromkeys(LEAD_COLUMNS, pa.float32())
    meanings = {**COLUMNS, **LEAD_COLUMNS}
    stated = {"run": options["run"], "model": options["model"]["digest"], "created": options["created"], "notice": NOTICE}
    stated |= {"archive": _utf8(options["archive"]), "is_synthetic": str(bool(options["is_synthetic"])).lower()}
    fields = [pa.field(name, kind, metadata={"description": meanings[name]}) for name, kind in kinds.items()]
    out = io.BytesIO()
    with pq.ParquetWriter(out, pa.schema(fields, metadata=stated)) as writer:
        for start in range(0, max(1, table.n_records), _ROWS_OF_GROUP):
            chosen = slice(start, min(start + _ROWS_OF_GROUP, table.n_records))
            n_rows = chosen.stop - start
            arrays = [pa.array(map(_utf8, table.column(name, chosen)), type=kinds[name], size=n_rows) for name in COLUMNS]
            if leads is None:
                arrays += [pa.nulls(n_rows, pa.float32())] * len(LEAD_COLUMNS)
            else:
                arrays += [pa.array(values, from_pandas=True) for _, values in leads.columns(chosen)]
            writer.write_table(pa.Table.from_arrays(arrays, schema=writer.schema))
            del arrays
            pa.default_memory_pool().release_unused()
    return out.getvalue()


def _utf8(value: Any) -> Any:
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _arrow_type(pa: Any, name: str) -> Any:
    if name in _WORDS or name in MASKS or name in ("report", "needs_look") or FACTS.get(name) == TEXT:
        return pa.string()
    if name == "needs_look_rank":
        return pa.int64()
    dtype = FACTS[name] if name in FACTS else SCORES.variables[name].dtype
    return pa.string() if dtype == "string" else pa.type_for_alias(str(dtype))
