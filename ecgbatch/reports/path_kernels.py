"""Lines of a drawing as the text of a path: thinned where nobody can see it, in whole numbers, in relative steps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Floats = NDArray[np.float64]
Text = NDArray[np.uint8]

MOST_BYTES = 24
"""Of the text of a point: two whole numbers below 10^10 and their signs or blanks."""

_PASSES = 4


@kernel
def thin(x: Floats, y: Floats, most: float) -> int:
    """Drop every other point that lies on the line between its neighbours to ``most``, four times over; return how many stay.

    ``x`` and ``y`` (point,) float64 are worked in: those that stay are moved to the front. ``x`` increases.
    """
    n = x.size
    for _ in range(_PASSES):
        if n < 5:
            break
        kept = 1
        before_x, before_y = x[0], y[0]
        for k in range(1, n):
            this_x, this_y = x[k], y[k]
            stays = True
            if k % 2 == 1 and k + 1 < n:
                share = (this_x - before_x) / (x[k + 1] - before_x)
                stays = abs(this_y - (before_y + share * (y[k + 1] - before_y))) > most
            if stays:
                x[kept], y[kept] = this_x, this_y
                kept += 1
            before_x, before_y = this_x, this_y
        n = kept
    return n


@kernel
def spell(x: Floats, y: Floats, n: int, out: Text) -> int:
    """Write the path of the first ``n`` points, at least one, as ASCII into ``out``, ``MOST_BYTES`` a point and as much again."""
    at_x, at_y = np.int64(np.rint(x[0])), np.int64(np.rint(y[0]))
    out[0] = 77  # M
    end = _number(at_x, out, 1, False)
    end = _number(at_y, out, end, True)
    if n == 1:
        out[end], out[end + 1] = 104, 48  # h0
        return end + 2
    out[end] = 108  # l
    end += 1
    for k in range(1, n):
        next_x, next_y = np.int64(np.rint(x[k])), np.int64(np.rint(y[k]))
        end = _number(next_x - at_x, out, end, k > 1)
        end = _number(next_y - at_y, out, end, True)
        at_x, at_y = next_x, next_y
    return end


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
    x = np.arange(8.0)
    spell(x, x.copy(), thin(x, x.copy(), 0.1), np.empty(9 * MOST_BYTES, np.uint8))
