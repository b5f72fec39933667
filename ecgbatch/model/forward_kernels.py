"""The network's forward pass in float32 as one compiled kernel, a few beats at a time.

Activations stay in the first caches from samples to logit, and the innermost loop holds a tile of the output in registers: about
nine tenths of what the processor can do. A block's convolutions are done as Toom and Cook multiply polynomials (Winograd 1980;
Lavin and Gray 2016, arXiv:1509.09308): what four samples need of a channel takes eight products, not twenty. Every sum is made in
one order that neither threads, batches nor the width of the processor's vectors change, so a beat's logit is the same everywhere.
docs/adr/0016 says what else was measured.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import kernel
from ecgbatch.model import vectors
from ecgbatch.model.vectors import (
    CHANNELS,
    LANES,
    OUTPUTS,
    POINTS,
    TILE_AT_A_POINT,
    at_each_point,
    convolve,
    from_points,
    into_points,
)

Array = NDArray[Any]

EMITTED_BY = (vectors.__file__,)
"""Files whose change makes the kernels anew (``machine_code``), beside this one."""

KERNEL, BLOCKS, POOL, POOL_STRIDE = 5, 5, 5, 2
"""As ``network``'s, as literals that kernels can freeze; a test compares them."""

EDGE, AFTER = 64, 160
"""Zeros before and after the samples, two rows of CHANNELS and five: convolutions keep the length, their last tile is whole."""

PAIRS, WEIGHTS = 80, 8192
"""Of one convolution of 32 channels: pairs of products a sum (KERNEL x CHANNELS / 2), weights at all points."""

TOGETHER = 4
"""Beats or copies that go through the network side by side: the weights of a layer are 32 kB."""

BESIDE = 12
"""Samples beside those that have changed that the tiles of a block look at, at most."""


@kernel
def forward(
    waveform: Array, first: Array, first_bias: Array, blocks: Array, block_biases: Array, _words: Array,
    hidden: Array, hidden_biases: Array, output: Array, output_bias: Array,
) -> Array:  # fmt: skip
    """Do ``beat_logits``: each sample a row of channels, rows of zeros before the first and after the last.

    ``TOGETHER`` beats go side by side, since weights come from the second cache.
    """
    n_beats, n_leads, n_samples = waveform.shape
    beat, layers = np.zeros((n_samples + 4) * n_leads, np.float32), np.zeros(2 * CHANNELS, np.float32)
    x = on_lines(TOGETHER, n_samples * CHANNELS + EDGE + AFTER)
    y, room = on_lines(x.shape[0], x.shape[1]), working_room(n_samples)
    logits = np.empty((n_beats, output_bias.shape[0]), np.float32)
    for start in range(0, n_beats, TOGETHER):
        together = min(TOGETHER, n_beats - start)
        for i in range(together):
            enter(waveform[start + i], beat, first, first_bias, x[i], 0, n_samples)
        n = n_samples
        for block in range(BLOCKS):
            used = n * CHANNELS + EDGE + AFTER
            for i in range(together):
                clear(x[i], used - AFTER, used)
            inner(x[:together], blocks, block_biases, block, y, 0, n, room)
            for i in range(together):
                clear(y[i], used - AFTER, used)  # the last tile may reach beyond
            outer(y[:together], blocks, block_biases, block, x, 0, n, room)
            left = n
            for i in range(together):
                left = pool(x[i], n, 0, n)
            n = left
        for i in range(together):
            leave(x[i, EDGE:], 1, n * CHANNELS, hidden, hidden_biases, output, output_bias, layers, logits[start + i])
    return logits


@kernel
def forward_changed(
    own: Array, copies: Array, spans: Array, order: Array, first: Array, first_bias: Array, blocks: Array, block_biases: Array,
    _words: Array, hidden: Array, hidden_biases: Array, output: Array, output_bias: Array,
) -> Array:  # fmt: skip
    """Do ``changed_logits``: ``forward``, which keeps every layer of the beat itself and of a copy does only what has changed.

    ``order`` numbers the copies so that those of one span follow one another: these go side by side.
    """
    n_leads, n_samples = own.shape
    beat, layers = np.zeros((n_samples + 4) * n_leads, np.float32), np.zeros(2 * CHANNELS, np.float32)
    x = on_lines(TOGETHER, n_samples * CHANNELS + EDGE + AFTER)
    y, room = on_lines(x.shape[0], x.shape[1]), working_room(n_samples)
    entered, inside = np.empty((BLOCKS + 1, x.shape[1]), np.float32), np.empty((BLOCKS, x.shape[1]), np.float32)
    outside = np.empty_like(inside)
    logits = np.empty((1 + copies.shape[0], output_bias.shape[0]), np.float32)
    start, together = -1, 1  # the beat itself comes first
    while start < copies.shape[0]:
        is_own = start < 0
        low, high = (0, n_samples) if is_own else (spans[order[start], 0], spans[order[start], 1])
        together = 1 if is_own else alike(spans, order, start)
        if high <= low:
            for i in range(together):
                logits[1 + order[start + i]] = logits[0]
            start += together
            continue
        low, high = max(0, low - 2), min(n_samples, high + 2)
        for i in range(together):
            enter(own if is_own else copies[order[start + i]], beat, first, first_bias, x[i], low, high)
        hold(entered[0], x[:together], low, high, n_samples, BESIDE, is_own)
        n = n_samples
        for block in range(BLOCKS):
            used = n * CHANNELS + EDGE + AFTER
            for i in range(together):
                clear(x[i], used - AFTER, used)
            low, high = whole_tiles(low - 2, high + 2, n)
            inner(x[:together], blocks, block_biases, block, y, low, high, room)
            for i in range(together):
                clear(y[i], used - AFTER, used)
            hold(inside[block], y[:together], low, high, n, BESIDE, is_own)
            low, high = whole_tiles(low - 2, high + 2, n)
            outer(y[:together], blocks, block_biases, block, x, low, high, room)
            hold(outside[block], x[:together], low, high, n, BESIDE, is_own)
            low, high, left = pooled(low, high, n)
            for i in range(together):
                pool(x[i], n, low, high)
            n = left
            hold(entered[block + 1], x[:together], low, high, n, BESIDE if block + 1 < BLOCKS else n, is_own)
        for i in range(together):
            at = 0 if is_own else 1 + order[start + i]
            leave(x[i, EDGE:], 1, n * CHANNELS, hidden, hidden_biases, output, output_bias, layers, logits[at])
        start += together
    return logits


@kernel
def alike(spans: Array, order: Array, start: int) -> int:
    """Return how many spans from ``start`` on, in that order, are the same, ``TOGETHER`` at most."""
    n, low, high = 1, spans[order[start], 0], spans[order[start], 1]
    while n < TOGETHER and start + n < len(order) and spans[order[start + n], 0] == low and spans[order[start + n], 1] == high:
        n += 1
    return n


@kernel
def working_room(n_samples: int) -> Array:
    """Return room for tiles at all points, before and after they are multiplied."""
    n_tiles = TOGETHER * (n_samples // OUTPUTS + 1) * POINTS + TILE_AT_A_POINT[0]
    return on_lines(2, n_tiles * CHANNELS)


@kernel
def on_lines(n: int, size: int) -> Array:
    """Return zeros (n, size) that begin where a line of the cache does: a vector of lanes that lies in two is read twice."""
    room = np.zeros(n * size + LANES, np.float32)
    start = -(room.ctypes.data // room.itemsize) % LANES
    return room[start : start + n * size].reshape(n, size)


@kernel
def whole_tiles(low: int, high: int, n: int) -> tuple[int, int]:
    """Return where the tiles begin and end that hold samples from ``low`` to ``high``, within ``n``."""
    return max(0, low) // OUTPUTS * OUTPUTS, min(n, -(-high // OUTPUTS) * OUTPUTS)


@kernel
def pooled(low: int, high: int, n: int) -> tuple[int, int, int]:
    """Return what samples from ``low`` to ``high`` of ``n`` are when pooled, and how many there are then."""
    if n < POOL:
        return low, high, n
    left = (n - POOL) // POOL_STRIDE + 1
    return max(0, (low - POOL + POOL_STRIDE) // POOL_STRIDE), min(left, (high - 1) // POOL_STRIDE + 1), left


@kernel
def hold(base: Array, x: Array, low: int, high: int, n: int, beside: int, is_own: bool) -> None:
    """Keep a layer of the beat itself as ``base``; of copies, take from there so many samples beside those that were computed."""
    for i in range(len(x)):
        if is_own:
            move(x[i], base, 0, EDGE + n * CHANNELS)
        else:
            move(base, x[i], EDGE + max(0, low - beside) * CHANNELS, EDGE + low * CHANNELS)
            move(base, x[i], EDGE + high * CHANNELS, EDGE + min(n, high + beside) * CHANNELS)


@kernel
def move(source: Array, target: Array, start: int, stop: int) -> None:
    """Copy values; numba copies slices several times slower."""
    for i in range(np.uint64(start), np.uint64(stop)):
        target[i] = source[i]


@kernel
def clear(x: Array, start: int, stop: int) -> None:
    """Write zeros."""
    for i in range(np.uint64(start), np.uint64(stop)):
        x[i] = 0


@kernel
def enter(waveform: Array, beat: Array, first: Array, bias: Array, x: Array, low: int, high: int) -> None:
    """Turn a beat (lead, sample) into rows and do the first convolution's samples ``low`` to ``high``."""
    n_leads, n_samples = waveform.shape
    for lead in range(n_leads):
        for sample in range(n_samples):
            beat[(sample + 2) * n_leads + lead] = waveform[lead, sample]
    rows, out, none = beat[low * n_leads :], EDGE + low * CHANNELS, np.float32(-np.inf)
    convolve(rows, n_leads, KERNEL * n_leads, first, 0, bias, 0, none, np.zeros(CHANNELS, np.float32), 0, x, out, high - low)


@kernel
def inner(x: Array, w: Array, bias: Array, block: int, y: Array, low: int, high: int, room: Array) -> None:
    """Do the tiles of the first convolution of a block that hold samples ``low`` to ``high``, of each of the beats ``x``."""
    n_tiles = multiply(x, w, 2 * block, low, high, room)
    out, no_skip = EDGE + low * CHANNELS, np.zeros(CHANNELS, np.float32)
    for i in range(len(x)):
        from_points(room[1], i * n_tiles, len(x) * n_tiles, n_tiles, bias, 2 * block * CHANNELS, no_skip, 0, y[i], out)


@kernel
def outer(y: Array, w: Array, bias: Array, block: int, x: Array, low: int, high: int, room: Array) -> None:
    """Do those of the second convolution of a block, and add what skips it, in place."""
    n_tiles = multiply(y, w, 2 * block + 1, low, high, room)
    out, bias_at = EDGE + low * CHANNELS, (2 * block + 1) * CHANNELS
    for i in range(len(y)):
        from_points(room[1], i * n_tiles, len(y) * n_tiles, n_tiles, bias, bias_at, x[i], CHANNELS, x[i], out)


@kernel
def multiply(x: Array, w: Array, convolution: int, low: int, high: int, room: Array) -> int:
    """Multiply all tiles of all beats at all points by the weights of a convolution; return how many tiles a beat has."""
    n_tiles = -(-(high - low) // OUTPUTS)
    for i in range(len(x)):
        into_points(x[i], low * CHANNELS, n_tiles, room[0], i * n_tiles, len(x) * n_tiles)
    at_each_point(room[0], len(x) * n_tiles, w, convolution * WEIGHTS, room[1])
    return n_tiles


@kernel
def leave(
    x: Array, n_beats: int, row: int, hidden: Array, biases: Array, output: Array, output_bias: Array, layers: Array,
    logits: Array,
) -> None:  # fmt: skip
    """Do the fully connected layers of beats, each a row of ``x``; write each class's difference from the first."""
    zero, no_skip, second = np.float32(0), np.zeros(CHANNELS, np.float32), n_beats * CHANNELS
    convolve(x, row, row, hidden, 0, biases, 0, zero, no_skip, 0, layers, 0, n_beats)
    convolve(layers, CHANNELS, CHANNELS, hidden, row * CHANNELS, biases, CHANNELS, zero, no_skip, 0, layers, second, n_beats)
    for beat in range(n_beats):
        for difference in range(output_bias.shape[0]):
            logit = output_bias[difference]
            for channel in range(CHANNELS):
                logit += layers[second + beat * CHANNELS + channel] * output[difference * CHANNELS + channel]
            logits[beat * output_bias.shape[0] + difference] = logit


@kernel
def pool(x: Array, n: int, low: int, high: int) -> int:
    """Keep the largest of every POOL samples, every POOL_STRIDE, in place; return how many are left. Fewer than POOL stay.

    Only those left from ``low`` to ``high`` are found.
    """
    if n < POOL:
        return n
    left, row, next_one = (n - POOL) // POOL_STRIDE + 1, np.empty(CHANNELS, np.float32), np.uint64(CHANNELS)
    for sample in range(low, min(high, left)):
        # Unsigned, since a sign test would keep these loops scalar; into a row, since LLVM cannot tell what is in place apart.
        at, out = np.uint64(EDGE + sample * POOL_STRIDE * CHANNELS), np.uint64(EDGE + sample * CHANNELS)
        b, c, d, e = at + next_one, at + 2 * next_one, at + 3 * next_one, at + 4 * next_one
        for channel in range(next_one):
            row[channel] = max(x[at + channel], x[b + channel], x[c + channel], x[d + channel], x[e + channel])
        for channel in range(next_one):
            x[out + channel] = row[channel]
    return left


@kernel
def round_bfloat16(bits: Array, n: int, short: Array) -> None:
    """Write the upper halves of ``n`` float32, given as bits, rounded to nearest and to even."""
    for i in range(n):
        odd = (bits[i] >> np.uint32(16)) & np.uint32(1)
        short[i] = np.uint16((bits[i] + np.uint32(0x7FFF) + odd) >> np.uint32(16))
