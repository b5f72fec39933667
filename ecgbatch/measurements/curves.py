"""What the boundaries' trees ask: curves over time around a median beat, read at each moment that may be a boundary.

They do not depend on a lead's unit or number: how fast the leads move, in the mean and in the order of their speeds; how far they
are from the level just before and just behind. Many beats of as many leads at once, in arrays (lead, beat, sample): what is done
to one sample of one beat is done to all, and a beat's numbers depend on that beat only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.ordering import ranked
from ecgbatch.measurements.selection import AFTER, BEFORE

Array = NDArray[Any]

BOUNDARIES: Mapping[str, Array] = {
    "qrs_onset": np.arange(-90, 1, 3),
    "qrs_offset": np.arange(0, 118, 3),
    "t_end": np.arange(60, 396, 4),
    "p_onset": np.arange(-200, -20, 3),
    "p_end": np.arange(-140, 1, 3),
}
"""Moments, in samples of ``selection.RATE_HZ`` from R, at which each boundary is asked for."""

LEVEL_BEFORE = slice(-12, -2)
"""Samples from QRS onset that make the level before QRS: 20 ms that end 4 ms before it."""

_NEAR = np.arange(-12, 13) * 2
_WIDE = np.arange(-40, 41, 8)
_CLOSE = np.arange(-30, 31, 6)
_QRS = slice(BEFORE - 50, BEFORE + 60)
_ACTIVE = slice(BEFORE - 90, BEFORE + 110)
_AT = np.arange(BEFORE + AFTER)

Line = tuple[Array, Sequence[int] | Array]
"""A curve (beat, sample), and the samples around each moment at which it is read."""


def qrs_figures(beats: Array, leads: Array) -> dict[str, Array]:
    """Return what is asked of the moments of each lead's QRS onset and offset, (lead, beat, moment, figure) float32.

    Of each lead its own speed, shape and share done; of all together the mean speed and that of the second fastest; the lead's
    number (``leads``, (lead, beat) int: place in ``terms.LEADS``, -1 for others): cardiologists see J in V1 elsewhere than in V6.
    """
    shape = _shape(beats)
    speed = _difference(shape, 2)
    overall = np.sqrt((speed**2).mean(axis=0))
    overall /= overall[:, _QRS].max(axis=1, keepdims=True) + 1e-9
    speed = np.abs(speed)
    common: list[Line] = [(_log(overall), _NEAR[::2]), (_log(_ranked(speed, -2)[0]), _NEAR[::3]), (_done(overall), [0])]
    own_speed = speed / (speed[..., _QRS].max(axis=2, keepdims=True) + 1e-9)
    own = [(np.log(own_speed + 1e-2), _NEAR), (_done(own_speed), [0])]
    found = {}
    for name in ("qrs_onset", "qrs_offset"):
        moments = BOUNDARIES[name]
        place = BEFORE + moments[:, None]
        shared = _table(moments, common)
        away = shape[..., place + _NEAR[::2]] - shape[..., place]
        columns = [
            np.broadcast_to(shared, (len(beats), *shared.shape)),
            *(line[..., place + np.asarray(around)] for line, around in own),
            away,
            np.broadcast_to(leads[..., None, None], (*leads.shape, moments.size, 1)),
        ]
        found[name] = _side_by_side(columns)
    return found


def wave_figures(beats: Array, rr: Array, onset: Array, offset: Array) -> dict[str, Array]:
    """Return what is asked of the moments of P onset, P end and T end, (beat, moment, figure) float32.

    ``rr``, and QRS ``onset`` and ``offset`` (samples from R): (beat,).
    """
    shape = _shape(beats)
    before = BEFORE + onset.astype(int)[:, None] + np.arange(LEVEL_BEFORE.start, LEVEL_BEFORE.stop)
    level = np.median(np.take_along_axis(shape, before[None], axis=2), axis=2)[..., None]
    return {"t_end": _t_figures(shape - level, rr, onset, offset), **_p_figures(shape, level, rr, onset, offset)}


def _shape(beats: Array) -> Array:
    return np.asarray(beats / (np.ptp(beats[..., _QRS], axis=-1, keepdims=True) + 1e-9))


def _done(speed: Array) -> Array:
    """Return the share of all movement around QRS that lies behind each moment."""
    moved = np.zeros_like(speed)
    moved[..., _ACTIVE] = speed[..., _ACTIVE]
    total = moved.cumsum(axis=-1)
    return np.asarray(total / (total[..., -1:] + 1e-9))


def _smooth(shape: Array, sd: float) -> Array:
    from scipy.ndimage import gaussian_filter1d  # a fifth of a second: not for a night without anything new

    return np.asarray(gaussian_filter1d(shape, sd, axis=-1))


class Stretch(NamedTuple):
    """Of each beat the samples from ``first`` up to ``last``, (beat,) int."""

    first: Array
    last: Array

    def holds(self) -> NDArray[np.bool_]:
        """Return which samples lie in it, (beat, sample)."""
        return np.asarray((self.first[:, None] <= _AT) & (self.last[:, None] > _AT))

    def largest(self, lines: Array) -> Array:
        """Return where lines (..., beat, sample) are largest in it, (..., beat); the earliest of equals."""
        return np.asarray(np.where(self.holds(), lines, -np.inf).argmax(axis=-1))

    def span(self, lines: Array) -> Array:
        """Return the span of values in it, (..., beat)."""
        inside = self.holds()
        return np.asarray(np.where(inside, lines, -np.inf).max(axis=-1) - np.where(inside, lines, np.inf).min(axis=-1))


def _t_figures(shape: Array, rr: Array, onset: Array, offset: Array) -> Array:
    smooth = _smooth(shape, 6)
    first = BEFORE + offset.astype(int) + 20
    last = np.maximum(first + 60, np.minimum(BEFORE + AFTER - 10, BEFORE + (rr + onset).astype(int) - 20))
    inside = Stretch(first, np.minimum(last, _AT.size - 1))
    size = inside.span(smooth) + 1e-9
    wave = smooth / size[..., None]
    speed = np.abs(_difference(wave, 8))
    weight = np.sqrt(size) / np.sqrt(size).sum(axis=0)
    mean = np.where(inside.holds(), smooth, 0).sum(axis=2) / (inside.last - inside.first)
    main, _ = _main_wave(smooth, inside, mean)
    fall = _difference(main, 8)
    peak = inside.largest(main)
    steepest = np.where(peak < inside.last - 2, Stretch(peak, inside.last).largest(-fall), peak)
    fall_there = _at(fall, steepest)
    tangent = np.where(fall_there < 0, steepest - _at(main, steepest) / np.minimum(fall_there / 16, -1e-9), steepest)
    ends = _tangents(wave, inside)
    middle_end = np.where(np.isfinite(ends).any(axis=0), _median_of_known(ends), tangent)
    middle, third = _ranked(speed, 0.5, -3)
    lines = [
        (_log(np.sqrt((speed**2 * weight[..., None]).sum(axis=0))), _WIDE),
        (main, _WIDE),
        (fall, _WIDE[::2]),
        (_log(middle), _WIDE[::2]),
        (_log(third), _WIDE[::2]),
        (_ranked(np.abs(wave), 0.5)[0], _WIDE[::2]),
    ]
    since = [peak - BEFORE, tangent - BEFORE, middle_end - BEFORE, offset, rr + onset]
    return _table(BOUNDARIES["t_end"], lines, since, [rr, peak - BEFORE, size.mean(axis=0)])


def _p_figures(shape: Array, level: Array, rr: Array, onset: Array, offset: Array) -> dict[str, Array]:
    smooth = _smooth(shape, 4)
    last = BEFORE + onset.astype(int) - 2
    first = np.minimum(np.maximum(10, BEFORE + np.maximum(-200, (offset - rr).astype(int) + 90)), last - 30)
    inside = Stretch(first, last)
    rest, size = _median_inside(smooth, inside), inside.span(smooth)
    speed = np.abs(_difference((smooth - level) / np.maximum(size, 0.02)[..., None], 5))
    main, strength = _main_wave(smooth, inside, rest)
    second = strength[:, 1] if strength.shape[1] > 1 else np.zeros(len(strength))
    peak = inside.largest(main)
    middle, third = _ranked(speed, 0.5, -3)
    lines = [
        (_log(np.sqrt((speed**2).mean(axis=0))), _CLOSE),
        (main, _CLOSE),
        (_difference(main, 5), _CLOSE[::2]),
        (_log(middle), _CLOSE[::2]),
        (_log(third), _CLOSE[::2]),
        (_log(_ranked(np.abs(smooth - rest[..., None]), 0.5)[0]), _CLOSE[::2]),
    ]
    whole = [rr, np.median(size, axis=0), _log(strength[:, 0] / (second + 1e-3))]
    return {name: _table(BOUNDARIES[name], lines, [peak - BEFORE, onset], whole) for name in ("p_onset", "p_end")}


def _main_wave(smooth: Array, inside: Stretch, rest: Array) -> tuple[Array, Array]:
    """Return the leads' first principal component over a stretch, (beat, sample), its largest deflection there made +1.

    And the strength of each component there, (beat, component), the strongest first: singular values, by way of the leads'
    products with one another, in double precision.
    """
    away = (smooth - rest[..., None]).transpose(1, 0, 2).astype(np.float64)  # (beat, lead, sample)
    there = np.where(inside.holds()[:, None], away, 0)
    power, direction = np.linalg.eigh(there @ there.transpose(0, 2, 1))
    wave = (direction[:, None, :, -1] @ away)[:, 0]
    top = _at(wave, inside.largest(np.abs(wave)))
    wave /= np.where(np.abs(top) > 1e-9, top, 1.0)[:, None]
    return wave, np.sqrt(np.maximum(power[:, ::-1], 0))


def _tangents(wave: Array, inside: Stretch) -> Array:
    """Return where the steepest tangent behind each lead's largest deflection meets its level, (lead, beat); NaN: nowhere."""
    peak = inside.largest(np.abs(wave))
    side = np.sign(_at(wave, peak))
    slope = _difference(wave * side[..., None], 8) / 16
    steepest = np.where((peak[..., None] <= _AT) & (inside.last[:, None] > _AT), slope, np.inf).argmin(axis=2)
    fall = _at(slope, steepest)
    with np.errstate(divide="ignore", invalid="ignore"):
        end = steepest - _at(wave, steepest) * side / fall
    return np.asarray(np.where((inside.last - peak > 4) & (fall < 0), end, np.nan))


def _median_of_known(values: Array) -> Array:
    """Return the median down each column of what is not NaN; of a column without any, any number."""
    order, known = np.sort(values, axis=0), np.isfinite(values).sum(axis=0)  # NaN goes last
    low, high = np.maximum(known - 1, 0) // 2, np.minimum(known // 2, len(values) - 1)
    return np.asarray((np.take_along_axis(order, low[None], 0)[0] + np.take_along_axis(order, high[None], 0)[0]) / 2)


def _median_inside(lines: Array, inside: Stretch) -> Array:
    """Return the median of lines (lead, beat, sample) over a stretch, (lead, beat)."""
    length = inside.last - inside.first
    at = np.minimum(inside.first[:, None] + np.arange(length.max()), _AT.size - 1)
    there = np.where(np.arange(length.max()) < length[:, None], np.take_along_axis(lines, at[None], axis=2), np.inf)
    there.sort(axis=2)
    middle = np.stack([(length - 1) // 2, length // 2], axis=1)
    return np.asarray(np.take_along_axis(there, middle[None], axis=2).mean(axis=2))


def _table(moments: Array, lines: Sequence[Line], since: Sequence[Array] = (), whole: Sequence[Array] = ()) -> Array:
    """Return (beat, moment, figure) float32: the moment itself, each line around it, its distances, and what holds for all."""
    place, n_beats = BEFORE + moments[:, None], len(lines[0][0])
    columns = [np.broadcast_to(moments[None, :, None], (n_beats, moments.size, 1))]
    columns += [line[:, np.clip(place + np.asarray(around), 0, _AT.size - 1)] for line, around in lines]
    columns += [(moments - where[:, None])[..., None] for where in since]
    columns += [np.broadcast_to(value[:, None, None], (n_beats, moments.size, 1)) for value in whole]
    return _side_by_side(columns)


def _side_by_side(columns: Sequence[Array]) -> NDArray[np.float32]:
    found = np.empty((*columns[0].shape[:-1], sum(column.shape[-1] for column in columns)), np.float32)
    return np.concatenate(columns, axis=-1, out=found, casting="unsafe")


def _at(lines: Array, place: Array) -> Array:
    """Return each line's value at a place: (..., sample) and (...)."""
    return np.asarray(np.take_along_axis(lines, place[..., None], axis=-1)[..., 0])


def _difference(lines: Array, half: int) -> Array:
    """Return the difference over ``half`` samples to each side; zero at the ends."""
    found = np.zeros_like(lines)
    found[..., half:-half] = lines[..., 2 * half :] - lines[..., : -2 * half]
    return found


def _ranked(lines: Array, *ranks: float) -> Array:
    """Return, sample by sample, one lead's value by each rank, (rank, beat, sample).

    A rank is a share of the leads, or -2 for the second highest, -3 the third.
    """
    n = len(lines)
    places = [max(0, n + int(rank)) if rank < 0 else round(rank * (n - 1)) for rank in ranks]
    found = ranked(np.require(lines, requirements=("C", "W")).reshape(n, -1), np.array(places))
    return np.asarray(found).reshape(len(ranks), *lines.shape[1:])


def _log(line: Array) -> Array:
    return np.asarray(np.log(line + 1e-3))
