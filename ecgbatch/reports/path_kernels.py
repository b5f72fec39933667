"""Lines of a drawing as the text of a path: thinned where nobody can see it, in whole numbers, in relative steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Floats = NDArray[np.float64]
Samples = NDArray[np.float32]
Places = NDArray[np.int64]
Text = NDArray[np.uint8]
Steps = NDArray[np.int16]
Array = NDArray[Any]

MOST_BYTES = 24
"""Of the text of a point: two whole numbers of ten digits and their signs or blanks."""
FARTHEST = 1e9
"""Units from the corner, 25 km: a point that lies farther (a gain may be anything) is drawn there."""

_PASSES = 4
_FEW = 32  # values that are sorted in their places


@kernel
def thin(x: Floats, y: Floats, most: float) -> int:
    """Drop every other point that lies on the line between its neighbours to ``most``, four times over; return how many stay.

    ``x`` and ``y`` (point,) float64 are worked in: those that stay are moved to the front. ``x`` increases.
    """
    return _thin(x, y, 0, x.size, most)


@kernel
def _thin(x: Floats, y: Floats, first: int, n: int, most: float) -> int:
    """Thin the ``n`` points from ``first`` on; those that stay are moved there."""
    for _ in range(_PASSES):
        if n < 5:
            break
        kept = 1
        before_x, before_y = x[first], y[first]
        for k in range(1, n):
            this_x, this_y = x[first + k], y[first + k]
            stays = True
            if k % 2 == 1 and k + 1 < n:
                share = (this_x - before_x) / (x[first + k + 1] - before_x)
                stays = abs(this_y - (before_y + share * (y[first + k + 1] - before_y))) > most
            if stays:
                x[first + kept], y[first + kept] = this_x, this_y
                kept += 1
            before_x, before_y = this_x, this_y
        n = kept
    return n


@kernel
def spell_lines(x: Floats, y: Floats, start: Places, kind: int, most: float, out: Text, end: Places) -> None:
    """Write lines, thinned, as paths one after another into ``out``.

    Parameters
    ----------
    x, y : (point,) float64
        In units; worked in.
    start : (line + 1,) int64
        Where each line's points begin, and the last's end.
    kind
        0: a line is broken where ``y`` is NaN. 1: such points are left out. 2: they are, and two lines that follow one another
        are the edges of an area and give one path.
    out
        ``MOST_BYTES`` a point and as much again a line.
    end : (path,) int64
        Is given the end of each path in ``out``.

    """
    at = 0
    for path in range(end.size):
        if kind == 0:
            at = _pieces(x, y, start[path], start[path + 1], most, out, at)
        elif kind == 1:
            first = start[path]
            n = _known(x, y, first, start[path + 1] - first)
            at = _spell(x, y, first, _thin(x, y, first, n, most), out, at) if n else at
        else:
            at = _area(x, y, start[2 * path : 2 * path + 3], most, out, at)
        end[path] = at


@kernel
def _known(x: Floats, y: Floats, first: int, n: int) -> int:
    """Move the known ones of ``n`` points from ``first`` on to the front; return how many they are."""
    kept = 0
    for k in range(first, first + n):
        if np.isfinite(y[k]):
            x[first + kept], y[first + kept] = x[k], y[k]
            kept += 1
    return kept


@kernel
def _area(x: Floats, y: Floats, start: Places, most: float, out: Text, at: int) -> int:
    """Write the area between two lines, there along the first and back along the second; return where it ends."""
    first, middle, last = start[0], start[1], start[2]
    n_there, n_back = _known(x, y, first, middle - first), _known(x, y, middle, last - middle)
    if not n_there:
        return at
    n_there, n_back = _thin(x, y, first, n_there, most), _thin(x, y, middle, n_back, most)
    for k in range(n_back // 2):
        here, there = middle + k, middle + n_back - 1 - k
        x[here], x[there] = x[there], x[here]
        y[here], y[there] = y[there], y[here]
    for k in range(n_back):
        x[first + n_there + k], y[first + n_there + k] = x[middle + k], y[middle + k]
    at = _spell(x, y, first, n_there + n_back, out, at)
    out[at] = 90  # Z
    return at + 1


@kernel
def quartiles_of(waveform: Steps, used: Places, ranks: Floats, missing: int, out: Samples) -> None:
    """Give the values of three ranks over beats, sample by sample, of those that are known.

    Parameters
    ----------
    waveform : (beat, lead, sample) int16
    used : (used,) int64
        Beats that count.
    ranks : (3,) float64
        From 0, the smallest, to 1; rounded to a beat, halves to the even one.
    missing
        What an unknown sample is.
    out : (3, lead, sample) float32
        Left as it is where more than half of the beats miss the sample.

    """
    n_used = used.size
    values = np.empty(n_used, np.int16)
    for lead in range(waveform.shape[1]):
        for sample in range(waveform.shape[2]):
            n = 0
            for k in range(n_used):
                value = waveform[used[k], lead, sample]
                if value != missing:
                    values[n] = value
                    n += 1
            if n == 0 or (n_used - n) * 2 > n_used:
                continue
            if n <= _FEW:
                for k in range(1, n):
                    value, place = values[k], k
                    while place and values[place - 1] > value:
                        values[place] = values[place - 1]
                        place -= 1
                    values[place] = value
                for line in range(3):
                    out[line, lead, sample] = values[np.int64(np.rint(ranks[line] * (n - 1)))]
            else:
                for line in range(3):
                    out[line, lead, sample] = _of_rank(values, n, np.int64(np.rint(ranks[line] * (n - 1))))


@kernel
def spell_traces(
    signal: Samples, lead: Places, span: Places, scale: Floats, x_mm: Floats, units: Floats, out: Text, end: Places
) -> None:
    """Write spans of leads, thinned, as paths one after another into ``out``; arithmetic is that of ``layout.Panel``.

    Parameters
    ----------
    signal : (lead, sample) float32, mV
        NaN where missing.
    lead, span : (path,), (path, 2) int64
        Which lead, from which sample to which.
    scale : (path, 3) float64
        What stands on the baseline (mV), mm to the mV, the baseline from the drawing's top (mm).
    x_mm : (2,) float64
        Of the first sample, and from one to the next.
    units : (2,) float64
        Units to the mm; how far from a line, in units, a point may lie to be dropped.
    out, end
        As of ``spell_lines``.

    """
    n_most = 0
    for path in range(end.size):
        n_most = max(n_most, span[path, 1] - span[path, 0])
    x, y = np.empty(n_most), np.empty(n_most)
    at = 0
    for path in range(end.size):
        first, last = span[path, 0], span[path, 1]
        level, mm_per_mv, baseline_mm = scale[path, 0], scale[path, 1], scale[path, 2]
        for k in range(first, last):
            x[k - first] = (x_mm[0] + k * x_mm[1]) * units[0]
            y[k - first] = (baseline_mm - (np.float64(signal[lead[path], k]) - level) * mm_per_mv) * units[0]
        at = _pieces(x, y, 0, last - first, units[1], out, at)
        end[path] = at


@kernel
def spans_of(signal: Samples, lead: Places, span: Places, found: Floats) -> None:
    """Give ``found`` (span, 3) float64 the upper median, the largest and the smallest known sample of each; NaN of none.

    ``signal``, ``lead`` and ``span`` as of ``spell_traces``.
    """
    n_most = 0
    for row in range(lead.size):
        n_most = max(n_most, span[row, 1] - span[row, 0])
    known = np.empty(n_most, np.float32)
    for row in range(lead.size):
        n, high, low = 0, np.float32(-np.inf), np.float32(np.inf)
        for k in range(span[row, 0], span[row, 1]):
            value = signal[lead[row], k]
            if np.isfinite(value):
                known[n] = value
                n += 1
                high, low = max(high, value), min(low, value)
        if n:
            found[row, 0], found[row, 1], found[row, 2] = _of_rank(known, n, n // 2), high, low
        else:
            found[row, :] = np.nan


@kernel
def _of_rank(values: Array, n: int, rank: Any) -> Any:
    """Return the value of this rank, from 0, of the first ``n``; they are put in another order (Hoare's selection)."""
    low, high = 0, n - 1
    while low < high:
        middle = values[(low + high) // 2]
        left, right = low, high
        while left <= right:
            while values[left] < middle:
                left += 1
            while values[right] > middle:
                right -= 1
            if left <= right:
                values[left], values[right] = values[right], values[left]
                left += 1
                right -= 1
        if rank <= right:
            high = right
        elif rank >= left:
            low = left
        else:
            break
    return values[rank]


@kernel
def _pieces(x: Floats, y: Floats, first: int, last: int, most: float, out: Text, at: int) -> int:
    """Write the pieces of a line between unknown points, thinned; return where they end."""
    begun = first
    for k in range(first, last + 1):
        if k == last or not np.isfinite(y[k]):
            if k > begun:
                at = _spell(x, y, begun, _thin(x, y, begun, k - begun, most), out, at)
            begun = k + 1
    return at


@kernel
def _spell(x: Floats, y: Floats, first: int, n: int, out: Text, end: int) -> int:
    """Write the path of ``n`` points from ``first`` on, at least one, as ASCII; return where it ends."""
    at_x, at_y = _whole(x[first]), _whole(y[first])
    out[end] = 77  # M
    end = _number(at_x, out, end + 1, False)
    end = _number(at_y, out, end, True)
    if n == 1:
        out[end], out[end + 1] = 104, 48  # h0
        return end + 2
    out[end] = 108  # l
    end += 1
    for k in range(1, n):
        next_x, next_y = _whole(x[first + k]), _whole(y[first + k])
        end = _number(next_x - at_x, out, end, k > 1)
        end = _number(next_y - at_y, out, end, True)
        at_x, at_y = next_x, next_y
    return end


@kernel
def _whole(value: float) -> Any:
    """Return a coordinate as it is written."""
    return np.int64(np.rint(min(max(value, -FARTHEST), FARTHEST)))


@kernel
def _number(value: Any, out: Text, end: int, parted: bool) -> int:
    """Write a whole number; what parts it from the one before is its sign, or a blank."""
    if value < 0:
        out[end] = 45
        end += 1
        value = -value
    elif parted:
        out[end] = 32
        end += 1
    digits, rest = 1, value
    while rest >= 10:
        rest //= 10
        digits += 1
    for place in range(digits):
        out[end + digits - 1 - place] = 48 + value % 10
        value //= 10
    return end + digits


def warm_up() -> None:
    """Call each kernel as drawings do."""
    x, out, end = np.arange(8.0), np.empty(10 * MOST_BYTES, np.uint8), np.empty(1, np.int64)
    thin(x.copy(), x.copy(), 0.1)
    spell_lines(x.copy(), x.copy(), np.array([0, 8]), 0, 0.1, out, end)
    signal, lead, span = np.zeros((1, 8), np.float32), np.zeros(1, np.int64), np.array([[0, 8]])
    waveform, ranks = np.zeros((2, 1, 8), np.int16), np.array([0.25, 0.5, 0.75])
    quartiles_of(waveform, np.arange(2), ranks, -1, np.empty((3, 1, 8), np.float32))
    spans_of(signal, lead, span, np.empty((1, 3)))
    spell_traces(signal, lead, span, np.ones((1, 3)), np.ones(2), np.ones(2), out, end)
