"""The network's forward pass as one compiled kernel, one beat at a time, in float32 or with bfloat16 convolutions.

A beat's activations stay in the first cache from its samples to its logit, and the innermost loop holds a tile of the output in
registers: about nine tenths of what the processor can do. Every sum is made of fused multiply-adds in one order that neither
threads, batches nor the width of the processor's vectors change, so a beat's logit is the same everywhere. docs/adr/0016 says
what else was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from ecgbatch.kernels import kernel, processor_features

Array = NDArray[Any]

CHANNELS, KERNEL, BLOCKS, POOL, POOL_STRIDE = 32, 5, 5, 5, 2
"""As ``network``'s, as literals that kernels can freeze; a test compares them."""

EDGE = 64
"""Two rows of zeros (KERNEL // 2 x CHANNELS) before and after the samples: every convolution keeps the length."""

PAIRS, WEIGHTS = 80, 5120
"""Of one convolution of 32 channels: pairs of products a sum (KERNEL x CHANNELS / 2), weights in all."""

HAS_BFLOAT16 = "+avx512bf16" in processor_features()
"""Whether this processor multiplies bfloat16 itself. One that does not gets the same sums from float32, slower."""

TILE = (14, 8, 4, 2, 1) if "+avx512f" in processor_features() else (3, 2, 1)
"""Samples whose sums are in registers at a time: 14 x 32 channels fill 28 of AVX-512's 32 registers, 3 x 32 12 of AVX2's 16."""

_FLOAT, _WORD, _SIZE = ir.FloatType(), ir.IntType(32), ir.IntType(64)

_LANES = ir.VectorType(_FLOAT, 16)

_BITS = ir.VectorType(_WORD, 16)


class _BFloat(ir.Type):  # type: ignore[misc]
    """LLVM's ``bfloat``, which llvmlite 0.50 has no class for."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _BFloat)

    def __hash__(self) -> int:
        return hash(_BFloat)


def _multiply_add(builder: Any, value: Any, weight: Any, total: Any) -> Any:
    """Total + value x weight, rounded once."""
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(_LANES, [_LANES] * 3), "llvm.fma.v16f32")
    return builder.call(fma, [value, weight, total])


def _dot_pairs(builder: Any, value: Any, weight: Any, total: Any) -> Any:
    """Total + products of both bfloat16 in each lane, by the processor's own instruction."""
    pair = ir.VectorType(_BFloat(), 32)
    kind = ir.FunctionType(_LANES, [_LANES, pair, pair])
    dot = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512bf16.dpbf16ps.512")
    return builder.call(dot, [total, builder.bitcast(value, pair), builder.bitcast(weight, pair)])


def _dot_pairs_in_float32(builder: Any, value: Any, weight: Any, total: Any) -> Any:
    """Do the same by two multiply-adds of what the pairs stand for: first the upper halves, as the instruction does."""
    shift, mask = (ir.Constant(_BITS, [number] * 16) for number in (16, 0xFFFF0000))
    value, weight = builder.bitcast(value, _BITS), builder.bitcast(weight, _BITS)
    for half, by in ((builder.and_, mask), (builder.shl, shift)):
        own, its_weight = (builder.bitcast(half(bits, by), _LANES) for bits in (value, weight))
        total = _multiply_add(builder, own, its_weight, total)
    return total


@dataclass(frozen=True)
class _Call:
    """One call of a convolution as LLVM values: the builder, where it reads and writes, and how many samples are done."""

    builder: Any
    x: Any
    row: Any
    n_products: Any
    weights: Any
    start: Sequence[Any]
    lowest: Any
    skip: Any
    skip_at: Any
    skip_row: Any
    out: Any
    out_at: Any
    n: Any
    done: Any


_HALVES = (_SIZE(0), _SIZE(16))
"""The 32 channels as two vectors of lanes."""


def convolution(step: Callable[..., Any]) -> Any:
    """Return the intrinsic ``(x, row, n_products, w, w_at, bias, bias_at, low, skip, skip_row, out, out_at, n)``.

    For each of ``n`` samples and 32 channels: bias + skip + sum over ``n_products`` of x x w, at least ``low``. All arrays are
    flat float32; sample p's products begin at ``x[p * row]``, its skip at ``skip[out_at + p * skip_row]``. ``skip_row`` 0: none,
    ``skip`` holds zeros. ``out`` may be ``skip``.
    """

    # thirteen parameters, since an intrinsic's are the kernel's own: numba counts them
    def typed(_: Any, x: Any, row: Any, n_products: Any, w: Any, w_at: Any, bias: Any, bias_at: Any, low: Any, skip: Any,  # noqa: ARG001
              skip_row: Any, out: Any, out_at: Any, n: Any) -> Any:  # noqa: ARG001  # fmt: skip
        size = types.intp
        return types.void(x, size, size, w, size, bias, size, types.float32, skip, size, out, size, size), code

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        row, n_products, w_at, bias_at, low, skip_row, out_at, n = (arguments[at] for at in (1, 2, 4, 6, 7, 9, 11, 12))
        x, w, bias, skip, out = (
            context.make_array(signature.args[at])(context, b, arguments[at]).data for at in (0, 3, 5, 8, 10)
        )
        start = [b.load(_lanes(b, bias, b.add(bias_at, half)), align=4) for half in _HALVES]
        lowest = _everywhere(b, low)
        skip_at = b.select(b.icmp_signed(">", skip_row, _SIZE(0)), out_at, _SIZE(0))
        weights = b.gep(w, [w_at])
        done = cgutils.alloca_once_value(b, _SIZE(0))
        call = _Call(b, x, row, n_products, weights, start, lowest, skip, skip_at, skip_row, out, out_at, n, done)
        for n_rows in TILE:
            _do_tiles(call, step, n_rows)
        return context.get_dummy_value()

    return intrinsic(typed)


def _everywhere(b: Any, value: Any) -> Any:
    """Return a vector that holds a value in every lane."""
    undefined, first = ir.Constant(_LANES, ir.Undefined), ir.Constant(_BITS, [0] * 16)
    return b.shuffle_vector(b.insert_element(undefined, value, _WORD(0)), undefined, first)


def _lanes(b: Any, pointer: Any, at: Any) -> Any:
    """Return where a vector of lanes lies in an array of float32."""
    return b.bitcast(b.gep(pointer, [at]), _LANES.as_pointer())


def _do_tiles(call: _Call, step: Callable[..., Any], n_rows: int) -> None:
    """Do the next ``n_rows`` samples, again and again as long as there are so many."""
    b = call.builder
    again, body, inner, after, end = (b.append_basic_block() for _ in range(5))
    b.branch(again)
    b.position_at_end(again)
    at = b.load(call.done)
    b.cbranch(b.icmp_signed("<=", b.add(at, _SIZE(n_rows)), call.n), body, end)
    b.position_at_end(body)
    places = [b.add(at, _SIZE(own)) for own in range(n_rows)]
    skips = [b.add(call.skip_at, b.mul(place, call.skip_row)) for place in places]
    begun = [
        b.fadd(call.start[h], b.load(_lanes(b, call.skip, b.add(own, _HALVES[h])), align=4)) for own in skips for h in (0, 1)
    ]
    rows = [b.gep(call.x, [b.mul(place, call.row)]) for place in places]
    b.branch(inner)
    b.position_at_end(inner)
    sums = _sum_products(call, step, rows, begun, body, after)
    b.position_at_end(after)
    for own, place in enumerate(places):
        target = b.add(call.out_at, b.mul(place, _SIZE(CHANNELS)))
        for h in (0, 1):
            value = sums[2 * own + h]
            kept = b.select(b.fcmp_unordered(">", value, call.lowest), value, call.lowest)  # NaN stays NaN
            b.store(kept, _lanes(b, call.out, b.add(target, _HALVES[h])), align=4)
    b.store(b.add(at, _SIZE(n_rows)), call.done)
    b.branch(again)
    b.position_at_end(end)


def _sum_products(
    call: _Call, step: Callable[..., Any], rows: Sequence[Any], begun: Sequence[Any], before: Any, after: Any
) -> list[Any]:
    """Emit the innermost loop, in the block that the builder stands in: from ``begun`` on, add every product of each row."""
    b, inner = call.builder, call.builder.block
    k = b.phi(_SIZE)
    k.add_incoming(_SIZE(0), before)
    totals = [b.phi(_LANES) for _ in begun]
    for total, value in zip(totals, begun, strict=True):
        total.add_incoming(value, before)
    column = [b.load(_lanes(b, call.weights, b.add(b.mul(k, _SIZE(CHANNELS)), half)), align=4) for half in _HALVES]
    sums = []
    for own, row in enumerate(rows):
        value = _everywhere(b, b.load(b.gep(row, [k]), align=4))
        sums += [step(b, value, column[h], totals[2 * own + h]) for h in (0, 1)]
    following = b.add(k, _SIZE(1))
    k.add_incoming(following, inner)
    for total, value in zip(totals, sums, strict=True):
        total.add_incoming(value, inner)
    b.cbranch(b.icmp_signed("<", following, call.n_products), inner, after)
    return sums


_convolve = convolution(_multiply_add)

_convolve_pairs = convolution(_dot_pairs if HAS_BFLOAT16 else _dot_pairs_in_float32)


@kernel
def forward(
    waveform: Array, in_pairs: bool, first: Array, first_bias: Array, blocks: Array, block_biases: Array, pairs: Array,
    hidden: Array, hidden_biases: Array, output: Array, output_bias: Array,
) -> Array:  # fmt: skip
    """Do ``beat_logits``: each sample a row of channels, two rows of zeros before the first and after the last."""
    n_beats, n_leads, n_samples = waveform.shape
    beat = np.zeros((n_samples + 4) * n_leads, np.float32)
    x = np.zeros(n_samples * CHANNELS + 2 * EDGE, np.float32)
    y, layers = np.zeros_like(x), np.zeros(2 * CHANNELS, np.float32)
    short = np.zeros(x.size, np.uint16)
    logits = np.empty((n_beats, output_bias.shape[0]), np.float32)
    for i in range(n_beats):
        enter(waveform[i], beat, first, first_bias, x, 0, n_samples)
        n = n_samples
        for block in range(BLOCKS):
            used = n * CHANNELS + 2 * EDGE
            x[used - EDGE : used] = 0
            y[used - EDGE : used] = 0
            if in_pairs:
                round_bfloat16(x.view(np.uint32), used, short)
                inner_pairs(short.view(np.float32), pairs, block_biases, block, y, n)
                round_bfloat16(y.view(np.uint32), used, short)
                outer_pairs(short.view(np.float32), pairs, block_biases, block, x, n)
            else:
                inner(x, blocks, block_biases, block, y, 0, n)
                outer(y, blocks, block_biases, block, x, 0, n)
            n = pool(x, n, 0, n)
        leave(x[EDGE:], 1, n * CHANNELS, hidden, hidden_biases, output, output_bias, layers, logits[i])
    return logits


@kernel
def forward_changed(
    own: Array, copies: Array, spans: Array, first: Array, first_bias: Array, blocks: Array, block_biases: Array,
    _pairs: Array, hidden: Array, hidden_biases: Array, output: Array, output_bias: Array,
) -> Array:  # fmt: skip
    """Do ``changed_logits``: ``forward``, which keeps every layer of the beat itself and of a copy does only what has changed."""
    n_leads, n_samples = own.shape
    beat = np.zeros((n_samples + 4) * n_leads, np.float32)
    x = np.zeros(n_samples * CHANNELS + 2 * EDGE, np.float32)
    y, layers = np.zeros_like(x), np.zeros(2 * CHANNELS, np.float32)
    entered, inside = np.zeros((BLOCKS + 1, x.size), np.float32), np.zeros((BLOCKS, x.size), np.float32)
    outside = np.zeros_like(inside)
    logits = np.empty((1 + copies.shape[0], output_bias.shape[0]), np.float32)
    for i in range(1 + copies.shape[0]):
        low, high = (0, n_samples) if i == 0 else (spans[i - 1, 0], spans[i - 1, 1])
        if high <= low:
            logits[i] = logits[0]
            continue
        move(entered[0], x, 0, x.size)
        low, high = max(0, low - 2), min(n_samples, high + 2)
        enter(own if i == 0 else copies[i - 1], beat, first, first_bias, x, low, high)
        n = n_samples
        for block in range(BLOCKS):
            if i == 0:
                entered[block] = x
            used = n * CHANNELS + 2 * EDGE
            x[used - EDGE : used] = 0
            move(inside[block], y, 0, used)
            low, high = max(0, low - 2), min(n, high + 2)
            inner(x, blocks, block_biases, block, y, low, high)
            if i == 0:
                y[used - EDGE :] = 0
                inside[block] = y
            low, high = max(0, low - 2), min(n, high + 2)
            outer(y, blocks, block_biases, block, x, low, high)
            if i == 0:
                outside[block] = x
            keep(outside[block], x, low, high, n)
            left = n if n < POOL else (n - POOL) // POOL_STRIDE + 1
            if n >= POOL:
                low, high = max(0, (low - POOL + POOL_STRIDE) // POOL_STRIDE), min(left, (high - 1) // POOL_STRIDE + 1)
                pool(x, n, low, high)
            n = left
            if i == 0:
                entered[block + 1] = x
            keep(entered[block + 1], x, low, high, n)
        leave(x[EDGE:], 1, n * CHANNELS, hidden, hidden_biases, output, output_bias, layers, logits[i])
    return logits


@kernel
def keep(base: Array, x: Array, low: int, high: int, n: int) -> None:
    """Copy the samples outside ``low`` to ``high``."""
    move(base, x, EDGE, EDGE + low * CHANNELS)
    move(base, x, EDGE + high * CHANNELS, EDGE + n * CHANNELS)


@kernel
def move(source: Array, target: Array, start: int, stop: int) -> None:
    """Copy values; numba copies slices several times slower."""
    for i in range(np.uint64(start), np.uint64(stop)):
        target[i] = source[i]


@kernel
def enter(waveform: Array, beat: Array, first: Array, bias: Array, x: Array, low: int, high: int) -> None:
    """Turn a beat (lead, sample) into rows and do the first convolution's samples ``low`` to ``high``."""
    n_leads, n_samples = waveform.shape
    for lead in range(n_leads):
        for sample in range(n_samples):
            beat[(sample + 2) * n_leads + lead] = waveform[lead, sample]
    rows, out, none = beat[low * n_leads :], EDGE + low * CHANNELS, np.float32(-np.inf)
    _convolve(rows, n_leads, KERNEL * n_leads, first, 0, bias, 0, none, np.zeros(CHANNELS, np.float32), 0, x, out, high - low)


@kernel
def inner(x: Array, w: Array, bias: Array, block: int, y: Array, low: int, high: int) -> None:
    """Do samples ``low`` to ``high`` of the first convolution of a block."""
    at, bias_at, out = 2 * block * WEIGHTS, 2 * block * CHANNELS, EDGE + low * CHANNELS
    zero, no_skip = np.float32(0), np.zeros(CHANNELS, np.float32)
    _convolve(x[low * CHANNELS :], CHANNELS, 2 * PAIRS, w, at, bias, bias_at, zero, no_skip, 0, y, out, high - low)


@kernel
def outer(y: Array, w: Array, bias: Array, block: int, x: Array, low: int, high: int) -> None:
    """Do samples ``low`` to ``high`` of the second convolution of a block, and add what skips it, in place."""
    at, bias_at, out = (2 * block + 1) * WEIGHTS, (2 * block + 1) * CHANNELS, EDGE + low * CHANNELS
    _convolve(y[low * CHANNELS :], CHANNELS, 2 * PAIRS, w, at, bias, bias_at, np.float32(0), x, CHANNELS, x, out, high - low)


@kernel
def inner_pairs(short: Array, w: Array, bias: Array, block: int, y: Array, n: int) -> None:
    """Do ``inner`` of inputs and weights in pairs of bfloat16."""
    at, bias_at, row = block * WEIGHTS, 2 * block * CHANNELS, CHANNELS // 2
    zero, no_skip = np.float32(0), np.zeros(CHANNELS, np.float32)
    _convolve_pairs(short, row, PAIRS, w, at, bias, bias_at, zero, no_skip, 0, y, EDGE, n)


@kernel
def outer_pairs(short: Array, w: Array, bias: Array, block: int, x: Array, n: int) -> None:
    """Do ``outer`` of inputs and weights in pairs of bfloat16."""
    at, bias_at, row = block * WEIGHTS + WEIGHTS // 2, (2 * block + 1) * CHANNELS, CHANNELS // 2
    _convolve_pairs(short, row, PAIRS, w, at, bias, bias_at, np.float32(0), x, CHANNELS, x, EDGE, n)


@kernel
def leave(
    x: Array, n_beats: int, row: int, hidden: Array, biases: Array, output: Array, output_bias: Array, layers: Array,
    logits: Array,
) -> None:  # fmt: skip
    """Do the fully connected layers of beats, each a row of ``x``; write each class's difference from the first."""
    zero, no_skip, second = np.float32(0), np.zeros(CHANNELS, np.float32), n_beats * CHANNELS
    _convolve(x, row, row, hidden, 0, biases, 0, zero, no_skip, 0, layers, 0, n_beats)
    _convolve(layers, CHANNELS, CHANNELS, hidden, row * CHANNELS, biases, CHANNELS, zero, no_skip, 0, layers, second, n_beats)
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
