"""Beats for training: read in order, block by block, prepared once, and mapped into memory by every member."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ecgbatch.model.files import write_synced
from ecgbatch.model.preparation import median_beat, prepare_waveforms
from ecgbatch.model.splits import assign_folds, patient_labels, record_digest
from ecgbatch.terms import LABEL, UNSCORABLE_BEAT
from storage import open_store

if TYPE_CHECKING:
    from ecgbatch.training.settings import TrainSettings

BLOCK_BYTES = 64_000_000
"""Waveforms read at once from a store: a few of its shards, whole records, whatever the store's size."""

BEAT_SETTINGS = ("method", "sampling_frequency_hz", "before_s", "after_s")
"""Settings of a beats store that change what a network sees (``beats.record.BeatSettings``)."""


@dataclass(frozen=True)
class TrainingBeats:
    """Beats in memory, shaped as a beats store: rows of a record lie together, records in order.

    Parameters
    ----------
    waveform : (beat, lead, sample) int16, stored steps
    is_scorable : (beat,) bool
        Without a bit of ``terms.UNSCORABLE_BEAT``; the others only keep their rows.
    lead : (lead,) text
    patient_id, mi, n_beats : (record,) text, int (1 MI, 0 control, 2 other heart disease, -1 unknown: never trained on), int
    beats
        Settings the beats were cut with; the model will want the same (``model.preparation.check_beats``).

    """

    waveform: np.ndarray
    is_scorable: np.ndarray
    lead: tuple[str, ...]
    patient_id: Sequence[str]
    mi: np.ndarray
    n_beats: np.ndarray
    beats: Mapping[str, Any]


Source = Sequence[str] | Mapping[str, Sequence[int]] | TrainingBeats | Iterator[TrainingBeats]
"""Paths of beats stores (as a mapping: to the rows, records, that may train), beats in memory, or blocks of them, read once."""


@dataclass(frozen=True)
class Prepared:
    """The network's input on disk (memory-mapped, so members share it) and the labelled records it belongs to."""

    waveform: np.ndarray  # (beat, lead, sample) float32
    median: np.ndarray  # (record, lead, sample) float32, of all scorable beats
    patient_id: tuple[str, ...]  # (record,)
    group: np.ndarray  # (record,) 0 control, 1 MI, 2 other heart disease
    first_beat: np.ndarray  # (record + 1,)
    folds: np.ndarray  # (deal, record)
    content: tuple[str, ...]  # (record,) digests of the recordings
    n_classes: int
    beats: Mapping[str, Any]

    @property
    def mi(self) -> np.ndarray:
        """1 where it is MI, else 0, (record,)."""
        return np.asarray(self.group == 1, np.int64)

    @property
    def mi_or_control(self) -> np.ndarray:
        """1 MI, 0 control, -1 other, (record,): what sensitivity and specificity are of."""
        return np.where(self.group == 2, -1, self.group)

    @property
    def classes(self) -> np.ndarray:
        """Class that each record is learnt as, (record,): its group, or whether it is MI."""
        return self.group if self.n_classes == 3 else self.mi


def prepare_training(source: Source, settings: TrainSettings, checkpoints: Path) -> tuple[Path, dict[str, Any]]:
    """Write the network's input of all labelled records once, for all members to map into memory.

    Memory stays within a few times ``BLOCK_BYTES``.

    Returns
    -------
    folder, beats
        Folder named by the digest of content and settings; the settings that the beats were cut with.

    Raises
    ------
    ValueError
        As ``train`` does.

    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=".prepared.", suffix=".partial", dir=checkpoints))
    try:
        digest = hashlib.sha256(json.dumps(asdict(settings), sort_keys=True).encode())
        table: dict[str, Any] = {"patient_id": [], "mi": [], "n_beats": [], "content": [], "shape": None, "beats": None}
        with (aside / "waveform.f32").open("wb") as file, (aside / "median.f32").open("wb") as medians:
            for block in _blocks(source):
                for rows, median in _prepare_block(block, settings, table):
                    digest.update(rows.data)
                    file.write(rows.data)
                    medians.write(median.data)
        _check_patients(table)
        text = json.dumps(table, sort_keys=True)
        digest.update(text.encode())
        write_synced(aside / "records.json", text.encode())
        folder = checkpoints / digest.hexdigest()[:32]
        if not folder.exists():
            _publish(aside, folder)
        return folder, table["beats"]
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _publish(aside: Path, folder: Path) -> None:
    try:
        aside.rename(folder)
    except OSError:  # another process prepared the same bytes first
        if not folder.exists():
            raise


def _blocks(source: Source) -> Iterator[TrainingBeats]:
    if isinstance(source, Iterator):
        return source
    return iter([source]) if isinstance(source, TrainingBeats) else _read_stores(source)


def _read_stores(stores: Sequence[str] | Mapping[str, Sequence[int]]) -> Iterator[TrainingBeats]:
    """Yield blocks of whole records of each store, about ``BLOCK_BYTES`` of waveforms each.

    A record that is none of the rows named for its store (superseded, or gone from the archive) counts as unlabelled.
    """
    for path in stores:
        store = open_store(path)
        mi = np.where(store["label"].values == LABEL["other"], 2, store["mi"].values)
        if isinstance(stores, Mapping):
            mi[~np.isin(np.arange(mi.size), np.asarray(stores[path]))] = -1
        settings = {name: store.attrs["settings"][name] for name in BEAT_SETTINGS if name in store.attrs["settings"]}
        first, n_beats = store["first_beat"].values, store["n_beats"].values
        bytes_a_beat = 2 * store.sizes["lead"] * store.sizes["sample"]
        block_of = np.cumsum(n_beats.astype(np.int64) * bytes_a_beat) // BLOCK_BYTES
        for block in np.unique(block_of):
            records = np.flatnonzero(block_of == block)
            rows = slice(int(first[records[0]]), int(first[records[-1]] + n_beats[records[-1]]))
            yield TrainingBeats(
                store["waveform"].isel(beat=rows).values,
                (store["beat_flags"].isel(beat=rows).values & UNSCORABLE_BEAT) == 0,
                tuple(map(str, store["lead"].values)),
                [str(patient) for patient in store["patient_id"].values[records]],
                mi[records],
                n_beats[records],
                settings,
            )


def single_beats(stores: Sequence[str] | Mapping[str, Sequence[int]]) -> Iterator[TrainingBeats]:
    """Yield the labelled, scorable beats of stores, each as a patient of its own: what a split by beats takes them for.

    In the stores' order, a block at a time; what grows with the archive is a name and a digest for each beat, some 300 bytes.
    """
    n_before = 0
    for block in _read_stores(stores):
        record = np.repeat(np.arange(len(block.mi)), block.n_beats)
        rows = np.flatnonzero(block.is_scorable & np.isin(block.mi[record], (0, 1)))
        ones = np.ones(len(rows), np.int64)
        names = [f"beat {n_before + number}" for number in range(len(rows))]
        n_before += len(rows)
        yield TrainingBeats(block.waveform[rows], ones.astype(bool), block.lead, names, block.mi[record[rows]], ones, block.beats)


def _prepare_block(
    block: TrainingBeats, settings: TrainSettings, table: dict[str, Any]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield each labelled record's chosen beats, prepared, and the median of all; note the record in ``table``."""
    shape = [len(settings.leads), block.waveform.shape[2]]
    beats = dict(block.beats)
    if table["shape"] not in (None, shape) or table["beats"] not in (None, beats):
        raise ValueError(
            f"a model is trained on beats cut one way, found {beats} with {shape[1]} samples beside {table['beats']} with "
            f"{table['shape'][1]}; run ecgbatch beats with one method over all signals"
        )
    table["shape"], table["beats"] = shape, beats
    stop = np.cumsum(block.n_beats)
    for record, patient in enumerate(block.patient_id):
        rows = slice(int(stop[record] - block.n_beats[record]), int(stop[record]))
        is_scorable = block.is_scorable[rows]
        if block.mi[record] not in (0, 1, 2)[: settings.n_classes] or not is_scorable.any():
            continue
        prepared = prepare_waveforms(
            block.waveform[rows],
            is_scorable,
            store_leads=block.lead,
            leads=settings.leads,
            preprocessing=settings.preprocessing,
        )
        chosen = evenly_spread(np.flatnonzero(is_scorable), settings.max_beats_per_record)
        table["patient_id"].append(str(patient))
        table["mi"].append(int(block.mi[record]))
        table["n_beats"].append(len(chosen))
        content = record_digest(
            block.waveform[rows], is_scorable, store_leads=block.lead, leads=settings.leads, key=settings.patient_key
        )
        table["content"].append(content)
        yield np.ascontiguousarray(prepared[chosen]), median_beat(prepared[is_scorable])


def evenly_spread(rows: np.ndarray, at_most: int) -> np.ndarray:
    """Return all rows, or ``at_most`` of them at even steps from the first to the last."""
    if len(rows) <= at_most:
        return rows
    return np.asarray(rows[np.linspace(0, len(rows) - 1, at_most).round().astype(np.int64)])


GROUPS = (LABEL["control"], LABEL["mi"], LABEL["other"])
"""Codes of ``terms.LABEL``, rising, of the groups 0, 1 and 2."""

FEWEST_OTHER = 10
"""Patients with other heart disease that a class of their own needs: one a fold, as folds usually are."""


def _labels(group: Iterable[int]) -> list[int]:
    return [GROUPS[value] for value in group]


def _check_patients(table: Mapping[str, Any]) -> tuple[int, int]:
    """Return the numbers of MI and control patients, both at least 2."""
    of_patient = list(patient_labels(table["patient_id"], _labels(table["mi"])).values())
    n_mi, n_control = of_patient.count(LABEL["mi"]), of_patient.count(LABEL["control"])
    if min(n_mi, n_control) < 2:
        raise ValueError(
            "training needs records with scorable beats of at least 2 patients with label mi and 2 with label control (one to "
            f"train on, one to test on), found {n_mi} and {n_control}. Give labels with --labels, or more records; with the "
            "five default folds, aim at 5 patients of each and expect little below 20."
        )
    return n_mi, n_control


def open_prepared(folder: Path, settings: TrainSettings) -> Prepared:
    """Map what ``prepare_training`` wrote into memory; fewer folds than asked for where a class has fewer patients.

    Every seed's members have a deal of the patients of their own.
    """
    table = json.loads((folder / "records.json").read_bytes())
    n_folds = min(settings.n_folds, *_check_patients(table))
    labels = _labels(table["mi"])
    n_other = list(patient_labels(table["patient_id"], labels).values()).count(LABEL["other"])
    keys = [settings.patient_key, *(f"{settings.patient_key} {deal}" for deal in range(1, settings.n_seeds))]
    first_beat = np.cumsum([0, *table["n_beats"]])
    shape = (int(first_beat[-1]), *table["shape"])
    return Prepared(
        np.memmap(folder / "waveform.f32", np.float32, "r", shape=shape),
        np.memmap(folder / "median.f32", np.float32, "r", shape=(len(table["mi"]), *table["shape"])),
        tuple(table["patient_id"]),
        np.array(table["mi"], np.int64),
        first_beat,
        np.stack([assign_folds(table["patient_id"], labels, n_folds, key) for key in keys]),
        tuple(table["content"]),
        3 if settings.n_classes == 3 and (settings.start or n_other >= FEWEST_OTHER) else 2,
        table["beats"],
    )
