"""How often readers and score agree, by patient, with an interval that resamples patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ecgbatch.figures.patients import codes
from ecgbatch.figures.resampling import BOOTSTRAP_SEED, CONFIDENCE, N_RESAMPLES, stratified_weights, wilson_interval


def agreement(agrees: npt.ArrayLike, patient_id: npt.ArrayLike) -> dict[str, Any]:
    """Return the share of agreement: a patient counts once, with the mean over its records.

    Parameters
    ----------
    agrees : (record,) float
        Share of the record's readers who agree with its decision.
    patient_id : (record,) text
        Whose record it is.

    Returns
    -------
    dict
        ``value``, ``low``, ``high`` (95 %, patients resampled; Wilson's where all agree or none does), ``n_patients`` and
        ``n_records``; None where nobody judged any.

    """
    share = np.asarray(agrees, np.float64)
    patient = codes(patient_id)
    counted = {"n_patients": int(np.unique(patient).size), "n_records": int(share.size)}
    if not share.size:
        return {"value": None, "low": None, "high": None, **counted, "note": "no record with a call was judged"}
    mean = np.bincount(patient, weights=share) / np.bincount(patient)
    value = float(mean.mean())
    if value in (0.0, 1.0):
        low, high = wilson_interval(round(value * mean.size), mean.size)
        return {"value": value, "low": low, "high": high, **counted, "note": "Wilson interval"}
    weight = stratified_weights(np.zeros(mean.size, bool), N_RESAMPLES, np.random.default_rng(BOOTSTRAP_SEED))
    draws, tail = weight @ np.sort(mean) / mean.size, (1 - CONFIDENCE) / 2
    low = min(value, float(np.quantile(draws, tail, method="lower")))
    return {"value": value, "low": low, "high": max(value, float(np.quantile(draws, 1 - tail, method="higher"))), **counted}
