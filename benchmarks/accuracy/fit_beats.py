"""Fits the trees of beat detection, and says by folds over records what they are worth on records not seen.

    python -m benchmarks.accuracy.fit_beats ../shared/data [--write] [--only-write]

For each of six folds of MIT-BIH DS1's records, trees are fitted on the other records, the one fitted rule (``odds_shift``) is
chosen by five folds of those again, and both are counted on the fold. Every record is learned from as it is; as if recorded at
0.85 and 1.18 times its rate; with its two leads turned into two others; with stretches where the heart stands still; and, but for
118, with electrode motion added in every other two minutes at -6, 0 or 6 dB. That motion is what ``nstdb/118e_6`` holds beyond
118, cut into two halves: the noise stress is counted on each half by trees that saw neither 118 nor that half. ``--write`` then
fits trees on everything, writes ``ecgbatch/weights/beats/trees.json``, and says which shift folds of all records choose.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.beat_detection import (
    WINDOW_S,
    Recording,
    count,
    interval,
    print_row,
    read_recording,
    record_names,
    total,
)
from ecgbatch.beats import candidates, detection, sequence
from ecgbatch.beats.record import DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S, REFERENCE_LEADS
from ecgbatch.beats.resampling import RATE_HZ, resampler
from ecgbatch.beats.sequence import RULES

N_FOLDS, N_INNER_FOLDS = 6, 5
N_TREES, N_LEAVES, LEARNING_RATE, LEAST_IN_A_LEAF, L2 = 120, 32, 0.12, 200, 5.0
RISING = (
    "amplitude", "likeness to the usual beat", "likeness to the usual other beat", "chosen by the rules",
    "agreement of the leads",
)  # fmt: skip
FALLING = ("activity between beats around it",)
"""Figures that can speak one way only: without this a tree learns that some tall, alike candidate of one record is none."""
SHIFTS = (0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6)
"""Of which ``odds_shift`` is chosen."""
LEADS: dict[tuple[int, ...], float] = {(0,): 1.0, (0, 1): 1.0, (1,): 0.4}
"""Leads that each record is learned with, and what each candidate then counts; channel 1 alone is often poor."""
CLEAN, TURNED, SILENT, STRESS = "clean", "turned", "silent", "stress"
HALVES = ("first half of the motion", "second half of the motion")
TAKEN = {CLEAN: (1, 1.0), "slower": (1, 1.0), "faster": (1, 1.0), TURNED: (1, 0.5), SILENT: (1, 1.0)}
TAKEN |= dict.fromkeys(HALVES, (3, 0.2))
"""Every how manyth candidate of a kind of recording is learned from, and what it counts."""
RATES = {"slower": 0.85, "faster": 1.18}
TURNS_DEG = (35, -25)
MOTION_S, FIRST_MOTION_S = 120, 300


@dataclass
class Heard:
    """A recording on some leads, as rules and trees see it; ``truth`` and ``known`` (candidate) bool: ``labelled``."""

    name: str
    leads: tuple[int, ...]
    kind: str
    recording: Recording
    choice: sequence.Choice
    figures: np.ndarray
    truth: np.ndarray
    known: np.ndarray


def main() -> None:
    """Cross-fit, print, and fit on everything where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds mitdb-ds1/ and nstdb/")
    parser.add_argument("--write", action="store_true", help="fit on everything too and write the trees that ship")
    parser.add_argument("--only-write", action="store_true", help="write, without the folds first")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    learned = list(hear_all(options.data))
    if not options.only_write:
        cross_fit(learned, hear_stress(options.data))
    if options.write or options.only_write:
        trees = fit(learned)
        candidates.TREES_FILE.parent.mkdir(exist_ok=True)
        candidates.TREES_FILE.write_text(document(trees))
        print(f"wrote {candidates.TREES_FILE.name}: {len(trees.root)} trees, {len(trees.figure)} nodes")
        print(f"odds_shift by folds of all records: {best_shift(learned)} (sequence.RULES has {RULES.odds_shift})")


def hear_all(data: Path) -> Iterator[Heard]:
    """Yield every record on every choice of leads, in all the ways it is learned from."""
    recordings = {name: read_recording(data / "mitdb-ds1" / name, data / "mitdb-ds1" / name) for name in record_names(data)}
    halves = motion(recordings["118"], read_stress(data))
    random = np.random.default_rng(1)
    for name, recording in recordings.items():
        kinds = [(CLEAN, recording), (SILENT, with_silences(recording, random))]
        kinds += [(kind, replace(recording, fs=recording.fs * rate)) for kind, rate in RATES.items()]
        kinds += [(TURNED, turned(recording, degrees)) for degrees in TURNS_DEG]
        for kind, noise in zip(HALVES, halves, strict=True) if name != "118" else ():
            kinds.append((kind, with_motion(recording, noise, recordings["118"], random)))
        for kind, own in kinds:
            for leads in LEADS:
                yield hear(name, own, leads, kind)


def read_stress(data: Path) -> Recording:
    """Return the noise stress record."""
    return read_recording(data / "nstdb" / "118e_6", data / "mitdb-ds1" / "118")


def hear_stress(data: Path) -> list[Heard]:
    """Return the noise stress record on every choice of leads."""
    return [hear("118e_6", read_stress(data), leads, STRESS) for leads in LEADS]


def turned(recording: Recording, degrees: float) -> Recording:
    """Return the recording with its two leads turned in their plane, at 200 units a millivolt: two leads from elsewhere."""
    mv = (recording.signal - recording.baseline[:, None]) / recording.adc_gain[:, None]
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    signal = np.rint(200 * np.array([[cosine, sine], [-sine, cosine]]) @ mv)
    same = {"baseline": np.zeros_like(recording.baseline), "adc_gain": np.full_like(recording.adc_gain, 200)}
    return replace(recording, signal=np.clip(signal, -32767, 32767).astype(np.int16), **same)


def motion(clean: Recording, stressed: Recording) -> tuple[np.ndarray, np.ndarray]:
    """Return the two halves of what the noise stress record holds beyond the clean one, (lead, sample) in ADC units."""
    noise = stressed.signal.astype(np.float64) - clean.signal
    fs, period = int(clean.fs), 2 * MOTION_S
    starts = range(FIRST_MOTION_S, noise.shape[1] // fs - MOTION_S + 1, period)
    parts = [noise[:, start * fs : (start + MOTION_S) * fs] for start in starts]
    return np.concatenate(parts[: len(parts) // 2], axis=1), np.concatenate(parts[len(parts) // 2 :], axis=1)


def with_motion(recording: Recording, noise: np.ndarray, source: Recording, random: np.random.Generator) -> Recording:
    """Return the recording with motion in every other two minutes, as loud against its QRS as asked against the source's."""
    signal, n = recording.signal.astype(np.float64), int(MOTION_S * recording.fs)
    swap = int(random.integers(0, 2))
    own, others = usual_qrs(recording), usual_qrs(source)
    for start in range(0, signal.shape[1] - n, 2 * n):
        snr_db, at = random.choice([-6, -6, 0, 6]), int(random.integers(0, noise.shape[1] - n))
        for lead in range(len(signal)):
            other = (lead + swap) % 2
            gain = own[lead] / others[other] * 10 ** ((-6 - snr_db) / 20) * recording.adc_gain[lead] / source.adc_gain[other]
            signal[lead, start : start + n] += gain * noise[other, at : at + n]
    return replace(recording, signal=np.clip(np.rint(signal), -32767, 32767).astype(np.int16))


def with_silences(recording: Recording, random: np.random.Generator) -> Recording:
    """Return the recording with 5-40 s in every 100 without beats: white or drifting noise, 1-20 % of a usual QRS in size."""
    signal, reference, fs = recording.signal.astype(np.float64), recording.reference, recording.fs
    size, edges, margin = usual_qrs(recording) * recording.adc_gain, list(recording.excluded), round(0.3 * fs)
    for begin_s in range(40, int(signal.shape[1] / fs) - 100, 100):
        start = round((begin_s + random.uniform(0, 55)) * fs)
        stop = start + round(random.uniform(5, 40) * fs)
        level, drifts = np.exp(random.uniform(np.log(0.01), np.log(0.2))), random.random() < 0.5
        for lead in range(len(signal)):
            noise = random.standard_normal(stop - start)
            if drifts:
                noise += 0.05 * np.cumsum(random.standard_normal(stop - start))
            signal[lead, start:stop] = signal[lead, start] + level * size[lead] * noise
        reference = reference[(reference < start) | (reference >= stop)]
        edges += [(start - margin, start + margin), (stop - margin, stop + margin)]
    silent = np.clip(np.rint(signal), -32767, 32767).astype(np.int16)
    return replace(recording, signal=silent, reference=reference, excluded=edges)


def usual_qrs(recording: Recording) -> np.ndarray:
    """Return each lead's median typical QRS, mV in the band."""
    every = (leads_of(recording, (lead,)) for lead in range(len(recording.signal)))
    return np.array([np.median(detection.bands(one, 0, recording.signal.shape[1]).typical) for one in every])


def leads_of(recording: Recording, leads: Sequence[int]) -> detection.Leads:
    """Return a recording as detection takes it, some of its leads in use."""
    use = np.isin(np.arange(len(recording.signal)), leads)
    named = [i for i in leads if recording.leads[i] in REFERENCE_LEADS]
    design = resampler(recording.fs, DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S)
    placed = np.array([named[0] if named else leads[0]])
    signal, offset, step = recording.signal[None], recording.baseline.astype(np.float64)[None], 1.0 / recording.adc_gain[None]
    return detection.Leads(signal, use[None], offset, step, design, placed)


def hear(name: str, recording: Recording, leads: tuple[int, ...], kind: str) -> Heard:
    """Find a recording's candidates and say which are beats."""
    own = leads_of(recording, leads)
    heard = detection.bands(own, 0, recording.signal.shape[1])
    choices, figures = detection.candidates(heard, own.begin, *detection.fusion(heard, own.begin))
    choice = sequence.choice_of(choices, 0, 0, 0, 0)
    truth, known = labelled(recording, choice.position, choice.amplitude)
    recording = recording if kind in (CLEAN, STRESS) else replace(recording, signal=recording.signal[:, :0])
    choice = choice._replace(total=choice.total.copy())  # the next record's is written over it
    return Heard(name, leads, kind, recording, choice, figures, truth, known)


def detect(heard: Heard, shift: float, trees: candidates.Scorer) -> np.ndarray:
    """Return R samples as the detector would with this ``odds_shift`` and these trees."""
    recording, own = heard.recording, leads_of(heard.recording, heard.leads)
    rules = RULES._replace(odds_shift=shift)
    found = detection.find_beats(own, 0, recording.signal.shape[1], rules=rules, trees=trees)
    return np.unique(np.rint(found.place * (own.design.down / own.design.up)).astype(np.int64))


def labelled(recording: Recording, position: np.ndarray, amplitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which candidates are beats (for each beat the tallest and nearest), and which may be learned from."""
    scale = RATE_HZ / recording.fs
    is_beat, known = np.zeros(len(position), bool), np.ones(len(position), bool)
    for low, high in recording.excluded:
        known &= (position < low * scale) | (position > high * scale)
    for r in recording.reference * scale:
        first, last = np.searchsorted(position, [r - WINDOW_S * RATE_HZ, r + WINDOW_S * RATE_HZ])
        if first < last:
            likely = amplitude[first:last] * np.exp(-0.5 * ((position[first:last] - r) / 6.0) ** 2)
            is_beat[first + np.argmax(likely)] = True
    return is_beat, known


def fit(heard: Sequence[Heard]) -> candidates.Trees:
    """Fit trees to the candidates of some records; seeded."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    figures, truth, counts = [], [], []
    for one in heard:
        every, share = TAKEN[one.kind]
        rows = np.flatnonzero(one.known)[::every]
        figures.append(one.figures[rows])
        truth.append(one.truth[rows])
        counts.append(np.full(len(rows), LEADS[one.leads] * share))
    model = HistGradientBoostingClassifier(
        max_iter=N_TREES, learning_rate=LEARNING_RATE, max_leaf_nodes=N_LEAVES, min_samples_leaf=LEAST_IN_A_LEAF,
        l2_regularization=L2, early_stopping=False, max_bins=128, random_state=0,
        monotonic_cst=[(name in RISING) - (name in FALLING) for name in candidates.FIGURES],
    )  # fmt: skip
    model.fit(np.concatenate(figures), np.concatenate(truth), sample_weight=np.concatenate(counts))
    return flattened(model)


def best_shift(heard: Sequence[Heard]) -> float:
    """Return the ``odds_shift`` with the fewest errors, records as they are and with silences, by trees of other records."""
    errors = dict.fromkeys(SHIFTS, 0.0)
    for held in folds(heard, N_INNER_FOLDS):
        trees = candidates.scorer(fit([one for one in heard if one.name not in held]))
        for one in heard:
            if one.name in held and one.kind in (CLEAN, SILENT):
                odds = candidates.log_odds(one.figures, *trees)
                for shift in SHIFTS:
                    position, _ = sequence.settle(one.choice, odds, RULES._replace(odds_shift=shift))
                    r_sample = np.rint(position * (one.recording.fs / RATE_HZ)).astype(np.int64)
                    row = count(one.recording, one.name, r_sample, 0.0)
                    errors[shift] += LEADS[one.leads] * (row.n_missed + row.n_false)
    return min(SHIFTS, key=lambda shift: errors[shift])


def folds(heard: Sequence[Heard], n: int) -> list[set[str]]:
    """Return the names of the records of each of ``n`` folds; seeded."""
    order = np.random.default_rng(0).permutation(sorted({one.name for one in heard}))
    return [set(order[fold::n].tolist()) for fold in range(n)]


def flattened(model: Any) -> candidates.Trees:
    """Return scikit-learn's trees as arrays for the kernel; thresholds rounded down to float32, so that sides stay."""
    nodes = [predictor[0].nodes for predictor in model._predictors]
    root = np.concatenate([[0], np.cumsum([len(one) for one in nodes])])[:-1]
    leaf = np.concatenate([one["is_leaf"] for one in nodes]).astype(bool)
    value = np.concatenate([one["value"] for one in nodes]).astype(np.float32)
    edge = np.concatenate([one["num_threshold"] for one in nodes])
    low = edge.astype(np.float32)
    low = np.where(low > edge, np.nextafter(low, np.float32(-np.inf)), low)
    return candidates.Trees(
        np.where(leaf, -1, np.concatenate([one["feature_idx"] for one in nodes])).astype(np.int8),
        np.where(leaf, value, low).astype(np.float32),
        np.concatenate([one["left"] + at for one, at in zip(nodes, root, strict=True)]).astype(np.int32),
        np.concatenate([one["right"] + at for one, at in zip(nodes, root, strict=True)]).astype(np.int32),
        root.astype(np.int32),
        float(np.ravel(model._baseline_prediction)[0]),
    )


def document(trees: candidates.Trees) -> str:
    """Return the trees as text, a line for each column; float32 in as many digits as bring it back."""
    columns = {name: getattr(trees, name).tolist() for name in ("figure", "left", "right", "root")}
    value = [float(str(one)) for one in trees.value]
    lines = {"figures": list(candidates.FIGURES), "start": trees.start, **columns, "value": value}
    return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in lines.items()) + "\n}\n"


def cross_fit(learned: Sequence[Heard], stress: Sequence[Heard]) -> None:
    """Print what rules and trees reach on records that they were not fitted on."""
    rows: dict[tuple[int, ...], list[Any]] = {leads: [] for leads in LEADS}
    for held in folds(learned, N_FOLDS):
        others = [one for one in learned if one.name not in held]
        shift, trees = best_shift(others), candidates.scorer(fit(others))
        for one in learned:
            if one.name in held and one.kind == CLEAN:
                rows[one.leads].append(count(one.recording, one.name, detect(one, shift, trees), 0.0, len(one.leads)))
        print(f"{' '.join(sorted(held))}: shift {shift}", flush=True)
    for leads, own in rows.items():
        print_row(f"channels {leads}, unseen", total(own))
        for figure in ("sensitivity", "positive_predictivity"):
            low, high = interval(own, figure)
            worst = min(own, key=lambda row: getattr(row, figure))
            print(f"  {figure}: 95 % over records {low:.2f}-{high:.2f}; worst {worst.name} {getattr(worst, figure):.2f}")
    without = [one for one in learned if one.name != "118"]
    shift = best_shift(without)
    halves = [candidates.scorer(fit([one for one in without if one.kind != half])) for half in HALVES]
    for one in stress:
        print_row(f"118e_6, channels {one.leads}, unseen", total(list(stressed_halves(one, shift, halves))))


def stressed_halves(one: Heard, shift: float, halves: Sequence[candidates.Scorer]) -> Iterator[Any]:
    """Yield the counts of each half of the noise stress record, the first five minutes left out."""
    fs, n = one.recording.fs, one.recording.signal.shape[1]
    middle = round((FIRST_MOTION_S + 6 * MOTION_S) * fs)
    for trees, (start, stop) in zip(halves, ((round(FIRST_MOTION_S * fs), middle), (middle, n)), strict=True):
        reference, found = one.recording.reference, detect(one, shift, trees)
        part = replace(one.recording, reference=reference[(reference >= start) & (reference < stop)])
        yield count(part, one.name, found[(found >= start) & (found < stop)], 0.0, len(one.leads))


if __name__ == "__main__":
    main()
