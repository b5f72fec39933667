"""Stages of beats on the storage: R peaks of every record of a signals store, and a window around each."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
    NO_PEAKS,
    PREMATURE,
    WORKING_RATE_HZ,
    Beats,
    BeatSettings,
    RPeaks,
    reference_peaks,
)
from ecgbatch.beats.rhythm import rr_previous_s
from ecgbatch.beats.shard import Signals, cut_beats, find_peaks, flags_of_ecgs
from ecgbatch.formats.leads import is_ecg
from ecgbatch.formats.wfdb_annotation import Reference, reference_beats
from ecgbatch.terms import BEAT_FLAGS, LABEL, LONGEST_HEART_RATE_BPM, MISSING_SAMPLE, STATUS, UNUSABLE_LEAD
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
    names, failed = signals["record_name"].values[shard.start : shard.stop].tolist(), dict[str, str]()
    status = rows["status"].values
    wanted = [row for row, name in enumerate(names) if status[row] != STATUS["set_aside"] and row_key(name) not in skip]
    found = [NO_PEAKS] * len(names)
    if archive is not None:
        for row in wanted:
            with noting(failed, names[row]):
                found[row] = _annotated_peaks(rows.isel(record=row), settings, str(archive))
    else:
        facts = {name: rows[name].values for name in _FACTS}
        leads = tuple(str(lead) for lead in signals["lead"].values)
        own = Signals(signals["signal"][shard.start : shard.stop].values, facts, leads)

        def find(block: Sequence[int]) -> None:
            for row, peaks in zip(block, _peaks_of(own, block, settings), strict=True):
                found[row] = peaks

        for block in own.blocks(wanted):
            together(block, names, failed, find)
    if failed:
        raise RowsFailed(failed)
    return _peaks_block(found, _n_peaks(signals, settings))


def _peaks_block(found: Sequence[RPeaks], n_peaks: int) -> xr.Dataset:
    """Return ``PEAKS``' variables of records with these R peaks, of at most ``n_peaks``."""
    r_sample, flags = np.full((len(found), n_peaks), -1, np.int32), np.zeros((len(found), n_peaks), np.uint16)
    for row, own in enumerate(found):
        r_sample[row, : len(own.r_sample)], flags[row, : len(own.r_sample)] = own.r_sample, own.beat_flags
    return xr.Dataset(
        {
            "r_sample": (("record", "peak"), r_sample),
            "beat_flags": (("record", "peak"), flags),
            "n_beats": ("record", np.array([len(own.r_sample) for own in found], np.int32)),
            "n_leads_used": ("record", np.array([own.n_leads_used for own in found], np.int16)),
        }
    )


def _peaks_of(signals: Signals, rows: Sequence[int], settings: BeatSettings) -> list[RPeaks]:
    """R peaks of some rows of one rate and length."""
    if settings.method == "robust":
        return find_peaks(signals, rows)
    return [
        kachuee_r_peaks(signals.samples[row], **_facts_for_kachuee(signals, row))
        if signals.facts["sampling_frequency_hz"][row] >= LEAST_RATE_HZ
        else NO_PEAKS
        for row in rows
    ]


def _facts_for_kachuee(signals: Signals, row: int) -> dict[str, Any]:
    flags = flags_of_ecgs(signals.facts["lead_flags"][row], signals.leads)
    return {
        "adc_gain": signals.facts["adc_gain"][row],
        "baseline": signals.facts["baseline"][row],
        "sampling_frequency_hz": float(signals.facts["sampling_frequency_hz"][row]),
        "n_samples": int(signals.facts["n_samples"][row]),
        "leads": list(signals.leads),
        "present": (flags & UNUSABLE_LEAD) == 0,
    }


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
    _rows: xr.Dataset,
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
    own_leads = [str(lead) for lead in signals["lead"].values]
    leads, is_derived = derived_in(signals_at) if settings.method == "robust" else (own_leads, None)
    block = _empty_beats(shard.stop - shard.start, len(leads), settings.n_samples)
    first = int(np.searchsorted(first_beat, shard.start, side="right")) - 1
    last = int(np.searchsorted(first_beat, shard.stop, side="left"))
    names, failed = signals["record_name"].values, dict[str, str]()
    for part, own in _records(signals, peaks, first, last):
        here = names[part.start : part.stop].tolist()
        cut = [None if own.facts["n_beats"][row] else _missing_beats(own, row, settings) for row in range(len(here))]
        wanted = [row for row, name in enumerate(here) if cut[row] is None and row_key(name) not in skip]

        def keep(block: Sequence[int], own: Signals = own, cut: list[Beats | None] = cut) -> None:
            for row, beats in zip(block, _beats_of(own, block, settings), strict=True):
                cut[row] = beats

        for some in own.blocks(wanted, own.facts["n_beats"]):
            together(some, here, failed, keep)
        for row, beats in enumerate(cut):
            record = part.start + row
            found = beats or _missing_beats(own, row, settings)
            waveform = found.waveform
            if is_derived is not None and is_derived.any():
                waveform = with_derived(waveform, own_leads, leads, is_derived[record])
            fs = float(own.facts["sampling_frequency_hz"][row])
            low, high = max(shard.start, int(first_beat[record])), min(shard.stop, int(first_beat[record + 1]))
            there, target = (slice(low - start, high - start) for start in (int(first_beat[record]), shard.start))
            block["waveform"][target] = waveform[there]
            block["r_sample"][target] = found.r_sample[there]
            block["record_index"][target] = record
            block["rr_previous_s"][target] = rr_previous_s(found.r_sample, fs)[there]
            block["beat_flags"][target] = found.beat_flags[there]
    if failed:
        raise RowsFailed(failed)
    return xr.Dataset({name: (BEATS.variables[name].dims, values) for name, values in block.items()})


_FACTS = ("n_samples", "sampling_frequency_hz", "status", "adc_gain", "baseline", "lead_flags")
"""What detection and cutting need to know of a record besides its samples."""


def _records(signals: xr.Dataset, peaks: xr.Dataset, first: int, last: int) -> Iterator[tuple[slice, Signals]]:
    """Yield rows ``first`` to ``last`` of a signals store, with their peaks among the facts, some at once."""
    facts = {name: signals[name][first:last].values for name in _FACTS}
    facts |= {name: peaks[name][first:last].values for name in ("n_beats", "r_sample", "beat_flags")}
    leads, at_once = tuple(str(lead) for lead in signals["lead"].values), _rows_at_once(signals)
    for start in range(first, last, at_once):
        part = slice(start, min(start + at_once, last))
        own = {name: values[start - first : part.stop - first] for name, values in facts.items()}
        yield part, Signals(signals["signal"][part].values, own, leads)


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


def _beats_of(signals: Signals, rows: Sequence[int], settings: BeatSettings) -> list[Beats]:
    """Windows of some rows of one rate and length."""
    if settings.method == "kachuee":
        return [kachuee_beats(signals.samples[row], **_facts_for_kachuee(signals, row)) for row in rows]
    peaks = [_known_peaks(signals, row) for row in rows]
    return cut_beats(signals, rows, peaks, settings)


def _known_peaks(signals: Signals, row: int) -> RPeaks:
    n_beats = int(signals.facts["n_beats"][row])
    return RPeaks(signals.facts["r_sample"][row, :n_beats], signals.facts["beat_flags"][row, :n_beats], 0)


def _leads_of(signals: xr.Dataset, settings: BeatSettings) -> tuple[list[str], Array]:
    """Return ``derived_leads``; ``kachuee`` scales each lead in its window, and derives none."""
    if settings.method == "robust":
        return derived_leads(signals)
    return [str(lead) for lead in signals["lead"].values], np.zeros((1, 1), bool)


def _missing_beats(signals: Signals, row: int, settings: BeatSettings) -> Beats:
    """Return windows without a sample at a record's R peaks."""
    known = _known_peaks(signals, row)
    waveform = np.full((len(known.r_sample), len(signals.leads), settings.n_samples), MISSING_SAMPLE, np.int16)
    return Beats(known.r_sample, waveform, known.beat_flags | np.uint16(BEAT_FLAGS["edge"]))


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
        unknown = [name for name in others if is_ecg(name, True)]
        own |= {"without_vote": unknown} if unknown and len(others) < signals.sizes["lead"] else {}
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
    return {"scipy": installed_version("scipy")}
