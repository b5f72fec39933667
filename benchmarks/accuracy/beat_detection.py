"""Accuracy and speed of R-peak detection, as ANSI/AAMI EC57 counts it.

    python -m benchmarks.accuracy.beat_detection ../shared/data [--leads 0 | 0 1] [--records] [--peers] [--json] [--curve FILE]

Prints sensitivity, positive predictivity, F1 and timing error over MIT-BIH DS1, gross and per record, with and without the
first five minutes; the interval over records; noise stress; added baseline wander; and lead-seconds of ECG per second of
processor time. ``--peers`` runs wfdb's gqrs and xqrs and, where installed, sleepecg, NeuroKit2 and biosppy beside it. ``--curve``
draws accuracy against speed, of this detector with fewer trees too, one lead, all of them by turns on each record.

Conventions: beat annotations only (``NLRBAaJSVrFejnE/fQ?``), 150 ms, ventricular flutter (207) left out of both sides with 150 ms
around it. The detector always runs on the whole record; "without the first five minutes" leaves beats out of the count only.
Pairing follows bxb's sequential rule, reimplemented.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

BEATS = set("NLRBAaJSVrFejnE/fQ?")
WINDOW_S = 0.150
FIRST_MINUTES_S = 300.0


@dataclass(frozen=True)
class Row:
    """Counts of one record, or of all."""

    name: str
    n_true: int
    n_missed: int
    n_false: int
    error_ms: float
    bias_ms: float
    seconds: float
    processor_s: float

    @property
    def sensitivity(self) -> float:
        """Share of beats found, %."""
        return 100.0 * self.n_true / max(1, self.n_true + self.n_missed)

    @property
    def positive_predictivity(self) -> float:
        """Share of detections that are beats, %."""
        return 100.0 * self.n_true / max(1, self.n_true + self.n_false)

    @property
    def f1(self) -> float:
        """Harmonic mean of the two, %."""
        return 200.0 * self.n_true / max(1, 2 * self.n_true + self.n_missed + self.n_false)


@dataclass(frozen=True)
class Recording:
    """One annotated record in ADC units."""

    signal: np.ndarray
    adc_gain: np.ndarray
    baseline: np.ndarray
    fs: float
    leads: list[str]
    reference: np.ndarray
    excluded: list[tuple[int, int]]


Detector = Callable[[Recording, Sequence[int]], np.ndarray]


def record_names(data: Path) -> list[str]:
    """Return the names of DS1."""
    return (data / "mitdb-ds1" / "RECORDS").read_text().split()


def read_recording(path: Path, annotations: Path) -> Recording:
    """Read a record and its reference beats."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # wfdb 4.3 uses what pandas has deprecated
        import wfdb

        record = wfdb.rdrecord(str(path), physical=False)
        notes = wfdb.rdann(str(annotations), "atr")
    samples, symbols = np.asarray(notes.sample), np.asarray(notes.symbol)
    margin = round(WINDOW_S * record.fs)
    starts, stops = samples[symbols == "["], samples[symbols == "]"]
    return Recording(
        np.ascontiguousarray(record.d_signal.T.astype(np.int16)),
        np.asarray(record.adc_gain, dtype=np.float64),
        np.asarray(record.baseline),
        float(record.fs),
        list(record.sig_name),
        samples[np.isin(symbols, list(BEATS))],
        [(int(a) - margin, int(b) + margin) for a, b in zip(starts, stops, strict=True)],
    )


def pair_beats(reference: np.ndarray, detected: np.ndarray, window: int) -> list[tuple[int, int]]:
    """Pair beats and detections in order, each once, not more than ``window`` samples apart, the nearer one where two compete."""
    pairs, i, j = [], 0, 0
    ref, det = reference.tolist(), detected.tolist()
    while i < len(ref) and j < len(det):
        gap = det[j] - ref[i]
        if gap < -window:
            j += 1
        elif gap > window:
            i += 1
        elif j + 1 < len(det) and abs(det[j + 1] - ref[i]) < abs(gap) and not _nearer(ref, i, det[j + 1]):
            j += 1
        elif i + 1 < len(ref) and abs(det[j] - ref[i + 1]) < abs(gap) and not _nearer(det, j, ref[i + 1]):
            i += 1
        else:
            pairs.append((i, j))
            i, j = i + 1, j + 1
    return pairs


def _nearer(beats: list[int], i: int, sample: int) -> bool:
    """Whether the beat after ``i`` is nearer to ``sample`` than beat ``i``."""
    return i + 1 < len(beats) and abs(sample - beats[i + 1]) < abs(sample - beats[i])


def ecgbatch_detector(recording: Recording, leads: Sequence[int]) -> np.ndarray:
    """Return the R peaks that ecgbatch finds on some leads."""
    from ecgbatch.beats.record import REFERENCE_LEADS, detect_r_peaks

    usable = np.isin(np.arange(len(recording.signal)), leads)
    named = [i for i in leads if recording.leads[i] in REFERENCE_LEADS]
    return detect_r_peaks(
        recording.signal,
        adc_gain=recording.adc_gain,
        baseline=recording.baseline,
        sampling_frequency_hz=recording.fs,
        usable=usable,
        reference=named[0] if named else None,
    ).r_sample


def evaluate(recording: Recording, name: str, leads: Sequence[int], detector: Detector, skip_s: float = 0.0) -> Row:
    """Run a detector and count."""
    return count(recording, name, *_run(recording, leads, detector), len(leads), skip_s)


def _run(recording: Recording, leads: Sequence[int], detector: Detector) -> tuple[np.ndarray, float]:
    """Return what a detector finds, and the processor time it took."""
    begun = time.process_time()
    detected = detector(recording, leads)
    return np.asarray(detected, dtype=np.int64), time.process_time() - begun


def count(
    recording: Recording, name: str, detected: np.ndarray, processor_s: float, n_leads: int = 1, skip_s: float = 0.0
) -> Row:
    """Count hits, misses and false detections from ``skip_s`` on."""
    reference = recording.reference
    for low, high in recording.excluded:
        reference = reference[(reference < low) | (reference > high)]
        detected = detected[(detected < low) | (detected > high)]
    first = round(skip_s * recording.fs)
    reference, detected = reference[reference >= first], detected[detected >= first]
    pairs = pair_beats(reference, detected, round(WINDOW_S * recording.fs))
    error_ms = np.array([detected[j] - reference[i] for i, j in pairs]) * (1000.0 / recording.fs)
    return Row(
        name,
        len(pairs),
        len(reference) - len(pairs),
        len(detected) - len(pairs),
        float(np.abs(error_ms).mean()) if len(pairs) else 0.0,
        float(error_ms.mean()) if len(pairs) else 0.0,
        recording.signal.shape[1] / recording.fs * n_leads,
        processor_s,
    )


def evaluate_record(data: Path, name: str, *, leads: Sequence[int], skip_s: float = 0.0) -> Row:
    """Evaluate ecgbatch on one record of DS1."""
    path = data / "mitdb-ds1" / name
    return evaluate(read_recording(path, path), name, leads, ecgbatch_detector, skip_s)


def evaluate_noise_stress(
    data: Path, *, leads: Sequence[int], detector: Detector = ecgbatch_detector, skip_s: float = FIRST_MINUTES_S
) -> Row:
    """Evaluate on 118 with electrode motion at -6 dB; its beats are those of 118."""
    recording = read_recording(data / "nstdb" / "118e_6", data / "mitdb-ds1" / "118")
    return evaluate(recording, "118e_6", leads, detector, skip_s)


def with_wander(recording: Recording, wander: np.ndarray) -> Recording:
    """Return the recording with wander of the same power as each lead (0 dB)."""
    signal = np.empty_like(recording.signal)
    for lead, samples in enumerate(recording.signal):
        noise = np.resize(wander[lead % len(wander)], samples.size).astype(np.float64)
        scaled = (noise - noise.mean()) * (samples.std() / max(1e-9, noise.std()))
        signal[lead] = np.clip(np.rint(samples + scaled), -32767, 32767)
    return Recording(
        signal,
        recording.adc_gain,
        recording.baseline,
        recording.fs,
        recording.leads,
        recording.reference,
        recording.excluded,
    )


def total(rows: Sequence[Row], name: str = "all") -> Row:
    """Add up rows; errors weighted by beats."""
    n = sum(row.n_true for row in rows)
    return Row(
        name,
        n,
        sum(row.n_missed for row in rows),
        sum(row.n_false for row in rows),
        sum(row.error_ms * row.n_true for row in rows) / max(1, n),
        sum(row.bias_ms * row.n_true for row in rows) / max(1, n),
        sum(row.seconds for row in rows),
        sum(row.processor_s for row in rows),
    )


def interval(rows: Sequence[Row], figure: str, n_draws: int = 2000) -> tuple[float, float]:
    """Return the 95 % interval of a gross figure over records drawn anew (seeded bootstrap)."""
    random = np.random.default_rng(0)
    draws = [
        getattr(total([rows[i] for i in random.integers(0, len(rows), len(rows))]), figure) for _ in range(n_draws if rows else 0)
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return float(low), float(high)


def peers() -> dict[str, Detector]:
    """Return the detectors of other packages that are installed, each on one lead in mV."""
    found: dict[str, Detector] = {}

    def on_first_lead(detect: Callable[[np.ndarray, float], Any]) -> Detector:
        def run(recording: Recording, leads: Sequence[int]) -> np.ndarray:
            lead = leads[0]
            millivolts = (recording.signal[lead] - float(recording.baseline[lead])) / recording.adc_gain[lead]
            return np.asarray(detect(millivolts, recording.fs))

        return run

    from wfdb.processing import gqrs_detect, xqrs_detect

    found["wfdb gqrs"] = on_first_lead(lambda x, fs: gqrs_detect(x, fs=fs))
    found["wfdb xqrs"] = on_first_lead(lambda x, fs: xqrs_detect(x, fs=fs, verbose=False))
    try:
        import sleepecg

        found["sleepecg"] = on_first_lead(sleepecg.detect_heartbeats)
    except ImportError:
        pass
    try:
        import neurokit2

        found["neurokit2"] = on_first_lead(
            lambda x, fs: neurokit2.ecg_peaks(neurokit2.ecg_clean(x, sampling_rate=int(fs)), sampling_rate=int(fs))[1][
                "ECG_R_Peaks"
            ]
        )
    except ImportError:
        pass
    try:
        from biosppy.signals.ecg import hamilton_segmenter

        found["biosppy hamilton"] = on_first_lead(lambda x, fs: hamilton_segmenter(x, fs)["rpeaks"])
    except ImportError:
        pass
    return found


def measure(data: Path, detector: Detector, leads: Sequence[int]) -> dict[str, Any]:
    """Return all figures of one detector."""
    recordings = {name: read_recording(data / "mitdb-ds1" / name, data / "mitdb-ds1" / name) for name in record_names(data)}
    first = next(iter(recordings.values()))
    detector(first, leads)  # compiles; not timed
    rows, late = [], []
    for name, recording in recordings.items():
        detected, processor_s = _run(recording, leads, detector)
        rows.append(count(recording, name, detected, processor_s, len(leads)))
        late.append(count(recording, name, detected, processor_s, len(leads), FIRST_MINUTES_S))
    return {
        "rows": rows,
        "whole": total(rows),
        "without first 5 min": total(late),
        "noise stress 118e_6": evaluate_noise_stress(data, leads=leads, detector=detector),
        "speed": total(rows).seconds / max(1e-9, total(rows).processor_s),
    }


def wander_cost(data: Path, leads: Sequence[int]) -> tuple[Row, Row]:
    """Return totals on DS1 without and with baseline wander added at 0 dB."""
    import wfdb

    wander = wfdb.rdrecord(str(data / "nstdb" / "bw"), physical=False).d_signal.T
    clean, stressed = [], []
    for name in record_names(data):
        recording = read_recording(data / "mitdb-ds1" / name, data / "mitdb-ds1" / name)
        clean.append(evaluate(recording, name, leads, ecgbatch_detector))
        stressed.append(evaluate(with_wander(recording, wander), name, leads, ecgbatch_detector))
    return total(clean), total(stressed)


def with_fewer_trees(n: int) -> Detector:
    """Return the detector with the first ``n`` of its trees; 0: its rules alone."""
    from ecgbatch.beats import candidates, detection
    from ecgbatch.beats.record import DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S
    from ecgbatch.beats.resampling import resampler
    from ecgbatch.beats.sequence import RULES

    rules = RULES if n else RULES._replace(rule_share=1.0, odds_share=0.0)
    trees = candidates.scorer(candidates.fitted_trees()._replace(root=candidates.fitted_trees().root[:n]))

    def run(recording: Recording, leads: Sequence[int]) -> np.ndarray:
        design = resampler(recording.fs, DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S)
        use = np.isin(np.arange(len(recording.signal)), leads)
        offset, step = recording.baseline.astype(np.float64), 1.0 / recording.adc_gain
        own = detection.Leads(recording.signal[None], use[None], offset[None], step[None], design, np.array([leads[0]]))
        found = detection.find_beats(own, 0, recording.signal.shape[1], rules=rules, trees=trees)
        return np.unique(np.rint(found.place * (design.down / design.up)).astype(np.int64))

    return run


def trade_off(data: Path, rounds: int = 5) -> dict[str, tuple[Row, float]]:
    """Return each detector's totals on DS1, one lead, and its speed: by turns on each record, slow ones once, else the median."""
    own = {f"{n} trees" if n else "rules alone": with_fewer_trees(n) for n in (0, 10, 30, 60)}
    detectors = {**own, "ecgbatch": ecgbatch_detector, **peers()}
    rows: dict[str, list[Row]] = {name: [] for name in detectors}
    for name in record_names(data):
        recording = read_recording(data / "mitdb-ds1" / name, data / "mitdb-ds1" / name)
        spent: dict[str, list[float]] = {label: [] for label in detectors}
        found = {}
        if not next(iter(rows.values())):
            for label in (*own, "ecgbatch"):
                detectors[label](recording, [0])  # compiles; not timed
        for turn in range(rounds):
            for label, detector in detectors.items():
                if turn == 0 or spent[label][0] < 0.5:
                    found[label], processor_s = _run(recording, [0], detector)
                    spent[label].append(processor_s)
        for label, own_rows in rows.items():
            own_rows.append(count(recording, name, found[label], float(np.median(spent[label]))))
    return {label: (total(own_rows), total(own_rows).seconds / total(own_rows).processor_s) for label, own_rows in rows.items()}


def draw_curve(points: dict[str, tuple[Row, float]], path: Path) -> None:
    """Print the points, and draw errors against speed."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    for label, (row, speed) in points.items():
        errors = 100.0 * (row.n_missed + row.n_false) / (row.n_true + row.n_missed)
        print_row(f"{label}, {speed:,.0f} s/s", row)
        own = label in ("ecgbatch", "rules alone") or label.endswith("trees")
        axes.loglog(speed, errors, "o" if own else "s", color="C0" if own else "C7")
        if not label.endswith("trees"):
            axes.annotate(label, (speed, errors), (6, 5), textcoords="offset points", fontsize=9)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("")
    axes.set_xlim(right=1.5e6)
    axes.set_xlabel("seconds of one lead per processor second")
    axes.set_ylabel("missed and false beats, % of beats")
    axes.set_title("MIT-BIH DS1, one lead, EC57: lower right is better (between: 10, 30, 60 trees)")
    axes.grid(which="both", alpha=0.25)
    figure.savefig(path, dpi=110)


def print_row(label: str, row: Row) -> None:
    """Print one line of the table."""
    print(
        f"{label:32} Se {row.sensitivity:7.3f}  +P {row.positive_predictivity:7.3f}  F1 {row.f1:7.3f}  "
        f"missed {row.n_missed:5d}  false {row.n_false:5d}  error {row.error_ms:5.1f} ms  bias {row.bias_ms:+5.1f} ms"
    )


def main() -> None:
    """Run the evaluation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds mitdb-ds1/ and nstdb/")
    parser.add_argument("--leads", type=int, nargs="+", help="channels; without it, channel 0 and then both")
    parser.add_argument("--records", action="store_true", help="also print every record")
    parser.add_argument("--peers", action="store_true", help="also run other packages' detectors (slow)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--curve", type=Path, help="draw accuracy against speed into this PNG file, and nothing else")
    options = parser.parse_args()
    if options.curve:
        draw_curve(trade_off(options.data), options.curve)
        return
    runs: dict[str, dict[str, Any]] = {}
    for leads in [options.leads] if options.leads else [[0], [0, 1]]:
        label = f"ecgbatch, {len(leads)} lead{'s' * (len(leads) > 1)}"
        runs[label] = measure(options.data, ecgbatch_detector, leads)
        runs[label]["wander at 0 dB"] = wander_cost(options.data, leads)[1]
    for name, detector in peers().items() if options.peers else ():
        runs[f"{name}, 1 lead"] = measure(options.data, detector, [0])
    if options.json:
        print(json.dumps(runs, default=asdict, indent=1))
        return
    for label, run in runs.items():
        print(f"\n{label}: {run['speed']:,.0f} s of one lead per processor second")
        for key, value in run.items():
            if isinstance(value, Row):
                print_row(key, value)
        for figure in ("sensitivity", "positive_predictivity"):
            low, high = interval(run["rows"], figure)
            worst = min(run["rows"], key=lambda row: getattr(row, figure))
            print(f"  {figure}: 95 % over records {low:.2f}-{high:.2f}; worst {worst.name} {getattr(worst, figure):.2f}")
        for row in run["rows"] if options.records else ():
            print_row(f"  {row.name}", row)


if __name__ == "__main__":
    main()
