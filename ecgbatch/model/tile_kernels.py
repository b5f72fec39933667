"""The network's convolutions in a processor's matrix unit (Intel's AMX): tiles of 16 samples x 32 products x 16 channels.

Several beats lie one behind another with two rows of zeros between, so that a tile is full where a beat has two samples left, and
weights are loaded once for all of them. Inputs and weights are bfloat16 and each sum is float32, in the unit's own order: of a
step's 32 products the even and the odd in two sums by fused multiply-add, both added, then to the total. A processor without the
unit does the same sums in its vectors, slower, and gives the same bits. (Numbers below 1e-38, which the unit takes for zero, are
the exception; no network has them.)
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray

from ecgbatch.kernels import kernel, processor_features
from ecgbatch.model import vectors
from ecgbatch.model.vectors import CHANNELS, FLOATS, HALVES, SIZE, WORD, WORDS, each_lane, everywhere, given

Array = NDArray[Any]

EMITTED_BY = (vectors.__file__,)
"""Files whose change makes the kernels anew (``machine_code``), beside this one."""

KERNEL, BLOCKS, POOL, POOL_STRIDE = 5, 5, 5, 2
"""As ``network``'s, as literals that kernels can freeze; a test compares them."""

WEIGHTS, STEP = 2560, 512
"""Words (two bfloat16) of one convolution's weights and of a step's: 32 products of 32 channels."""

ROWS, BEYOND = 32, 36
"""Samples that are summed together, and rows behind the last that they and their taps may reach."""

GROUP = 8
"""Beats that go through the layers together: their rows stay in the second cache."""

SHAPE = np.array([1] + 15 * [0] + 8 * [64, 0] + 16 * [0] + 8 * [16] + 8 * [0], np.uint8)
"""What the unit is told before its first use: palette 1, each of eight tiles with 64 bytes a row and 16 rows."""

HAS_TILES = {"+amx-tile", "+amx-bf16", "+avx512bf16"} <= processor_features()
"""Whether this processor has the unit; ``may_use_tiles`` says whether the system lets this process use it."""

_BYTE, _VOID = ir.IntType(8), ir.VoidType()

_PAIRS, _SHORTS = ir.VectorType(ir.IntType(16), 32), ir.VectorType(ir.IntType(16), 16)


@cache
def may_use_tiles() -> bool:
    """Ask Linux, once a process, for the room that it keeps tiles in; without it their first use would end the process."""
    if not (HAS_TILES and sys.platform == "linux"):
        return False
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    return bool(ctypes.CDLL(None).syscall(arch_prctl, request_permission, tile_data) == 0)


def _call(b: Any, name: str, result: Any, *arguments: Any) -> Any:
    """Call one of LLVM's own functions."""
    kind = ir.FunctionType(result, [one.type for one in arguments])
    return b.call(cgutils.get_or_insert_function(b.module, kind, name), arguments)


def _place(b: Any, pointer: Any, at: Any, kind: Any) -> Any:
    """Return where something of a kind lies in an array."""
    return b.bitcast(b.gep(pointer, [at]), kind.as_pointer())


def _load(b: Any, pointer: Any, at: Any, kind: Any = FLOATS) -> Any:
    return b.load(_place(b, pointer, at, kind), align=2)


def _store(b: Any, value: Any, pointer: Any, at: Any) -> None:
    b.store(value, _place(b, pointer, at, value.type), align=2)


@intrinsic  # type: ignore[untyped-decorator]
def _begin_tiles(_: Any, shape: Any) -> Any:
    """Give all eight tiles the shape that 64 bytes state."""

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        if HAS_TILES:
            _call(b, "llvm.x86.ldtilecfg", _VOID, b.bitcast(given(context, b, signature, arguments)[0], _BYTE.as_pointer()))
        return context.get_dummy_value()

    return types.void(shape), code


@intrinsic  # type: ignore[untyped-decorator]
def _end_tiles(_: Any) -> Any:
    """Have the system keep no tiles for this thread any more."""

    def code(context: Any, b: Any, _signature: Any, _arguments: Any) -> Any:
        if HAS_TILES:
            _call(b, "llvm.x86.tilerelease", _VOID)
        return context.get_dummy_value()

    return types.void(), code


def _sums(emit: Callable[..., None]) -> Any:
    """Return the intrinsic ``(x, at, row, n_steps, period, w, w_at, n, sums)``.

    It writes ``n`` rows, at most 32, of 32 sums. Row r's step s takes 16 words from ``x[at + r * row + 16 * (s % period)]``,
    where there are at most two periods, and those of all channels from ``w[w_at + s * STEP]``.
    """

    # ten parameters, since an intrinsic's are the kernel's own: numba counts them
    def typed(_: Any, x: Any, at: Any, row: Any, n_steps: Any, period: Any, w: Any, w_at: Any, n: Any, sums: Any) -> Any:  # noqa: ARG001
        size = types.intp
        return types.void(x, size, size, size, size, w, size, size, sums), code

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        x, at, row, n_steps, period, w, w_at, n, sums = given(context, b, signature, arguments)
        emit(_Sums(b, x, at, row, n_steps, period, w, w_at, n, sums))
        return context.get_dummy_value()

    return intrinsic(typed)


@dataclass(frozen=True)
class _Sums:
    """One call of ``_sums`` as LLVM values, and the builder."""

    b: Any
    x: Any
    at: Any
    row: Any
    n_steps: Any
    period: Any
    w: Any
    w_at: Any
    n: Any
    sums: Any

    def step(self, number: Any, at: Any) -> tuple[Any, Any]:
        """Return where a step's inputs begin, of a row that begins at ``at``, and its weights."""
        b = self.b
        own = b.select(b.icmp_signed(">=", number, self.period), b.sub(number, self.period), number)
        return b.add(at, b.mul(own, SIZE(16))), b.add(self.w_at, b.mul(number, SIZE(STEP)))


def _sum_in_tiles(call: _Sums) -> None:
    """Emit nothing where the processor has no unit: who is told to use it there is no caller of this file's."""
    if HAS_TILES:
        with call.b.if_else(call.b.icmp_signed(">", call.n, SIZE(16))) as (two, one):
            with two:
                _emit_tiles(call, 2)
            with one:
                _emit_tiles(call, 1)


def _emit_tiles(call: _Sums, n: int) -> None:
    """Sum ``n`` x 16 rows: tiles 0 to 3 hold sums (samples, channels), 4 and 5 inputs (samples), 6 and 7 weights (channels)."""
    b = call.b

    def move(name: str, tile: int, pointer: Any, offset: Any, row: Any) -> None:
        _call(b, f"llvm.x86.{name}", _VOID, _BYTE(tile), _place(b, pointer, offset, _BYTE), b.mul(row, SIZE(4)))

    for tile in range(2 * n):
        _call(b, "llvm.x86.tilezero", _VOID, _BYTE(tile))
    with cgutils.for_range(b, call.n_steps) as steps:
        from_x, from_w = call.step(steps.index, call.at)
        for half in (0, 1):
            move("tileloadd64", 6 + half, call.w, b.add(from_w, HALVES[half]), SIZE(CHANNELS))
        for own in range(n):
            move("tileloadd64", 4 + own, call.x, b.add(from_x, b.mul(call.row, SIZE(16 * own))), call.row)
            for half in (0, 1):
                _call(b, "llvm.x86.tdpbf16ps", _VOID, _BYTE(2 * own + half), _BYTE(4 + own), _BYTE(6 + half))
    for tile in range(2 * n):
        move("tilestored64", tile, call.sums, SIZE(tile // 2 * 16 * CHANNELS + tile % 2 * 16), SIZE(CHANNELS))


def _sum_in_float32(call: _Sums) -> None:
    """Do ``_sum_in_tiles`` without the unit, in its order."""
    b, zero = call.b, ir.Constant(FLOATS, [0.0] * 16)
    totals, evens, odds = ([cgutils.alloca_once_value(b, zero) for _ in HALVES] for _ in range(3))
    with cgutils.for_range(b, call.n) as rows:
        at = b.add(call.at, b.mul(rows.index, call.row))
        for total in totals:
            b.store(zero, total)
        with cgutils.for_range(b, call.n_steps) as steps:
            from_x, from_w = call.step(steps.index, at)
            for part in (*evens, *odds):
                b.store(zero, part)
            with cgutils.for_range(b, SIZE(16)) as words:
                inputs = _both(b, everywhere(b, b.load(b.gep(call.x, [b.add(from_x, words.index)]), align=4)))
                from_row = b.add(from_w, b.mul(words.index, SIZE(CHANNELS)))
                for half, parts in zip(HALVES, zip(evens, odds, strict=True), strict=True):
                    weights = _both(b, _load(b, call.w, b.add(from_row, half), WORDS))
                    for part, value, weight in zip(parts, inputs, weights, strict=True):
                        b.store(_call(b, "llvm.fma.v16f32", FLOATS, value, weight, b.load(part)), part)
            for total, even, odd in zip(totals, evens, odds, strict=True):
                b.store(b.fadd(b.load(total), b.fadd(b.load(even), b.load(odd))), total)
        out = b.mul(rows.index, SIZE(CHANNELS))
        for half, total in zip(HALVES, totals, strict=True):
            _store(b, b.load(total), call.sums, b.add(out, half))


def _both(b: Any, words: Any) -> tuple[Any, Any]:
    """Return the numbers that the lower halves of words stand for, and the upper."""
    return b.bitcast(b.shl(words, each_lane(16)), FLOATS), b.bitcast(b.and_(words, each_lane(0xFFFF0000)), FLOATS)


def _rounded(b: Any, value: Any) -> Any:
    """Return float32 as bits whose upper halves are rounded to nearest and to even."""
    bits = b.bitcast(value, WORDS)
    odd = b.and_(b.lshr(bits, each_lane(16)), each_lane(1))
    return b.add(b.add(bits, each_lane(0x7FFF)), odd)


def _shortened(b: Any, low: Any, high: Any) -> Any:
    """Return 32 float32 as bfloat16."""
    if HAS_TILES:
        return b.bitcast(_call(b, "llvm.x86.avx512bf16.cvtne2ps2bf16.512", _Brain(), high, low), _PAIRS)
    own = [b.trunc(b.lshr(_rounded(b, value), each_lane(16)), _SHORTS) for value in (low, high)]
    return b.shuffle_vector(*own, ir.Constant(ir.VectorType(WORD, 32), list(range(32))))


class _Brain(ir.Type):  # type: ignore[misc]
    """Thirty-two of LLVM's ``bfloat``, which llvmlite 0.50 has no class for."""

    def _to_string(self) -> str:
        return "<32 x bfloat>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Brain)

    def __hash__(self) -> int:
        return hash(_Brain)


def _finish(*, adds: bool, cuts: bool, keeps: bool, shortens: bool) -> Any:
    """Return the intrinsic ``(sums, n, bias, bias_at, x, short, row)``: what becomes of ``n`` rows of sums, from a row on.

    They get a bias and, if it ``adds``, what stands in ``x``; it ``cuts`` what is below zero, ``keeps`` them in ``x``, or
    ``shortens`` them to bfloat16 in ``short``.
    """

    def typed(_: Any, sums: Any, n: Any, bias: Any, bias_at: Any, x: Any, short: Any, row: Any) -> Any:  # noqa: ARG001
        size = types.intp
        return types.void(sums, size, bias, size, x, short, size), code

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        sums, n, bias, bias_at, x, short, row = given(context, b, signature, arguments)
        own = [_load(b, bias, b.add(bias_at, half)) for half in HALVES]
        zero = ir.Constant(FLOATS, [0.0] * 16)
        with cgutils.for_range(b, n) as loop:
            at, target = b.mul(loop.index, SIZE(CHANNELS)), b.mul(b.add(loop.index, row), SIZE(CHANNELS))
            found = []
            for bias, half in zip(own, HALVES, strict=True):
                start = b.fadd(bias, _load(b, x, b.add(target, half))) if adds else bias
                value = b.fadd(_load(b, sums, b.add(at, half)), start)
                found.append(b.select(b.fcmp_ordered(">", zero, value), zero, value) if cuts else value)  # NaN stays NaN
                if keeps:
                    _store(b, found[-1], x, b.add(target, half))
            if shortens:
                _store(b, _shortened(b, *found), short, b.lshr(target, SIZE(1)))
        return context.get_dummy_value()

    return intrinsic(typed)


def _largest(window: int, stride: int) -> Any:
    """Return the intrinsic ``(x, row, out, n, short)``: write ``n`` rows from row ``out`` on, in ``x`` and as bfloat16.

    Each is the largest of ``window`` rows, the first of which begin at ``row``, every ``stride``. They are compared as bits,
    since none is below zero: NaN is the largest.
    """

    def typed(_: Any, x: Any, row: Any, out: Any, n: Any, short: Any) -> Any:  # noqa: ARG001
        size = types.intp
        return types.void(x, size, size, size, short), code

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        x, row, out, n, short = given(context, b, signature, arguments)
        with cgutils.for_range(b, n) as loop:
            at = b.mul(b.add(row, b.mul(loop.index, SIZE(stride))), SIZE(CHANNELS))
            target, found = b.mul(b.add(out, loop.index), SIZE(CHANNELS)), []
            for half in HALVES:
                largest = _load(b, x, b.add(at, half), WORDS)
                for other in range(1, window):
                    value = _load(b, x, b.add(at, b.add(half, SIZE(other * CHANNELS))), WORDS)
                    largest = b.select(b.icmp_unsigned(">", value, largest), value, largest)
                found.append(b.bitcast(largest, FLOATS))
            for half, value in zip(HALVES, found, strict=True):
                _store(b, value, x, b.add(target, half))
            _store(b, _shortened(b, *found), short, b.lshr(target, SIZE(1)))
        return context.get_dummy_value()

    return intrinsic(typed)


@intrinsic  # type: ignore[untyped-decorator]
def _split(_: Any, values: Any, n: Any, words: Any) -> Any:  # noqa: ARG001
    """Write float32, a multiple of 16, as words: bfloat16 in the lower half, in the upper what that leaves, bfloat16 too."""

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        values, n, words = given(context, b, signature, arguments)
        with cgutils.for_range(b, b.lshr(n, SIZE(4))) as loop:
            at = b.mul(loop.index, SIZE(16))
            value, upper = _load(b, values, at), each_lane(0xFFFF0000)
            own = b.and_(_rounded(b, value), upper)
            rest = b.and_(_rounded(b, b.fsub(value, b.bitcast(own, FLOATS))), upper)
            _store(b, b.or_(b.lshr(own, each_lane(16)), rest), words, at)
        return context.get_dummy_value()

    return types.void(values, types.intp, words), code


_in_tiles, _in_float32 = _sums(_sum_in_tiles), _sums(_sum_in_float32)

_enter = _finish(adds=False, cuts=False, keeps=True, shortens=True)

_inner = _finish(adds=False, cuts=True, keeps=False, shortens=True)

_outer = _finish(adds=True, cuts=True, keeps=True, shortens=False)

_pool, _shorten = _largest(POOL, POOL_STRIDE), _largest(1, 1)


def room_sizes(n_beats: int, n_leads: int, n_samples: int) -> tuple[int, ...]:
    """Return how many words ``tile_rows`` wants in each part of its room: all are multiples of 16, so that tiles lie in lines."""
    rows = 2 + min(GROUP, n_beats) * (n_samples + 2) + BEYOND
    beat = ((n_samples + BEYOND + KERNEL) * n_leads + 31) // 16 * 16
    return ROWS * CHANNELS, beat, beat, rows * CHANNELS, rows * CHANNELS // 2, rows * CHANNELS // 2


@kernel
def tile_rows(
    waveform: Array, in_unit: bool, weights: Array, first_bias: Array, biases: Array,
    sums: Array, beat: Array, words: Array, x: Array, short: Array, other: Array,
) -> Array:  # fmt: skip
    """Return the last block's rows (beat, sample x channel) float32, by the unit or as it does.

    ``weights`` are words: the blocks', then the first convolution's (``enter``). The room that follows ``biases`` is of
    ``room_sizes``, float32 but for the words of ``words``, ``short`` and ``other``; ``beat`` and ``words`` hold zeros, what is in
    the others does not matter.
    """
    n_beats, _, n_samples = waveform.shape
    if in_unit:
        _begin_tiles(SHAPE)
    clear(short, 0)
    clear(other, 0)
    left = n_samples
    for _ in range(BLOCKS):
        left = left if left < POOL else (left - POOL) // POOL_STRIDE + 1
    found = np.empty((n_beats, left * CHANNELS), np.float32)
    for start in range(0, n_beats, GROUP):
        n_own, n = min(GROUP, n_beats - start), n_samples
        for i in range(n_own):
            enter(waveform[start + i], in_unit, weights, first_bias, beat, words, x, short, 2 + i * (n + 2), sums)
        part(short, n_own, n)
        for block in range(BLOCKS):
            n_rows = n_own * (n + 2)
            for row in range(0, n_rows, ROWS):
                n_now = min(ROWS, n_rows - row)
                convolve(in_unit, short, row * 16, 16, KERNEL, KERNEL, weights, 2 * block * WEIGHTS, n_now, sums)
                _inner(sums, n_now, biases, 2 * block * CHANNELS, x, other, row + 2)
            part(other, n_own, n)
            for row in range(0, n_rows, ROWS):
                n_now = min(ROWS, n_rows - row)
                convolve(in_unit, other, row * 16, 16, KERNEL, KERNEL, weights, (2 * block + 1) * WEIGHTS, n_now, sums)
                _outer(sums, n_now, biases, (2 * block + 1) * CHANNELS, x, short, row + 2)
            n = pool(x, n_own, n, short)
            part(short, n_own, n)
        for i in range(n_own):
            for value in range(n * CHANNELS):
                found[start + i, value] = x[(2 + i * (n + 2)) * CHANNELS + value]
    if in_unit:
        _end_tiles()
    return found


@kernel
def convolve(
    in_unit: bool, x: Array, at: int, row: int, n_steps: int, period: int, w: Array, w_at: int, n: int, sums: Array
) -> None:
    """Do ``_sums`` in the unit, or as it does."""
    if in_unit:
        _in_tiles(x, at, row, n_steps, period, w, w_at, n, sums)
    else:
        _in_float32(x, at, row, n_steps, period, w, w_at, n, sums)


@kernel
def enter(
    waveform: Array, in_unit: bool, weights: Array, bias: Array, beat: Array, words: Array, x: Array, short: Array, row: int,
    sums: Array,
) -> None:  # fmt: skip
    """Do the first convolution of a beat (lead, sample), into rows from ``row`` on.

    With 16 bits of each number: a word holds an input's first 8 and the next 8, and is multiplied by the first 8 of a weight,
    which both halves of the weight's word hold, and in a second period by the next 8.
    """
    n_leads, n_samples = waveform.shape
    for lead in range(n_leads):
        for sample in range(n_samples):
            beat[(sample + 2) * n_leads + lead] = waveform[lead, sample]
    _split(beat, ((n_samples + 4) * n_leads + 15) // 16 * 16, words)
    at = 2 * BLOCKS * WEIGHTS
    n_steps = (weights.size - at) // STEP
    for sample in range(0, n_samples, ROWS):
        n = min(ROWS, n_samples - sample)
        convolve(in_unit, words, sample * n_leads, n_leads, n_steps, n_steps // 2, weights, at, n, sums)
        _enter(sums, n, bias, 0, x, short, row + sample)


@kernel
def part(short: Array, n_beats: int, n: int) -> None:
    """Write zeros in the two rows behind each beat of ``n`` samples."""
    for i in range(n_beats):
        clear(short, 2 + n + i * (n + 2))


@kernel
def clear(short: Array, row: int) -> None:
    """Write zeros in two rows of bfloat16."""
    for word in range(np.uint64(row * 16), np.uint64((row + 2) * 16)):
        short[word] = 0


@kernel
def pool(x: Array, n_beats: int, n: int, short: Array) -> int:
    """Keep the largest of every POOL samples, every POOL_STRIDE, and return how many are left; fewer than POOL stay."""
    left = n if n < POOL else (n - POOL) // POOL_STRIDE + 1
    for i in range(n_beats):
        row, out = 2 + i * (n + 2), 2 + i * (left + 2)
        if n < POOL:
            _shorten(x, row, out, n, short)
        else:
            _pool(x, row, out, left, short)
    return left
