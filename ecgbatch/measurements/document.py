"""What is measured, as a record's JSON and its page say it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.measurements.quantities import LEAD_QUANTITIES, QUANTITIES, REASON_WORDS, REASONS
from ecgbatch.measurements.record import METHOD, Measured
from ecgbatch.measurements.statements import facts_of, say
from ecgbatch.terms import STATEMENTS

_WORDS = {code: REASON_WORDS[word] for word, code in REASONS.items()}
_UNITS = {"min-1": "/min", "degree": "°"}


def document(
    measured: Measured, leads: Sequence[str], method: str = METHOD, *, age_years: float | None = None, sex: int = 0
) -> dict[str, Any]:
    """Return ``measurements`` of a record's JSON.

    Parameters
    ----------
    measured
        From ``record.measure_record``, or a store's row (``stage.measured_of``).
    leads
        Names, in the order of its leads.
    method
        How it was measured, of the store that has it.
    age_years, sex
        Whose limits the statements name; None unknown, ``terms.SEX``.

    Returns
    -------
    dict
        JSON types. Each of ``QUANTITIES`` as ``{"value": float or None, "reason": ""}``; ``leads``: each lead's
        ``LEAD_QUANTITIES``, and its ``reason``; ``st_60_mv``: that one again, ``{value, reason}`` of each lead; ``n_beats``
        (of which the median is made), ``irregularity``, ``p_agreement``, ``statements`` (``statements.say``) and ``method``.

    """
    reasons = [_WORDS[reason] for reason in measured.lead_reason.tolist()]
    of_leads = {
        lead: dict(zip(LEAD_QUANTITIES, values, strict=True)) | {"reason": reason}
        for lead, values, reason in zip(leads, shortest(measured.lead_value.T), reasons, strict=True)
    }
    return {
        "n_beats": int(measured.n_beats),
        **{
            name: {"value": value, "reason": _WORDS[reason]}
            for name, value, reason in zip(QUANTITIES, shortest(measured.value), measured.reason.tolist(), strict=True)
        },
        "st_60_mv": {lead: {"value": found["st_60_mv"], "reason": found["reason"]} for lead, found in of_leads.items()},
        "leads": of_leads,
        "irregularity": _number(np.float32(measured.irregularity)),
        "p_agreement": _number(np.float32(measured.p_agreement)),
        "statements": _statements(measured, leads, float("nan") if age_years is None else age_years, sex),
        "method": method,
    }


def _statements(measured: Measured, leads: Sequence[str], age_years: float, sex: int) -> list[dict[str, Any]]:
    numbers = measured.value, measured.lead_value, leads, measured.p_agreement, measured.irregularity
    found = say(facts_of(*numbers, age_years, sex))
    return [one for one in found if measured.statements & STATEMENTS[one["statement"]]]


def _number(value: np.floating[Any]) -> float | None:
    """Return a float32 in its shortest decimal form, unknown as None."""
    return float(str(value)) if np.isfinite(value) else None


def shortest(values: NDArray[np.floating[Any]]) -> list[Any]:
    """Return float32 numbers in their shortest decimal form, unknown as None; lists as deep as the array is.

    A number of at most six digits that is the nearest one is the shortest: of those below a thousand, one of three decimals.
    """
    exact = values.astype(np.float64)
    rounded = np.round(exact, 3)
    is_short = (rounded.astype(np.float32) == values) & (np.abs(exact) < 1000.0)
    plain = rounded.astype(object)
    for place in np.argwhere(~is_short):
        plain[tuple(place)] = _number(values[tuple(place)])
    found: list[Any] = plain.tolist()
    return found


def in_words(measurements: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """Return title, unit and figure of each of ``QUANTITIES``, in the order of a page."""
    return [
        (quantity.title, _UNITS.get(quantity.unit, quantity.unit), measurements[name]) for name, quantity in QUANTITIES.items()
    ]
