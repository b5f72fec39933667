"""Inference: a network's weights as the forward pass reads them, and the logits and probabilities of beats."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.kernels import scratch
from ecgbatch.model.forward_kernels import (
    BLOCKS,
    KERNEL,
    PAIRS,
    POOL,
    POOL_STRIDE,
    forward,
    forward_changed,
    leave,
    round_bfloat16,
)
from ecgbatch.model.tile_kernels import STEP, may_use_tiles, room_sizes, tile_rows
from ecgbatch.model.vectors import AT, CHANNELS, LANES

Array = NDArray[Any]

ENGINE = "compiled kernel 2"
"""Named in every scores store; the number rises when a sum's order changes."""

PRECISIONS = ("float32", "bfloat16")
"""bfloat16: the ten convolutions of the blocks take inputs and weights rounded to 8 bits, the first with 16 bits, and sum in
float32 in the order of a processor's matrix unit (``tile_kernels``). What skips a block and the fully connected layers stay
float32: rounding those too makes four times the error."""


class Packed(NamedTuple):
    """A network's weights as the kernels read them: by output channel, float32, flat; the blocks' at points (``vectors``).

    ``words`` are for tiles: the blocks' in pairs of bfloat16, then the first convolution's.
    """

    first: Array
    first_bias: Array
    blocks: Array
    block_biases: Array
    words: Array
    hidden: Array
    hidden_biases: Array
    output: Array
    output_bias: Array


def pack(weights: Mapping[str, Array]) -> Packed:
    """Return the weights of a ``network.BeatNet`` of two or more classes, named as in its ``state_dict``, for the kernel.

    Of the output only the differences from the first class are kept: they are all that a softmax looks at.

    Raises
    ------
    ValueError
        If a weight is missing or has another shape than ``BeatNet``'s: the kernel trusts what it is given.

    """
    check_weights(weights)

    def turned(name: str) -> Array:  # (out, in, tap) to (tap x in, out)
        own = np.asarray(weights[f"{name}.weight"], np.float32)
        return own.transpose(2, 1, 0).reshape(-1, own.shape[0])

    names = [f"{part}.{block}" for block in range(BLOCKS) for part in ("inner", "outer")]
    blocks = np.stack([turned(name) for name in names])
    at_points = np.einsum("pk,nkio->npio", _weights_at_points(), blocks.reshape(len(names), KERNEL, CHANNELS, CHANNELS))
    in_pairs = blocks.reshape(len(names), PAIRS, 2, CHANNELS).transpose(0, 1, 3, 2)
    first = turned("first").ravel()
    words = np.concatenate([_rounded(np.ascontiguousarray(in_pairs).ravel()).view(np.uint32), _in_halves(first)])
    hidden1, hidden2, output = (np.asarray(weights[f"{name}.weight"], np.float32) for name in ("hidden1", "hidden2", "output"))
    hidden1 = hidden1.reshape(CHANNELS, CHANNELS, -1).transpose(2, 1, 0)  # flattened (channel, sample), here (sample, channel)
    biases = [np.asarray(weights[f"{name}.bias"], np.float32) for name in (*names, "hidden1", "hidden2", "output")]
    return Packed(
        _on_lines(first),
        np.array(weights["first.bias"], np.float32),
        _on_lines(at_points),
        np.concatenate(biases[: len(names)]),
        _on_lines(words.view(np.float32)).view(np.uint32),
        _on_lines(np.concatenate([hidden1.ravel(), hidden2.T.ravel()])),
        np.concatenate(biases[-3:-1]),
        (output[1:] - output[:1]).ravel(),
        biases[-1][1:] - biases[-1][:1],
    )


def _rounded(values: Array) -> Array:
    """Return float32 as bfloat16, in the bits of uint16."""
    found = np.empty(values.size, np.uint16)
    round_bfloat16(values.view(np.uint32), values.size, found)
    return found


def _in_halves(first: Array) -> Array:
    """Return the first convolution's weights as tiles take them: the first 8 bits of each twice in a word, then the next 8."""
    high = _rounded(first)
    low = _rounded(first - (high.astype(np.uint32) << 16).view(np.float32))
    words = np.zeros((2, -(-first.size // STEP) * STEP), np.uint32)
    words[:, : first.size] = np.stack([high, low]) * np.uint32(0x10001)
    return words.ravel()


def _on_lines(values: Array) -> Array:
    """Return values as float32, flat, from where a line of the cache begins."""
    room = _from_a_line(np.empty(values.size + LANES, np.float32))[: values.size]
    room[:] = values.ravel()
    return room


def _from_a_line(room: Array) -> Array:
    """Return what begins with a line of the cache: vectors and tiles that lie in two are read twice."""
    return room[-(room.ctypes.data // room.itemsize) % LANES :]


def _weights_at_points() -> Array:
    """Return (point, tap) by which taps become the weights at each point of a fast convolution (``forward_kernels``).

    After Toom and Cook: a tap is a coefficient of a polynomial, which is taken at the points; what divides it is the value, at
    that point, of the polynomial by which the samples are taken there.
    """
    slopes = np.array([np.prod([one - other for other in AT if other != one]) for one in AT])
    slopes[0] *= -1  # its samples are taken with the other sign
    return np.vstack([np.array(AT)[:, None] ** np.arange(KERNEL) / slopes[:, None], [0] * (KERNEL - 1) + [1]])


OF = ("mi", "abnormal")
"""What a logit is of: MI against everything else, or anything else against the first class, normal."""


def logit_of(scores: Array, of: str = "mi") -> Array:
    """Return the logit (row,) float64 of the softmax of scores (row, class): control, MI and, where there is a third, other.

    ``of`` is one of ``OF``; with two classes both are the same.
    """
    scores = np.asarray(scores, np.float64)
    if scores.shape[1] == 2:
        return np.asarray(scores[:, 1] - scores[:, 0])
    control, mi, other = scores.T
    return np.asarray(mi - np.logaddexp(control, other) if of == "mi" else np.logaddexp(mi, other) - control)


def beat_logits(packed: Packed, waveform: Array, precision: str = "float32", of: str = "mi") -> Array:
    """Return the logit of MI of each prepared beat, before any calibration.

    Parameters
    ----------
    packed
        From ``pack``, of a network of these leads and samples.
    waveform : (beat, lead, sample) float32
    precision
        One of ``PRECISIONS``. For bfloat16 a processor without a matrix unit needs many times as long, for the same bits.
    of
        As in ``logit_of``.

    Returns
    -------
    (beat,) float32
        A beat's logit depends on the weights and that beat only: not on its neighbours, threads or the kind of processor.

    Raises
    ------
    ValueError
        If the network is one of other leads or samples, or the precision is none.

    """
    _check_fits(packed, waveform)
    if precision not in PRECISIONS:
        raise ValueError(f"expected a precision of {', '.join(PRECISIONS)}, found {precision!r}")
    own = np.require(waveform, np.float32, ("C", "W"))
    return _logits(_forward_in_tiles(packed, own) if precision == "bfloat16" else forward(own, *packed), of)


def _forward_in_tiles(packed: Packed, waveform: Array) -> Array:
    """Do ``forward`` in the order of a matrix unit: by it where this process may use it."""
    sizes = room_sizes(*waveform.shape)
    room = _from_a_line(scratch("tile_room", (sum(sizes) + LANES,), np.float32))
    sums, beat, words, x, short, other, _ = np.split(room, np.cumsum(sizes))
    words, short, other = (own.view(np.uint32) for own in (words, short, other))
    beat[:], words[:] = 0, 0
    biases = packed.first_bias, packed.block_biases
    rows = tile_rows(waveform, may_use_tiles(), packed.words, *biases, sums, beat, words, x, short, other)
    layers = np.empty(2 * len(rows) * CHANNELS, np.float32)
    logits = np.empty((len(rows), packed.output_bias.size), np.float32)
    leave(rows.ravel(), len(rows), rows.shape[1], *packed[5:], layers, logits.ravel())
    return logits


def _logits(differences: Array, of: str = "mi") -> Array:
    """Return logits (beat,) float32 of the classes' differences from the first, (beat, class - 1)."""
    return np.asarray(logit_of(np.insert(differences, 0, 0, axis=1), of), np.float32)


def probabilities(logits: Array) -> Array:
    """Return the probability of MI (beat,) float32 that these logits stand for."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * logits.astype(np.float64))), np.float32)


def changed_logits(packed: Packed, beat: Array, copies: Array, spans: Array) -> Array:
    """Return the logits of a beat and of copies that differ from it in a span of samples: ``beat_logits``' very bits.

    Two thirds of the work: a sample of a layer is computed anew only where what it looks at has changed.

    Parameters
    ----------
    packed
        As in ``beat_logits``.
    beat : (lead, sample) float32
    copies : (copy, lead, sample) float32
    spans : (copy, 2) int64
        First sample that differs and the one behind the last; an empty span is an equal copy.

    Returns
    -------
    (1 + copy,) float32

    """
    _check_fits(packed, copies)
    if beat.shape != copies.shape[1:] or len(spans) != len(copies):
        raise ValueError(f"expected copies of a beat {beat.shape} and a span for each, found {copies.shape} and {spans.shape}")
    own, others = (np.require(array, np.float32, ("C", "W")) for array in (beat, copies))
    spans = np.require(spans, np.int64, ("C", "W"))
    return _logits(forward_changed(own, others, spans, np.lexsort(spans.T), *packed))


def check_weights(weights: Mapping[str, Array]) -> None:
    """Raise ``ValueError`` where a weight is missing or has another shape than the network's, naming each."""
    n_classes = max(2, np.size(weights.get("output.bias", ())))
    shapes: dict[str, tuple[int, ...]] = {"output.weight": (n_classes, CHANNELS), "output.bias": (n_classes,)}
    shapes |= {f"{part}.{block}.weight": (CHANNELS, CHANNELS, KERNEL) for part in ("inner", "outer") for block in range(BLOCKS)}
    shapes |= {"hidden2.weight": (CHANNELS, CHANNELS)}
    shapes |= {f"{part}.{block}.bias": (CHANNELS,) for part in ("inner", "outer") for block in range(BLOCKS)}
    shapes |= {f"{name}.bias": (CHANNELS,) for name in ("first", "hidden1", "hidden2")}
    found = {name: np.shape(weights[name]) for name in (*shapes, "first.weight", "hidden1.weight") if name in weights}
    first, hidden = found.get("first.weight", ()), found.get("hidden1.weight", ())
    shapes |= {"first.weight": (CHANNELS, first[1] if len(first) == 3 else 1, KERNEL)}
    shapes |= {"hidden1.weight": (CHANNELS, hidden[1] // CHANNELS * CHANNELS if len(hidden) == 2 else CHANNELS)}
    wrong = [f"{name} {found.get(name)} instead of {shape}" for name, shape in shapes.items() if found.get(name) != shape]
    if wrong:
        raise ValueError(f"these are not the weights of a network that scores beats: {', '.join(wrong)}; train the model again")


def _check_fits(packed: Packed, waveform: Array) -> None:
    left = waveform.shape[2]
    for _ in range(BLOCKS):
        left = (left - POOL) // POOL_STRIDE + 1 if left >= POOL else left
    expected = (KERNEL * waveform.shape[1] * CHANNELS, left * CHANNELS**2 + CHANNELS**2)
    if (packed.first.size, packed.hidden.size) != expected:
        raise ValueError(
            f"a network of {packed.first.size // (KERNEL * CHANNELS)} leads cannot take beats {waveform.shape}: it was made for "
            "other leads or samples; score with the model's own"
        )
