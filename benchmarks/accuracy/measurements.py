"""Measurements beside what else is known: one patient's recordings, Frank's leads, labels of rhythm, healthy people.

    python -m benchmarks.accuracy.measurements ../shared/data

Converts, cuts and measures ptb, cpsc, ptbxl, ptbxl-more and ludb as a user would; prints how many records have each interval;
how far QRS, QT, PR and P of one PTB recording move between three stretches of ten seconds, and between recordings of one
patient; the QRS axis beside that of Frank's Vx and Vy; sensitivity and specificity of "irregular without P" for atrial
fibrillation; how often each statement is made, by label. ``benchmarks/accuracy/boundaries.py`` judges intervals themselves.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ecgbatch.archive.watch import LookOptions
from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.figures.resampling import wilson_interval
from ecgbatch.measurements.excerpt import in_millivolts
from ecgbatch.measurements.lookup import current_measurements, measure_workspace
from ecgbatch.measurements.quantities import QUANTITIES
from ecgbatch.measurements.record import Excerpt, at_rate, measure_record
from ecgbatch.measurements.selection import RATE_HZ, beats_of_one_kind, median_beat
from ecgbatch.signals.lookup import signals_path
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LABEL, LEAD_FLAGS, STATEMENTS
from storage import folder_at, load_columns, open_store

SOURCES = ("ptb", "cpsc", "ptbxl", "ptbxl-more", "ludb")
INTERVALS = ("p_ms", "pr_ms", "qrs_ms", "qt_ms")
STRETCHES_S = (0, 10, 20)
_UNUSABLE = LEAD_FLAGS["missing"] | LEAD_FLAGS["flat"]


class Recording(NamedTuple):
    """A record as its stores have it: ``signal`` (lead, sample) mV, beats, and ``facts`` (its row of the signals store)."""

    name: str
    signal: np.ndarray
    r_sample: np.ndarray
    beat_flags: np.ndarray
    facts: xr.Dataset


def prepared(archive: Path, work: str) -> xr.Dataset:
    """Convert, cut and measure an archive; return its records with their measurements as columns."""
    labels = archive / "labels.csv"
    convert_archive(str(archive), work, LookOptions(labels=str(labels) if labels.exists() else None))
    extract_beats(work, BeatSettings())
    measure_workspace(work, BeatSettings().document())
    names = ["record_name", "label", "patient_id", "status"]
    records = current_measurements(work, current_beats(work, BeatSettings().document(), names))
    columns: dict[str, np.ndarray] = {name: np.full(records.sizes["record"], np.nan) for name in (*QUANTITIES, "statements")}
    for digest in set(records["measurements_store"].values.tolist()):
        stored = load_columns(str(folder_at(work).path(f"measurements/{digest}.zarr")), tuple(columns))
        here = np.flatnonzero(records["measurements_store"].values == digest)
        for name, values in columns.items():
            values[here] = stored[name].values[records["beats_row"].values[here]]
    return records.assign({name: ("record", values) for name, values in columns.items()})


def recordings(work: str) -> Iterator[Recording]:
    """Yield the records of a workspace."""
    records = current_beats(work, BeatSettings().document(), ["record_name"])
    for row in range(records.sizes["record"]):
        one = records.isel(record=row)
        facts = open_store(signals_path(work, str(one["signals_store"].values))).isel(record=int(one["signals_row"]))
        beats = open_store(folder_at(work).path(f"beats/{one['beats_store'].values}.zarr"))
        first, n = (int(beats[name].values[int(one["beats_row"])]) for name in ("first_beat", "n_beats"))
        signal = in_millivolts(facts["signal"].values, facts["adc_gain"].values, facts["baseline"].values)
        own = slice(first, first + n)
        yield Recording(
            str(one["record_name"].values), signal, beats["r_sample"].values[own], beats["beat_flags"].values[own], facts
        )


def stretch(recording: Recording, start_s: float) -> tuple[dict[str, float], np.ndarray, np.ndarray, np.ndarray]:
    """Measure ten seconds; return the quantities, and the stretch itself: signal (lead, sample) mV, R and flags of its beats."""
    facts, fs = recording.facts, float(recording.facts["sampling_frequency_hz"])
    first = round(start_s * fs)
    signal = recording.signal[:, first : first + round(10 * fs)]
    here = recording.r_sample - first
    inside = (here >= 0) & (here < signal.shape[1])
    leads = (facts[name].values.tolist() for name in ("lead", "lead_flags"))
    measured = measure_record(Excerpt(signal, *leads, fs, here[inside], recording.beat_flags[inside]))
    return dict(zip(QUANTITIES, measured.value.tolist(), strict=True)), signal, here[inside], recording.beat_flags[inside]


def frank_axis(recording: Recording, signal: np.ndarray, r_sample: np.ndarray, beat_flags: np.ndarray, qrs_ms: float) -> float:
    """Return the direction of the QRS area in Vx and Vy, degrees; NaN where a recording lacks them.

    QRS is taken ``qrs_ms`` long, in the place where these two leads move most.
    """
    leads, flags = recording.facts["lead"].values.tolist(), recording.facts["lead_flags"].values
    places = [leads.index(name) for name in ("Vx", "Vy") if name in leads]
    if len(places) < 2 or (flags[places] & _UNUSABLE).any() or not np.isfinite(qrs_ms) or not np.isfinite(signal[places]).all():
        return float("nan")
    fs = float(recording.facts["sampling_frequency_hz"])
    frank = at_rate(signal[places], fs)
    r = beats_of_one_kind(frank, np.rint(r_sample * RATE_HZ / fs).astype(int), beat_flags)
    beat, length = median_beat(frank, r), round(qrs_ms / 1000 * RATE_HZ)
    speed = np.abs(np.diff(beat, axis=1)).sum(axis=0)[150:360]
    start = 150 + int(np.convolve(speed, np.ones(length), "valid").argmax())
    x, y = (beat[:, start : start + length] - np.median(beat[:, start - 12 : start - 2], axis=1)[:, None]).sum(axis=1)
    return float(np.degrees(np.arctan2(y, x)))


def ptb_figures(work: str) -> None:
    """Print how far one recording's and one patient's measurements move, and the axis beside Frank's."""
    within, of_patient, axes = defaultdict(list), defaultdict(lambda: defaultdict(list)), []
    for recording in recordings(work):
        stretches = [stretch(recording, start_s) for start_s in STRETCHES_S]
        for name in INTERVALS:
            known = [values[name] for values, *_ in stretches if np.isfinite(values[name])]
            if len(known) > 1:
                within[name].append(np.ptp(known))
            if known:
                of_patient[name][recording.name.split("/")[0]].append(np.mean(known))
        for values, *rest in stretches:
            turn = values["axis_qrs_deg"] - frank_axis(recording, *rest, values["qrs_ms"])
            axes.append((turn + 180) % 360 - 180)
    for name in INTERVALS:
        spread = [np.std(values, ddof=1) for values in of_patient[name].values() if len(values) > 1]
        print(
            f"{name:7} three stretches of one recording: median range {np.median(within[name]):.1f} ms of {len(within[name])}; "
            f"recordings of one patient: SD {np.sqrt(np.mean(np.square(spread))):.1f} ms of {len(spread)} patients"
        )
    known = np.array([turn for turn in axes if np.isfinite(turn)])
    print(f"QRS axis less that of Vx, Vy: bias {known.mean():+.1f} degrees, SD {known.std():.1f}, {known.size} stretches")


def rhythm_figures(source: str, records: xr.Dataset, labels: Mapping[str, Mapping[str, str]]) -> None:
    """Print sensitivity and specificity of "irregular without P" for atrial fibrillation, of records with a labelled rhythm."""
    column = "rhythm" if source == "ptbxl-more" else "classes"
    counts = defaultdict(int)
    for name, mask in zip(records["record_name"].values.tolist(), records["statements"].values, strict=True):
        stated = (labels.get(name) or labels.get(name.split("/")[-1], {})).get(column, "")
        if stated and np.isfinite(mask):
            counts[bool({"AF", "AFIB"} & set(stated.split())), bool(int(mask) & STATEMENTS["irregular_without_p"])] += 1
    for word, is_af in (("sensitivity", True), ("specificity", False)):
        n, k = counts[is_af, True] + counts[is_af, False], counts[is_af, is_af]
        low, high = wilson_interval(k, n)
        print(f"{source}: {word} for atrial fibrillation {k} of {n}, {k / n:.3f} [{low:.3f}, {high:.3f}]")


def main() -> None:
    """Prepare each source in a folder of its own, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds ptb/, cpsc/, ptbxl/, ptbxl-more/ and ludb/")
    data: Any = parser.parse_args().data
    words = {code: word for word, code in LABEL.items()}
    for source in SOURCES:
        with tempfile.TemporaryDirectory() as work:
            records = prepared(data / source, work)
            n = records.sizes["record"]
            print(
                f"{source}: "
                + ", ".join(f"{name} {int(np.isfinite(records[name].values).sum())}" for name in INTERVALS)
                + f" of {n}"
            )
            for code in np.unique(records["label"].values).tolist():
                masks = records["statements"].values[records["label"].values == code].astype(int)
                said = {word: int(np.count_nonzero(masks & bit)) for word, bit in STATEMENTS.items()}
                print(f"  {words[code]}, {masks.size}: " + ", ".join(f"{word} {k}" for word, k in said.items() if k))
            if source == "ptb":
                ptb_figures(work)
            if source in ("cpsc", "ptbxl-more"):
                with (data / source / "labels.csv").open(newline="") as file:
                    rhythm_figures(source, records, {row["record"]: row for row in csv.DictReader(file)})


if __name__ == "__main__":
    main()
