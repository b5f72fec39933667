"""Which records get a page and a JSON file of their own; all are in ``records.parquet``."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.settings import load_settings
from ecgbatch.terms import DECISION, LABEL
from storage import Folder

MODES = ("all", "called", "none")
"""``called``: indicated, indeterminate, not scorable (or set aside), or not indicated though the label says infarction."""

MOST_OF_ALL = 2000
"""Records up to which all get a page where nothing else is asked for."""


class Pages(NamedTuple):
    """What was chosen: the mode, and how many records of how many have a page; ``pages`` of the cohort's JSON."""

    mode: str
    n_pages: int
    n_records: int

    def words(self, work: str) -> str:
        """Return a sentence on them, and how to get the others."""
        said = f"{self.n_pages:,} of {self.n_records:,} records have a page ({self.mode}); reports of all are in records.parquet"
        if self.n_pages == self.n_records:
            return said
        return f"{said}. One more: ecgbatch report {work} --record NAME; every one: ecgbatch report {work} --pages all"


def checked_pages(asked: str | None) -> str | None:
    """Return the mode asked for, or set; None where neither is.

    Raises
    ------
    ValueError
        If it is none of ``MODES``.

    """
    mode = load_settings(pages=asked).pages
    return None if mode is None else str(mode)


def mode_for(asked: str | None, n_records: int) -> str:
    """Return the mode asked for, or set; else all pages of up to ``MOST_OF_ALL`` records, those ``called`` of more."""
    return checked_pages(asked) or ("all" if n_records <= MOST_OF_ALL else "called")


def has_page(scores: xr.Dataset, mode: str) -> NDArray[np.bool_]:
    """Tell which records get a page, (record,)."""
    if mode != "called":
        return np.full(scores.sizes["record"], mode == "all")
    is_negative = scores["decision"].values == DECISION["mi_not_indicated"]
    return np.asarray(~is_negative | (scores["label"].values == LABEL["mi"]))


def stated_mode(folder: Folder, below: str) -> str | None:
    """Return the mode of the reports that lie below a key; None where it is not known."""
    try:
        stated: Any = json.loads(folder.read(f"{below}/cohort.json"))
        mode = stated["pages"]["mode"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return mode if mode in MODES else None
