"""Fits the trees of P, QRS and T boundaries, and says by folds over records how far measurements are from cardiologists'.

    python -m benchmarks.accuracy.boundaries ../shared/data [--write] [--only-write]

LUDB's cardiologists set P, QRS and T on each of twelve leads. From theirs follow, a record: QRS from the second earliest onset to
the second latest offset over leads (beats with both on at least 8), QT from that onset to the median over leads of T end, PR from
the median of P onset to that QRS onset, P from the median of P onset to that of P end (at least 6 leads); the median over beats.
Trees are fitted on the median of all beats, of halves and of single beats, as they are and as a 40 Hz filter leaves them, on all
leads and on some. ``--write`` fits on everything and writes ``ecgbatch/weights/measurements/boundaries.npz``.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.signal import butter, sosfiltfilt

from ecgbatch.beats.lookup import current_beats, extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.formats.wfdb_annotation import decode
from ecgbatch.measurements.boundaries import TREES_FILE
from ecgbatch.measurements.curves import BOUNDARIES, qrs_figures, wave_figures
from ecgbatch.measurements.quantities import QUANTITIES
from ecgbatch.measurements.record import Excerpt, measure_record
from ecgbatch.measurements.selection import RATE_HZ, beats_of_one_kind, median_beat
from ecgbatch.signals.lookup import signals_path
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LEADS
from ecgbatch.training.trees import flattened
from storage import folder_at, open_store

N_FOLDS = 10
LEAST_QRS_LEADS, LEAST_WAVE_LEADS = 8, 6
SAME_BEAT = 50  # samples between leads' R peaks of one beat, and ours
INTERVALS = {
    "qrs": ("qrs_onset", "qrs_offset"),
    "qt": ("qrs_onset", "t_end"),
    "pr": ("p_onset", "qrs_onset"),
    "p": ("p_onset", "p_end"),
}
NAMED_SHARE = 0.8
"""Of what is learned from, how much knows which lead is which: the rest is as a lead of no known name."""
_OF_LEADS = {"max_iter": 120, "learning_rate": 0.1, "max_leaf_nodes": 16, "min_samples_leaf": 200, "max_features": 0.2}
_OF_ALL = {"max_iter": 150, "learning_rate": 0.08, "max_leaf_nodes": 8, "min_samples_leaf": 40, "max_features": 0.3}
FITTED: Mapping[str, Mapping[str, Any]] = {name: _OF_LEADS if name.startswith("qrs") else _OF_ALL for name in BOUNDARIES}
"""Of scikit-learn's boosting."""
ALLOWED = {"qrs": (4, 10), "qt": (8, 18), "pr": (5, 11), "p": (8, 15)}


@dataclass
class Example:
    """A median beat of some of a record's beats and leads, and what cardiologists said of those beats (NaN: nothing).

    ``own`` ({boundary: (lead,)}) of each lead's QRS; ``common`` ({boundary: sample}) of all leads together; samples from R.
    """

    beat: np.ndarray
    leads: np.ndarray
    rr: float
    own: Mapping[str, np.ndarray]
    common: Mapping[str, float]


@dataclass
class Reference:
    """What cardiologists said of one beat, by lead: ``qrs`` (lead, 2), ``p`` and ``t`` (lead, 2), samples, NaN where nothing."""

    r: float
    qrs: np.ndarray
    p: np.ndarray
    t: np.ndarray

    def boundaries(self) -> dict[str, float]:
        """Return the boundaries of all leads together by the definitions above; NaN where too few leads have them."""
        found = dict.fromkeys(BOUNDARIES, np.nan)
        whole = np.isfinite(self.qrs).all(axis=1)
        if whole.sum() >= LEAST_QRS_LEADS:
            found["qrs_onset"], found["qrs_offset"] = np.sort(self.qrs[whole, 0])[1], np.sort(self.qrs[whole, 1])[-2]
        for wave, names in (("p", ("p_onset", "p_end")), ("t", ("", "t_end"))):
            marks = getattr(self, wave)
            for name, column in zip(names, marks.T, strict=True):
                if name and np.isfinite(column).sum() >= LEAST_WAVE_LEADS:
                    found[name] = float(np.nanmedian(column))
        return found


def read_reference(folder: Path, record: str, leads: Sequence[str]) -> list[Reference]:
    """Read the annotation files of all leads and put together what they say of each beat."""
    marks = [_waves(folder / f"{record}.{lead.lower()}") for lead in leads]
    beats: list[list[tuple[float, int, tuple[float, float]]]] = []
    for peak, lead, span in sorted((peak, lead, span) for lead, found in enumerate(marks) for peak, span in found["N"]):
        if beats and peak - beats[-1][0][0] < 2 * SAME_BEAT:
            beats[-1].append((peak, lead, span))
        else:
            beats.append([(peak, lead, span)])
    middle = [float(np.median([peak for peak, _, _ in beat])) for beat in beats]
    found = []
    for place, (r, beat) in enumerate(zip(middle, beats, strict=True)):
        before, after = middle[place - 1] if place else -np.inf, middle[place + 1] if place + 1 < len(middle) else np.inf
        own = {name: np.full((len(leads), 2), np.nan) for name in ("qrs", "p", "t")}
        for _, lead, span in reversed(beat):
            own["qrs"][lead] = span
        for lead, waves in enumerate(marks):
            p = [span for peak, span in waves["p"] if max(before, r - 200) < peak < r]
            t = [span for peak, span in waves["t"] if r < peak < min(after, r + 350)]
            if p:
                own["p"][lead] = p[-1]
            if t:
                own["t"][lead] = t[0]
        found.append(Reference(r, **own))
    return found


def _waves(path: Path) -> dict[str, list[tuple[float, tuple[float, float]]]]:
    """Return peak and span of each wave of one lead's file; a boundary that is not set is NaN."""
    annotations = decode(path.read_bytes())
    found: dict[str, list[tuple[float, tuple[float, float]]]] = {"p": [], "N": [], "t": []}
    start, peak = np.nan, None
    for sample, symbol in zip(annotations.sample.tolist(), annotations.symbol, strict=True):
        if symbol == "(":
            start, peak = sample, None
        elif symbol in found:
            peak = (symbol, sample)
        elif symbol == ")" and peak is not None:
            found[peak[0]].append((peak[1], (start, sample)))
            start, peak = np.nan, None
    return found


@dataclass
class Recording:
    """A record of LUDB at ``RATE_HZ`` with our beats and the cardiologists' reference of each (None: none)."""

    name: str
    signal: np.ndarray
    leads: np.ndarray
    r_sample: np.ndarray
    beat_flags: np.ndarray
    lead_flags: np.ndarray
    reference: list[Reference]

    def near(self, r: float) -> Reference | None:
        """Return the reference of the beat at R."""
        nearest = min(self.reference, key=lambda one: abs(one.r - r), default=None)
        return nearest if nearest is not None and abs(nearest.r - r) < SAME_BEAT else None


def read_recordings(folder: Path) -> list[Recording]:
    """Convert LUDB as anybody would, find its beats, and read its annotations."""
    with tempfile.TemporaryDirectory() as work:
        convert_archive(str(folder), work)
        extract_beats(work, BeatSettings())
        records = current_beats(work, BeatSettings().document(), ["record_name"])
        found = []
        for row in range(records.sizes["record"]):
            one = records.isel(record=row)
            signals = open_store(signals_path(work, str(one["signals_store"].values))).isel(record=int(one["signals_row"]))
            beats = open_store(folder_at(work).path(f"beats/{one['beats_store'].values}.zarr"))
            first, n = (int(beats[name].values[int(one["beats_row"])]) for name in ("first_beat", "n_beats"))
            names = [str(lead) for lead in signals["lead"].values]
            gain = signals["adc_gain"].values[:, None]
            rows = slice(first, first + n)
            found.append(
                Recording(
                    name=str(one["record_name"].values),
                    signal=(signals["signal"].values[:, : int(signals["n_samples"])] / gain).astype(np.float32),
                    leads=np.array([LEADS.index(lead) for lead in names]),
                    r_sample=beats["r_sample"].values[rows].astype(int),
                    beat_flags=beats["beat_flags"].values[rows],
                    lead_flags=signals["lead_flags"].values,
                    reference=read_reference(folder, str(one["record_name"].values), names),
                )
            )
    return found


def examples(recording: Recording, seed: int = 0) -> Iterator[Example]:
    """Yield what is learned from one record; the first is all beats on all leads, as measured."""
    random = np.random.default_rng(seed)
    low = _as_filtered(recording.signal)
    r = beats_of_one_kind(recording.signal, recording.r_sample, recording.beat_flags)
    rr = float(np.median(np.diff(recording.r_sample))) if recording.r_sample.size > 1 else RATE_HZ
    everybody, all_leads = np.arange(r.size), np.arange(len(recording.leads))
    half = max(1, r.size // 2)
    yield _example(recording, recording.signal, r, everybody, all_leads, rr)
    for number in range(5):
        chosen = np.sort(random.choice(everybody, half, replace=False))
        yield _example(recording, low if number % 2 else recording.signal, r, chosen, all_leads, rr)
    for number in range(3):
        chosen = random.choice(everybody, 1)
        yield _example(recording, low if number % 2 else recording.signal, r, chosen, all_leads, rr)
    for n_leads in (1, 1, 2, 3, 8):
        some = np.sort(random.choice(all_leads, n_leads, replace=False))
        yield _example(recording, recording.signal, r, everybody, some, rr)


def _as_filtered(signal: np.ndarray) -> np.ndarray:
    return np.asarray(sosfiltfilt(butter(2, (0.5, 40.0), "band", fs=RATE_HZ, output="sos"), signal, axis=1), np.float32)


def _example(recording: Recording, signal: np.ndarray, r: np.ndarray, beats: np.ndarray, leads: np.ndarray, rr: float) -> Example:
    known = [(reference, at) for at in r[beats] if (reference := recording.near(at)) is not None]
    own = {name: np.full(len(leads), np.nan) for name in ("qrs_onset", "qrs_offset")}
    common = dict.fromkeys(BOUNDARIES, np.nan)
    if known:
        of_leads = np.array([reference.qrs[leads] - at for reference, at in known])
        own = {name: _median(of_leads[:, :, side]) for side, name in enumerate(own)}
        together = [{name: value - at for name, value in reference.boundaries().items()} for reference, at in known]
        common = {name: float(_median(np.array([[one[name]] for one in together]))[0]) for name in BOUNDARIES}
    return Example(median_beat(signal[leads], r[beats]), recording.leads[leads], rr, own, common)


def _median(values: np.ndarray) -> np.ndarray:
    """Return the median over rows; NaN where no row has a value."""
    known = np.isfinite(values).any(axis=0)
    middle = np.full(values.shape[1], np.nan)
    middle[known] = np.nanmedian(values[:, known], axis=0)
    return middle


Rows = dict[str, tuple[list[np.ndarray], list[np.ndarray]]]


def learned_from(learned: Sequence[Example], random: np.random.Generator) -> Rows:
    """Return figures and answers (does the boundary lie before this moment) of each boundary."""
    rows: Rows = {name: ([], []) for name in BOUNDARIES}
    for example in learned:
        numbers = example.leads if random.random() < NAMED_SHARE else np.full_like(example.leads, -1)
        for name, figures in qrs_figures(example.beat[:, None], numbers[:, None]).items():
            known = np.isfinite(example.own[name])
            rows[name][0].append(figures[known].reshape(-1, figures.shape[3]))
            rows[name][1].append((BOUNDARIES[name] >= example.own[name][known, None]).ravel())
        on, off = (example.common[name] for name in ("qrs_onset", "qrs_offset"))
        if not np.isfinite(on + off):
            continue
        moved = random.normal(0, 3, 2)  # as unsure as QRS will be
        ends = (np.array([number]) for number in (example.rr, on + moved[0], off + moved[1]))
        for name, figures in wave_figures(example.beat[:, None], *ends).items():
            if np.isfinite(example.common[name]):
                rows[name][0].append(figures[0])
                rows[name][1].append(BOUNDARIES[name] >= example.common[name])
    return rows


def fit(rows: Sequence[Rows]) -> dict[str, dict[str, np.ndarray]]:
    """Fit the trees of each boundary."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from threadpoolctl import threadpool_limits

    trees = {}
    for name in BOUNDARIES:
        boosting = HistGradientBoostingClassifier(early_stopping=False, l2_regularization=5, random_state=0, **FITTED[name])
        figures = np.concatenate([part for one in rows for part in one[name][0]])
        with threadpool_limits(1):
            boosting.fit(figures, np.concatenate([part for one in rows for part in one[name][1]]))
        trees[name] = flattened(boosting)
    return trees


def write_trees(trees: Mapping[str, Mapping[str, np.ndarray]], path: Path = TREES_FILE) -> None:
    """Write what ``measurements.boundaries.read_trees`` reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **{f"{name}.{part}": values for name, found in trees.items() for part, values in found.items()})


def judge(recordings: Sequence[Recording], trees_of: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Return (record, 2) of each interval, ms: as measured by these trees, and the cardiologists'; NaN where there is none."""
    found = {name: np.full((len(recordings), 2), np.nan) for name in INTERVALS}
    for row, (recording, trees) in enumerate(zip(recordings, trees_of, strict=True)):
        leads, beats_here = [LEADS[lead] for lead in recording.leads], (recording.r_sample, recording.beat_flags)
        measured = measure_record(Excerpt(recording.signal, leads, recording.lead_flags, RATE_HZ, *beats_here), trees=trees)
        value = dict(zip(QUANTITIES, measured.value.tolist(), strict=True))
        beats = [reference.boundaries() for reference in recording.reference]
        for name, (first, last) in INTERVALS.items():
            lengths = np.array([[beat[last] - beat[first]] for beat in beats])
            found[name][row] = value[f"{name}_ms"], _median(lengths)[0] / RATE_HZ * 1000
    return found


def print_figures(found: Mapping[str, np.ndarray]) -> None:
    """Print bias and SD of each interval beside what is allowed, and in how many annotated records it is measured."""
    for name, (measured, reference) in ((name, values.T) for name, values in found.items()):
        annotated = np.isfinite(reference)
        known = annotated & np.isfinite(measured)
        error = (measured - reference)[known]
        random = np.random.default_rng(0)
        drawn = np.array([random.choice(error, error.size) for _ in range(2000)])
        low, high = np.quantile(drawn.mean(axis=1), (0.025, 0.975))
        sd_low, sd_high = np.quantile(drawn.std(axis=1), (0.025, 0.975))
        bias, sd = ALLOWED[name]
        print(
            f"{name:4} {known.sum():3} of {annotated.sum():3} records   bias {error.mean():+5.1f} [{low:+.1f}, {high:+.1f}] ms "
            f"(at most {bias})   SD {error.std():4.1f} [{sd_low:.1f}, {sd_high:.1f}] (at most {sd})"
        )


def main() -> None:
    """Cross-fit, print, and fit on everything where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds ludb/")
    parser.add_argument("--write", action="store_true", help="fit on everything too and write the trees that ship")
    parser.add_argument("--only-write", action="store_true", help="write, without the folds first")
    options = parser.parse_args()
    recordings = read_recordings(options.data / "ludb")
    random = np.random.default_rng(0)
    rows = [learned_from(list(examples(recording, seed)), random) for seed, recording in enumerate(recordings)]
    if not options.only_write:
        fold = np.random.default_rng(1).permutation(len(rows)) % N_FOLDS
        fitted = []
        for number in range(N_FOLDS):
            fitted.append(fit([one for one, other in zip(rows, fold, strict=True) if other != number]))
            print(f"fold {number + 1} of {N_FOLDS} fitted", flush=True)
        print_figures(judge(recordings, [fitted[number] for number in fold]))
    if options.write or options.only_write:
        write_trees(fit(rows))
        print(f"{TREES_FILE}: {TREES_FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
