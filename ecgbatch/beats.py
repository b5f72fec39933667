"""Beats: R peaks found on several leads together, and windows cut around them.

Two methods. ``robust``, the default, finds R peaks on all usable leads (``detection``) and cuts windows of microvolts around
them (``windows``). ``kachuee`` is the extraction of Kachuee, Fazeli and Sarrafzadeh 2018 (arXiv:1805.00794), seven steps, as
published. docs/beat-detection.md has methods, decisions and measured accuracy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.signals import current_records, signals_path
from ecgbatch.terms import BEAT_FLAGS, LABEL, LEAD_FLAGS, LONGEST_HEART_RATE_BPM, MISSING_SAMPLE, STATUS, UNUSABLE_LEAD
from storage import (
    TEXT,
    Map,
    Plan,
    Schema,
    Shard,
    UnfinishedStore,
    Variable,
    build,
    list_stores,
    make_plan,
    open_once,
    open_store,
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

WORKING_RATE_HZ = 125.0
"""Rate of every stored window: Kachuee's 125 Hz, and room for the band up to 40 Hz."""

CUTOFF_HZ, HALF_WIDTH_S = 43.0, 0.08
"""Low-pass of windows: taps 80 ms to either side (161 at 1000 Hz); -0.2 dB at 35 Hz, -2.5 at 40, -6 at 43, -54 at 55."""

DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S = 62.5, 0.024
"""Low-pass of detection, which looks at 5-25 Hz only: taps 24 ms to either side, flat to 30 Hz, -47 dB where 30 Hz aliases."""

HIGH_PASS_HZ = 0.5
"""Zero-phase, so ST segments stay where they are (Kligfield et al. 2007 allow up to 0.67 Hz for zero phase)."""

SLOWEST_BPM, FASTEST_BPM = 30.0, 220.0
"""Rates outside are not believed: every beat of such a record is flagged noisy."""

NOISE_LEVEL = 0.15
"""Mean activity between beats, over a typical QRS, above which a beat is flagged noisy: 0.2 % of DS1's beats, two leads."""

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
KACHUEE_WINDOW_S = 10.0
KACHUEE_THRESHOLD = 0.9
KACHUEE_STEP = 1 / 16384
"""Kachuee et al. 2018: length of a beat at 125 Hz, window, threshold. The step is ours: int16 holds [0, 1] to 0.00006."""


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

    """

    method: Literal["robust", "kachuee"] = "robust"
    sampling_frequency_hz: float = WORKING_RATE_HZ
    before_s: float = 0.25
    after_s: float = 0.45

    def __post_init__(self) -> None:
        if self.method not in ("robust", "kachuee"):
            raise ValueError(f"beat method must be 'robust' or 'kachuee', found {self.method!r}")
        if self.sampling_frequency_hz != WORKING_RATE_HZ:
            raise ValueError(f"beat windows are made at {WORKING_RATE_HZ} Hz, found {self.sampling_frequency_hz} Hz")
        if not (0 <= self.before_s <= 10 and 0 < self.after_s <= 10):
            raise ValueError(f"before_s must lie in [0, 10] and after_s in (0, 10], found {self.before_s} and {self.after_s}")

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
        if self.method == "kachuee":
            return own
        return own | {"low_pass_hz": CUTOFF_HZ, "high_pass_hz": HIGH_PASS_HZ, "half_width_s": HALF_WIDTH_S}


class RPeaks(NamedTuple):
    """R peaks of one record: ``r_sample`` (beat) int32 increasing, ``beat_flags`` (beat) uint16, leads that voted."""

    r_sample: Array
    beat_flags: Array
    n_leads_used: int


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
    from ecgbatch import detection

    n = _check_signal(signal, adc_gain, baseline, sampling_frequency_hz, n_samples)
    gain = np.asarray(adc_gain, dtype=np.float64)
    use = np.isfinite(gain) & (gain != 0) & (np.ones(len(gain), bool) if usable is None else np.asarray(usable, dtype=bool))
    if not use.any() or n == 0:
        return RPeaks(np.zeros(0, np.int32), np.zeros(0, np.uint16), 0)
    design = detection.resampler(sampling_frequency_hz, DETECTION_CUTOFF_HZ, DETECTION_HALF_WIDTH_S)
    step = np.where(use, 1.0 / np.where(use, gain, 1.0), 0.0)
    found = detection.find_beats(
        _kernel_ready(signal), n, use, np.asarray(baseline, dtype=np.float64), step, design,
        reference=reference if reference is not None and use[reference] else int(np.argmax(use)),
    )  # fmt: skip
    r_sample = np.rint(found.place * (design.down / design.up)).astype(np.int64).clip(0, n - 1)
    distinct = np.diff(r_sample, prepend=-1) > 0
    r_sample, noise = r_sample[distinct], found.noise[distinct]
    flags = np.where(noise > NOISE_LEVEL, BEAT_FLAGS["noisy"], 0).astype(np.uint16)
    flags[detection.premature(r_sample, PREMATURE)] |= BEAT_FLAGS["ectopic"]
    if not is_plausible(r_sample, sampling_frequency_hz, n):
        flags |= np.uint16(BEAT_FLAGS["noisy"])
    return RPeaks(r_sample.astype(np.int32), flags, int(np.count_nonzero(use)))


def is_plausible(r_sample: Array, sampling_frequency_hz: float, n_samples: int) -> bool:
    """Whether beats make a heart rate of 30-220/min, both by their number and by their median interval; none does."""
    if len(r_sample) < 2:
        return False
    by_number = 60.0 * len(r_sample) * sampling_frequency_hz / n_samples
    by_interval = 60.0 * sampling_frequency_hz / float(np.median(np.diff(r_sample)))
    # One beat more or less at the ends of a short record is no sign of failure.
    slack = 60.0 * sampling_frequency_hz / n_samples
    return SLOWEST_BPM - slack <= by_number <= FASTEST_BPM + slack and SLOWEST_BPM <= by_interval <= FASTEST_BPM


def rr_previous_s(r_sample: Array, sampling_frequency_hz: float) -> Array:
    """Return the time since the previous R peak, (beat) float32, s; NaN for the first."""
    interval = np.full(len(r_sample), np.nan, np.float32)
    interval[1:] = np.diff(r_sample) / sampling_frequency_hz
    return interval


def beat_windows(
    signal: Array,
    r_sample: Array,
    beat_flags: Array,
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
    r_sample : (beat,) int, increasing
        0-based samples at the record's own rate; window sample ``r_index`` lies exactly there.
    beat_flags : (beat,) uint16
        What detection said; kept, and more bits added.
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
    from ecgbatch import detection, windows

    settings = settings or BeatSettings()
    n = _check_signal(signal, adc_gain, adc_gain, sampling_frequency_hz, n_samples)
    r_sample = np.ascontiguousarray(r_sample, dtype=np.int64)
    if len(r_sample) and (r_sample[0] < 0 or r_sample[-1] >= n or (np.diff(r_sample) <= 0).any()):
        raise ValueError(f"r_sample must increase within 0 to {n - 1}, found {r_sample[:3]} to {r_sample[-1]}: detect again")
    gain = np.asarray(adc_gain, dtype=np.float64)
    use = np.isfinite(gain) & (gain != 0) & (np.ones(len(gain), bool) if present is None else np.asarray(present, dtype=bool))
    step_uv = np.where(use, 1000.0 / np.where(use, gain, 1.0), 0.0)
    design = detection.resampler(sampling_frequency_hz, CUTOFF_HZ, HALF_WIDTH_S)
    high_pass = windows.high_pass(sampling_frequency_hz, HIGH_PASS_HZ)
    ready = _kernel_ready(signal)
    waveform = np.empty((len(r_sample), len(gain), settings.n_samples), np.int16)
    leaves = windows.cut_windows(
        ready, n, use, step_uv, r_sample, settings.r_index,
        design.taps, design.up, design.down, design.reach, high_pass, waveform, MISSING_SAMPLE,
    )  # fmt: skip
    flags = np.asarray(beat_flags, dtype=np.uint16) | np.where(leaves, BEAT_FLAGS["edge"], 0).astype(np.uint16)
    before, after = (math.ceil(s * sampling_frequency_hz) for s in (settings.before_s, settings.after_s))
    run = max(4, round(FLAT_TOP_S * sampling_frequency_hz))
    flags[windows.flat_tops(ready, n, use, step_uv / 1000.0, r_sample, before, after, run)] |= BEAT_FLAGS["clipped"]
    flags[aberrant(waveform, use, flags)] |= BEAT_FLAGS["aberrant"]
    return Beats(r_sample.astype(np.int32), waveform, flags)


def aberrant(waveform: Array, use: Array, beat_flags: Array) -> Array:
    """Return (beat,) bool: the beat's shape or size is unlike the median of up to 31 ordinary beats of its record."""
    from ecgbatch import windows

    if len(waveform) < 3:
        return np.zeros(len(waveform), bool)
    whole = np.flatnonzero((beat_flags & (BEAT_FLAGS["edge"] | BEAT_FLAGS["clipped"])) == 0)
    ordinary = np.flatnonzero((beat_flags & ~np.uint16(BEAT_FLAGS["aberrant"])) == 0)
    known = next((rows for rows in (ordinary, whole) if len(rows) >= 3), np.arange(len(waveform)))
    chosen = known[np.linspace(0, len(known) - 1, min(USUAL_BEATS, len(known))).astype(np.int64)]
    usual = windows.usual_beat(waveform, use, chosen)
    correlation, size = windows.resemblance(waveform, usual, MISSING_SAMPLE)
    unlike: Array = (correlation < RESEMBLANCE) | (size < 0.5) | (size > 2.0)
    return unlike


def kachuee_beats(
    signal: Array, *, adc_gain: Array, baseline: Array, sampling_frequency_hz: float, leads: list[str],
    present: Array | None = None, n_samples: int | None = None,
) -> Beats:  # fmt: skip
    """Extract beats by the seven steps of Kachuee et al. 2018, at 125 Hz, R peaks of lead II, all leads cut there.

    1 windows of 10 s; what is left at the end, and a record shorter than 10 s, gives no beats. 2 each lead scaled to [0, 1]
    in its window. 3 local maxima where the first derivative crosses zero (the first sample of a flat top). 4 those above
    0.9 on lead II. 5 T = median interval between them; a window with fewer than two has no T and gives no beats.
    6 a part of floor(1.2 T) samples from each, cut and flagged ``cut`` at 187, flagged ``edge`` where it leaves the window.
    7 zeros up to 187.

    Parameters
    ----------
    leads
        Names of the leads, canonical order; without II the first present lead takes its place.

    Returns
    -------
    Beats
        ``waveform`` (beat, lead, 187) in steps of 1/16384; a lead without samples is -32768, one that is constant is 0.
        ``r_sample`` is the 125 Hz sample's place at the record's own rate, rounded.

    """
    n = _check_signal(signal, adc_gain, baseline, sampling_frequency_hz, n_samples)
    gain = np.asarray(adc_gain, dtype=np.float64)
    use = np.isfinite(gain) & (gain != 0) & (np.ones(len(gain), bool) if present is None else np.asarray(present, dtype=bool))
    if not use.any() or n == 0:
        return Beats(np.zeros(0, np.int32), np.zeros((0, len(gain), KACHUEE_LENGTH), np.int16), np.zeros(0, np.uint16))
    reference: Any = leads.index("II") if "II" in leads and use[leads.index("II")] else int(np.flatnonzero(use)[0])
    at_125 = {
        lead: resample_lead(signal[lead, :n], gain[lead], baseline[lead], sampling_frequency_hz) for lead in np.flatnonzero(use)
    }
    width = int(KACHUEE_WINDOW_S * WORKING_RATE_HZ)
    parts = []
    for start in range(0, len(at_125[reference]) - width + 1, width):
        scaled = {lead: _scaled(values[start : start + width]) for lead, values in at_125.items()}
        peaks = kachuee_peaks(scaled[reference])
        parts.append((start + peaks, *_kachuee_window(scaled, peaks, len(gain))))
    empty = (np.zeros(0, np.int64), np.zeros((0, len(gain), KACHUEE_LENGTH), np.int16), np.zeros(0, np.uint16))
    place, waveform, flags = (np.concatenate(column) for column in zip(empty, *parts, strict=True))
    r_sample = np.rint(place * (sampling_frequency_hz / WORKING_RATE_HZ)).astype(np.int32)
    return Beats(np.minimum(r_sample, n - 1), waveform, flags)


def kachuee_peaks(scaled: Array) -> Array:
    """Return the samples of steps 3 and 4 in one window scaled to [0, 1]; none if there are fewer than two."""
    slope = np.sign(np.diff(scaled))
    moving = np.flatnonzero(slope)
    turns = moving[:-1][(slope[moving[:-1]] > 0) & (slope[moving[1:]] < 0)] + 1
    peaks = turns[scaled[turns] > KACHUEE_THRESHOLD]
    return peaks if len(peaks) >= 2 else peaks[:0]


def _kachuee_window(scaled: dict[Any, Array], peaks: Array, n_leads: int) -> tuple[Array, Array]:
    """Do steps 5 to 7 in one window: (beat, lead, 187) int16 and flags."""
    waveform = np.full((len(peaks), n_leads, KACHUEE_LENGTH), MISSING_SAMPLE, np.int16)
    flags = np.zeros(len(peaks), np.uint16)
    if len(peaks) == 0:
        return waveform, flags
    wanted = int(12 * np.median(2 * np.diff(peaks))) // 20  # floor(1.2 T) in whole numbers: 2 T is one
    if wanted > KACHUEE_LENGTH:
        flags |= np.uint16(BEAT_FLAGS["cut"])
    length = min(wanted, KACHUEE_LENGTH)
    for lead, values in scaled.items():
        stored = np.rint(values / KACHUEE_STEP).astype(np.int16)
        for beat, peak in enumerate(peaks):
            part = stored[peak : peak + length]
            waveform[beat, lead] = 0
            waveform[beat, lead, : len(part)] = part
    width = len(next(iter(scaled.values())))
    flags[peaks + length > width] |= BEAT_FLAGS["edge"]
    return waveform, flags


def resample_lead(lead: Array, adc_gain: float, baseline: int, sampling_frequency_hz: float) -> Array:
    """Return one lead at 125 Hz, (sample) float64, mV: ``scipy.signal.resample_poly`` as it comes, the ends held."""
    from fractions import Fraction

    from scipy.signal import resample_poly

    from ecgbatch.detection import fill_gaps

    ratio = Fraction(125) / Fraction(sampling_frequency_hz).limit_denominator(1000)
    millivolts = (fill_gaps(np.ascontiguousarray(lead)).astype(np.float64) - float(baseline)) / float(adc_gain)
    resampled: Array = resample_poly(millivolts, ratio.numerator, ratio.denominator, padtype="edge")
    return resampled


def _scaled(values: Array) -> Array:
    """Scale to [0, 1] by own minimum and maximum; a constant gives zeros."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def _check_signal(signal: Array, adc_gain: Array, baseline: Array, sampling_frequency_hz: float, n_samples: int | None) -> int:
    """Return the number of samples; raise where shapes, type or rate cannot be right."""
    if signal.ndim != 2 or signal.dtype != np.int16:
        raise ValueError(f"signal must be (lead, sample) int16 in ADC units, found {signal.shape} {signal.dtype}")
    if len(adc_gain) != len(signal) or len(baseline) != len(signal):
        raise ValueError(f"{len(signal)} leads need as many gains and baselines, found {len(adc_gain)} and {len(baseline)}")
    if not 50 <= sampling_frequency_hz <= 100_000:
        raise ValueError(f"sampling frequency must lie in [50, 100000] Hz, found {sampling_frequency_hz}: QRS need 50 Hz")
    n = signal.shape[1] if n_samples is None else int(n_samples)
    if not 0 <= n <= signal.shape[1]:
        raise ValueError(f"n_samples must lie in [0, {signal.shape[1]}], found {n}")
    return n


def _kernel_ready(signal: Array) -> Array:
    """Return the signal in the one memory layout that kernels are compiled for; a copy only where it has another."""
    return np.require(signal, np.int16, ["C", "W"])


def plan_peaks(signals: xr.Dataset, settings: BeatSettings) -> Plan:
    """Plan the R peaks of a signals store: a row a record, room for 300 beats a minute of its longest record."""
    sizes = {"record": signals.sizes["record"], "peak": _n_peaks(signals, settings)}
    return make_plan(
        PEAKS,
        sizes=sizes,
        inputs=xr.Dataset({name: (signals[name].dims, signals[name].values) for name in _FACTS}),
        settings=_stage_settings(signals, settings),
        versions=_versions(),
        shard_rows=_rows_at_once(signals),
    )


SHARD_SIGNAL_BYTES = 16_000_000
"""Samples that one shard of peaks reads: as much as a shard of signals holds."""


def produce_peaks(shard: Shard, rows: xr.Dataset, *, signals_at: str, settings: BeatSettings) -> xr.Dataset:
    """Find the R peaks of a shard's records.

    Parameters
    ----------
    rows
        (record) n_samples, sampling_frequency_hz, status; (record, lead) adc_gain, baseline, lead_flags.
    signals_at
        Path of the signals store.

    Returns
    -------
    xarray.Dataset
        r_sample and beat_flags (record, peak), n_beats and n_leads_used (record). A record set aside has 0 beats.

    """
    signals = open_once(signals_at)
    leads = [str(lead) for lead in signals["lead"].values]
    n_peaks = _n_peaks(signals, settings)
    n_rows = shard.stop - shard.start
    r_sample, flags = np.full((n_rows, n_peaks), -1, np.int32), np.zeros((n_rows, n_peaks), np.uint16)
    n_beats, n_leads_used = np.zeros(n_rows, np.int32), np.zeros(n_rows, np.int16)
    facts = {name: rows[name].values for name in _FACTS}
    for row, signal in enumerate(signals["signal"][shard.start : shard.stop].values):
        if facts["status"][row] == STATUS["set_aside"]:
            continue
        found = _record_peaks(signal, {name: values[row] for name, values in facts.items()}, leads, settings)
        n_beats[row], n_leads_used[row] = len(found.r_sample), found.n_leads_used
        r_sample[row, : n_beats[row]], flags[row, : n_beats[row]] = found.r_sample, found.beat_flags
    return xr.Dataset(
        {
            "r_sample": (("record", "peak"), r_sample),
            "beat_flags": (("record", "peak"), flags),
            "n_beats": ("record", n_beats),
            "n_leads_used": ("record", n_leads_used),
        }
    )


def plan_beats(signals: xr.Dataset, peaks: xr.Dataset, settings: BeatSettings) -> Plan:
    """Plan the windows of a signals store whose peaks are known: a row a beat, records one after another."""
    n_beats = peaks["n_beats"].values.astype(np.int32)
    first_beat = np.concatenate([[0], np.cumsum(n_beats, dtype=np.int64)[:-1]]) if len(n_beats) else np.zeros(0, np.int64)
    names = ["record_name", "patient_id", "status", "label", "mi"]
    fixed = {name: (signals[name].dims, signals[name].values) for name in names}
    lead = signals["lead"].values.astype(TEXT)
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
    stage = _stage_settings(signals, settings) | {"peaks": str(peaks.attrs.get("digest", ""))}
    # A shard of beats comes from about as many samples as a shard of peaks: that is where its work lies.
    rows = max(256, round(sizes["beat"] / max(1, sizes["record"]) * _rows_at_once(signals)))
    return make_plan(BEATS, sizes=sizes, inputs=inputs, settings=stage, versions=_versions(), shard_rows=rows)


def produce_beats(shard: Shard, rows: xr.Dataset, *, signals_at: str, peaks_at: str, settings: BeatSettings) -> xr.Dataset:  # noqa: ARG001
    """Cut the windows of a shard's beats; a record that two shards share is cut for each, to the same rows.

    Returns
    -------
    xarray.Dataset
        waveform (beat, lead, sample), r_sample, record_index, rr_previous_s, beat_flags (beat).

    """
    signals, peaks = open_once(signals_at), open_once(peaks_at)
    first_beat = np.concatenate([[0], np.cumsum(peaks["n_beats"].values, dtype=np.int64)])
    block = _empty_beats(shard.stop - shard.start, signals.sizes["lead"], settings.n_samples)
    first = int(np.searchsorted(first_beat, shard.start, side="right")) - 1
    last = int(np.searchsorted(first_beat, shard.stop, side="left"))
    leads = [str(lead) for lead in signals["lead"].values]
    for record, signal, facts in _records(signals, peaks, first, last):
        low, high = max(shard.start, int(first_beat[record])), min(shard.stop, int(first_beat[record + 1]))
        if high <= low:
            continue
        found = _record_beats(signal, facts, leads, settings)
        own, target = slice(low - first_beat[record], high - first_beat[record]), slice(low - shard.start, high - shard.start)
        block["waveform"][target] = found.waveform[own]
        block["r_sample"][target] = found.r_sample[own]
        block["record_index"][target] = record
        block["rr_previous_s"][target] = rr_previous_s(found.r_sample, float(facts["sampling_frequency_hz"]))[own]
        block["beat_flags"][target] = found.beat_flags[own]
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


def _record_peaks(signal: Array, record: Mapping[str, Any], leads: list[str], settings: BeatSettings) -> RPeaks:
    """R peaks of one row of a signals store."""
    lead_flags = record["lead_flags"]
    facts: dict[str, Any] = {
        "adc_gain": record["adc_gain"],
        "baseline": record["baseline"],
        "sampling_frequency_hz": float(record["sampling_frequency_hz"]),
        "n_samples": int(record["n_samples"]),
    }
    if settings.method == "kachuee":
        found = kachuee_beats(signal, leads=leads, present=(lead_flags & UNUSABLE_LEAD) == 0, **facts)
        return RPeaks(found.r_sample, found.beat_flags, int(len(found.r_sample) > 0))
    voting = (lead_flags & NO_VOTE) == 0
    voting = voting if voting.any() else (lead_flags & UNUSABLE_LEAD) == 0
    named = [leads.index(name) for name in REFERENCE_LEADS if name in leads and voting[leads.index(name)]]
    return detect_r_peaks(signal, usable=voting, reference=named[0] if named else None, **facts)


def _record_beats(signal: Array, record: Mapping[str, Any], leads: list[str], settings: BeatSettings) -> Beats:
    """Windows of one row of a signals store."""
    facts: dict[str, Any] = {
        "adc_gain": record["adc_gain"],
        "sampling_frequency_hz": float(record["sampling_frequency_hz"]),
        "n_samples": int(record["n_samples"]),
    }
    if settings.method == "kachuee":
        present = (record["lead_flags"] & UNUSABLE_LEAD) == 0
        return kachuee_beats(signal, baseline=record["baseline"], leads=leads, present=present, **facts)
    n_beats = int(record["n_beats"])
    r_sample, flags = record["r_sample"][:n_beats], record["beat_flags"][:n_beats]
    present = (record["lead_flags"] & LEAD_FLAGS["missing"]) == 0
    return beat_windows(signal, r_sample, flags, present=present, settings=settings, **facts)


def _empty_beats(n: int, n_leads: int, n_samples: int) -> dict[str, Array]:
    shapes = {name: (n, n_leads, n_samples) if name == "waveform" else (n,) for name in BEATS.bulk() | BEATS.columns()}
    return {name: np.zeros(shape, BEATS.variables[name].numpy_dtype) for name, shape in shapes.items()}


def _n_peaks(signals: xr.Dataset, settings: BeatSettings) -> int:
    """Return how many R peaks the longest record can have."""
    longest_s = float((signals["n_samples"].values / np.maximum(signals["sampling_frequency_hz"].values, 1e-9)).max(initial=0.0))
    per_s = WORKING_RATE_HZ / 2 if settings.method == "kachuee" else LONGEST_HEART_RATE_BPM / 60
    return max(1, math.ceil(longest_s * per_s))


def _stage_settings(signals: xr.Dataset, settings: BeatSettings) -> dict[str, Any]:
    own = settings.document() | {"signals": str(signals.attrs.get("digest", ""))}
    if settings.method == "kachuee":
        return own
    from ecgbatch.detection import BAND_HZ, BAND_SD_HZ, RULES

    return own | {"rules": RULES._asdict(), "band_hz": BAND_HZ, "band_sd_hz": BAND_SD_HZ}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    return {"scipy": version("scipy")}


@dataclass(frozen=True)
class Extraction:
    """What ``extract_beats`` did."""

    stores: tuple[str, ...]
    n_records: int
    n_beats: int
    n_without_beats: int


def extract_beats(
    work: str, settings: BeatSettings, *, map: Map = map, on_progress: Callable[[str, int, int], None] | None = None
) -> Extraction:
    """Find the R peaks and cut the beats of every signals store that holds a record now in the archive.

    Parameters
    ----------
    work
        A workspace with signals.
    settings
        Method and window.
    map
        Engine; the bytes do not depend on it.
    on_progress
        Called with the stage's name, shards done and shards in all.

    """
    digests = sorted(set(current_records(work)["signals_store"].values.tolist()))
    stores, n_records, n_beats, n_without = [], 0, 0, 0
    for number, digest in enumerate(digests, 1):
        mark = "" if len(digests) == 1 else f" {number}/{len(digests)}"
        progress = [partial(on_progress, stage + mark) if on_progress else None for stage in ("R peaks", "beats")]
        signals_at = signals_path(work, digest)
        signals = open_store(signals_at)
        find = partial(produce_peaks, signals_at=signals_at, settings=settings)
        peaks_at = build(work, plan_peaks(signals, settings), find, map=map, on_progress=progress[0])
        peaks = open_store(peaks_at)
        cut = partial(produce_beats, signals_at=signals_at, peaks_at=peaks_at, settings=settings)
        stores.append(build(work, plan_beats(signals, peaks, settings), cut, map=map, on_progress=progress[1]))
        counts = peaks["n_beats"].values
        n_records, n_beats, n_without = n_records + counts.size, n_beats + int(counts.sum()), n_without + int((counts == 0).sum())
    return Extraction(tuple(stores), n_records, n_beats, n_without)


def current_beats(work: str, settings: Mapping[str, Any]) -> xr.Dataset:
    """Return ``signals.current_records`` joined with the beats that were cut with ``settings``.

    Parameters
    ----------
    settings
        What a beats store's settings must hold, for instance ``model.beats``.

    Returns
    -------
    xarray.Dataset
        The records' table, plus ``beats_store`` (digest; empty where there is none), ``beats_row`` and ``n_beats``.

    Raises
    ------
    UnfinishedStore
        If a record's signals store has no such beats yet.

    """
    records = current_records(work)
    stores = {}
    for path in list_stores(work, "beats"):
        beats = open_store(path)
        if all(beats.attrs["settings"].get(name) == value for name, value in settings.items()):
            stores[beats.attrs["settings"]["signals"]] = beats
    digests, rows = records["signals_store"].values, records["signals_row"].values
    missing = sorted(set(digests.tolist()) - stores.keys())
    if missing:
        raise UnfinishedStore(
            f"{work}: no beats cut with {dict(settings)} for signals {', '.join(missing)}; run `ecgbatch beats {work}`"
        )
    names, n_beats = np.empty(rows.size, dtype=TEXT), np.zeros(rows.size, np.int32)
    for digest, beats in stores.items():
        here = np.flatnonzero(digests == digest)
        names[here] = beats.attrs["digest"]
        n_beats[here] = beats["n_beats"].values[rows[here]]
    return records.assign(beats_store=("record", names), beats_row=("record", rows.copy()), n_beats=("record", n_beats))
