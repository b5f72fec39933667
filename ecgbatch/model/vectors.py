"""Loops that numba does not write well, in LLVM's language: convolutions, tiles at points, what random kernels answer.

What is summed is held in registers, in one order, and a processor with narrower vectors makes the same. What kernels call here
are numba's intrinsics, whose arrays are flat float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ecgbatch.kernels import processor_features

CHANNELS = 32
"""Of every layer."""

OUTPUTS, POINTS = 4, 8
"""Samples that a tile of a fast convolution computes, and products of each channel that it takes: 2 a sample, not KERNEL's 5."""

AT = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
"""The points, beside infinity."""

TILE = (14, 8, 4, 2, 1) if "+avx512f" in processor_features() else (3, 2, 1)
"""Samples whose sums are in registers at a time: 14 x 32 channels fill 28 of AVX-512's 32 registers, 3 x 32 12 of AVX2's 16."""

LANES = 16
"""Float32 in a vector of AVX-512 and in a line of the cache."""

TILE_AT_A_POINT = (11, 8, 5, 3) if "+avx512f" in processor_features() else (3,)
"""As ``TILE``, of tiles at one point; fewer take the smallest that holds them."""

LENGTH = 9
"""Samples of a random kernel, the middle one of ROCKET's lengths and MiniRocket's only one."""

FLOAT, WORD, SIZE = ir.FloatType(), ir.IntType(32), ir.IntType(64)

FLOATS = ir.VectorType(FLOAT, 16)

WORDS = ir.VectorType(WORD, 16)


def given(context: Any, b: Any, signature: Any, arguments: Sequence[Any]) -> list[Any]:
    """Return an intrinsic's arguments, of an array where its values lie."""
    return [
        context.make_array(kind)(context, b, one).data if isinstance(kind, types.Array) else one
        for kind, one in zip(signature.args, arguments, strict=True)
    ]


def _multiply_add(builder: Any, value: Any, weight: Any, total: Any) -> Any:
    """Total + value x weight, rounded once."""
    fma = cgutils.get_or_insert_function(builder.module, ir.FunctionType(FLOATS, [FLOATS] * 3), "llvm.fma.v16f32")
    return builder.call(fma, [value, weight, total])


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


HALVES = (SIZE(0), SIZE(16))
"""The 32 channels as two vectors of lanes."""


# thirteen parameters, since an intrinsic's are the kernel's own: numba counts them
@intrinsic  # type: ignore[untyped-decorator]
def convolve(_: Any, x: Any, row: Any, n_products: Any, w: Any, w_at: Any, bias: Any, bias_at: Any, low: Any,  # noqa: ARG001
             skip: Any, skip_row: Any, out: Any, out_at: Any, n: Any) -> Any:  # noqa: ARG001  # fmt: skip
    """Write for each of ``n`` samples and 32 channels: bias + skip + sum over ``n_products`` of x x w, at least ``low``.

    All arrays are flat float32; sample p's products begin at ``x[p * row]``, its skip at ``skip[out_at + p * skip_row]``.
    ``skip_row`` 0: none, ``skip`` holds zeros. ``out`` may be ``skip``.
    """

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        own = given(context, b, signature, arguments)
        x, row, n_products, w, w_at, bias, bias_at, low, skip, skip_row, out, out_at, n = own
        start = [b.load(_lanes(b, bias, b.add(bias_at, half)), align=4) for half in HALVES]
        lowest = everywhere(b, low)
        skip_at = b.select(b.icmp_signed(">", skip_row, SIZE(0)), out_at, SIZE(0))
        weights = b.gep(w, [w_at])
        done = cgutils.alloca_once_value(b, SIZE(0))
        call = _Call(b, x, row, n_products, weights, start, lowest, skip, skip_at, skip_row, out, out_at, n, done)
        for n_rows in TILE:
            _do_tiles(call, n_rows, n_rows - 1)
        return context.get_dummy_value()

    size = types.intp
    return types.void(x, size, size, w, size, bias, size, types.float32, skip, size, out, size, size), code


def _at_least(b: Any, value: Any, lowest: Any) -> Any:
    """Return the larger of both in each lane; NaN stays NaN."""
    return b.select(b.fcmp_unordered(">", value, lowest), value, lowest)


def everywhere(b: Any, value: Any) -> Any:
    """Return a vector that holds a value in every lane."""
    undefined, first = ir.Constant(ir.VectorType(value.type, LANES), ir.Undefined), ir.Constant(WORDS, [0] * 16)
    return b.shuffle_vector(b.insert_element(undefined, value, WORD(0)), undefined, first)


def _lanes(b: Any, pointer: Any, at: Any) -> Any:
    """Return where a vector of lanes lies in an array of float32."""
    return b.bitcast(b.gep(pointer, [at]), FLOATS.as_pointer())


def _do_tiles(call: _Call, n_rows: int, least: int) -> None:
    """Do the next ``n_rows`` samples, again and again as long as there are more than ``least``."""
    b = call.builder
    again, body, inner, after, end = (b.append_basic_block() for _ in range(5))
    b.branch(again)
    b.position_at_end(again)
    at = b.load(call.done)
    b.cbranch(b.icmp_signed("<", b.add(at, SIZE(least)), call.n), body, end)
    b.position_at_end(body)
    places = [b.add(at, SIZE(own)) for own in range(n_rows)]
    begun = [_constant(0.0)] * (2 * n_rows)
    if call.skip is not None:
        skips = [b.add(call.skip_at, b.mul(place, call.skip_row)) for place in places]
        begun = [
            b.fadd(call.start[h], b.load(_lanes(b, call.skip, b.add(own, HALVES[h])), align=4)) for own in skips for h in (0, 1)
        ]
    rows = [b.gep(call.x, [b.mul(place, call.row)]) for place in places]
    b.branch(inner)
    b.position_at_end(inner)
    sums = _sum_products(call, rows, begun, body, after)
    b.position_at_end(after)
    for own, place in enumerate(places):
        target = b.add(call.out_at, b.mul(place, SIZE(CHANNELS)))
        for h in (0, 1):
            value = sums[2 * own + h]
            kept = value if call.skip is None else _at_least(b, value, call.lowest)
            b.store(kept, _lanes(b, call.out, b.add(target, HALVES[h])), align=4)
    b.store(b.add(at, SIZE(n_rows)), call.done)
    b.branch(again)
    b.position_at_end(end)


def _sum_products(call: _Call, rows: Sequence[Any], begun: Sequence[Any], before: Any, after: Any) -> list[Any]:
    """Emit the innermost loop, in the block that the builder stands in: from ``begun`` on, add every product of each row."""
    b, inner = call.builder, call.builder.block
    k = b.phi(SIZE)
    k.add_incoming(SIZE(0), before)
    totals = [b.phi(FLOATS) for _ in begun]
    for total, value in zip(totals, begun, strict=True):
        total.add_incoming(value, before)
    column = [b.load(_lanes(b, call.weights, b.add(b.mul(k, SIZE(CHANNELS)), half)), align=4) for half in HALVES]
    sums = []
    for own, row in enumerate(rows):
        value = everywhere(b, b.load(b.gep(row, [k]), align=4))
        sums += [_multiply_add(b, value, column[h], totals[2 * own + h]) for h in (0, 1)]
    following = b.add(k, SIZE(1))
    k.add_incoming(following, inner)
    for total, value in zip(totals, sums, strict=True):
        total.add_incoming(value, inner)
    b.cbranch(b.icmp_signed("<", following, call.n_products), inner, after)
    return sums


def _constant(number: float) -> Any:
    return ir.Constant(FLOATS, [number] * LANES)


def each_lane(number: int) -> Any:
    """Return a constant that holds a word in every lane."""
    return ir.Constant(WORDS, [number] * LANES)


def _points_of(b: Any, d: Sequence[Any]) -> list[Any]:
    """Return what a tile's eight samples are at each point: polynomials of which each takes part in one product only."""

    def less(total: Any, by: float, value: Any) -> Any:
        return _multiply_add(b, _constant(by), value, total)

    found = [less(b.fsub(d[0], d[6]), 5.25, b.fsub(d[4], d[2]))]
    for even, odd in (
        (less(b.fadd(d[2], d[6]), -4.25, d[4]), less(b.fadd(d[1], d[5]), -4.25, d[3])),
        (less(less(d[6], 0.25, d[2]), -1.25, d[4]), less(less(b.fmul(_constant(0.5), d[1]), -2.5, d[3]), 2.0, d[5])),
        (less(less(d[6], 4.0, d[2]), -5.0, d[4]), less(less(b.fmul(_constant(2.0), d[1]), -2.5, d[3]), 0.5, d[5])),
    ):
        found += [b.fadd(even, odd), b.fsub(even, odd)]
    return [*found, less(b.fsub(d[7], d[1]), 5.25, b.fsub(d[3], d[5]))]


def _samples_of(b: Any, m: Sequence[Any], begun: Sequence[Any]) -> list[Any]:
    """Return the four samples that products at the points give, each added to what it begins with."""
    both = [(b.fadd(m[at], m[at + 1]), b.fsub(m[at], m[at + 1])) for at in (1, 3, 5)]  # of 1, 2 and 1/2 and of their opposites
    found = []
    for power, start in enumerate(begun):
        one, two, half = (pair[power % 2] for pair in both)
        total = b.fadd(one, m[0]) if power == 0 else b.fadd(one, m[7]) if power == OUTPUTS - 1 else one
        total = _multiply_add(b, _constant(2.0**power), two, total)
        found.append(b.fadd(_multiply_add(b, _constant(0.5**power), half, total), start))
    return found


@intrinsic  # type: ignore[untyped-decorator]
def into_points(_: Any, x: Any, at: Any, n_tiles: Any, points: Any, place: Any, n_places: Any) -> Any:  # noqa: ARG001
    """Write the ``n_tiles`` tiles whose first samples begin at ``x[at]`` at each point, from ``place`` on of so many tiles.

    ``points`` is flat (point, tile, channel).
    """

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        x, at, n_tiles, points, place, n_places = given(context, b, signature, arguments)
        for begin, here in _each_tile(b, n_tiles, place):
            own = b.add(at, begin)
            d = [b.load(_lanes(b, x, b.add(own, SIZE(row * CHANNELS))), align=4) for row in range(POINTS)]
            for target, value in zip(_at_points(b, points, here, n_places), _points_of(b, d), strict=True):
                b.store(value, target, align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(x, size, size, points, size, size), code


@intrinsic  # type: ignore[untyped-decorator]
def from_points(_: Any, products: Any, place: Any, n_places: Any, n_tiles: Any, bias: Any, bias_at: Any,  # noqa: ARG001
                 skip: Any, skip_row: Any, out: Any, out_at: Any) -> Any:  # noqa: ARG001  # fmt: skip
    """Write the samples of ``n_tiles`` tiles from ``out[out_at]`` on: bias + skip + what their products give, at least 0.

    The products as ``into_points`` has laid out its tiles. ``skip_row`` 0: none, ``skip`` holds zeros; else it is read where
    ``out`` is written.
    """

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        products, place, n_places, n_tiles, bias, bias_at, skip, skip_row, out, out_at = given(context, b, signature, arguments)
        for begin, here in _each_tile(b, n_tiles, place):
            half = b.urem(begin, SIZE(CHANNELS))
            own = b.load(_lanes(b, bias, b.add(bias_at, half)), align=4)
            m = [b.load(one, align=4) for one in _at_points(b, products, here, n_places)]
            to = [b.add(b.add(out_at, begin), SIZE(row * CHANNELS)) for row in range(OUTPUTS)]
            beside = [b.select(b.icmp_signed(">", skip_row, SIZE(0)), one, half) for one in to]
            begun = [b.fadd(own, b.load(_lanes(b, skip, one), align=4)) for one in beside]
            for one, value in zip(to, _samples_of(b, m, begun), strict=True):
                b.store(_at_least(b, value, _constant(0.0)), _lanes(b, out, one), align=4)
        return context.get_dummy_value()

    size = types.intp
    return types.void(products, size, size, size, bias, size, skip, size, out, size), code


def _each_tile(b: Any, n_tiles: Any, place: Any) -> Iterator[tuple[Any, Any]]:
    """Emit what is asked of each half of the channels of each tile: where its samples begin, and where it is at a point."""
    with cgutils.for_range(b, n_tiles) as loop:
        for half in HALVES:
            here = b.mul(b.add(place, loop.index), SIZE(CHANNELS))
            yield b.add(b.mul(loop.index, SIZE(OUTPUTS * CHANNELS)), half), b.add(here, half)


def _at_points(b: Any, points: Any, here: Any, n_places: Any) -> list[Any]:
    """Return where a tile is at each point."""
    return [_lanes(b, points, b.add(here, b.mul(n_places, SIZE(point * CHANNELS)))) for point in range(POINTS)]


@intrinsic  # type: ignore[untyped-decorator]
def at_each_point(_: Any, points: Any, n_tiles: Any, w: Any, w_at: Any, products: Any) -> Any:  # noqa: ARG001
    """Multiply (point, tile, channel) at each point by its matrix of weights, which begin at ``w[w_at]``."""

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        x, n_tiles, w, w_at, out = given(context, b, signature, arguments)
        done = cgutils.alloca_once(b, SIZE)
        row = SIZE(CHANNELS)
        with cgutils.for_range(b, SIZE(POINTS)) as loop:
            at = b.mul(b.mul(loop.index, n_tiles), row)
            weights = b.gep(w, [b.add(w_at, b.mul(loop.index, SIZE(CHANNELS**2)))])
            b.store(SIZE(0), done)
            call = _Call(b, b.gep(x, [at]), row, row, weights, (), None, None, None, None, out, at, n_tiles, done)
            for n_rows, fewer in zip(TILE_AT_A_POINT, (*TILE_AT_A_POINT[1:], 0), strict=True):
                _do_tiles(call, n_rows, fewer)
        return context.get_dummy_value()

    return types.void(points, types.intp, w, types.intp, products), code


@intrinsic  # type: ignore[untyped-decorator]
def answer(_: Any, before: Any, x: Any, step: Any, w: Any, others: Any, later: Any, n_later: Any, n: Any, total: Any) -> Any:  # noqa: ARG001
    """Write ``n`` sums, and return how many are above 0 and the largest in the order of their bits, as ``counted`` takes apart.

    A sum is what was before, then what a random kernel of ``LENGTH`` taps answers to the sample and those each ``step`` further,
    tap by tap, then what lies in ``others`` from ``later[0]``, ``later[1]`` ... on. All but ``w`` are read and written up to the
    next multiple of ``LANES``; ``total`` may be ``before``.
    """

    def code(context: Any, b: Any, signature: Any, arguments: Any) -> Any:
        before, x, step, w, others, later, n_later, n, total = given(context, b, signature, arguments)
        taps = [everywhere(b, b.load(b.gep(w, [SIZE(tap)]))) for tap in range(LENGTH)]
        own = cgutils.alloca_once(b, FLOATS)
        above, largest = (cgutils.alloca_once_value(b, each_lane(number)) for number in (0, -(1 << 31)))
        with cgutils.for_range(b, b.lshr(b.add(n, SIZE(LANES - 1)), SIZE(4))) as loop:
            at = b.mul(loop.index, SIZE(LANES))
            found = [b.load(_lanes(b, x, b.add(at, b.mul(step, SIZE(tap)))), align=4) for tap in range(LENGTH)]
            value = b.fmul(found[0], taps[0])
            for one, weight in zip(found[1:], taps[1:], strict=True):
                value = b.fadd(value, b.fmul(one, weight))
            b.store(b.fadd(b.load(_lanes(b, before, at), align=4), value), own)
            with cgutils.for_range(b, n_later) as more:
                place = b.add(at, b.load(b.gep(later, [more.index])))
                b.store(b.fadd(b.load(own), b.load(_lanes(b, others, place), align=4)), own)
            b.store(b.load(own), _lanes(b, total, at), align=4)
            bits, left = b.bitcast(b.load(own), WORDS), b.trunc(b.sub(n, at), WORD)
            is_one = b.icmp_signed("<", ir.Constant(WORDS, list(range(LANES))), everywhere(b, left))
            turned = b.xor(bits, b.and_(b.ashr(bits, each_lane(31)), each_lane(0x7FFFFFFF)))
            counts = b.and_(is_one, b.icmp_signed(">", bits, each_lane(0)))
            b.store(b.add(b.load(above), b.zext(counts, WORDS)), above)
            b.store(b.select(b.and_(is_one, b.icmp_signed(">", turned, b.load(largest))), turned, b.load(largest)), largest)
        kind = ir.FunctionType(WORD, [WORDS])
        n_above, most = (
            b.call(cgutils.get_or_insert_function(b.module, kind, f"llvm.vector.reduce.{name}.v16i32"), [b.load(all_lanes)])
            for name, all_lanes in (("add", above), ("smax", largest))
        )
        return b.or_(b.shl(b.zext(n_above, SIZE), SIZE(32)), b.zext(most, SIZE))

    size = types.intp
    return size(before, x, size, w, others, later, size, size, total), code
