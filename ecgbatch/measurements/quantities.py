"""The vocabulary of measurements: what is measured, in which unit, and why a quantity may have no value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Quantity(NamedTuple):
    """One measured quantity: ``unit`` (as a store writes it), ``title`` of a page's row, ``digits`` kept, and what it is."""

    unit: str
    title: str
    digits: int
    meaning: str


QUANTITIES: Mapping[str, Quantity] = {
    "heart_rate_bpm": Quantity("min-1", "Rate", 1, "60 s over the median interval between believable beats"),
    "rr_ms": Quantity("ms", "RR, median", 1, "median interval between believable beats"),
    "rr_spread_ms": Quantity("ms", "RR, spread (SD)", 1, "standard deviation of the intervals between normal beats"),
    "p_ms": Quantity("ms", "P duration", 0, "from the median over leads of P onset to that of P end"),
    "pr_ms": Quantity("ms", "PR", 0, "from the median over leads of P onset to QRS onset"),
    "qrs_ms": Quantity("ms", "QRS duration", 0, "from the second earliest onset to the second latest offset over leads"),
    "qt_ms": Quantity("ms", "QT", 0, "from QRS onset to the median over leads of T end"),
    "qtc_fridericia_ms": Quantity("ms", "QTc, Fridericia", 0, "QT over the cube root of RR in s"),
    "qtc_bazett_ms": Quantity("ms", "QTc, Bazett", 0, "QT over the square root of RR in s"),
    "axis_p_deg": Quantity("degree", "P axis", 0, "direction of P's area in the frontal plane; 0 is lead I, 90 is aVF"),
    "axis_qrs_deg": Quantity("degree", "QRS axis", 0, "direction of the QRS area in the frontal plane; 0 is lead I, 90 is aVF"),
    "axis_t_deg": Quantity("degree", "T axis", 0, "direction of T's area in the frontal plane; 0 is lead I, 90 is aVF"),
}
"""Of a record, in the order of a page. Keys of ``measurements`` in the record's JSON, columns of the store and the tables."""

LEAD_QUANTITIES: Mapping[str, Quantity] = {
    "q_duration_ms": Quantity("ms", "Q duration", 0, "of a negative deflection that begins QRS; 0: there is none"),
    "q_mv": Quantity("mV", "Q", 3, "depth of Q, negative; 0: there is none"),
    "r_mv": Quantity("mV", "R", 3, "height of the highest positive deflection of QRS; 0: there is none"),
    "s_mv": Quantity("mV", "S", 3, "depth of the deepest negative deflection after R, negative; 0: there is none"),
    "st_j_mv": Quantity("mV", "ST at J", 3, "level at the J point over that before QRS"),
    "st_60_mv": Quantity("mV", "ST at J+60", 3, "level 60 ms after the J point over that before QRS"),
    "st_80_mv": Quantity("mV", "ST at J+80", 3, "level 80 ms after the J point over that before QRS"),
    "t_mv": Quantity("mV", "T", 3, "largest deflection between ST and the end of T, with its sign"),
}
"""Of each lead."""

REASONS: Mapping[str, int] = {
    "measured": 0,
    "no_beats": 1,
    "too_few_beats": 2,
    "low_rate": 3,
    "no_lead": 4,
    "no_quiet_line": 5,
    "not_believed": 6,
    "halves_disagree": 7,
    "leads_disagree": 8,
    "no_wave": 9,
    "too_few_leads": 10,
    "no_rr": 11,
    "not_millivolts": 12,
    "absent": 13,
    "flat": 14,
    "noisy": 15,
    "no_boundaries": 16,
    "no_p": 17,
    "electrodes_exchanged": 18,
    "no_direction": 19,
}
"""Code of why a quantity has no value; 0: it has one."""

REASON_WORDS: Mapping[str, str] = {
    "measured": "",
    "no_beats": "fewer than two believable beats in these seconds",
    "too_few_beats": "too few whole normal beats in these seconds",
    "low_rate": "too few samples a second for a duration",
    "no_lead": "no lead is free of noise, clipping and gaps",
    "no_quiet_line": "no quiet line beside QRS",
    "not_believed": "the value found is not believed: a boundary was missed",
    "halves_disagree": "the two halves of the beats disagree",
    "leads_disagree": "the leads disagree",
    "no_wave": "no wave that ends clearly in enough leads",
    "too_few_leads": "too few leads for it",
    "no_rr": "no RR interval is known",
    "not_millivolts": "not in millivolts",
    "absent": "absent",
    "flat": "flat",
    "noisy": "noisy, clipped or with gaps",
    "no_boundaries": "the boundaries of QRS are not known",
    "no_p": "no P wave is found before each QRS",
    "electrodes_exchanged": "limb electrodes seem exchanged",
    "no_direction": "its positive and negative areas cancel: it has no direction",
}
"""For each of ``REASONS``."""
