"""Limb leads that a record does not hold and that follow from two it holds: III, aVR, aVL and aVF from I and II, in windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE, UNUSABLE_LEAD, lead_order
from storage import open_once

Array = NDArray[Any]

OF_I_II = MappingProxyType({"III": (-1.0, 1.0), "aVR": (-0.5, -0.5), "aVL": (1.0, -0.5), "aVF": (-0.5, 1.0)})
"""Each as a sum of I and II: Einthoven's law and Goldberger's leads (Malmivuo and Plonsey 1995, 15.7)."""

RULE = "III, aVR, aVL, aVF of I and II where a record has these and lacks those; not where I and II have scales of their own"
"""What a beats store's settings say (``derived``) where any lead of it was made so."""

FLAGS: Mapping[str, int] = {"derived": 4096}
"""Bits of a beats store's ``lead_flags``."""


def derived_leads(signals: xr.Dataset) -> tuple[list[str], Array]:
    """Return the leads of windows of a signals store, and which of them are derived in which record.

    Parameters
    ----------
    signals
        ``lead``; ``lead_flags`` and ``adc_gain`` (record, lead); ``warnings`` (record).

    Returns
    -------
    leads : list of str
        The store's own where nothing is derived, else with the derived ones, in canonical order.
    is_derived : (record, lead) bool
        True where the lead is missing, I and II are there and usable, and what they say is on one scale: millivolts, or counts of
        one converter whose gain was not stated. Signals in units of their own may be scaled one by one.

    """
    own = [str(lead) for lead in signals["lead"].values]
    flags = signals["lead_flags"].values
    if not {"I", "II"} <= set(own) or not len(flags):
        return own, np.zeros((len(flags), len(own)), bool)
    one, two = (flags[:, own.index(lead)] for lead in ("I", "II"))
    both = ((one | two) & UNUSABLE_LEAD) == 0
    unscaled = ((one | two) & LEAD_FLAGS["not_millivolts"]) != 0
    if (both & unscaled).any():
        both &= ~unscaled | _is_one_converter(signals, own)
    missing = {lead: both.copy() for lead in OF_I_II}
    for lead in OF_I_II.keys() & set(own):
        missing[lead] &= (flags[:, own.index(lead)] & LEAD_FLAGS["missing"]) != 0
    leads = lead_order(set(own) | {lead for lead, where in missing.items() if where.any()}) if both.any() else own
    none = np.zeros(len(flags), bool)
    return leads, np.stack([missing.get(lead, none) for lead in leads], axis=1)


def _is_one_converter(signals: xr.Dataset, leads: Sequence[str]) -> Array:
    gain = signals["adc_gain"].values
    is_same = gain[:, leads.index("I")] == gain[:, leads.index("II")]
    codes = [set(text.split()) for text in signals["warnings"].values.tolist()]
    is_counts = np.array(["GAIN_DEFAULTED" in told and "UNITS_UNKNOWN" not in told for told in codes], bool)
    return np.asarray(is_same & is_counts)


@lru_cache(maxsize=8)
def derived_in(signals_at: str) -> tuple[list[str], Array]:
    """Return ``derived_leads`` of a published store, which never changes."""
    signals = open_once(signals_at)
    return derived_leads(signals[["lead", "lead_flags", "adc_gain", "warnings"]])


def with_derived(waveform: Array, own: Sequence[str], leads: Sequence[str], is_derived: Array) -> Array:
    """Return windows (beat, lead, sample) int16 in microvolts of ``leads``, made of those of a record's ``own`` leads.

    A derived sample is missing where I or II is.
    """
    found = np.full((len(waveform), len(leads), waveform.shape[2]), MISSING_SAMPLE, np.int16)
    found[:, [leads.index(lead) for lead in own]] = waveform
    if not is_derived.any():
        return found
    one, two = (waveform[:, own.index(lead)] for lead in ("I", "II"))
    gone = (one == MISSING_SAMPLE) | (two == MISSING_SAMPLE)
    for row in np.flatnonzero(is_derived).tolist():
        a, b = OF_I_II[leads[row]]
        values = np.rint(a * one.astype(np.float64) + b * two).clip(-32767, 32767)
        found[:, row] = np.where(gone, MISSING_SAMPLE, values).astype(np.int16)
    return found
