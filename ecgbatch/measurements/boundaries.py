"""Where P, QRS and T of a median beat begin and end: fitted trees say of each moment whether the boundary lies behind it.

What they ask are curves over time that do not depend on a lead's unit or number: how fast the leads move, in the mean and in the
order of their speeds; how far they are from the level just before and just behind. Fitted on the boundaries that cardiologists
set on all leads of LUDB (``benchmarks/accuracy/boundaries.py``); docs/measurements.md has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.ordering import ranked
from ecgbatch.measurements.selection import AFTER, BEFORE
from ecgbatch.model.trees import Trees, class_scores

Array = NDArray[Any]

BOUNDARIES: Mapping[str, Array] = {
    "qrs_onset": np.arange(-90, 1, 3),
    "qrs_offset": np.arange(0, 118, 3),
    "t_end": np.arange(60, 396, 4),
    "p_onset": np.arange(-200, -20, 3),
    "p_end": np.arange(-140, 1, 3),
}
"""Moments, in samples of ``selection.RATE_HZ`` from R, at which each boundary is asked for."""

TREES_FILE = Path(__file__).parents[1] / "weights" / "measurements" / "boundaries.npz"

OUTWARD: Mapping[str, float] = {"qrs_onset": -2.0, "qrs_offset": 2.0}
"""Samples by which the second earliest onset and second latest offset of the fitted leads lie inside those of the cardiologists:
a fit draws each lead to the middle, and the extremes with it. Fitted with the trees."""

LEVEL_BEFORE = slice(-12, -2)
"""Samples from QRS onset that make the level before QRS: 20 ms that end 4 ms before it."""

_NEAR = np.arange(-12, 13) * 2
_WIDE = np.arange(-40, 41, 8)
_CLOSE = np.arange(-30, 31, 6)
_QRS = slice(BEFORE - 50, BEFORE + 60)
_ACTIVE = slice(BEFORE - 90, BEFORE + 110)


class Boundaries(NamedTuple):
    """Of one median beat: where each of ``BOUNDARIES`` lies, samples from R, how unsure that is (SD, samples), and (lead,) where
    QRS begins in each lead by itself.
    """

    at: Mapping[str, float]
    spread: Mapping[str, float]
    onset_of_lead: Array


def find_boundaries(beat: Array, leads: Array, rr: float, trees: Mapping[str, Trees] | None = None) -> Boundaries:
    """Find the boundaries of a median beat.

    QRS begins at the second earliest of the leads' own onsets and ends at the second latest of their offsets, as a cardiologist
    with all leads in view sets them: one lead's odd boundary does not decide. Both are moved by ``OUTWARD``.

    Parameters
    ----------
    beat : (lead, ``BEFORE`` + ``AFTER``) float32
        From ``selection.median_beat``; one lead or more, each in its own unit.
    leads : (lead,) int
        Place of each lead in ``terms.LEADS``, -1 for any other.
    rr
        Median RR interval, samples.
    trees
        Default: those that ship with the package.

    """
    trees = fitted_trees() if trees is None else trees
    at: dict[str, float] = {}
    spread: dict[str, float] = {}
    onset_of_lead = np.empty(0)
    for name, figures in qrs_figures(beat, leads).items():
        score = class_scores(trees[name], figures.reshape(-1, figures.shape[2]))[:, 1].reshape(figures.shape[:2])
        own, doubt = likeliest(score, BOUNDARIES[name])
        onset_of_lead = own if name == "qrs_onset" else onset_of_lead
        order = own.argsort()
        chosen = order[min(1, own.size - 1)] if name == "qrs_onset" else order[max(0, own.size - 2)]
        at[name], spread[name] = float(own[chosen]) + OUTWARD[name], float(doubt[chosen])
    for name, figures in wave_figures(beat, rr, at["qrs_onset"], at["qrs_offset"]).items():
        place, doubt = likeliest(class_scores(trees[name], figures)[None, :, 1], BOUNDARIES[name])
        at[name], spread[name] = float(place[0]), float(doubt[0])
    return Boundaries(at, spread, onset_of_lead)


@lru_cache(1)
def fitted_trees() -> Mapping[str, Trees]:
    """Return the trees of each boundary that ship with the package."""
    return read_trees(TREES_FILE)


def read_trees(path: Path) -> Mapping[str, Trees]:
    """Return the trees of each boundary of a file that ``benchmarks/accuracy/boundaries.py`` wrote."""
    with np.load(path, allow_pickle=False) as stored:
        parts = {key: stored[key] for key in stored.files}
    return {name: {key.split(".")[1]: part for key, part in parts.items() if key.startswith(f"{name}.")} for name in BOUNDARIES}


def likeliest(score: Array, moments: Array) -> tuple[Array, Array]:
    """Return mean and SD of each boundary's place, (row,), given for each moment the log odds that it lies before that moment.

    Parameters
    ----------
    score : (row, moment) float
        Each place between two moments is as likely as all moments' answers together make it.
    moments : (moment,) int

    """
    passed = np.clip(1 / (1 + np.exp(-score)), 1e-3, 1 - 1e-3)
    none = np.zeros((len(score), 1))
    early = np.concatenate([none, -np.log(1 - passed).cumsum(axis=1)], axis=1)
    late = np.concatenate([-np.log(passed)[:, ::-1].cumsum(axis=1)[:, ::-1], none], axis=1)
    unlikely = early + late
    weight = np.exp(unlikely.min(axis=1, keepdims=True) - unlikely)
    weight /= weight.sum(axis=1, keepdims=True)
    places = np.concatenate([moments[:1], (moments[1:] + moments[:-1]) / 2, moments[-1:]])
    mean = weight @ places
    return mean, np.sqrt((weight * (places - mean[:, None]) ** 2).sum(axis=1))


def qrs_figures(beat: Array, leads: Array) -> dict[str, Array]:
    """Return what is asked of the moments of each lead's QRS onset and offset, (lead, moment, figure) float32.

    Of each lead its own speed, shape and share done; of all together the mean speed and that of the second fastest; the lead's
    number (``leads``, (lead,) int: place in ``terms.LEADS``, -1 for others): cardiologists see J in V1 elsewhere than in V6.
    """
    shape = beat / (np.ptp(beat[:, _QRS], axis=1) + 1e-9)[:, None]
    speed = _difference(shape, 2)
    overall = _mean_square(speed)
    overall /= overall[_QRS].max() + 1e-9
    common = [(_log(overall), _NEAR[::2]), (_log(_ranked(np.abs(speed), -2)), _NEAR[::3]), (_done(overall), [0])]
    own_speed = np.abs(speed) / (np.abs(speed[:, _QRS]).max(axis=1) + 1e-9)[:, None]
    own = [(np.log(own_speed + 1e-2), _NEAR), (_done(own_speed), [0])]
    found = {}
    for name in ("qrs_onset", "qrs_offset"):
        moments = BOUNDARIES[name]
        place = BEFORE + moments[:, None]
        shared = np.concatenate([moments[:, None], *(line[place + np.asarray(around)] for line, around in common)], axis=1)
        shared = np.broadcast_to(shared, (len(beat), *shared.shape))
        away = shape[:, place + _NEAR[::2]] - shape[:, place]
        lines = [line[:, place + np.asarray(around)] for line, around in own]
        number = np.broadcast_to(leads[:, None, None], (len(beat), moments.size, 1))
        found[name] = np.concatenate([shared, *lines, away, number], axis=2).astype(np.float32)
    return found


def _done(speed: Array) -> Array:
    """Return the share of all movement around QRS that lies behind each moment."""
    moved = np.zeros_like(speed)
    moved[..., _ACTIVE] = speed[..., _ACTIVE]
    total = moved.cumsum(axis=-1)
    return np.asarray(total / (total[..., -1:] + 1e-9))


def wave_figures(beat: Array, rr: float, onset: float, offset: float) -> dict[str, Array]:
    """Return what is asked of the moments of P onset, P end and T end, given QRS onset and offset (samples from R)."""
    shape = beat / (np.ptp(beat[:, _QRS], axis=1) + 1e-9)[:, None]
    start, stop = BEFORE + int(onset), BEFORE + int(offset)
    level = np.median(shape[:, start + LEVEL_BEFORE.start : start + LEVEL_BEFORE.stop], axis=1)[:, None]
    return {"t_end": _t_figures(shape - level, rr, onset, offset), **_p_figures(shape, level, rr, onset, offset, (start, stop))}


def _smooth(shape: Array, sd: float) -> Array:
    from scipy.ndimage import gaussian_filter1d  # a fifth of a second: not for a night without anything new

    return np.asarray(gaussian_filter1d(shape, sd, axis=1))


def _t_figures(shape: Array, rr: float, onset: float, offset: float) -> Array:
    smooth = _smooth(shape, 6)
    first = BEFORE + int(offset) + 20
    last = max(first + 60, min(BEFORE + AFTER - 10, BEFORE + int(rr + onset) - 20))
    last = min(last, smooth.shape[1] - 1)
    size = np.ptp(smooth[:, first:last], axis=1) + 1e-9
    wave = smooth / size[:, None]
    speed = np.abs(_difference(wave, 8))
    weight = np.sqrt(size) / np.sqrt(size).sum()
    main = _main_wave(smooth, slice(first, last), smooth[:, first:last].mean(axis=1))
    fall = _difference(main, 8)
    peak = first + int(main[first:last].argmax())
    steepest = peak + int(fall[peak:last].argmin()) if peak < last - 2 else peak
    tangent = steepest - main[steepest] / min(fall[steepest] / 16, -1e-9) if fall[steepest] < 0 else float(steepest)
    ends = _tangents(wave, first, last)
    middle_end = float(np.median(ends)) if ends.size else tangent
    lines = [
        (_log(np.sqrt((speed**2 * weight[:, None]).sum(axis=0))), _WIDE),
        (main, _WIDE),
        (fall, _WIDE[::2]),
        (_log(_ranked(speed, 0.5)), _WIDE[::2]),
        (_log(_ranked(speed, -3)), _WIDE[::2]),
        (_ranked(np.abs(wave), 0.5), _WIDE[::2]),
    ]
    since = {"peak": peak - BEFORE, "tangent": tangent - BEFORE, "end": middle_end - BEFORE, "qrs": offset, "next": rr + onset}
    return _table(BOUNDARIES["t_end"], lines, {"rr": rr, "peak": peak - BEFORE, "size": float(size.mean())}, since)


def _p_figures(shape: Array, level: Array, rr: float, onset: float, offset: float, qrs: tuple[int, int]) -> dict[str, Array]:
    smooth = _smooth(shape, 4)
    last = qrs[0] - 2
    first = min(max(10, BEFORE + max(-200, int(offset - rr) + 90)), last - 30)
    rest = np.median(smooth[:, first:last], axis=1)
    size = np.ptp(smooth[:, first:last], axis=1)
    wave = (smooth - level) / np.maximum(size, 0.02)[:, None]
    speed = np.abs(_difference(wave, 5))
    main = _main_wave(smooth, slice(first, last), rest)
    strength = np.linalg.svd(smooth[:, first:last] - rest[:, None], compute_uv=False)
    second = strength[1] if strength.size > 1 else 0.0
    peak = first + int(main[first:last].argmax())
    away = np.abs(smooth - rest[:, None])
    lines = [
        (_log(np.sqrt((speed**2).mean(axis=0))), _CLOSE),
        (main, _CLOSE),
        (_difference(main, 5), _CLOSE[::2]),
        (_log(_ranked(speed, 0.5)), _CLOSE[::2]),
        (_log(_ranked(speed, -3)), _CLOSE[::2]),
        (_log(_ranked(away, 0.5)), _CLOSE[::2]),
    ]
    whole = {"rr": rr, "size": float(np.median(size)), "first": float(np.log(strength[0] / (second + 1e-3) + 1e-3))}
    since = {"peak": peak - BEFORE, "qrs": onset}
    return {name: _table(BOUNDARIES[name], lines, whole, since) for name in ("p_onset", "p_end")}


def _main_wave(smooth: Array, inside: slice, rest: Array) -> Array:
    """Return the leads' first principal component over a span, (sample,), its largest deflection there made +1."""
    away = smooth - rest[:, None]
    direction = np.linalg.svd(away[:, inside], full_matrices=False)[0][:, 0]
    wave = direction @ away
    top = wave[inside][np.abs(wave[inside]).argmax()]
    return np.asarray(wave / (top if abs(top) > 1e-9 else 1.0))


def _tangents(wave: Array, first: int, last: int) -> Array:
    """Return where the steepest tangent behind each lead's largest deflection meets its level, of the leads that have one."""
    ends = []
    for line in wave:
        peak = first + int(np.abs(line[first:last]).argmax())
        side = np.sign(line[peak])
        slope = _difference(line * side, 8)[peak:last] / 16
        if slope.size > 4 and slope.min() < 0:
            steepest = int(slope.argmin())
            ends.append(peak + steepest - line[peak + steepest] * side / slope[steepest])
    return np.array(ends)


def _table(moments: Array, lines: Any, whole: Mapping[str, float], since: Mapping[str, float] | None = None) -> Array:
    """Return (moment, figure) float32: each line around each moment, the moment itself, its distances and what holds for all."""
    place = BEFORE + moments
    columns = [moments[:, None].astype(np.float64)]
    columns += [line[np.clip(place[:, None] + np.asarray(around), 0, line.size - 1)] for line, around in lines]
    columns += [(moments - where)[:, None] for where in (since or {}).values()]
    columns += [np.full((moments.size, 1), value) for value in whole.values()]
    return np.concatenate(columns, axis=1).astype(np.float32)


def _difference(lines: Array, half: int) -> Array:
    """Return the difference over ``half`` samples to each side; zero at the ends."""
    found = np.zeros_like(lines)
    found[..., half:-half] = lines[..., 2 * half :] - lines[..., : -2 * half]
    return found


def _moved(lines: Array, by: int) -> Array:
    """Return what lies ``by`` samples ahead; at the ends the last value."""
    return np.asarray(lines[:, np.clip(np.arange(lines.shape[1]) + by, 0, lines.shape[1] - 1)])


def _ranked(lines: Array, rank: float) -> Array:
    """Return, sample by sample, one lead's value by rank: a share of the leads, or -2 for the second highest, -3 the third."""
    n = len(lines)
    place = max(0, n + int(rank)) if rank < 0 else round(rank * (n - 1))
    return np.asarray(ranked(np.require(lines, requirements=("C", "W")), place))


def _mean_square(lines: Array) -> Array:
    return np.asarray(np.sqrt((lines**2).mean(axis=0)))


def _log(line: Array) -> Array:
    return np.asarray(np.log(line + 1e-3))
