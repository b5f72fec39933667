"""Samples that devices code as text, in LZW or Huffman codes, decoded in machine code. Importing this module imports numba."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel

Array = NDArray[Any]


@kernel
def whole_numbers(text: Array, out: Array) -> int:
    """Put the whole numbers of a text (byte) uint8, white space between them, into ``out`` int32; return how many there are.

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


@kernel
def lzw_10(content: Array, out: Array) -> int:
    """Decode LZW codes of 10 bits, the highest first, over 256 bytes; return how many bytes went into ``out`` uint8.

    1023 ends the code. 1022 is the last string that is learnt. -1 for a code that means nothing yet; where ``out`` is full, its
    size.
    """
    prefix, last = np.zeros(1024, np.int64), np.zeros(1024, np.uint8)
    lengths = np.ones(1024, np.int64)
    for code in range(256):
        last[code] = code
    n_codes, before, first_byte, n = 256, -1, np.uint8(0), 0
    for place in range(content.size * 8 // 10):
        bit = place * 10
        pair = (np.int64(content[bit // 8]) << 8) | content[bit // 8 + 1]
        code = (pair >> (6 - bit % 8)) & 1023
        if code == 1023:
            return n
        if code > n_codes or (code == n_codes and (before < 0 or n_codes > 1022)):
            return -1
        is_new = code == n_codes
        length = lengths[before] + 1 if is_new else lengths[code]
        if n + length > out.size:
            return out.size
        at, walk = n + length - 1, code
        if is_new:
            out[at] = first_byte  # of the string before, which this one repeats
            at, walk = at - 1, before
        while at > n:
            out[at] = last[walk]
            at, walk = at - 1, prefix[walk]
        out[n] = first_byte = last[walk]
        n += length
        if before >= 0 and n_codes <= 1022:
            prefix[n_codes], last[n_codes], lengths[n_codes] = before, first_byte, lengths[before] + 1
            n_codes += 1
        before = code
    return n


@kernel
def second_differences(coded: Array, difference: int) -> Array:
    """Return samples of int16 from two of them and second differences: 16-bit arithmetic, as the device's."""
    out = coded.copy()
    for i in range(2, coded.size):
        out[i] = np.int16(2 * np.int64(out[i - 1]) - out[i - 2] - difference)
        difference = int(coded[i]) - 64
    return out


@kernel
def looked_up(tables: Array, lookup_bits: int) -> tuple[Array, Array]:
    """Return the code that the next bits begin with (table, bits), -1 where none or a long one; prefixes, first bit highest."""
    known = np.full((tables.shape[0], 1 << lookup_bits), -1, np.int64)
    prefixes = np.zeros(tables.shape[:2], np.int64)
    for table in range(tables.shape[0]):
        for code in range(tables.shape[1]):
            length = tables[table, code, 0]
            for bit in range(length):
                prefixes[table, code] = (prefixes[table, code] << 1) | ((tables[table, code, 4] >> bit) & 1)
            if 0 < length <= lookup_bits:
                first = prefixes[table, code] << (lookup_bits - length)
                for place in range(first, first + (1 << (lookup_bits - length))):
                    if known[table, place] < 0:
                        known[table, place] = code
    return known, prefixes


@kernel
def huffman(content: Array, tables: Array, known: Array, prefixes: Array, lookup_bits: int, out: Array) -> tuple[int, int]:
    """Decode Huffman codes of SCP-ECG into ``out`` int64 until it is full or fewer bits are left than the next code has.

    Parameters
    ----------
    content
        (byte) uint8, highest bit first; behind the last, zeros are read.
    tables
        (table, code, 5) int64: bits of the prefix (0: no such code; at most 32), bits in all (16 more at most), 1 where a number
        follows and 0 where the table changes, number or table (from 1), prefix with its first bit lowest. Bits after the prefix
        are the number itself.
    known, prefixes, lookup_bits
        Of ``looked_up``. Prefixes of so many bits are looked up; longer ones are searched for.

    Returns
    -------
    int, int
        Numbers in ``out``, -1 where a code is none of its table; bits that were used.

    """
    n_bits, at, count, table = 8 * content.size, 0, 0, 0
    window, width, place = np.uint64(0), 0, 0  # bits that come next, how many, and the byte after them
    lowest = np.uint64((1 << lookup_bits) - 1)
    while count < out.size and at < n_bits:
        while width <= 48:
            window = (window << np.uint64(8)) | (np.uint64(content[place]) if place < content.size else np.uint64(0))
            width, place = width + 8, place + 1
        found = known[table, (window >> np.uint64(width - lookup_bits)) & lowest]
        code = 0
        while found < 0 and code < tables.shape[1]:
            length = tables[table, code, 0]
            if length > lookup_bits:
                first_bits = (window >> np.uint64(width - length)) & ((np.uint64(1) << np.uint64(length)) - np.uint64(1))
                if np.int64(first_bits) == prefixes[table, code]:
                    found = code
            code += 1
        if found < 0:
            return -1, at
        length, total = tables[table, found, 0], tables[table, found, 1]
        is_number, value = tables[table, found, 2], tables[table, found, 3]
        if at + total > n_bits:
            break
        if is_number == 0:
            table = value - 1
            at, width = at + length, width - length
            continue
        at, width = at + total, width - total
        if total > length:
            value = np.int64(window >> np.uint64(width)) & ((np.int64(1) << (total - length)) - 1)
            if value >> (total - length - 1):
                value -= np.int64(1) << (total - length)
        out[count] = value
        count += 1
    return count, at


@kernel
def add_up(values: Array, n_differences: int) -> None:
    """Turn first or second differences int64 into samples, in place: before them stand one sample, or two."""
    last, step = np.int64(0), np.int64(0)
    for i in range(values.size):
        if n_differences == 1:
            last += values[i]
        elif i < 2:
            step = values[i] - last
            last = values[i]
        else:
            step += values[i]
            last += step
        values[i] = last
