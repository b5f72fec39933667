"""Heart vector: ECG leads computed from a moving dipole, with known R peaks; what ``archive`` writes archives of.

A beat is a sum of Gaussian waves of the heart vector (x left, y down, z back, mV, Frank's axes). Dower's lead vectors project
it on I, II and V1-V6; III, aVR, aVL and aVF follow from I and II. Noise arises at electrodes, so it obeys the lead sums too.
Sizes, times and noise levels were set by eye to healthy controls and infarctions of the PTB Diagnostic ECG Database; nothing
here is a recording.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ecgbatch.terms import LEAD_VECTORS

ADC_GAIN = 2000.0
"""adu/mV, as in every PTB header (0.5 uV a step)."""

AMPLIFIER_NOISE_MV = np.float32(0.0012)
"""Of one electrode; with it neighbouring samples of a lead differ by about as much as in PTB between beats, 3 to 9 uV."""

BEAT_BEFORE_S, BEAT_AFTER_S = 0.34, 0.64
"""Support of one beat around its R peak: P starts 0.25 s before at most, T ends 0.55 s after."""

LOCALISATIONS = ("inferior", "antero-septal", "infero-lateral", "anterior", "antero-lateral", "infero-postero-lateral", "lateral")
LOCALISATION_SHARE = (0.27, 0.24, 0.18, 0.14, 0.12, 0.04, 0.01)
"""Of the PTB database's acute infarctions, rounded."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """What the heart is to show.

    ``diagnosis``: PTB's words for the reason of admission; an unknown one looks healthy. ``infarct_location``: PTB's words for a
    localisation; empty: drawn. ``is_acute``: ST is raised. ``record_number``: 1, 2, ...; an infarction ages from one to the next.
    """

    diagnosis: str
    infarct_location: str = ""
    is_acute: bool = True
    record_number: int = 1


class Wave(NamedTuple):
    """One Gaussian of the heart vector: ``name`` P, Q, R, S, ST or T; centre from the R peak; standard deviation; amplitude."""

    name: str
    time_s: float
    width_s: float
    vector_mv: npt.NDArray[np.float64]


_HEALTHY = (
    ("P", -0.165, 0.018, (0.02, 0.09, -0.03)),
    ("P", -0.138, 0.018, (0.06, 0.06, 0.03)),
    ("Q", -0.024, 0.007, (-0.10, -0.05, -0.22)),
    ("R", -0.009, 0.007, (0.45, 0.15, -0.30)),
    ("R", 0.000, 0.009, (0.95, 0.80, 0.12)),
    ("S", 0.015, 0.009, (0.06, 0.22, 0.60)),
    ("S", 0.025, 0.008, (-0.22, -0.10, 0.26)),
    ("ST", 0.130, 0.055, (0.04, 0.03, -0.07)),
    ("T", 0.250, 0.044, (0.20, 0.12, -0.14)),
    ("T", 0.283, 0.025, (0.16, 0.09, -0.06)),
)
_ECTOPIC = (
    ("R", -0.020, 0.022, (0.50, 0.45, 0.50)),
    ("R", 0.028, 0.027, (0.80, 0.70, 0.65)),
    ("ST", 0.140, 0.050, (-0.15, -0.12, -0.12)),
    ("T", 0.280, 0.055, (-0.40, -0.30, -0.30)),
)
_SITES = {
    "anter": (0.15, 0.0, -1.0),
    "sept": (-0.55, 0.0, -0.85),
    "later": (1.0, -0.15, 0.1),
    "infer": (0.05, 1.0, 0.1),
    "poster": (0.1, 0.1, 1.0),
}
"""Where a wall of the left ventricle lies, seen from its centre; the stem of its word in PTB's localisations."""


def compute_leads(
    case: Case, *, seed: int, patient_number: int, n_samples: int, sampling_frequency_hz: float, n_leads: int
) -> tuple[npt.NDArray[np.int16], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Compute one record; the patient's heart and chest are the same in all records of the patient.

    Returns
    -------
    (lead, sample) int16, adu
        ``ADC_GAIN`` adu/mV, baseline 0; leads in the order of ``terms.LEADS``, the first ``n_leads`` (12 or 15) of them.
    (beat,) int64
        R peaks: the sample where each QRS's heart vector is longest, 0-based, increasing.
    (beat,) bool
        Ventricular ectopic beats.

    """
    patient_rng = np.random.default_rng([seed, patient_number, 0])
    rng = np.random.default_rng([seed, patient_number, case.record_number])
    fibrillates = bool(patient_rng.random() < 0.5) and case.diagnosis == "Dysrhythmia"
    vectors = np.array(LEAD_VECTORS) * patient_rng.lognormal(0.0, 0.08, np.shape(LEAD_VECTORS))  # no two chests are alike
    waves = _patient_beat(patient_rng, rng, case)
    if fibrillates:
        waves = [wave for wave in waves if wave.name != "P"]
    beat_time_s, is_ectopic = _rhythm(patient_rng, rng, case, fibrillates, n_samples / sampling_frequency_hz)
    heart, r_sample = _heart_vector(rng, waves, beat_time_s, is_ectopic, n_samples, sampling_frequency_hz)
    if fibrillates:
        heart += _fibrillation_waves(rng, n_samples, sampling_frequency_hz)
    signal = _leads(heart, vectors, _electrode_noise(rng, n_samples, sampling_frequency_hz), n_leads)
    inside = (r_sample >= 0) & (r_sample < n_samples)
    return signal, r_sample[inside], is_ectopic[inside]


def _patient_beat(patient_rng: np.random.Generator, rng: np.random.Generator, case: Case) -> list[Wave]:
    """Return the waves of a normal beat of this patient at a heart rate of 60/min."""
    waves = [Wave(name, time, width, np.array(vector)) for name, time, width, vector in _HEALTHY]
    size = patient_rng.lognormal(0.0, 0.2)
    pr, qt, qrs = patient_rng.normal(1.0, 0.10), patient_rng.normal(1.0, 0.06), patient_rng.normal(1.05, 0.08)
    stretch = {"P": pr, "ST": qt, "T": qt}
    waves = [
        Wave(
            wave.name,
            wave.time_s * stretch.get(wave.name, qrs),
            wave.width_s * stretch.get(wave.name, qrs),
            wave.vector_mv * size * patient_rng.lognormal(0.0, 0.18) + patient_rng.normal(0.0, 0.12, 3) * _length(wave),
        )
        for wave in waves
    ]
    turn = _rotation(patient_rng.normal(0.0, (8.0, 10.0, 16.0)))  # about x, y and z: the frontal axis varies most
    waves = [wave._replace(vector_mv=turn @ wave.vector_mv) for wave in waves]
    waves = _with_disease(waves, patient_rng, case)
    day = _rotation(rng.normal(0.0, (3.0, 3.0, 4.0)))
    return [wave._replace(vector_mv=day @ wave.vector_mv * rng.lognormal(0.0, 0.05)) for wave in waves]


def _length(wave: Wave) -> float:
    return float(np.linalg.norm(wave.vector_mv))


def _rotation(degrees: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the rotation about x, then y, then z."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.deg2rad(degrees)):
        plane = np.eye(3)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        plane[i, i] = plane[j, j] = np.cos(angle)
        plane[j, i] = np.sin(angle)
        plane[i, j] = -np.sin(angle)
        turn = plane @ turn
    return turn


def _with_disease(waves: list[Wave], rng: np.random.Generator, case: Case) -> list[Wave]:
    """Return the beat as the diagnosis changes it; strength varies, so that classes overlap a little."""
    strength = float(np.clip(rng.lognormal(-0.1, 0.45), 0.25, 2.0))
    side = rng.random()
    diagnosis = case.diagnosis
    if diagnosis == "Myocardial infarction":
        return _infarction(waves, rng, case, strength)
    if diagnosis == "Bundle branch block":
        return _left_bundle_branch_block(waves, strength) if side < 0.5 else _right_bundle_branch_block(waves, strength)
    if diagnosis in ("Hypertrophy", "Valvular heart disease"):
        factor = {"R": 1 + 0.7 * strength, "S": 1 + 0.7 * strength, "T": 1 - 1.4 * min(strength, 1.2)}
        strained = [_scaled(wave, factor.get(wave.name, 1.0)) for wave in waves]
        return [*strained, _wave("ST", 0.13, 0.05, (-0.06, -0.03, 0.05), strength)]
    if diagnosis in ("Cardiomyopathy", "Myocarditis") or diagnosis.startswith("Heart failure"):
        lower = [_scaled(wave, {"T": 1 - 0.6 * min(strength, 1.5)}.get(wave.name, 0.75)) for wave in waves]
        return [*lower, _wave("S", 0.04, 0.015, (0.15, -0.1, 0.2), strength)]
    return waves


def _wave(name: str, time_s: float, width_s: float, vector_mv: Sequence[float], strength: float) -> Wave:
    return Wave(name, time_s, width_s, np.array(vector_mv) * strength)


def _scaled(wave: Wave, factor: float) -> Wave:
    return wave._replace(vector_mv=wave.vector_mv * factor)


def _infarction(waves: list[Wave], rng: np.random.Generator, case: Case, strength: float) -> list[Wave]:
    """Turn QRS away from the infarct, ST towards it, T away as it ages (Surawicz and Knilans 2008, chapters 7 and 8)."""
    place = case.infarct_location or str(rng.choice(LOCALISATIONS, p=LOCALISATION_SHARE))
    sites = np.array([vector for stem, vector in _SITES.items() if stem in place] or [_SITES["anter"]])
    towards = sites.sum(axis=0) + rng.normal(0.0, 0.2, 3)
    towards = strength * towards / np.linalg.norm(towards)
    acute = rng.beta(1.5, 2.0) * 0.7 ** (case.record_number - 1) if case.is_acute else 0.0
    return [
        *waves,
        Wave("Q", -0.017, 0.010, -0.38 * towards),
        Wave("R", 0.002, 0.012, -0.22 * towards),
        Wave("ST", 0.095, 0.045, 0.20 * acute * towards),
        Wave("T", 0.270, 0.042, (0.35 * acute - 0.33) * towards),
    ]


def _left_bundle_branch_block(waves: list[Wave], strength: float) -> list[Wave]:
    """Conduct slowly through muscle: no septal Q, broad notched R to the left and back, ST and T against it."""
    kept = [_scaled(wave, 0.55 if wave.name == "R" else 1.0) for wave in waves if wave.name not in ("Q", "T")]
    kept = [wave._replace(width_s=wave.width_s * 1.5) if wave.name == "R" else wave for wave in kept]
    late = [_wave("R", 0.045, 0.017, (0.65, 0.15, 0.75), 1.0), _wave("R", 0.075, 0.015, (0.25, 0.0, 0.35), min(strength, 1.2))]
    return [*kept, *late, _wave("ST", 0.16, 0.05, (-0.12, -0.03, -0.16), 1.0), _wave("T", 0.31, 0.05, (-0.30, 0.02, -0.42), 1.0)]


def _right_bundle_branch_block(waves: list[Wave], strength: float) -> list[Wave]:
    """Activate the right ventricle last: a terminal vector to the right and front."""
    late = _wave("S", 0.062, 0.014, (-0.50, 0.0, -0.55), 0.6 + 0.4 * strength)
    return [*waves, late, _wave("T", 0.28, 0.04, (0.08, 0.0, 0.22), 1.0)]


def _rhythm(
    patient_rng: np.random.Generator, rng: np.random.Generator, case: Case, fibrillates: bool, duration_s: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """Return times of all beats that reach into the record, and which are ectopic: early, then a compensatory pause."""
    rate = float(np.clip(patient_rng.normal(72.0, 11.0) + rng.normal(0.0, 3.0), 55.0, 100.0))
    ectopic_share = float(patient_rng.choice((0.0, 0.02, 0.08), p=(0.75, 0.2, 0.05)))
    ectopic_share = 0.08 if case.diagnosis == "Dysrhythmia" and not fibrillates else ectopic_share
    n_beats = int(np.ceil((duration_s + 4.0) * rate / 60.0 * 1.6)) + 4
    time_s = np.arange(n_beats) * 60.0 / rate
    phase = 2 * np.pi * rng.random(2)
    breath = 0.03 * np.sin(2 * np.pi * rng.uniform(0.18, 0.32) * time_s + phase[0])
    slow = 0.02 * np.sin(2 * np.pi * rng.uniform(0.07, 0.12) * time_s + phase[1])
    relative = 1.0 + breath + slow + rng.normal(0.0, 0.2 if fibrillates else 0.012, n_beats)
    is_ectopic = rng.random(n_beats) < ectopic_share
    is_ectopic[1:] &= ~is_ectopic[:-1]
    is_ectopic[0] = False
    relative[is_ectopic] *= 0.62
    relative[1:][is_ectopic[:-1]] *= 1.36
    interval_s = np.maximum(relative * 60.0 / rate, 0.33)
    beat_time_s = np.cumsum(interval_s) - 1.0 - rng.random()
    inside = (beat_time_s > -BEAT_AFTER_S) & (beat_time_s < duration_s + BEAT_BEFORE_S)
    return beat_time_s[inside], is_ectopic[inside]


def _heart_vector(
    rng: np.random.Generator,
    waves: list[Wave],
    beat_time_s: npt.NDArray[np.float64],
    is_ectopic: npt.NDArray[np.bool_],
    n_samples: int,
    sampling_frequency_hz: float,
) -> tuple[Floats, npt.NDArray[np.int64]]:
    """Return the heart vector (3, sample) mV and the sample of each beat's longest QRS vector."""
    turn = _rotation(rng.normal(0.0, (40.0, 40.0, 60.0)))  # the ectopic focus may lie anywhere
    ectopic = [Wave(name, time, width, turn @ np.array(vector)) for name, time, width, vector in _ECTOPIC]
    before, after = round(BEAT_BEFORE_S * sampling_frequency_hz), round(BEAT_AFTER_S * sampling_frequency_hz)
    offset_s = np.arange(-before, after, dtype=np.float32) / np.float32(sampling_frequency_hz)
    nearest = np.rint(beat_time_s * sampling_frequency_hz).astype(np.int64)
    interval_s = np.diff(beat_time_s, prepend=beat_time_s[0] - np.median(np.diff(beat_time_s)) if len(beat_time_s) > 1 else -1.0)
    stretch = np.cbrt(np.clip(interval_s, 0.45, 1.6)).astype(np.float32)  # QT = QTc RR^(1/3): Fridericia 1920
    heart = np.zeros((3, n_samples + before + after + 2), dtype=np.float32)
    shift = np.zeros(len(nearest), dtype=np.int64)
    near_r = np.abs(offset_s) <= 0.1
    for kind, chosen in ((waves, ~is_ectopic), (ectopic, is_ectopic)):
        rows = np.flatnonzero(chosen)
        if len(rows):
            beats = _beats(kind, offset_s, stretch[rows])
            shift[rows] = np.argmax((beats[:, :, near_r] ** 2).sum(axis=0), axis=1) + np.flatnonzero(near_r)[0] - before
            for row, beat in zip(rows, beats.transpose(1, 0, 2), strict=True):
                _add(heart, beat, nearest[row])
    heart = heart[:, before : before + n_samples]
    heart *= _breathing(rng, n_samples, sampling_frequency_hz)
    return heart, nearest + shift


def _beats(waves: list[Wave], offset_s: Floats, stretch: Floats) -> Floats:
    """Return (3, beat, sample) mV: ST and T stretched with the preceding RR interval, the rest the same in every beat."""
    beats = np.zeros((3, len(stretch), len(offset_s)), dtype=np.float32)
    stretched_s = offset_s[None, :] / stretch[:, None]
    for wave in waves:
        time_s = stretched_s if wave.name in ("ST", "T") else offset_s[None, :]
        bell = np.exp(np.float32(-0.5) * ((time_s - np.float32(wave.time_s)) / np.float32(wave.width_s)) ** 2)
        for axis in range(3):
            beats[axis] += bell * np.float32(wave.vector_mv[axis])
    return beats


def _add(heart: Floats, beat: Floats, at: int) -> None:
    """Add one beat; ``at`` is the first sample of its window in the padded record, which may leave it."""
    start, stop = max(at, 0), min(at + beat.shape[1], heart.shape[1])
    if start < stop:
        heart[:, start:stop] += beat[:, start - at : stop - at]


def _breathing(rng: np.random.Generator, n_samples: int, sampling_frequency_hz: float) -> Floats:
    """Return (3, sample): the heart turns and swells a few per cent with each breath."""
    coarse_s = np.arange(0.0, n_samples / sampling_frequency_hz + 0.2, 0.1)
    rate_hz, phase = rng.uniform(0.18, 0.32), rng.uniform(0.0, 2 * np.pi, 3)
    swing = 1.0 + rng.uniform(0.01, 0.05, 3)[:, None] * np.sin(2 * np.pi * rate_hz * coarse_s + phase[:, None])
    return _upsampled(swing, coarse_s, n_samples, sampling_frequency_hz)


def _fibrillation_waves(rng: np.random.Generator, n_samples: int, sampling_frequency_hz: float) -> Floats:
    """Return (3, sample) mV: atrial waves of wandering frequency, 5 to 8 Hz, largest towards V1."""
    coarse_s = np.arange(0.0, n_samples / sampling_frequency_hz + 0.5, 0.25)
    rate_hz = np.clip(6.5 + np.cumsum(rng.normal(0.0, 0.2, len(coarse_s))) * 0.3, 5.0, 8.0)
    cycles = _upsampled(np.cumsum(rate_hz)[None, :] * 0.25, coarse_s, n_samples, sampling_frequency_hz)[0]
    wave = np.sin(2 * np.pi * cycles % (2 * np.pi)) + np.float32(0.3) * np.sin(4 * np.pi * cycles % (2 * np.pi))
    vector_mv = np.array([[0.010], [0.022], [-0.045]], dtype=np.float32)
    waves: Floats = (vector_mv * wave).astype(np.float32)
    return waves


def _electrode_noise(rng: np.random.Generator, n_samples: int, sampling_frequency_hz: float) -> Floats:
    """Return (12, sample) mV: wander, muscle, amplifier and mains noise of RA, LA, LL, C1 to C6 and of Frank's x, y, z."""
    width = max(1, round(0.004 * sampling_frequency_hz))
    bursts = _bursts(rng, n_samples, sampling_frequency_hz)
    muscle_mv = rng.lognormal(np.log(0.0016), 0.45, 12) / np.sqrt(width)
    mains_mv = rng.lognormal(np.log(0.0010), 0.7, 12)
    phase = 2 * np.pi * (rng.random((12, 1)) + 50.0 * np.arange(round(sampling_frequency_hz)) / sampling_frequency_hz)
    mains = (mains_mv[:, None] * np.sin(phase)).astype(np.float32)  # one second, then again
    coarse_s = np.arange(0.0, n_samples / sampling_frequency_hz + 0.1, 0.05)
    noise = _upsampled(_wander(rng, coarse_s), coarse_s, n_samples, sampling_frequency_hz)
    for electrode in range(12):
        white = rng.standard_normal(n_samples + width - 1, dtype=np.float32)
        muscle = white[:n_samples].copy()
        for k in range(1, width):
            muscle += white[k : k + n_samples]
        noise[electrode] += bursts * (muscle * np.float32(muscle_mv[electrode]))
        noise[electrode] += white[:n_samples] * AMPLIFIER_NOISE_MV
        noise[electrode] += np.resize(mains[electrode], n_samples)
    return noise


def _bursts(rng: np.random.Generator, n_samples: int, sampling_frequency_hz: float) -> Floats:
    """Return (sample,): muscle tension that comes and goes over seconds."""
    coarse_s = np.arange(0.0, n_samples / sampling_frequency_hz + 3.0, 1.5)
    return _upsampled(rng.lognormal(-0.06, 0.35, (1, len(coarse_s))), coarse_s, n_samples, sampling_frequency_hz).ravel()


def _wander(rng: np.random.Generator, time_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return (12, time) mV: electrode offset, drift of random slow waves, and breathing."""
    rate_hz = np.append(rng.uniform(0.01, 0.12, 5), rng.uniform(0.18, 0.32))
    amplitude = np.abs(rng.normal(0.0, np.append(np.full(5, 0.045), 0.02), (12, 6))) * rng.lognormal(0.0, 0.5)
    phase = rng.uniform(0.0, 2 * np.pi, (12, 6))
    waves = amplitude[:, :, None] * np.sin(2 * np.pi * rate_hz[None, :, None] * time_s + phase[:, :, None])
    drift: npt.NDArray[np.float64] = rng.normal(0.0, 0.12, (12, 1)) + waves.sum(axis=1)
    return drift


def _upsampled(
    coarse: npt.NDArray[np.float64], coarse_s: npt.NDArray[np.float64], n_samples: int, sampling_frequency_hz: float
) -> Floats:
    """Return every row of ``coarse`` interpolated linearly at the record's samples."""
    time_s = np.arange(n_samples) / sampling_frequency_hz
    fine = np.empty((len(coarse), n_samples), dtype=np.float32)
    for row, values in zip(fine, coarse, strict=True):
        row[:] = np.interp(time_s, coarse_s, values)
    return fine


def _leads(heart: Floats, vectors: npt.NDArray[np.float64], electrodes: Floats, n_leads: int) -> npt.NDArray[np.int16]:
    """Return (lead, sample) int16 adu: I, II and V1-V6 projected, III and the augmented leads derived in mV, then quantised."""
    right_arm, left_arm, left_leg = electrodes[:3]
    terminal = (right_arm + left_arm + left_leg) / np.float32(3)  # Wilson's central terminal
    noise = [left_arm - right_arm, left_leg - right_arm, *(electrode - terminal for electrode in electrodes[3:9])]
    one, two, *chest = (_projected(heart, vector) + noise[k] for k, vector in enumerate(vectors.astype(np.float32)))
    half = np.float32(0.5)
    leads = [one, two, two - one, -half * (one + two), one - half * two, two - half * one, *chest]
    if n_leads == 15:
        leads += list(heart + electrodes[9:12])
    signal = np.empty((n_leads, heart.shape[1]), dtype=np.int16)
    for row, lead in zip(signal, leads, strict=True):
        row[:] = np.clip(np.rint(lead * np.float32(ADC_GAIN)), -32767, 32767)
    return signal


def _projected(heart: Floats, vector: Floats) -> Floats:
    """Return the scalar product, added in a fixed order: a BLAS library would be free to choose one by its thread count."""
    projected: Floats = heart[0] * vector[0] + heart[1] * vector[1] + heart[2] * vector[2]
    return projected
