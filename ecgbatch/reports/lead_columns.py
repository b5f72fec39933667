"""Columns of scores.parquet for the waves of the twelve standard leads: ``st_j_mv_V2``, ``q_duration_ms_aVF``; not in the CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.quantities import LEAD_QUANTITIES
from ecgbatch.terms import LEADS
from storage import Folder, load_columns

STANDARD = LEADS[:12]

LEAD_COLUMNS: Mapping[str, str] = {
    f"{name}_{lead}": f"{of.title} in lead {lead}: {of.meaning}; {of.unit}, of the ten seconds on paper; null: no value"
    for name, of in LEAD_QUANTITIES.items()
    for lead in STANDARD
}
"""Name and meaning of each, quantity by quantity; float32."""


@dataclass(frozen=True)
class LeadValues:
    """Where the waves of a table's records lie.

    Fields
    ------
    work
        The workspace.
    store : (record,) text
        Digest of the measurements store of each record, in the table's order; empty where there is none.
    row : (record,) int
        Row there.
    """

    work: Folder
    store: NDArray[Any]
    row: NDArray[np.integer[Any]]

    def columns(self, chosen: slice) -> Iterator[tuple[str, NDArray[np.float32]]]:
        """Yield the name and the values, (record,) float32, of each of ``LEAD_COLUMNS`` for some records; NaN where unknown.

        One quantity is read at a time. A lead or a quantity that a store lacks has no value.
        """
        store, row = self.store[chosen], self.row[chosen]
        for name in LEAD_QUANTITIES:
            values = np.full((len(STANDARD), store.size), np.nan, np.float32)
            for digest in np.unique(store[store != ""]).tolist():
                found = load_columns(str(self.work.path(f"measurements/{digest}.zarr")), (name, "lead"))
                leads = found["lead"].values.tolist()
                here = np.flatnonzero(store == digest)
                for place, lead in enumerate(STANDARD):
                    if lead in leads and name in found:
                        values[place, here] = found[name].values[row[here], leads.index(lead)]
            yield from ((f"{name}_{lead}", values[place]) for place, lead in enumerate(STANDARD))
