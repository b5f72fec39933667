"""Samples that devices code as text, in LZW or Huffman codes, decoded in machine code. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]


@kernel
def whole_numbers(text: Array, out: Array) -> int:
    """Put the whole numbers of a text (byte) uint8, white space between them, into ``out`` int64; return how many there are.

    -1 where anything is no whole number of at most nine digits, or ``out`` has no room for it.
    """
    count, i = 0, 0
    while i < text.size:
        byte = text[i]
        if byte == 32 or 9 <= byte <= 13:
            i += 1
            continue
        sign = 1
        if byte in (43, 45):
            sign = 44 - byte
            i += 1
        value, first = np.int64(0), i
        while i < text.size and 48 <= text[i] <= 57:
            value = 10 * value + (np.int64(text[i]) - 48)
            i += 1
        if i == first or i - first > 9 or count == out.size:
            return -1
        if i < text.size and not (text[i] == 32 or 9 <= text[i] <= 13):
            return -1
        out[count] = sign * value
        count += 1
    return count
