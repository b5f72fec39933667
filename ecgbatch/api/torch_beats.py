"""Beats for torch: an iterable dataset that the workers of a loader share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ecgbatch.api.blocks import Share, batches
from ecgbatch.api.windows import Choice, beats_of, beats_table
from ecgbatch.workspace.erased import VIEW_FILE
from storage import folder_at


class BeatDataset(IterableDataset[dict[str, Any]]):
    """Batches of beats as torch takes them, for ``DataLoader(dataset, batch_size=None, num_workers=...)``.

    Each batch is a dict: ``waveform`` (beat, lead, sample) float32 mV, **0 where** ``Workspace.beats`` **has NaN**, since a
    network makes NaN of it all; ``mi`` (beat,) int64, 1, 0 or -1; ``label`` (beat,) int64, 0 unknown, 1 control, 2 mi, 3 other;
    ``r_sample`` (beat,) int64, where R is in its record; ``record_name`` and ``patient_id``, lists of text.

    However many workers share it, every beat comes once in each epoch. Each opens the stores itself, so it may be pickled; of a
    workspace in an object store give the loader ``multiprocessing_context="spawn"``.

    Parameters
    ----------
    place
        Of the workspace.
    choice
        Which beats.
    batch
        Beats of a batch; some have fewer.
    seed
        Of the order: drawn anew in each epoch (``set_epoch``) from blocks of beats, mixed in a pool of some thousand; the same
        seed, epoch and number of workers give the same batches. None: the stores' order.

    """

    def __init__(self, place: str, choice: Choice, batch: int, seed: int | None = None) -> None:
        if batch < 1:
            raise ValueError(f"batch must be at least 1 beat, found {batch}")
        self._place, self._choice, self._batch, self._seed, self._epoch = place, choice, batch, seed, 0
        self._version = folder_at(place).version(VIEW_FILE)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins: the order follows from it and the seed. A loader with persistent workers does not hear it."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield this worker's batches."""
        if folder_at(self._place).version(VIEW_FILE) != self._version:
            raise ValueError(
                f"{self._place}: another night has been converted since this dataset was made; open the workspace anew"
            )
        worker = get_worker_info()
        seed = None if self._seed is None else (self._seed, self._epoch)
        share = Share(0, 1, seed) if worker is None else Share(worker.id, worker.num_workers, seed)
        beats = beats_of(self._place, beats_table(self._place, self._choice.method), self._choice)
        for found in batches(beats, self._batch, share):
            yield {
                "waveform": torch.from_numpy(np.nan_to_num(found["waveform"].values, nan=0.0)),
                "mi": torch.from_numpy(found["mi"].values.astype(np.int64)),
                "label": torch.from_numpy(found["label"].values.astype(np.int64)),
                "r_sample": torch.from_numpy(found["r_sample"].values.astype(np.int64)),
                "record_name": found["record_name"].values.tolist(),
                "patient_id": found["patient_id"].values.tolist(),
            }
