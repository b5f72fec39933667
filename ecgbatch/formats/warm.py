"""Have all machine code of this wing made, or loaded."""

from __future__ import annotations

import numpy as np


def warm_up() -> None:
    """Call each kernel as the readers do; bytes of a file cannot be written to, which numba takes for a kind of its own."""
    from ecgbatch.formats import device_kernels, sample_kernels

    totals = np.zeros(1, np.int64)
    sample_kernels.deal(np.zeros((8, 1), np.int16), np.arange(1), np.zeros((1, 8), np.int16), 0, totals, totals.copy())
    content = np.frombuffer(bytes(16), np.uint8)
    device_kernels.whole_numbers(content, np.empty(9, np.int32))
    device_kernels.lzw_10(content, np.zeros(64, np.uint8))
    device_kernels.second_differences(np.zeros(8, np.int16), 0)
    tables = np.array([[[1, 1, 1, 0, 0]]], np.int64)
    device_kernels.huffman(content, tables, *device_kernels.looked_up(tables, 4), 4, np.empty(8, np.int64))
    device_kernels.add_up(np.zeros(8, np.int64), 2)
