"""Stages of beats on the storage: R peaks of every record of a signals store, and a window around each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.beats.derived import FLAGS, RULE, derived_in, derived_leads, with_derived
from ecgbatch.beats.kachuee import kachuee_beats, kachuee_r_peaks
from ecgbatch.beats.record import (
    LEAST_RATE_HZ,
    NO_VOTE,
    PREMATURE,
    REFERENCE_LEADS,
    WORKING_RATE_HZ,
    Beats,
    BeatSettings,
    RPeaks,
    beat_windows,
    detect_r_peaks,
    reference_peaks,
)
from ecgbatch.beats.rhythm import rr_previous_s
from ecgbatch.formats.leads import is_ecg, which_are_ecgs
from ecgbatch.formats.wfdb_annotation import Reference, reference_beats
from ecgbatch.terms import BEAT_FLAGS, LABEL, LEAD_FLAGS, LONGEST_HEART_RATE_BPM, MISSING_SAMPLE, STATUS, UNUSABLE_LEAD
from storage import TEXT, Plan, RowsFailed, Schema, Shard, Variable, make_plan, noting, open_once, row_key

Array = NDArray[Any]

PEAKS = Schema(
    name="peaks",
    version=1,
    row_dim="record",
    title="R peaks of every record of a signals store",
    variables={
        "r_sample": Variable(
            ("record", "peak"),
            "int32",
            "sample number of the R peak, 0-based, at the record's own rate",
            "1",
            -1,
            bulk=True,
            inner_chunk=(None,),
        ),
        "beat_flags": Variable(
            ("record", "peak"),
            "uint16",
            "quality of the beat",
            "1",
            flags=BEAT_FLAGS,
            is_mask=True,
            bulk=True,
            inner_chunk=(None,),
        ),
        "n_beats": Variable(("record",), "int32", "R peaks found", "1", low=0),
        "n_leads_used": Variable(("record",), "int16", "leads that took part in detection", "1", low=0),
    },
)

BEATS = Schema(
    name="beats",
    version=1,
    row_dim="beat",
    title="Windows around every R peak, all leads together",
    variables={
        # robust: 1 uV a step. kachuee: 1/16384 of the 10 s window's range a step. The store's settings say which (scale, units).
        "waveform": Variable(("beat", "lead", "sample"), "int16", "beat window", "", -32768, bulk=True, inner_chunk=(None, None)),
        "r_sample": Variable(
            ("beat",), "int32", "sample number of the R peak in its record, 0-based, at the record's own rate", "1", low=0
        ),
        "record_index": Variable(("beat",), "int32", "row of the record", "1", low=0),
        "rr_previous_s": Variable(("beat",), "float32", "time since the record's previous R peak; NaN for its first", "s", low=0),
        "beat_flags": Variable(("beat",), "uint16", "quality of the beat", "1", flags=BEAT_FLAGS, is_mask=True),
        "lead": Variable(("lead",), "string", "lead name", ""),
        "sample_time_s": Variable(("sample",), "float32", "time from the R peak", "s"),
        "record_name": Variable(("record",), "string", "path of the header below the archive, without .hea", ""),
        "patient_id": Variable(("record",), "string", "patient identifier", ""),
        "status": Variable(("record",), "int8", "whether the record can be used", "1", flags=STATUS),
        "label": Variable(("record",), "int8", "reference label", "1", flags=LABEL),
        "mi": Variable(
            ("record",), "int8", "myocardial infarction: 1 yes, 0 healthy control, -1 other or unknown", "1", low=-1, high=1
        ),
        "first_beat": Variable(("record",), "int64", "row of the record's first beat", "1", low=0),
        "n_beats": Variable(
            ("record",),
            "int32",
            "beats of the record (CF contiguous ragged array)",
            "1",
            low=0,
            attrs={"sample_dimension": "beat"},
        ),
    },
)


DERIVED = Variable(
    ("record", "lead"), "uint16", "whether the lead was made of I and II when beats were cut", "1", flags=FLAGS, is_mask=True
)
"""``lead_flags``, beside ``BEATS``'s variables where any lead was; earlier stores of complete leads keep their digests."""


def plan_peaks(
    signals: xr.Dataset,
    settings: BeatSettings,
    archive: str | Path | None = None,
    *,
    beside: Mapping[str, Any] = MappingProxyType({}),
) -> Plan:
    """Plan the R peaks of a signals store: a row a record, room for 300 beats a minute of its longest record.

    With ``settings.reference`` the archive's annotation files are read here too: their digests are inputs, and the store's
    settings say which records have no reference beats, and why. ``beside``: further settings (``storage.build_around``).

    Raises
    ------
    ValueError
        If there is a reference and no archive, or the other way round.

    """
    if bool(settings.reference) != (archive is not None):
        raise ValueError(f"reference annotations need both an extension and an archive, found {settings.reference!r}, {archive}")
    sizes = {"record": signals.sizes["record"], "peak": _n_peaks(signals, settings)}
    inputs = xr.Dataset({name: (signals[name].dims, signals[name].values) for name in _FACTS})
    stage = stage_settings(signals, settings) | dict(beside)
    if archive is not None:
        names = signals["record_name"].values.astype(TEXT)
        known = [_reference(archive, str(name), inputs.isel(record=row), settings) for row, name in enumerate(names)]
        digests = np.array([one.digest for one in known], dtype=TEXT)
        inputs = inputs.assign(record_name=("record", names), annotation_digest=("record", digests))
        stage["without_reference"] = {str(name): one.reason for name, one in zip(names, known, strict=True) if one.reason}
    return make_plan(
        PEAKS,
        sizes=sizes,
        inputs=inputs,
        settings=stage,
        versions=stage_versions(),
        shard_rows=_rows_at_once(signals),
    )


SHARD_SIGNAL_BYTES = 32_000_000
"""Samples that one shard of peaks reads: as much as a shard of signals holds."""


def produce_peaks(
    shard: Shard,
    rows: xr.Dataset,
    *,
    signals_at: str,
    settings: BeatSettings,
    archive: str | Path | None = None,
    skip: Mapping[str, str] = MappingProxyType({}),
) -> xr.Dataset:
    """Find the R peaks of a shard's records.

    Parameters
    ----------
    rows
        (record) n_samples, sampling_frequency_hz, status; (record, lead) adc_gain, baseline, lead_flags.
    signals_at
        Path of the signals store.
    archive
        Where reference annotations lie, if they are to be used.
    skip
        Records (``storage.row_key``) that get no beats, for their content makes detection fail.

    Returns
    -------
    xarray.Dataset
        r_sample and beat_flags (record, peak), n_beats and n_leads_used (record). A record set aside has 0 beats.

    Raises
    ------
    RowsFailed
        If the content of other records makes it fail.
    OSError
        If a reference annotation file is not the one that the plan saw.

    """
    signals = open_once(signals_at)
    leads = [str(lead) for lead in signals["lead"].values]
    names, failed = signals["record_name"].values[shard.start : shard.stop].tolist(), dict[str, str]()
    n_peaks = _n_peaks(signals, settings)
    n_rows = shard.stop - shard.start
    r_sample, flags = np.full((n_rows, n_peaks), -1, np.int32), np.zeros((n_rows, n_peaks), np.uint16)
    n_beats, n_leads_used = np.zeros(n_rows, np.int32), np.zeros(n_rows, np.int16)
    facts = {name: rows[name].values for name in _FACTS}
    samples = signals["signal"][shard.start : shard.stop].values if archive is None else [None] * n_rows
    for row, signal in enumerate(samples):
        if facts["status"][row] == STATUS["set_aside"] or row_key(names[row]) in skip:
            continue
        with noting(failed, names[row]):
            if signal is None:
                found = _annotated_peaks(rows.isel(record=row), settings, str(archive))
            else:
                found = _record_peaks(signal, {name: values[row] for name, values in facts.items()}, leads, settings)
            n_beats[row], n_leads_used[row] = len(found.r_sample), found.n_leads_used
            r_sample[row, : n_beats[row]], flags[row, : n_beats[row]] = found.r_sample, found.beat_flags
    if failed:
        raise RowsFailed(failed)
    return xr.Dataset(
        {
            "r_sample": (("record", "peak"), r_sample),
            "beat_flags": (("record", "peak"), flags),
            "n_beats": ("record", n_beats),
            "n_leads_used": ("record", n_leads_used),
        }
    )


def plan_beats(
    signals: xr.Dataset, peaks: xr.Dataset, settings: BeatSettings, *, beside: Mapping[str, Any] = MappingProxyType({})
) -> Plan:
    """Plan the windows of a signals store whose peaks are known: a row a beat, records one after another."""
    n_beats = peaks["n_beats"].values.astype(np.int32)
    first_beat = np.concatenate([[0], np.cumsum(n_beats, dtype=np.int64)[:-1]]) if len(n_beats) else np.zeros(0, np.int64)
    names = ["record_name", "patient_id", "status", "label", "mi"]
    fixed = {name: (signals[name].dims, signals[name].values) for name in names}
    leads, is_derived = _leads_of(signals, settings)
    lead = np.array(leads, dtype=TEXT)
    inputs = xr.Dataset(
        {
            **fixed,
            "first_beat": ("record", first_beat.astype(np.int64)),
            "n_beats": ("record", n_beats),
            "lead": ("lead", lead),
            "sample_time_s": ("sample", settings.sample_time_s()),
        }
    )
    sizes = {"beat": int(n_beats.sum()), "lead": len(lead), "sample": settings.n_samples, "record": len(n_beats)}
    stage = stage_settings(signals, settings) | {"peaks": str(peaks.attrs.get("digest", ""))} | dict(beside)
    schema = BEATS
    if is_derived.any():
        schema = replace(BEATS, variables={**BEATS.variables, "lead_flags": DERIVED})
        inputs = inputs.assign(lead_flags=(("record", "lead"), (is_derived * FLAGS["derived"]).astype(np.uint16)))
        stage["derived"] = RULE
    # A shard of beats comes from about as many samples as a shard of peaks: that is where its work lies.
    rows = max(256, round(sizes["beat"] / max(1, sizes["record"]) * _rows_at_once(signals)))
    return make_plan(schema, sizes=sizes, inputs=inputs, settings=stage, versions=stage_versions(), shard_rows=rows)


def produce_beats(
    shard: Shard,
    rows: xr.Dataset,  # noqa: ARG001
    *,
    signals_at: str,
    peaks_at: str,
    settings: BeatSettings,
    skip: Mapping[str, str] = MappingProxyType({}),
) -> xr.Dataset:
    """Cut the windows of a shard's beats; a record that two shards share is cut for each, to the same rows.

    Returns
    -------
    xarray.Dataset
        waveform (beat, lead, sample), r_sample, record_index, rr_previous_s, beat_flags (beat). Beats of records in ``skip``
        (``storage.row_key``) are missing on every lead.

    Raises
    ------
    RowsFailed
        If the content of other records makes it fail.

    """
    signals, peaks = open_once(signals_at), open_once(peaks_at)
    first_beat = np.concatenate([[0], np.cumsum(peaks["n_beats"].values, dtype=np.int64)])
    leads, is_derived = (
        derived_in(signals_at) if settings.method == "robust" else ([str(lead) for lead in signals["lead"].values], None)
    )
    block = _empty_beats(shard.stop - shard.start, len(leads), settings.n_samples)
    first = int(np.searchsorted(first_beat, shard.start, side="right")) - 1
    last = int(np.searchsorted(first_beat, shard.stop, side="left"))
    own_leads = [str(lead) for lead in signals["lead"].values]
    names, failed = signals["record_name"].values, dict[str, str]()
    for record, signal, facts in _records(signals, peaks, first, last):
        low, high = max(shard.start, int(first_beat[record])), min(shard.stop, int(first_beat[record + 1]))
        if high <= low:
            continue
        found = _missing_beats(facts, len(own_leads), settings)
        if row_key(str(names[record])) not in skip:
            with noting(failed, str(names[record])):
                found = _record_beats(signal, facts, own_leads, settings)
        waveform = found.waveform
        if is_derived is not None and is_derived.any():
            waveform = with_derived(waveform, own_leads, leads, is_derived[record])
        own, target = slice(low - first_beat[record], high - first_beat[record]), slice(low - shard.start, high - shard.start)
        block["waveform"][target] = waveform[own]
        block["r_sample"][target] = found.r_sample[own]
        block["record_index"][target] = record
        block["rr_previous_s"][target] = rr_previous_s(found.r_sample, float(facts["sampling_frequency_hz"]))[own]
        block["beat_flags"][target] = found.beat_flags[own]
    if failed:
        raise RowsFailed(failed)
    return xr.Dataset({name: (BEATS.variables[name].dims, values) for name, values in block.items()})


_FACTS = ("n_samples", "sampling_frequency_hz", "status", "adc_gain", "baseline", "lead_flags")
"""What detection and cutting need to know of a record besides its samples."""


def _records(signals: xr.Dataset, peaks: xr.Dataset, first: int, last: int) -> Iterator[tuple[int, Array, dict[str, Array]]]:
    """Yield row, samples (lead, sample) and facts of records ``first`` to ``last``, read a few at once."""
    facts = {name: signals[name][first:last].values for name in _FACTS}
    facts |= {name: peaks[name][first:last].values for name in ("n_beats", "r_sample", "beat_flags")}
    at_once = _rows_at_once(signals)
    for start in range(first, last, at_once):
        for row, signal in enumerate(signals["signal"][start : min(start + at_once, last)].values, start):
            yield row, signal, {name: values[row - first] for name, values in facts.items()}


def _rows_at_once(signals: xr.Dataset) -> int:
    """Return how many records make ``SHARD_SIGNAL_BYTES`` of samples."""
    return max(1, SHARD_SIGNAL_BYTES // max(1, 2 * signals.sizes["lead"] * signals.sizes["sample"]))


def _reference(archive: str | Path, record_name: str, record: xr.Dataset, settings: BeatSettings) -> Reference:
    """Read the reference beats of one record; none, without a reason, where the record is set aside anyway."""
    fs, n_samples = float(record["sampling_frequency_hz"]), int(record["n_samples"])
    if int(record["status"]) == STATUS["set_aside"]:
        return Reference(np.zeros(0, np.int64), "", "")
    return reference_beats(archive, record_name, settings.reference, sampling_frequency_hz=fs, n_samples=n_samples)


def _annotated_peaks(record: xr.Dataset, settings: BeatSettings, archive: str) -> RPeaks:
    """R peaks of one row from its reference annotations, as the plan saw them."""
    name, expected = str(record["record_name"].values), str(record["annotation_digest"].values)
    known = _reference(archive, name, record, settings)
    if known.digest != expected:
        raise OSError(f"{name}.{settings.reference} changed while its beats were read; run again when it is whole")
    return reference_peaks(known.r_sample)


def _record_peaks(signal: Array, record: Mapping[str, Any], leads: list[str], settings: BeatSettings) -> RPeaks:
    """R peaks of one row of a signals store."""
    lead_flags = flags_of_ecgs(record["lead_flags"], leads)
    if record["sampling_frequency_hz"] < LEAST_RATE_HZ:
        return RPeaks(np.zeros(0, np.int32), np.zeros(0, np.uint16), 0)
    facts: dict[str, Any] = {
        "adc_gain": record["adc_gain"],
        "baseline": record["baseline"],
        "sampling_frequency_hz": float(record["sampling_frequency_hz"]),
        "n_samples": int(record["n_samples"]),
    }
    if settings.method == "kachuee":
        return kachuee_r_peaks(signal, leads=leads, present=(lead_flags & UNUSABLE_LEAD) == 0, **facts)
    voting = (lead_flags & NO_VOTE) == 0
    voting = voting if voting.any() else (lead_flags & UNUSABLE_LEAD) == 0
    named = [leads.index(name) for name in REFERENCE_LEADS if name in leads and voting[leads.index(name)]]
    return detect_r_peaks(signal, usable=voting, reference=named[0] if named else None, **facts)


def _record_beats(signal: Array, record: Mapping[str, Any], leads: list[str], settings: BeatSettings) -> Beats:
    """Windows of one row of a signals store."""
    lead_flags = flags_of_ecgs(record["lead_flags"], leads)
    facts: dict[str, Any] = {
        "adc_gain": record["adc_gain"],
        "sampling_frequency_hz": float(record["sampling_frequency_hz"]),
        "n_samples": int(record["n_samples"]),
    }
    if settings.method == "kachuee":
        present = (lead_flags & UNUSABLE_LEAD) == 0
        return kachuee_beats(signal, baseline=record["baseline"], leads=leads, present=present, **facts)
    n_beats = int(record["n_beats"])
    r_sample, flags = record["r_sample"][:n_beats], record["beat_flags"][:n_beats]
    present = (lead_flags & LEAD_FLAGS["missing"]) == 0
    return beat_windows(signal, r_sample, flags, present=present, settings=settings, **facts)


def _leads_of(signals: xr.Dataset, settings: BeatSettings) -> tuple[list[str], Array]:
    """Return ``derived_leads``; ``kachuee`` scales each lead in its window, and derives none."""
    if settings.method == "robust":
        return derived_leads(signals)
    return [str(lead) for lead in signals["lead"].values], np.zeros((1, 1), bool)


def flags_of_ecgs(lead_flags: Array, leads: list[str]) -> Array:
    """Return a record's flags with every signal that is no ECG as good as missing: it neither votes nor has beats."""
    is_there = np.flatnonzero((lead_flags & LEAD_FLAGS["missing"]) == 0)
    named = [leads[row] for row in is_there]
    are_ecgs = which_are_ecgs(named, ((lead_flags[is_there] & LEAD_FLAGS["not_millivolts"]) == 0).tolist())
    if all(are_ecgs):
        return lead_flags
    flags = lead_flags.copy()
    flags[is_there[~np.array(are_ecgs)]] |= LEAD_FLAGS["missing"]
    return flags


def _missing_beats(record: Mapping[str, Any], n_leads: int, settings: BeatSettings) -> Beats:
    """Return windows without a sample at a record's R peaks."""
    n_beats = int(record["n_beats"])
    waveform = np.full((n_beats, n_leads, settings.n_samples), MISSING_SAMPLE, np.int16)
    return Beats(record["r_sample"][:n_beats], waveform, record["beat_flags"][:n_beats] | np.uint16(BEAT_FLAGS["edge"]))


def _empty_beats(n: int, n_leads: int, n_samples: int) -> dict[str, Array]:
    shapes = {name: (n, n_leads, n_samples) if name == "waveform" else (n,) for name in BEATS.bulk() | BEATS.columns()}
    return {name: np.zeros(shape, BEATS.variables[name].numpy_dtype) for name, shape in shapes.items()}


def _n_peaks(signals: xr.Dataset, settings: BeatSettings) -> int:
    """Return how many R peaks the longest record can have."""
    longest_s = float((signals["n_samples"].values / np.maximum(signals["sampling_frequency_hz"].values, 1e-9)).max(initial=0.0))
    per_s = WORKING_RATE_HZ / 2 if settings.method == "kachuee" else LONGEST_HEART_RATE_BPM / 60
    return max(1, math.ceil(longest_s * per_s))


def stage_settings(signals: xr.Dataset, settings: BeatSettings) -> dict[str, Any]:
    """Return what a store of peaks or beats of these signals states of how it was made."""
    own = settings.document() | {"signals": str(signals.attrs.get("digest", ""))}
    others = [] if "lead" not in signals else [str(name) for name in signals["lead"].values if not is_ecg(str(name), False)]
    if others and others != ["none"]:  # said where there are any: earlier stores of other signals keep their digests
        own["not_ecg"] = others
    if settings.method == "kachuee":
        return own
    own["premature"] = {"share": PREMATURE, "intervals": 12}
    if settings.reference:
        return own
    from ecgbatch.beats.candidates import trees_digest
    from ecgbatch.beats.filtering import BAND_HZ, BAND_SD_HZ
    from ecgbatch.beats.sequence import RULES

    return own | {"rules": RULES._asdict(), "trees": trees_digest(), "band_hz": BAND_HZ, "band_sd_hz": BAND_SD_HZ}


def stage_versions() -> dict[str, str]:
    """Return the versions that peaks and beats depend on beside the storage's."""
    from importlib.metadata import version

    return {"scipy": version("scipy")}
