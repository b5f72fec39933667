"""The stage of measurements on the storage: a row a record, measured on the ten seconds that are put on paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.beats.shard import flags_of_ecgs
from ecgbatch.beats.stage import SHARD_SIGNAL_BYTES
from ecgbatch.measurements.excerpt import Span, choose_excerpt, excerpt_of, in_millivolts
from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES, REASONS
from ecgbatch.measurements.record import METHOD, VERSION, Excerpt, Measured, measure_records, nothing_measured
from ecgbatch.signals.table import SIGNALS
from ecgbatch.terms import STATEMENTS, STATUS
from storage import (
    TEXT,
    Plan,
    RowsFailed,
    Schema,
    Shard,
    Variable,
    installed_version,
    make_plan,
    noting,
    open_once,
    row_key,
    together,
)

Array = NDArray[Any]


def _columns() -> dict[str, Variable]:
    """Return the variables of each quantity: its values, and why it has none."""
    columns = {}
    for name, of in QUANTITIES.items():
        columns[name] = Variable(("record",), "float32", of.meaning, of.unit)
        columns[f"{name}_reason"] = Variable(("record",), "uint8", f"why {name} has no value", "1", flags=REASONS)
    for name, of in LEAD_QUANTITIES.items():
        columns[name] = Variable(("record", "lead"), "float32", of.meaning, of.unit)
    return columns


MEASUREMENTS = Schema(
    name="measurements",
    version=1,
    row_dim="record",
    title="What an electrocardiograph prints, of every record of a beats store",
    variables={
        "lead": Variable(("lead",), "string", "lead name", ""),
        "record_name": Variable(("record",), "string", "path of the header below the archive, without .hea", ""),
        "patient_id": Variable(("record",), "string", "patient identifier", ""),
        "status": Variable(("record",), "int8", "whether the record can be used", "1", flags=STATUS),
        "excerpt_start_s": Variable(("record",), "float32", "start of the ten seconds measured", "s", low=0),
        "excerpt_length_s": Variable(("record",), "float32", "their length; less in a shorter record", "s", low=0),
        "n_beats_measured": Variable(("record",), "int32", "beats of one shape of which the median beat was made", "1", low=0),
        "irregularity": Variable(
            ("record",), "float32", "share of neighbouring RR intervals that differ by more than 3.25 %", "1", low=0, high=1
        ),
        "p_agreement": Variable(
            ("record",), "float32", "how alike the beats are before QRS; 1: a P wave before each", "1", low=0
        ),
        "statements": Variable(("record",), "uint32", "what the measurements say in words", "1", flags=STATEMENTS, is_mask=True),
        **_columns(),
        "lead_reason": Variable(("record", "lead"), "uint8", "why the lead has no amplitudes", "1", flags=REASONS),
    },
)
"""All of it small columns, those of leads too. They are asked for whole, for every record of an archive: that reads 13 chunks a
column at 800,000 records, where shards as small as the work of measuring wants them would be 3,000 files each. For that a record
takes about half a kilobyte while the store is published, as much as in a signals store."""

_IDENTITY = ("record_name", "patient_id", "status")
_OF_LEADS = ("adc_gain", "baseline", "lead_flags")
_FACTS = ("status", "n_samples", "sampling_frequency_hz", "age_years", "sex", *_OF_LEADS)
"""What measuring needs to know of a record besides its samples and beats."""


_CHUNK_SAMPLES = (SIGNALS.variables["signal"].inner_chunk or (0,))[-1] or 0
"""Of a long record, that one read decodes."""


def plan_measurements(signals: xr.Dataset, beats: xr.Dataset, beside: Mapping[str, Any] = MappingProxyType({})) -> Plan:
    """Plan the measurements of a beats store, ``signals`` its signals store: a row a record.

    ``beside``: further settings (``storage.build_around``).
    """
    names = dict.fromkeys((*_IDENTITY, *_FACTS))
    inputs: dict[str, Any] = {name: (signals[name].dims, signals[name].values) for name in names}
    inputs |= {name: ("record", beats[name].values) for name in ("first_beat", "n_beats")}
    inputs |= {"lead": ("lead", signals["lead"].values.astype(TEXT))}
    row_bytes = 2 * signals.sizes["lead"] * signals.sizes["sample"]
    return make_plan(
        MEASUREMENTS,
        sizes={"record": signals.sizes["record"], "lead": signals.sizes["lead"]},
        inputs=xr.Dataset(inputs),
        settings=measure_settings(signals.attrs["digest"], beats.attrs["digest"]) | dict(beside),
        versions=measure_versions(),
        shard_rows=max(1, SHARD_SIGNAL_BYTES // max(1, row_bytes)),
    )


def measure_settings(signals: str, beats: str) -> dict[str, Any]:
    """Return what a store of measurements states of how it was made, and of which stores (digests)."""
    return {"signals": signals, "beats": beats, "method": METHOD, "version": VERSION}


def measure_versions() -> dict[str, str]:
    """Return the versions that measurements depend on beside the storage's."""
    return {"numba": installed_version("numba"), "numpy": installed_version("numpy")}


def produce_measurements(
    shard: Shard,
    rows: xr.Dataset,
    *,
    signals_at: str,
    beats_at: str,
    skip: Mapping[str, str] = MappingProxyType({}),
) -> xr.Dataset:
    """Measure a shard's records.

    Parameters
    ----------
    rows
        The plan's inputs for these records.
    signals_at, beats_at
        Paths of the stores.
    skip
        Records (``storage.row_key``) that get no value, for their content makes measuring fail.

    Returns
    -------
    xarray.Dataset
        ``MEASUREMENTS`` without the ``lead`` names. A record set aside has no value, and the reason ``absent`` everywhere.

    Raises
    ------
    RowsFailed
        If the content of other records makes it fail.

    """
    signals, beats = open_once(signals_at, ("lead",)), open_once(beats_at, ())
    leads = signals["lead"].values.tolist()
    facts = {name: rows[name].values for name in (*_FACTS, "first_beat", "n_beats")}
    facts["lead_flags"] = np.reshape(
        [flags_of_ecgs(own, leads) for own in facts["lead_flags"]], facts["lead_flags"].shape
    ).astype(np.uint16)
    records = [{name: values[row] for name, values in facts.items()} | {"lead": leads} for row in range(shard.stop - shard.start)]
    known = list(_beats_of(beats, facts["first_beat"], facts["n_beats"]))
    names, failed = rows["record_name"].values.tolist(), dict[str, str]()
    spans = _spans(records, known, names, skip, failed)
    samples = {
        row: span.samples(float(records[row]["sampling_frequency_hz"]), int(records[row]["n_samples"]))
        for row, span in enumerate(spans)
        if span is not None
    }
    found = [nothing_measured(len(leads), "absent")] * len(records)
    waiting: dict[int, Excerpt] = {}
    measure = partial(_measure, waiting, found)
    for row, steps in _read_samples(signals, shard, samples):
        with noting(failed, names[row]):
            signal = in_millivolts(steps, records[row]["adc_gain"], records[row]["baseline"])
            waiting[row] = excerpt_of(signal, records[row], samples[row].start, *known[row])
        if len(waiting) == RECORDS_AT_ONCE:
            together(list(waiting), names, failed, measure)
            waiting.clear()
    if waiting:
        together(list(waiting), names, failed, measure)
    if failed:
        raise RowsFailed(failed)
    return _block(rows, spans, found)


RECORDS_AT_ONCE = 16
"""That are measured together: more share no more, and leave the processor's cache."""


def _measure(waiting: Mapping[int, Excerpt], found: list[Measured], some: Sequence[int]) -> None:
    for row, measured in zip(some, measure_records([waiting[row] for row in some]), strict=True):
        found[row] = measured


def _beats_of(beats: xr.Dataset, first_beat: Array, n_beats: Array) -> Iterator[tuple[Array, Array]]:
    """Yield R peaks and flags of each of some neighbouring records, read in one go."""
    begins, ends = first_beat.tolist(), (first_beat + n_beats).tolist()
    r_sample, flags = (beats[name].variable[begins[0] : ends[-1]].values for name in ("r_sample", "beat_flags"))
    for begin, end in zip(begins, ends, strict=True):
        own = slice(begin - begins[0], end - begins[0])
        yield r_sample[own], flags[own]


def _spans(
    records: Sequence[Mapping[str, Any]],
    known: Sequence[tuple[Array, Array]],
    names: Sequence[str],
    skip: Mapping[str, str],
    failed: dict[str, str],
) -> list[Span | None]:
    """Return which seconds of each record are measured; None of one that is not, or that fails (``noting``)."""
    spans: list[Span | None] = [None] * len(records)
    for row, name in enumerate(names):
        if row_key(name) not in skip:
            with noting(failed, name):
                spans[row] = _span(records[row], *known[row])
    return spans


def _span(record: Mapping[str, Any], r_sample: Array, beat_flags: Array) -> Span | None:
    if record["status"] == STATUS["set_aside"]:
        return None
    fs, n_samples = float(record["sampling_frequency_hz"]), int(record["n_samples"])
    return choose_excerpt(r_sample, beat_flags, sampling_frequency_hz=fs, n_samples=n_samples)


def _read_samples(signals: xr.Dataset, shard: Shard, samples: Mapping[int, slice]) -> Iterator[tuple[int, Array]]:
    """Yield row and stored samples (lead, sample) of each excerpt of a shard.

    A record longer than a chunk is read where its excerpt lies and nowhere else; others share chunks and are read together.
    """
    stored = signals["signal"].variable
    is_long = stored.sizes["sample"] > _CHUNK_SAMPLES
    block = None if is_long or not samples else stored[shard.start : shard.stop].values
    for row, part in samples.items():
        yield row, stored[shard.start + row, :, part].values if block is None else block[row][:, part]


def _block(rows: xr.Dataset, spans: Sequence[Span | None], found: Sequence[Measured]) -> xr.Dataset:
    n_leads = rows.sizes["lead"]
    value = np.array([one.value for one in found], np.float32).reshape(-1, len(QUANTITIES))
    reason = np.array([one.reason for one in found], np.uint8).reshape(-1, len(QUANTITIES))
    of_leads = np.array([one.lead_value for one in found], np.float32).reshape(-1, len(LEAD_QUANTITIES), n_leads)
    columns: dict[str, Any] = {name: rows[name].values for name in _IDENTITY}
    columns |= {
        "excerpt_start_s": [np.nan if span is None else span.start_s for span in spans],
        "excerpt_length_s": [np.nan if span is None else span.length_s for span in spans],
        "n_beats_measured": [one.n_beats for one in found],
        "irregularity": [one.irregularity for one in found],
        "p_agreement": [one.p_agreement for one in found],
        "statements": [one.statements for one in found],
        "lead_reason": np.array([one.lead_reason for one in found], np.uint8).reshape(-1, n_leads),
    }
    for place, name in enumerate(QUANTITIES):
        columns |= {name: value[:, place], f"{name}_reason": reason[:, place]}
    columns |= {name: of_leads[:, place] for place, name in enumerate(LEAD_QUANTITIES)}
    schema = MEASUREMENTS.columns()
    return xr.Dataset({name: (schema[name].dims, np.asarray(columns[name], schema[name].numpy_dtype)) for name in schema})


SAID_OF_ERASED: Mapping[str, Any] = {
    "status": STATUS["set_aside"],
    "lead_reason": REASONS["absent"],
    **{f"{name}_reason": REASONS["absent"] for name in QUANTITIES},
}
"""What the row of an erased record says, as of every record set aside; all else is what means missing."""


def measured_of(row: Mapping[str, Any]) -> Measured:
    """Return what a row of a store says: its small columns as numbers, those of leads as arrays; None or NaN where unknown.

    A quantity that the store lacks, because it is of an earlier version, has no value and no reason.
    """
    n_leads = len(row["lead_reason"])
    none = np.full(n_leads, np.nan, np.float32)
    return Measured(
        value=np.array([row.get(name) for name in QUANTITIES], np.float32),
        reason=np.array([row.get(f"{name}_reason", 0) for name in QUANTITIES], np.uint8),
        lead_value=np.array([row.get(name, none) for name in LEAD_QUANTITIES], np.float32),
        lead_reason=np.asarray(row["lead_reason"], np.uint8),
        n_beats=int(row["n_beats_measured"]),
        **{name: float("nan") if row[name] is None else float(row[name]) for name in ("irregularity", "p_agreement")},
        statements=int(row["statements"]),
    )
