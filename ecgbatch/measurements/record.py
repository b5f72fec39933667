"""Measurements of records: rate, intervals, axes, and each lead's waves; each a number, or the reason why not.

Measured as an electrocardiograph does: on the median of the beats of the commonest shape in the ten seconds put on paper, all
leads sharing one QRS onset and offset. Each half of the beats is measured by itself: the mean counts, and where they
disagree nothing is stated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.beats.rhythm import rhythm
from ecgbatch.measurements.amplitudes import LIMB_DIRECTIONS, frontal_axes, lead_amplitudes
from ecgbatch.measurements.atrial import P_REPEATS, changed_share, p_agreement
from ecgbatch.measurements.boundaries import Boundaries, find_boundaries
from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES, REASONS, Quantity
from ecgbatch.measurements.selection import RATE_HZ, beats_of_one_kind, median_beat
from ecgbatch.measurements.statements import statements_of
from ecgbatch.model.trees import Trees
from ecgbatch.terms import FAULTY_LEAD, LEAD_FLAGS, LEADS, UNUSABLE_LEAD

Array = NDArray[Any]

VERSION = 3
"""Of the method: what is measured anew when it changes."""

FEWEST_BEATS = 3
"""Beats of one shape that are measured: two halves, of which one has two."""

LOWEST_RATE_HZ = 200.0
"""Below it a sample is longer than 5 ms, and a QRS of 100 ms cannot be told from one of 90."""

BELIEVED_MS: Mapping[str, tuple[float, float]] = {
    "p_ms": (40, 220), "pr_ms": (70, 400), "qrs_ms": (50, 260), "qt_ms": (200, 720)
}  # fmt: skip
"""Outside a boundary was missed (normal QRS: 70 to 110, broadest blocks and paced beats about 220)."""

AGREEMENT_MS: Mapping[str, float] = {"p_ms": 30, "pr_ms": 24, "qrs_ms": 16, "qt_ms": 30}
"""Most that the two halves of the beats may differ. In LUDB 98 of 100 records' halves differ by less than half of it."""

UNSURE_MS: Mapping[str, float] = {"p_onset": 36, "p_end": 24, "qrs_onset": 18, "qrs_offset": 18, "t_end": 28}
"""Most that a boundary's own SD (``boundaries.likeliest``) may be: three times the median of LUDB."""

METHOD = (
    "Measured on the median of the beats of the commonest shape in the ten seconds on paper, at 500 samples a second. Boundaries "
    "by trees fitted on those that cardiologists set on twelve leads of LUDB. QRS: from the second earliest onset to the second "
    "latest offset over leads; QT: from that onset to the median over leads of T end; PR: from the median of P onset; P: between "
    "the medians. QTc: Fridericia, and Bazett. Axes: directions of areas. ST: over the level just before QRS. Each half of the "
    "beats is measured by itself; where they disagree nothing is stated."
)

_UNMEASURED_LEAD = UNUSABLE_LEAD | LEAD_FLAGS["gaps"] | LEAD_FLAGS["implausible_amplitude"]
_ENDS = {
    "p_ms": ("p_onset", "p_end"), "pr_ms": ("p_onset", "qrs_onset"), "qrs_ms": ("qrs_onset", "qrs_offset"),
    "qt_ms": ("qrs_onset", "t_end"),
}  # fmt: skip
_PLACE = {name: place for place, name in enumerate(QUANTITIES)}


class Measured(NamedTuple):
    """Measurements of one record.

    Fields
    ------
    value : (quantity,) float32
        In the order of ``QUANTITIES``; NaN where there is none.
    reason : (quantity,) uint8
        ``REASONS``: why there is none, 0 where there is one.
    lead_value : (lead quantity, lead) float32
        In the order of ``LEAD_QUANTITIES``.
    lead_reason : (lead,) uint8
        Why a lead has no amplitudes; 0 where it has.
    n_beats
        Beats of which the median was made.
    irregularity
        Share of neighbouring RR intervals of the record that differ by more than 3.25 %; NaN unknown.
    p_agreement
        ``atrial.p_agreement``; NaN unknown.
    statements
        Mask of ``terms.STATEMENTS``.

    """

    value: NDArray[np.float32]
    reason: NDArray[np.uint8]
    lead_value: NDArray[np.float32]
    lead_reason: NDArray[np.uint8]
    n_beats: int
    irregularity: float
    p_agreement: float
    statements: int


def nothing_measured(n_leads: int, reason: str) -> Measured:
    """Return that of a record of which nothing is known, for one of ``REASONS``."""
    none = (np.full(len(QUANTITIES), np.nan, np.float32), np.full(len(QUANTITIES), REASONS[reason], np.uint8))
    leads = (np.full((len(LEAD_QUANTITIES), n_leads), np.nan, np.float32), np.full(n_leads, REASONS[reason], np.uint8))
    return Measured(*none, *leads, 0, float("nan"), float("nan"), 0)


@dataclass(frozen=True)
class Excerpt:
    """Up to ten seconds of a record, to be measured, and the beats in it.

    Parameters
    ----------
    signal_mv : (lead, sample) float32, mV
        NaN where missing; of a lead flagged ``not_millivolts`` the shape alone counts.
    leads, lead_flags
        Name and ``terms.LEAD_FLAGS`` of each lead.
    sampling_frequency_hz
        Its rate.
    r_sample, beat_flags : (beat,) int
        R peaks inside it, counted from its first sample, and ``terms.BEAT_FLAGS``.
    whole : (beat,) int, (beat,) int
        R peaks of the whole record and their flags; default those of the excerpt.
    age_years, sex
        For statements with limits by age and sex: NaN unknown; ``terms.SEX``.

    """

    signal_mv: Array
    leads: Sequence[str]
    lead_flags: Sequence[int]
    sampling_frequency_hz: float
    r_sample: Array
    beat_flags: Array
    whole: tuple[Array, Array] | None = None
    age_years: float = float("nan")
    sex: int = 0


def measure_record(excerpt: Excerpt, *, trees: Mapping[str, Trees] | None = None) -> Measured:
    """Measure a record on an excerpt of up to ten seconds; ``trees`` are of the boundaries, default those that ship."""
    return measure_records([excerpt], trees=trees)[0]


def measure_records(excerpts: Sequence[Excerpt], *, trees: Mapping[str, Trees] | None = None) -> list[Measured]:
    """Measure records together, each on its own excerpt, and each as if it were alone.

    Boundaries are found in the median beats of all records with as many leads at once: some sixteen records share what a call
    costs and still lie in the processor's cache.
    """
    subjects = [_subject(excerpt) for excerpt in excerpts]
    alike: dict[int, list[_Subject]] = {}
    for subject in subjects:
        if not subject.why:
            alike.setdefault(subject.used.size, []).append(subject)
    halves: dict[int, list[Boundaries]] = {}
    for group in alike.values():
        found = _boundaries(group, trees)
        halves |= {id(subject): found[2 * place : 2 * place + 2] for place, subject in enumerate(group)}
    return [_measured(subject, halves.get(id(subject), ())) for subject in subjects]


class _Subject(NamedTuple):
    """A record that is being measured: what is known before its boundaries are.

    ``value``, ``reason`` (quantity,) are filled with what follows from R peaks alone. ``used``: places of the leads that are
    measured; ``why``: why nothing can be, or nothing; ``signal`` (lead, sample) at ``RATE_HZ`` and ``r`` (beat,) of the beats of
    one kind in it.
    """

    excerpt: Excerpt
    value: Array
    reason: Array
    rr_ms: float
    used: NDArray[np.intp]
    why: str
    signal: Array
    r: Array


def _subject(excerpt: Excerpt) -> _Subject:
    value, reason, rr_ms = _rates(excerpt)
    used = _used_leads(excerpt.signal_mv, excerpt.lead_flags)
    beats = excerpt.sampling_frequency_hz, excerpt.r_sample, excerpt.beat_flags
    return _Subject(excerpt, value, reason, rr_ms, used, *_measurable(excerpt.signal_mv[used], *beats))


def _measured(subject: _Subject, halves: Sequence[Boundaries]) -> Measured:
    """Measure a record, given the boundaries of each half of its beats (none where nothing can be measured)."""
    excerpt, value, reason, rr_ms, used, why, signal, r = subject
    leads, lead_flags = excerpt.leads, excerpt.lead_flags
    whole = excerpt.whole or (excerpt.r_sample, excerpt.beat_flags)
    irregularity = float(np.float32(changed_share(*whole)))
    lead_value = np.full((len(LEAD_QUANTITIES), len(leads)), np.nan, np.float32)
    lead_reason = _lead_reasons(lead_flags, used, why)
    agreement = float("nan")
    if why:
        reason[_PLACE["p_ms"] :] = REASONS[why]
    else:
        onset_of_lead = (halves[0].onset_of_lead + halves[1].onset_of_lead) / 2
        agreement = float(np.float32(p_agreement(signal, r, min(half.at["qrs_onset"] for half in halves))))
        _fill_intervals(value, reason, halves, rr_ms, agreement)
        at = {name: (halves[0].at[name] + halves[1].at[name]) / 2 for name in halves[0].at}
        for name, ends in _ENDS.items():  # a wave without a duration has no amplitude and no axis either
            if reason[_PLACE[name]] and name in ("p_ms", "qt_ms"):
                at[ends[1]] = float("nan")
        beat = median_beat(signal, r)
        is_millivolts = np.array([not lead_flags[place] & LEAD_FLAGS["not_millivolts"] for place in used])
        if reason[_PLACE["qrs_ms"]]:
            lead_reason[used] = REASONS["no_boundaries"]
        else:
            lead_value[:, used] = lead_amplitudes(beat, at, onset_of_lead, is_millivolts)
        _fill_axes(value, reason, beat, _names(subject), [lead_flags[place] for place in used], at)
    value, lead_value = _rounded(value, QUANTITIES), _rounded(lead_value, LEAD_QUANTITIES)
    statements = statements_of(value, lead_value, leads, agreement, irregularity, excerpt.age_years, excerpt.sex)
    return Measured(value, reason, lead_value, lead_reason, 0 if why else int(r.size), irregularity, agreement, statements)


def _rates(excerpt: Excerpt) -> tuple[Array, Array, float]:
    """Return values and reasons of all quantities, filled with what follows from R peaks alone, and the RR interval in ms."""
    found = rhythm(excerpt.r_sample, excerpt.beat_flags, excerpt.sampling_frequency_hz)
    rr_ms = 60_000.0 / found.heart_rate_bpm if found.heart_rate_bpm > 0 else float("nan")
    value = np.full(len(QUANTITIES), np.nan)
    reason = np.zeros(len(QUANTITIES), np.uint8)
    for name, known in (("heart_rate_bpm", found.heart_rate_bpm), ("rr_ms", rr_ms), ("rr_spread_ms", found.rr_spread_s * 1000)):
        value[_PLACE[name]] = known
        reason[_PLACE[name]] = 0 if np.isfinite(known) else REASONS["too_few_beats" if name == "rr_spread_ms" else "no_beats"]
    return value, reason, rr_ms


def _rounded(values: Array, quantities: Mapping[str, Quantity]) -> NDArray[np.float32]:
    """Return values, (quantity, ...), with the digits that each quantity is kept with: statements follow from what is shown."""
    rows = [np.round(np.float64(row), of.digits) + 0.0 for row, of in zip(values, quantities.values(), strict=True)]  # no -0
    return np.array(rows, np.float32)


def _used_leads(excerpt: Array, lead_flags: Sequence[int]) -> NDArray[np.intp]:
    """Return the places of the leads that are measured: without noise or clipping, unless that leaves fewer than half."""
    is_whole = np.isfinite(excerpt).all(axis=1) if excerpt.shape[1] else np.zeros(len(excerpt), bool)
    is_there = is_whole & np.array([not flags & _UNMEASURED_LEAD for flags in lead_flags], bool)
    is_good = is_there & np.array([not flags & FAULTY_LEAD for flags in lead_flags], bool)
    return np.flatnonzero(is_good if 2 * is_good.sum() >= is_there.sum() else is_there)


def _measurable(signal: Array, fs: float, r_sample: Array, beat_flags: Array) -> tuple[str, Array, Array]:
    """Return why nothing can be measured (or nothing), the signal at ``RATE_HZ``, and R of the beats to measure."""
    nothing = np.empty((0, 0), np.float32), np.empty(0, int)
    if fs < LOWEST_RATE_HZ:
        return "low_rate", *nothing
    if not len(signal):
        return "no_lead", *nothing
    signal = at_rate(signal, fs)
    r = np.rint(np.asarray(r_sample) * (RATE_HZ / fs)).astype(int)
    r = beats_of_one_kind(signal, r, np.asarray(beat_flags))
    return ("", signal, r) if r.size >= FEWEST_BEATS else ("too_few_beats", *nothing)


def at_rate(signal: Array, fs: float) -> Array:
    """Return (lead, sample) float32 at ``RATE_HZ``, by a polyphase filter."""
    if fs == RATE_HZ:
        return np.asarray(signal, np.float32)
    from scipy.signal import resample_poly

    ratio = Fraction(RATE_HZ / fs).limit_denominator(1000)
    level = signal[:, :1]  # the filter takes what lies outside for zero
    return np.asarray(resample_poly(signal - level, ratio.numerator, ratio.denominator, axis=1) + level, np.float32)


def _boundaries(subjects: Sequence[_Subject], trees: Mapping[str, Trees] | None) -> list[Boundaries]:
    """Return where the boundaries of the median of every other beat lie, and of the rest: two for each record."""
    beats = [median_beat(one.signal, half) for one in subjects for half in (one.r[::2], one.r[1::2])]
    numbers = [[LEADS.index(name) if name in LEADS[:12] else -1 for name in _names(one)] for one in subjects for _ in range(2)]
    rr = [one.rr_ms / 1000 * RATE_HZ if np.isfinite(one.rr_ms) else RATE_HZ for one in subjects for _ in range(2)]
    return find_boundaries(np.stack(beats, axis=1), np.array(numbers).T, np.array(rr), trees)


def _names(subject: _Subject) -> list[str]:
    return [subject.excerpt.leads[place] for place in subject.used]


def _fill_intervals(value: Array, reason: Array, halves: Sequence[Boundaries], rr_ms: float, agreement: float) -> None:
    for name, (first, last) in _ENDS.items():
        lengths = [(half.at[last] - half.at[first]) / RATE_HZ * 1000 for half in halves]
        found = sum(lengths) / 2
        unsure = max(max(half.spread[end] for half in halves) / RATE_HZ * 1000 / UNSURE_MS[end] for end in (first, last))
        low, high = BELIEVED_MS[name]
        doubts = (
            (name in ("p_ms", "pr_ms") and not agreement >= P_REPEATS, "no_p"),
            (name == "qt_ms" and not np.isfinite(rr_ms), "no_rr"),
            (not low <= found <= high or (name == "qt_ms" and found > 0.95 * rr_ms), "not_believed"),
            (abs(lengths[0] - lengths[1]) > AGREEMENT_MS[name], "halves_disagree"),
            (unsure > 1, "no_quiet_line" if name == "qrs_ms" else "no_wave"),
        )
        why = next((word for doubted, word in doubts if doubted), "")
        reason[_PLACE[name]] = REASONS[why] if why else 0
        value[_PLACE[name]] = np.nan if why else found
    if reason[_PLACE["qrs_ms"]]:  # what begins or ends at a QRS that is not believed is not believed either
        for name in ("pr_ms", "qt_ms"):
            value[_PLACE[name]], reason[_PLACE[name]] = np.nan, reason[_PLACE[name]] or REASONS["no_boundaries"]
    for name, power in (("qtc_fridericia_ms", 1 / 3), ("qtc_bazett_ms", 1 / 2)):
        value[_PLACE[name]] = value[_PLACE["qt_ms"]] / (rr_ms / 1000) ** power
        reason[_PLACE[name]] = reason[_PLACE["qt_ms"]]


def _fill_axes(
    value: Array, reason: Array, beat: Array, names: Sequence[str], flags: Sequence[int], at: Mapping[str, float]
) -> None:
    limb = [place for place, name in enumerate(names) if name in LIMB_DIRECTIONS]
    real = [place for place in limb if not flags[place] & LEAD_FLAGS["not_millivolts"]]
    why = "" if len(real) > 1 else ("not_millivolts" if len(limb) > 1 else "too_few_leads")
    if any(flags[place] & LEAD_FLAGS["suspected_swap"] for place in limb):
        why = "electrodes_exchanged"
    if reason[_PLACE["qrs_ms"]]:
        why = why or "no_boundaries"
    axes = {} if why else frontal_axes(beat[real], [names[place] for place in real], at)
    of = {"axis_p_deg": "p_ms", "axis_qrs_deg": "qrs_ms", "axis_t_deg": "qt_ms"}
    for name, wave in of.items():
        found = axes.get(name, float("nan"))
        value[_PLACE[name]] = found
        doubt = why or ("" if np.isfinite(found) else "no_direction")
        reason[_PLACE[name]] = REASONS[doubt] if doubt else 0
        if not why and reason[_PLACE[wave]]:
            value[_PLACE[name]], reason[_PLACE[name]] = np.nan, reason[_PLACE[wave]]


def _lead_reasons(lead_flags: Sequence[int], used: NDArray[np.intp], why: str) -> NDArray[np.uint8]:
    found = np.full(len(lead_flags), REASONS[why] if why else REASONS["noisy"], np.uint8)
    if not why:
        found[used] = 0
    for place, flags in enumerate(lead_flags):
        for word, name in (("not_millivolts", "not_millivolts"), ("flat", "flat"), ("missing", "absent")):
            if flags & LEAD_FLAGS[word]:
                found[place] = REASONS[name]
    return found
