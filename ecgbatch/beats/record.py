"""The beats of one record: R peaks on several leads together, and windows cut around them.

R peaks are found by ``detection``, windows of microvolts are cut by ``windows``; ``kachuee`` has the paper's own way to both.
docs/beat-detection.md has methods, decisions and measured accuracy.
"""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.beats import premature, resampling
from ecgbatch.beats.blocks import Peaks, Records
from ecgbatch.beats.rhythm import is_plausible
from ecgbatch.terms import BEAT_FLAGS, LEAD_FLAGS, UNUSABLE_LEAD

Array = NDArray[Any]

WORKING_RATE_HZ = 125.0
"""Rate of every stored window: Kachuee's 125 Hz, and room for the band up to 40 Hz."""

CUTOFF_HZ, HALF_WIDTH_S = 43.0, 0.08
"""Low-pass of windows: taps 80 ms to either side (161 at 1000 Hz); -0.2 dB at 35 Hz, -2.5 at 40, -6 at 43, -54 at 55."""

DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S = 62.5, 0.024
"""Low-pass of detection, which looks at 5-25 Hz only: taps 24 ms to either side, flat to 30 Hz, -47 dB where 30 Hz aliases."""

HIGH_PASS_HZ = 0.5
"""Zero-phase, so ST segments stay where they are (Kligfield et al. 2007 allow up to 0.67 Hz for zero phase)."""


NOISE_LEVEL = 0.15
"""Mean activity between beats, over a typical QRS, above which a beat is flagged noisy: 0.2 % of DS1's beats, two leads."""

LEAST_RATE_HZ = 50.0
"""Below it no beat is sought: the band that shows QRS complexes reaches up to 22 Hz, and needs more than twice that."""

PIECE_S, OVERLAP_S = 3600.0, 60.0
"""A longer record is searched an hour at a time, so that memory stays flat; each hour sees a minute of its neighbours."""

PREMATURE = 0.82
"""A beat whose interval is under this share of the local median is flagged ectopic."""

RESEMBLANCE = 0.8
"""A beat whose correlation with the record's usual beat is lower, or whose size is not within a factor 2, is aberrant."""

USUAL_BEATS = 31
"""Beats that the usual beat is the median of, spread evenly over the record."""

FLAT_TOP_S = 0.02
"""A flat top at a lead's highest or lowest value that lasts this long is clipping."""

NO_VOTE = UNUSABLE_LEAD | LEAD_FLAGS["noisy"] | LEAD_FLAGS["implausible_amplitude"]
"""Leads with these bits do not vote in detection, unless no other lead is left (then ``UNUSABLE_LEAD`` decides)."""

REFERENCE_LEADS = ("II", "MLII")
"""Where R is placed, if such a lead may vote; else on the first that may."""

KACHUEE_LENGTH = 187
KACHUEE_STEP = 1 / 16384
"""Kachuee et al. 2018: length of a beat at 125 Hz. The step is ours: int16 holds [0, 1] to 0.00006."""


@dataclass(frozen=True)
class BeatSettings:
    """What a beats store holds.

    Parameters
    ----------
    method
        ``robust`` or ``kachuee``.
    sampling_frequency_hz
        Rate of the windows; 125 is the only one.
    before_s, after_s
        ``robust`` window around R: 0.25 s holds P, 0.45 s holds ST and most of T, and 88 samples suit the network.
        ``kachuee`` begins at R and is 187 samples long whatever these say.
    reference
        Extension of the archive's annotation files (``atr``) whose beats take the place of detection; empty: detect.

    """

    method: Literal["robust", "kachuee"] = "robust"
    sampling_frequency_hz: float = WORKING_RATE_HZ
    before_s: float = 0.25
    after_s: float = 0.45
    reference: str = ""

    def __post_init__(self) -> None:
        if self.method not in ("robust", "kachuee"):
            raise ValueError(f"beat method must be 'robust' or 'kachuee', found {self.method!r}")
        if self.sampling_frequency_hz != WORKING_RATE_HZ:
            raise ValueError(f"beat windows are made at {WORKING_RATE_HZ} Hz, found {self.sampling_frequency_hz} Hz")
        if not (0 <= self.before_s <= 10 and 0 < self.after_s <= 10):
            raise ValueError(f"before_s must lie in [0, 10] and after_s in (0, 10], found {self.before_s} and {self.after_s}")
        if self.reference and (self.method != "robust" or not re.fullmatch(r"[A-Za-z0-9_]{1,16}", self.reference)):
            raise ValueError(
                f"reference must be the extension of annotation files, such as 'atr', with method 'robust'; "
                f"found {self.reference!r} with {self.method!r}"
            )

    @property
    def r_index(self) -> int:
        """Sample of the window that R is on."""
        return 0 if self.method == "kachuee" else int(self.before_s * self.sampling_frequency_hz)

    @property
    def n_samples(self) -> int:
        """Samples of a window."""
        if self.method == "kachuee":
            return KACHUEE_LENGTH
        return self.r_index + 1 + int(self.after_s * self.sampling_frequency_hz)

    @property
    def waveform_step(self) -> float:
        """Value of one int16 step of ``waveform``, in ``waveform_units``."""
        return KACHUEE_STEP if self.method == "kachuee" else 1.0

    @property
    def waveform_units(self) -> str:
        """``uV``, or ``1`` where a window's range is scaled to [0, 1]."""
        return "1" if self.method == "kachuee" else "uV"

    def sample_time_s(self) -> Array:
        """Return the time of each sample of a window from its R peak, (sample) float32, s."""
        return ((np.arange(self.n_samples) - self.r_index) / self.sampling_frequency_hz).astype(np.float32)

    def document(self) -> dict[str, Any]:
        """Return all that decides the content of a beats store, JSON-ready."""
        own: dict[str, Any] = asdict(self) | {"waveform_step": self.waveform_step, "waveform_units": self.waveform_units}
        if not self.reference:
            del own["reference"]  # detection is named by its rules
        if self.method == "kachuee":
            return own
        return own | {"low_pass_hz": CUTOFF_HZ, "high_pass_hz": HIGH_PASS_HZ, "half_width_s": HALF_WIDTH_S}


class RPeaks(NamedTuple):
    """R peaks of one record: ``r_sample`` (beat) int32 increasing, ``beat_flags`` (beat) uint16, leads that voted."""

    r_sample: Array
    beat_flags: Array
    n_leads_used: int


NO_PEAKS = RPeaks(np.zeros(0, np.int32), np.zeros(0, np.uint16), 0)
"""Of a record in which no lead may vote."""


class Beats(NamedTuple):
    """Windows of one record: ``r_sample`` (beat) int32, ``waveform`` (beat, lead, sample) int16, ``beat_flags`` (beat) uint16."""

    r_sample: Array
    waveform: Array
    beat_flags: Array


def detect_r_peaks(
    signal: Array,
    *,
    adc_gain: Array,
    baseline: Array,
    sampling_frequency_hz: float,
    usable: Array | None = None,
    n_samples: int | None = None,
    reference: int | None = None,
) -> RPeaks:
    """Find the R peaks of one record on all usable leads together.

    Parameters
    ----------
    signal : (lead, sample) int16, ADC units
        Missing samples are -32768.
    adc_gain, baseline : (lead,)
        ADC units per mV; ADC value of 0 mV. A lead whose gain is 0 or not finite does not vote.
    sampling_frequency_hz
        Any rate from 50 Hz; 250, 257, 360, 500, 1000 and 10,000 Hz are tested.
    usable : (lead,) bool, optional
        Leads that may vote; all if not given. One is enough.
    n_samples
        Samples that belong to the record, where ``signal`` is padded.
    reference
        Number of the lead that R is placed on; the first usable one if not given or not usable.

    Returns
    -------
    RPeaks
        R is the summit of the reference lead in 5-22 Hz, the others helping (docs/beat-detection.md). No usable lead, or no
        beat in any: 0 beats. A heart rate outside 30-220/min: the beats, all flagged ``noisy``.

    Raises
    ------
    ValueError
        If shapes do not fit or the rate is below 50 Hz.

    """
    n = check_signal(signal, adc_gain, baseline, sampling_frequency_hz, n_samples)
    use = is_calibrated(np.asarray(adc_gain, dtype=np.float64), usable)
    if not use.any() or n == 0:
        return NO_PEAKS
    records = records_of(signal, n, sampling_frequency_hz, use, adc_gain, baseline)
    placed = reference if reference is not None and use[reference] else int(np.argmax(use))
    return detect_each(records, np.array([placed]))[0]


def records_of(signal: Array, n: int, sampling_frequency_hz: float, use: Array, adc_gain: Array, baseline: Array) -> Records:
    """Return a block of one record: see ``Records``."""
    gain, zero = (np.asarray(values, dtype=np.float64)[None] for values in (adc_gain, baseline))
    return Records(np.require(signal, np.int16, ["C", "W"])[None], n, sampling_frequency_hz, use[None], gain, zero)


def detect_each(records: Records, reference: Array) -> list[RPeaks]:
    """Find the R peaks of each record of a block: those of ``detect_r_peaks``.

    Parameters
    ----------
    records
        Each with a lead that may vote, and at least one sample.
    reference : (record,) int
        Number of the lead that R is placed on, one of those that vote.

    """
    from ecgbatch.beats import detection

    n, fs, n_records = records.n_samples, records.sampling_frequency_hz, len(records.use)
    design = resampling.resampler(fs, DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S)
    leads = detection.Leads(records.signal, records.use, records.baseline, records.step_mv, design, reference)
    parts = []
    all_pieces = pieces(n, fs)
    for first, stop, begin, end in all_pieces:
        found = detection.find_beats(leads, first, stop)
        place = first + np.rint(found.place * (design.down / design.up)).astype(np.int64).clip(0, n - 1 - first)
        kept = (place >= begin) & (place < end)
        parts.append((np.repeat(np.arange(n_records), found.n_beats)[kept], place[kept], found.noise[kept]))
    of, r_sample, noise = (np.concatenate(column) for column in zip(*parts, strict=True))
    if len(parts) > 1:
        order = np.argsort(of, kind="stable")
        of, r_sample, noise = of[order], r_sample[order], noise[order]
    # Of a beat that either side of a seam saw, a sample apart, one stays.
    is_distinct = np.diff(r_sample, prepend=0) > (0 if len(all_pieces) == 1 else 0.2 * fs)
    is_distinct |= np.diff(of, prepend=-1) != 0
    of, r_sample, noise = of[is_distinct], r_sample[is_distinct], noise[is_distinct]
    return _flagged(r_sample, noise > NOISE_LEVEL, np.bincount(of, minlength=n_records), records)


def _flagged(r_sample: Array, is_noisy: Array, count: Array, records: Records) -> list[RPeaks]:
    """Return each record's ``count`` R peaks, one record's after another's, with what is known of each beat."""
    flags = np.where(is_noisy, BEAT_FLAGS["noisy"], 0).astype(np.uint16)
    flags[premature.premature_each(r_sample, count, PREMATURE)] |= BEAT_FLAGS["ectopic"]
    found, at, r_sample32 = [], 0, r_sample.astype(np.int32)
    for n_beats, n_leads in zip(count.tolist(), np.count_nonzero(records.use, axis=1).tolist(), strict=True):
        own = slice(at, at + n_beats)
        if not is_plausible(r_sample[own], records.sampling_frequency_hz, records.n_samples):
            flags[own] |= np.uint16(BEAT_FLAGS["noisy"])
        found.append(RPeaks(r_sample32[own], flags[own], n_leads))
        at += n_beats
    return found


def pieces(n: int, sampling_frequency_hz: float) -> list[tuple[int, int, int, int]]:
    """Cut a long record for detection: samples to look at (first, stop), and those whose beats are kept (begin, end)."""
    length, overlap = round(PIECE_S * sampling_frequency_hz), round(OVERLAP_S * sampling_frequency_hz)
    if n <= length + overlap:
        return [(0, n, 0, n)]
    starts = range(0, n - overlap, length)
    ends = [*starts[1:], n]
    return [(max(0, a - overlap), min(n, b + overlap), a, b) for a, b in zip(starts, ends, strict=True)]


def beat_windows(
    signal: Array,
    peaks: RPeaks,
    *,
    adc_gain: Array,
    sampling_frequency_hz: float,
    present: Array | None = None,
    n_samples: int | None = None,
    settings: BeatSettings | None = None,
) -> Beats:
    """Cut one window around each R peak, all leads together: 0.5-40 Hz, 125 Hz, microvolts.

    Parameters
    ----------
    signal : (lead, sample) int16, ADC units
    peaks
        0-based samples at the record's own rate, increasing; window sample ``r_index`` lies exactly there. What detection said of
        each beat is kept, and more bits added.
    adc_gain : (lead,)
        ADC units per mV.
    present : (lead,) bool, optional
        Leads that the record has; the others are fill.

    Returns
    -------
    Beats
        One row per R peak, in order. Where a window leaves the record or meets a gap it is -32768 and the beat is flagged
        ``edge``; values are clipped to [-32767, 32767] uV. ``aberrant``: unlike the record's usual beat. ``clipped``: the
        converter was at its end.

    Raises
    ------
    ValueError
        If ``r_sample`` is not increasing or leaves the record: windows would no longer match their beats.

    """
    n = check_signal(signal, adc_gain, adc_gain, sampling_frequency_hz, n_samples)
    r_sample = check_peaks(peaks.r_sample, n)
    use = is_calibrated(np.asarray(adc_gain, dtype=np.float64), present)
    records = records_of(signal, n, sampling_frequency_hz, use, adc_gain, np.zeros(len(use)))
    own = Peaks(r_sample, np.asarray(peaks.beat_flags, np.uint16), np.array([0, len(r_sample)]))
    waveform, flags = windows_each(records, own, settings or BeatSettings())
    return Beats(r_sample.astype(np.int32), waveform, flags)


def check_peaks(r_sample: Array, n: int) -> Array:
    """Return a record's R samples as int64; raise where they do not increase or leave its ``n`` samples."""
    r_sample = np.ascontiguousarray(r_sample, dtype=np.int64)
    if len(r_sample) and (r_sample[0] < 0 or r_sample[-1] >= n or (np.diff(r_sample) <= 0).any()):
        raise ValueError(f"r_sample must increase within 0 to {n - 1}, found {r_sample[:3]} to {r_sample[-1]}: detect again")
    return r_sample


def windows_each(records: Records, peaks: Peaks, settings: BeatSettings) -> tuple[Array, Array]:
    """Cut the windows of each record of a block: waveform and flags of ``beat_windows``, one record's beats after another's."""
    from ecgbatch.beats import windows

    fs, n = records.sampling_frequency_hz, records.n_samples
    before, after = (math.ceil(s * fs) for s in (settings.before_s, settings.after_s))
    run = max(4, round(FLAT_TOP_S * fs))
    own = (peaks.r_sample, peaks.first_beat)
    step_mv = records.step_uv / 1000.0
    clipped, has_gaps = windows.flat_tops_each(records.signal, n, records.use, step_mv, *own, before, after, run)
    design, base = resampling.resampler(fs, CUTOFF_HZ, HALF_WIDTH_S), windows.high_pass(fs, HIGH_PASS_HZ)
    window = windows.Window(settings.r_index, settings.n_samples, design, base)
    waveform, leaves = windows.cut_windows(records, n, peaks, window, has_gaps)
    flags: Array = peaks.beat_flags | np.where(leaves, BEAT_FLAGS["edge"], 0).astype(np.uint16)
    flags[clipped] |= np.uint16(BEAT_FLAGS["clipped"])
    flags[aberrant(waveform, records.use, flags, peaks.first_beat)] |= np.uint16(BEAT_FLAGS["aberrant"])
    return waveform, flags


def aberrant(waveform: Array, use: Array, beat_flags: Array, first_beat: Array) -> Array:
    """Return (beat,) bool: the beat's shape or size is unlike the median of up to 31 ordinary beats of its record.

    Of records one after another: ``use`` (record, lead), ``first_beat`` (record + 1).
    """
    from ecgbatch.beats import likeness

    is_whole = (beat_flags & (BEAT_FLAGS["edge"] | BEAT_FLAGS["clipped"])) == 0
    is_ordinary = (beat_flags & ~np.uint16(BEAT_FLAGS["aberrant"])) == 0
    correlation, size = likeness.resemblance_each(waveform, use, first_beat, is_ordinary, is_whole, USUAL_BEATS)
    unlike: Array = (correlation < RESEMBLANCE) | (size < 0.5) | (size > 2.0)
    return unlike


def reference_peaks(r_sample: Array) -> RPeaks:
    """Return a reference's beats as R peaks: ``ectopic`` by timing as in detection; none is noisy, and no lead voted."""
    flags = np.zeros(len(r_sample), np.uint16)
    flags[premature.premature(np.ascontiguousarray(r_sample, np.int64), PREMATURE)] |= BEAT_FLAGS["ectopic"]
    return RPeaks(r_sample.astype(np.int32), flags, 0)


def is_calibrated(adc_gain: Array, wanted: Array | None) -> Array:
    """Return (lead,) bool: the wanted leads (default all) whose gain is known."""
    known: Array = np.isfinite(adc_gain) & (adc_gain != 0)
    return known if wanted is None else known & np.asarray(wanted, dtype=bool)


def check_signal(signal: Array, adc_gain: Array, baseline: Array, sampling_frequency_hz: float, n_samples: int | None) -> int:
    """Return the number of samples; raise where shapes, type or rate cannot be right."""
    if signal.ndim != 2 or signal.dtype != np.int16:
        raise ValueError(f"signal must be (lead, sample) int16 in ADC units, found {signal.shape} {signal.dtype}")
    if len(adc_gain) != len(signal) or len(baseline) != len(signal):
        raise ValueError(f"{len(signal)} leads need as many gains and baselines, found {len(adc_gain)} and {len(baseline)}")
    if not LEAST_RATE_HZ <= sampling_frequency_hz <= 100_000:
        raise ValueError(f"sampling frequency must lie in [50, 100000] Hz, found {sampling_frequency_hz}: QRS need 50 Hz")
    n = signal.shape[1] if n_samples is None else int(n_samples)
    if not 0 <= n <= signal.shape[1]:
        raise ValueError(f"n_samples must lie in [0, {signal.shape[1]}], found {n}")
    return n
