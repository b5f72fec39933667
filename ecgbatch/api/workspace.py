"""A workspace opened: what is current in it, as tables and arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import xarray as xr

from ecgbatch.api.blocks import batches
from ecgbatch.api.folds import dealt
from ecgbatch.api.recordings import check_names, signals_of
from ecgbatch.api.tables import measurements_table, records_table, scores_table
from ecgbatch.api.windows import Choice, beats_of, beats_table
from ecgbatch.signals.lookup import archive_facts
from storage import is_address

if TYPE_CHECKING:
    from ecgbatch.api.torch_beats import BeatDataset

Names = str | Iterable[str] | None
"""Of records: one, several, or all."""


def open_workspace(work: str | Path) -> Workspace:
    """Open a workspace for reading: a folder, or a prefix of an object store (``s3://bucket/prefix``).

    Raises
    ------
    storage.UnfinishedStore
        If nothing has been converted there yet.
    storage.CorruptStore
        If its list of records is not what was written.
    ValueError
        If it is an address of another kind, or a file.

    """
    if not is_address(work) and Path(work).exists() and not Path(work).is_dir():
        raise ValueError(f"{work}: expected a workspace, which is a folder or s3://bucket/prefix, found a file")
    archive_facts(str(work))
    return Workspace(str(work))


@dataclass(frozen=True)
class Workspace:
    """What is current in a workspace: every record that is in the archive now, of whatever night, rate and length.

    Rows that a changed record left behind and patients who were erased are in none of these; whether nights were compacted makes
    no difference. Tables are read once, when first asked for: after another night open the workspace anew. Nothing is written.

    Fields
    ------
    place
        Folder or address.

    """

    place: str

    @cached_property
    def records(self) -> pd.DataFrame:
        """Every record, in the archive's order; index ``record_name``.

        ``patient_id``, ``patient_unknown`` (bool); ``status`` (ok, partial, set_aside), ``reason``, ``status_detail``; ``label``
        (mi, control, other, unknown), ``mi`` (1, 0, -1); ``quality`` (good, remarks, not_usable), ``n_leads``,
        ``n_leads_usable``, ``flags_by_lead``; ``n_samples``, ``sampling_frequency_hz``, ``duration_s``; ``age_years``, ``sex``,
        ``diagnosis``, ``infarct_location``, ``infarct_age``, ``recording_year`` (-1 unknown); ``warnings``, ``label_rule``;
        ``signals_store``, ``signals_row``: where its samples lie.
        """
        return records_table(self.place)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """Scores of the latest run, of the records that have not changed since; index ``record_name``.

        The columns of a scores store (docs/stores.md) that have one value a record, codes as words. ``attrs``: ``run``, and
        ``model`` (digest). Of a model that was trained on this archive every score is out of fold.

        Raises
        ------
        ValueError
            If nothing has been scored yet.

        """
        return scores_table(self.place)

    @cached_property
    def measurements(self) -> pd.DataFrame:
        """Rate, intervals, axes and the waves of each lead, of every record; index ``record_name``.

        The columns of a measurements store (docs/stores.md) that have one value a record, and each standard lead's as
        ``st_j_mv_V2``; NaN where there is no value, and why in ``..._reason``.

        Raises
        ------
        storage.UnfinishedStore
            If some record is not measured yet.

        """
        return measurements_table(self.place)

    @cached_property
    def _tables(self) -> dict[str, xr.Dataset]:
        return {}

    def signals(self, record: str) -> xr.DataArray:
        """Return the samples of one record, read when their values are asked for.

        Returns
        -------
        xarray.DataArray
            (lead, sample) float32, mV: the leads that the record has; NaN where a sample is missing, and on a lead without a
            gain. Coordinates ``lead``, ``lead_flags`` (words, empty for a lead without a remark) and ``time_s`` (from the
            record's start); attributes ``sampling_frequency_hz``, ``units``, ``record_name`` and ``patient_id``.

        Raises
        ------
        ValueError
            If no record that is in the archive now has this name (the nearest are named), or it is set aside (why is said).

        """
        return signals_of(self.place, self.records, record)

    def beats(
        self,
        records: Names = None,
        *,
        leads: Iterable[str] | None = None,
        method: str = "robust",
        only_scorable: bool = True,
    ) -> xr.Dataset:
        """Return the beats of all records, or some, as one dataset; windows are read when their values are asked for.

        Parameters
        ----------
        records
            Names; default all.
        leads
            Names, in the order wanted; default all that any record has, in canonical order.
        method
            Of finding and cutting: ``robust``, or ``kachuee`` (then values are shares of a window's range, not mV).
        only_scorable
            Leave out beats that are cut off, noisy or clipped, as training and scoring do; else ``beat_flags`` tells them.

        Returns
        -------
        xarray.Dataset
            ``waveform`` (beat, lead, sample) float32, mV: NaN where a sample is missing and on a lead that is absent or flat in
            the record. (beat): ``r_sample`` int32 at the record's own rate, ``rr_previous_s``, ``beat_flags`` (bits),
            ``record_index`` (place on dimension record). (record): coordinate ``record`` (names), ``patient_id``, ``label`` (0
            unknown, 1 control, 2 mi, 3 other), ``mi`` (1, 0, -1), ``first_beat`` and ``n_beats``: a record's beats lie together.
            Coordinates ``lead`` and ``sample_time_s`` (from R). Records are in the order of the stores; one that was set aside
            has no beats. In memory at once: about 25 bytes a beat.

        Raises
        ------
        ValueError
            If a name is no record's or a lead no record has it, or there is no such method.
        storage.UnfinishedStore
            If beats of some record have not been found yet.

        """
        choice = self._choice(records, leads, method, only_scorable)
        if method not in self._tables:
            self._tables[method] = beats_table(self.place, method)
        return beats_of(self.place, self._tables[method], choice)

    def iter_beats(
        self,
        batch: int = 256,
        records: Names = None,
        *,
        leads: Iterable[str] | None = None,
        method: str = "robust",
        only_scorable: bool = True,
    ) -> Iterator[xr.Dataset]:
        """Yield the beats in the stores' order, ``batch`` at a time, in memory that does not grow with the workspace's windows.

        As ``beats``, but in memory and with dimensions beat, lead, sample alone: ``record_name``, ``patient_id``, ``label`` and
        ``mi`` are those of each beat. Batches may be shorter, never empty; every beat comes once.
        """
        yield from batches(self.beats(records, leads=leads, method=method, only_scorable=only_scorable), batch)

    def folds(self, n: int = 5, seed: int = 2018, *, method: str = "robust") -> pd.Series:
        """Deal the patients to ``n`` folds, exactly as training does: balanced by label, no patient in two.

        Parameters
        ----------
        seed
            As training's; its default is training's too.
        method
            Of the beats that are trained on: with ``kachuee`` patients with other heart disease take no part.

        Returns
        -------
        pandas.Series
            int64, 0 to ``n - 1``, index ``record_name`` as ``records``; -1 where the patient takes no part in training: no record
            with a label and a scorable beat.

        Raises
        ------
        ValueError
            If there are fewer patients with label mi, or control, than folds.

        """
        return dealt(self.records, self.beats(method=method), n, seed)

    def torch_beats(
        self,
        batch: int = 256,
        records: Names = None,
        *,
        leads: Iterable[str] | None = None,
        only_scorable: bool = True,
        seed: int | None = None,
    ) -> BeatDataset:
        """Return the beats for ``torch.utils.data.DataLoader(..., batch_size=None)``: see ``BeatDataset``. This imports torch.

        Parameters
        ----------
        batch, records, leads, only_scorable
            As in ``iter_beats``.
        seed
            Of another order in every epoch; None: the stores' order.

        """
        from ecgbatch.api.torch_beats import BeatDataset

        return BeatDataset(self.place, self._choice(records, leads, "robust", only_scorable), batch, seed)

    def _choice(self, records: Names, leads: Iterable[str] | None, method: str, only_scorable: bool) -> Choice:
        names = None if records is None else (records,) if isinstance(records, str) else tuple(records)
        if names is not None:
            check_names(self.place, self.records, list(names))
        return Choice(names, None if leads is None else tuple(leads), method, only_scorable)

    def __getstate__(self) -> dict[str, Any]:
        """Return what another process needs: it reads the tables itself."""
        return {"place": self.place}
