"""What is measured, as a record's JSON and its page say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES, REASON_WORDS, REASONS, Quantity
from ecgbatch.measurements.record import METHOD, Measured
from ecgbatch.terms import STATEMENTS, words_of_mask

_WORDS = {code: REASON_WORDS[word] for word, code in REASONS.items()}
_UNITS = {"min-1": "/min", "degree": "°"}


def kept(measured: Measured) -> Measured:
    """Return what stores and documents keep of a record: each value with as many digits as its quantity has."""
    lead_value = np.stack([_rounded(row, one) for row, one in zip(measured.lead_value, LEAD_QUANTITIES.values(), strict=True)])
    value = np.array([_rounded(one, of) for one, of in zip(measured.value, QUANTITIES.values(), strict=True)], np.float32)
    return measured._replace(value=value, lead_value=lead_value, rhythm=float(np.float32(measured.rhythm)))


def _rounded(values: Any, quantity: Quantity) -> NDArray[np.float32]:
    rounded: NDArray[np.float32] = np.asarray(np.round(np.float64(values), quantity.digits) + 0.0, np.float32)  # no -0
    return rounded


def document(measured: Measured, leads: Sequence[str], method: str = METHOD) -> dict[str, Any]:
    """Return ``measurements`` of a record's JSON.

    Parameters
    ----------
    measured
        From ``kept``.
    leads
        Names, in the order of its leads.
    method
        How it was measured, of the store that has it.

    Returns
    -------
    dict
        JSON types. Each of ``QUANTITIES`` as ``{"value": float or None, "reason": ""}``; ``leads``: each lead's
        ``LEAD_QUANTITIES``, and its ``reason``; ``st_60_mv``: that one again, ``{value, reason}`` of each lead; ``n_beats``
        (normal ones, of which the median is made), ``irregularity``, ``statements`` (words) and ``method``.

    """
    of_leads = {
        lead: {name: _number(value) for name, value in zip(LEAD_QUANTITIES, values, strict=True)} | {"reason": _WORDS[reason]}
        for lead, values, reason in zip(leads, measured.lead_value.T, measured.lead_reason.tolist(), strict=True)
    }
    return {
        "n_beats": int(measured.n_beats),
        **{
            name: {"value": _number(value), "reason": _WORDS[reason]}
            for name, value, reason in zip(QUANTITIES, measured.value, measured.reason.tolist(), strict=True)
        },
        "st_60_mv": {lead: {"value": found["st_60_mv"], "reason": found["reason"]} for lead, found in of_leads.items()},
        "leads": of_leads,
        "irregularity": _number(np.float32(measured.rhythm)),
        "statements": words_of_mask(int(measured.statements), STATEMENTS),
        "method": method,
    }


def _number(value: np.floating[Any]) -> float | None:
    """Return a float32 in its shortest decimal form, unknown as None."""
    return float(str(value)) if np.isfinite(value) else None


def in_words(measurements: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return title, unit and figure of each of ``QUANTITIES``, in the order of a page."""
    return [
        (quantity.title, _UNITS.get(quantity.unit, quantity.unit), measurements[name]) for name, quantity in QUANTITIES.items()
    ]
