"""Fits the trees of beat detection, and says by folds over records what they are worth on records not seen.

    python -m benchmarks.fit_beats ../shared/data [--write] [--keep-rules]

For each of six folds of MIT-BIH DS1's records, rules are searched for from a neutral guess and trees are fitted on the other
records, then both are counted on the fold. Every record is learned from as it is; with stretches where the heart stands still;
and, but for 118, with electrode motion added in every other two minutes at -6, 0 or 6 dB. That motion is what ``nstdb/118e_6``
holds beyond 118, cut into two halves: the noise stress is counted on each half by trees that saw neither 118 nor that half.
``--keep-rules`` keeps the shipped rules, which were chosen on all records. ``--write`` then fits trees on everything and writes
``ecgbatch/weights/beats/trees.json``.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.beat_detection import WINDOW_S, Recording, count, interval, print_row, read_recording, record_names, total
from ecgbatch import beat_evidence, detection, sequence
from ecgbatch.record_beats import DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S, REFERENCE_LEADS
from ecgbatch.resampling import RATE_HZ, resampler

N_FOLDS = 6
N_TREES, N_LEAVES, LEARNING_RATE, LEAST_IN_A_LEAF, L2 = 120, 16, 0.12, 80, 5.0
LEADS: dict[tuple[int, ...], float] = {(0,): 1.0, (0, 1): 1.0, (1,): 0.4}
"""Leads that each record is learned with, and what each candidate then counts; channel 1 alone is often poor."""
CLEAN, SILENT = -1, 2
TAKEN = {CLEAN: (1, 1.0), 0: (3, 0.2), 1: (3, 0.2), SILENT: (2, 1.0)}
"""Clean records, those with either half of the motion, those with silences: every how manyth candidate, and what it counts."""
MOTION_S, FIRST_MOTION_S = 120, 300
NEUTRAL = sequence.RULES._replace(
    threshold=0.25, cap=1.5, theta=0.5, early_s=0.36, early_cost=0.5, unequal=0.5, late=1.25, late_slope=0.5, late_cost=2.5,
    noise=0.6, noise_power=2.0, likeness=0.5, likeness_zero=0.5, theta_noise=1.0,
)  # fmt: skip
SEARCHED = tuple(name for name in NEUTRAL._fields if getattr(NEUTRAL, name) != getattr(sequence.RULES, name))


@dataclass
class Heard:
    """A recording on some leads after the front end: all that rules and trees see of it."""

    name: str
    leads: tuple[int, ...]
    half: int  # which half of the motion was added; or CLEAN, or SILENT
    recording: Recording
    bands: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def main() -> None:
    """Cross-fit, print, and fit on everything where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds mitdb-ds1/ and nstdb/")
    parser.add_argument("--write", action="store_true", help="fit on everything and write the trees that ship")
    parser.add_argument("--keep-rules", action="store_true", help="do not search rules in each fold (faster, and optimistic)")
    parser.add_argument("--draws", type=int, default=120, help="rules tried in each fold; 0 with --write: fit only")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    everything, stress = hear_all(options.data)
    if options.draws or not options.write:
        cross_fit(everything, stress, 0 if options.keep_rules else options.draws)
    if options.write:
        trees = fit(everything, sequence.RULES)
        beat_evidence.TREES_FILE.parent.mkdir(exist_ok=True)
        beat_evidence.TREES_FILE.write_text(document(trees))
        print(f"wrote {beat_evidence.TREES_FILE.name}: {len(trees.root)} trees, {len(trees.figure)} nodes")


def hear_all(data: Path) -> tuple[list[Heard], list[Heard]]:
    """Return every record on every choice of leads, clean and with motion; and the noise stress record."""
    recordings = {name: read_recording(data / "mitdb-ds1" / name, data / "mitdb-ds1" / name) for name in record_names(data)}
    stressed = read_recording(data / "nstdb" / "118e_6", data / "mitdb-ds1" / "118")
    halves = motion(recordings["118"], stressed)
    random = np.random.default_rng(1)
    everything = []
    for name, recording in recordings.items():
        everything += [hear(name, recording, leads) for leads in LEADS]
        silent = with_silences(recording, random)
        everything += [hear(name, silent, leads, SILENT) for leads in LEADS]
        for half, noise in enumerate(halves) if name != "118" else ():
            noisy = with_motion(recording, noise, recordings["118"], random)
            everything += [hear(name, noisy, leads, half) for leads in LEADS]
    return everything, [hear("118e_6", stressed, leads) for leads in LEADS]


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
    """Return the recording with 5-25 s in every 100 without beats: white or drifting noise, 0.3-15 % of a usual QRS in size."""
    signal, reference, fs = recording.signal.astype(np.float64), recording.reference, recording.fs
    size, edges, margin = usual_qrs(recording) * recording.adc_gain, list(recording.excluded), round(0.3 * fs)
    for begin_s in range(40, int(signal.shape[1] / fs) - 100, 100):
        start = round((begin_s + random.uniform(0, 60)) * fs)
        stop = start + round(random.uniform(5, 25) * fs)
        level, drifts = np.exp(random.uniform(np.log(0.003), np.log(0.15))), random.random() < 0.5
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
    return np.array([np.median(hear("", recording, (lead,)).bands[2]) for lead in range(len(recording.signal))])


def hear(name: str, recording: Recording, leads: Sequence[int], half: int = CLEAN) -> Heard:
    """Run the front end of detection."""
    use = np.isin(np.arange(len(recording.signal)), leads)
    design = resampler(recording.fs, DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S)
    rules = sequence.RULES
    bands = detection.listen(
        recording.signal, 0, recording.signal.shape[1], use, recording.baseline.astype(np.float64), 1.0 / recording.adc_gain,
        design.taps, design.up, design.down, design.reach, *detection.band_taps(), int(rules.block_s * RATE_HZ), rules.n_blocks,
    )  # fmt: skip
    return Heard(name, tuple(leads), half, recording, bands)


def candidates(heard: Heard, rules: sequence.Rules) -> tuple[sequence.Choice, np.ndarray]:
    """Return what the rules choose, and every candidate's figures."""
    even, envelope, typical, level = heard.bands
    block = int(rules.block_s * RATE_HZ)
    weight, fused = detection.fusion(envelope, typical, level, block, rules)
    return detection.candidates(fused, even, weight, typical, level, block, rules)


def detect(heard: Heard, rules: sequence.Rules, trees: beat_evidence.Trees) -> np.ndarray:
    """Return R samples as the detector would with these rules and trees."""
    recording = heard.recording
    use = np.isin(np.arange(len(recording.signal)), heard.leads)
    named = [i for i in heard.leads if recording.leads[i] in REFERENCE_LEADS]
    design = resampler(recording.fs, DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S)
    found = detection.find_beats(
        recording.signal, recording.signal.shape[1], use, recording.baseline.astype(np.float64), 1.0 / recording.adc_gain,
        design, reference=named[0] if named else heard.leads[0], rules=rules, trees=trees,
    )  # fmt: skip
    return np.unique(np.rint(found.place * (design.down / design.up)).astype(np.int64))


def labelled(heard: Heard, position: np.ndarray, amplitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which candidates are beats (for each beat the tallest and nearest), and which may be learned from."""
    scale = RATE_HZ / heard.recording.fs
    is_beat, known = np.zeros(len(position), bool), np.ones(len(position), bool)
    for low, high in heard.recording.excluded:
        known &= (position < low * scale) | (position > high * scale)
    for r in heard.recording.reference * scale:
        first, last = np.searchsorted(position, [r - WINDOW_S * RATE_HZ, r + WINDOW_S * RATE_HZ])
        if first < last:
            likely = amplitude[first:last] * np.exp(-0.5 * ((position[first:last] - r) / 6.0) ** 2)
            is_beat[first + np.argmax(likely)] = True
    return is_beat, known


def fit(heard: Sequence[Heard], rules: sequence.Rules) -> beat_evidence.Trees:
    """Fit trees to the candidates of some records; seeded."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    figures, truth, counts = [], [], []
    for one in heard:
        choice, own = candidates(one, rules)
        is_beat, known = labelled(one, choice.position, choice.amplitude)
        every, share = TAKEN[one.half]
        rows = np.flatnonzero(known)[::every]
        figures.append(own[rows])
        truth.append(is_beat[rows])
        counts.append(np.full(len(rows), LEADS[one.leads] * share))
    model = HistGradientBoostingClassifier(
        max_iter=N_TREES, learning_rate=LEARNING_RATE, max_leaf_nodes=N_LEAVES, min_samples_leaf=LEAST_IN_A_LEAF,
        l2_regularization=L2, early_stopping=False, max_bins=128, random_state=0,
    )  # fmt: skip
    model.fit(np.concatenate(figures), np.concatenate(truth), sample_weight=np.concatenate(counts))
    return flattened(model)


def flattened(model: Any) -> beat_evidence.Trees:
    """Return scikit-learn's trees as arrays for the kernel; thresholds rounded down to float32, so that sides stay."""
    nodes = [predictor[0].nodes for predictor in model._predictors]
    root = np.concatenate([[0], np.cumsum([len(one) for one in nodes])])[:-1]
    leaf = np.concatenate([one["is_leaf"] for one in nodes]).astype(bool)
    value = np.concatenate([one["value"] for one in nodes]).astype(np.float32)
    edge = np.concatenate([one["num_threshold"] for one in nodes])
    low = edge.astype(np.float32)
    low = np.where(low > edge, np.nextafter(low, np.float32(-np.inf)), low)
    return beat_evidence.Trees(
        np.where(leaf, -1, np.concatenate([one["feature_idx"] for one in nodes])).astype(np.int8),
        np.where(leaf, value, low).astype(np.float32),
        np.concatenate([one["left"] + at for one, at in zip(nodes, root, strict=True)]).astype(np.int32),
        np.concatenate([one["right"] + at for one, at in zip(nodes, root, strict=True)]).astype(np.int32),
        root.astype(np.int32),
        float(np.ravel(model._baseline_prediction)[0]),
    )


def document(trees: beat_evidence.Trees) -> str:
    """Return the trees as text, a line for each column; float32 in as many digits as bring it back."""
    columns = {name: getattr(trees, name).tolist() for name in ("figure", "left", "right", "root")}
    value = [float(str(one)) for one in trees.value]
    lines = {"figures": list(beat_evidence.FIGURES), "start": trees.start, **columns, "value": value}
    return "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in lines.items()) + "\n}\n"


def search_rules(heard: Sequence[Heard], n_draws: int) -> sequence.Rules:
    """Return the best of rules drawn around the best so far, from a neutral guess: fewest errors, weighted by leads."""
    clean = [one for one in heard if one.half == CLEAN]
    random = np.random.default_rng(0)
    best, fewest = NEUTRAL, errors(clean, NEUTRAL)
    for _ in range(n_draws):
        step = {name: getattr(best, name) * random.lognormal(0, 0.12) for name in random.choice(SEARCHED, 4, replace=False)}
        tried = best._replace(**{name: float(value) for name, value in step.items()})
        n = errors(clean, tried)
        if n <= fewest:
            best, fewest = tried, n
    return best


def errors(heard: Sequence[Heard], rules: sequence.Rules) -> float:
    """Return missed and false beats of the rules alone."""
    n = 0.0
    for one in heard:
        even, envelope, typical, level = one.bands
        block = int(rules.block_s * RATE_HZ)
        weight, fused = detection.fusion(envelope, typical, level, block, rules)
        choice = sequence.choose(fused, even, weight, block, rules)
        r_sample = np.rint(choice.position[choice.chosen] * (one.recording.fs / RATE_HZ)).astype(np.int64)
        row = count(one.recording, one.name, r_sample, 0.0)
        n += LEADS[one.leads] * (row.n_missed + row.n_false)
    return n


def cross_fit(everything: Sequence[Heard], stress: Sequence[Heard], n_draws: int) -> None:
    """Print what rules and trees reach on records that they were not fitted on."""
    names = sorted({one.name for one in everything})
    order = np.random.default_rng(0).permutation(names)
    rows: dict[tuple[int, ...], list[Any]] = {leads: [] for leads in LEADS}
    for fold in range(N_FOLDS):
        held = set(order[fold::N_FOLDS].tolist())
        others = [one for one in everything if one.name not in held]
        rules = search_rules(others, n_draws) if n_draws else sequence.RULES
        trees = fit(others, rules)
        for one in everything:
            if one.name in held and one.half == CLEAN:
                rows[one.leads].append(count(one.recording, one.name, detect(one, rules, trees), 0.0, len(one.leads)))
        print(f"fold {fold + 1}/{N_FOLDS}: {' '.join(sorted(held))}", flush=True)
    for leads, own in rows.items():
        print_row(f"channels {leads}, unseen", total(own))
        for figure in ("sensitivity", "positive_predictivity"):
            low, high = interval(own, figure)
            worst = min(own, key=lambda row: getattr(row, figure))
            print(f"  {figure}: 95 % over records {low:.2f}-{high:.2f}; worst {worst.name} {getattr(worst, figure):.2f}")
    without = [one for one in everything if one.name != "118"]
    rules = search_rules(without, n_draws) if n_draws else sequence.RULES
    halves = [fit([one for one in without if one.half != half], rules) for half in (0, 1)]
    for one in stress:
        print_row(f"118e_6, channels {one.leads}, unseen", total(list(stressed_halves(one, rules, halves))))


def stressed_halves(one: Heard, rules: sequence.Rules, halves: Sequence[beat_evidence.Trees]) -> Any:
    """Yield the counts of each half of the noise stress record, the first five minutes left out."""
    fs, n = one.recording.fs, one.recording.signal.shape[1]
    middle = round((FIRST_MOTION_S + 6 * MOTION_S) * fs)
    for trees, (start, stop) in zip(halves, ((round(FIRST_MOTION_S * fs), middle), (middle, n)), strict=True):
        reference, found = one.recording.reference, detect(one, rules, trees)
        part = replace(one.recording, reference=reference[(reference >= start) & (reference < stop)])
        yield count(part, one.name, found[(found >= start) & (found < stop)], 0.0, len(one.leads))


if __name__ == "__main__":
    main()
