"""Beats handed out batch by batch in bounded memory, all of them once, however many share them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

POOL_BYTES = 32_000_000
"""Of windows, as float32, that are held at once: some shards of a store."""

_BLOCK_BEATS = 512  # that stay together, since they share chunks
_BLOCKS_EACH = 8  # so that those who share few beats have about the same number


@dataclass(frozen=True)
class Share:
    """One of ``n`` who share the beats, and in which order they are handed out: the stores' own, or one drawn from a seed."""

    number: int = 0
    n: int = 1
    seed: tuple[int, ...] | None = None


def batches(beats: xr.Dataset, batch: int, share: Share | None = None) -> Iterator[xr.Dataset]:
    """Yield batches of a dataset of beats, in memory, with what is known of each beat's record on dimension ``beat``.

    Parameters
    ----------
    beats
        From ``windows.beats_of``.
    batch
        Beats of each; some have fewer, at least one.
    share
        Default: everything, in the stores' order.

    Raises
    ------
    ValueError
        If ``batch`` is below 1.

    """
    if batch < 1:
        raise ValueError(f"batch must be at least 1 beat, found {batch}")
    share = share or Share()
    n_beats = beats.sizes["beat"]
    random = None if share.seed is None else np.random.default_rng((*share.seed, share.number))
    length = max(batch, min(_BLOCK_BEATS, -(-n_beats // (_BLOCKS_EACH * share.n))))
    own = np.arange(-(-n_beats // length))[share.number :: share.n]
    if random is not None:
        random.shuffle(own)
    bytes_a_beat = 4 * beats.sizes["lead"] * beats.sizes["sample"]
    at_once = max(1, POOL_BYTES // max(1, length * bytes_a_beat))
    for first in range(0, own.size, at_once):
        starts = np.sort(own[first : first + at_once]) * length
        places = np.concatenate([np.arange(start, min(start + length, n_beats)) for start in starts.tolist()])
        pool = _of_beats(beats, places)
        order = np.arange(places.size) if random is None else random.permutation(places.size)
        for start in range(0, places.size, batch):
            yield pool.isel(beat=order[start : start + batch])


def _of_beats(beats: xr.Dataset, places: np.ndarray) -> xr.Dataset:
    """Return some beats in memory, with name, patient and label of their records."""
    chosen = beats.drop_dims("record").isel(beat=places).load()
    record = beats["record_index"].values[places]
    of_record: dict[str, Any] = {
        name: ("beat", beats[name].values[record], beats[name].attrs) for name in ("patient_id", "label", "mi")
    }
    return chosen.assign(record_name=("beat", beats["record"].values[record]), **of_record)
