"""What measurements say against a score: told beside the decision, which they leave as it is (docs/measurements.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WORDS: Mapping[str, str] = {
    "st_elevation": "{said}. The score does not say infarction: look at the ECG.",
    "wide_qrs": "QRS is {qrs_ms:.0f} ms: a bundle branch block or pacing can hide an infarction, or look like one.",
}
"""For each caution, in the order of a page."""


def cautions(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the cautions of a record's report: ``{"caution", "words"}`` each.

    Parameters
    ----------
    report
        With ``decision`` and ``measurements``; without measurements there is none.

    """
    measured = report["measurements"]
    if measured is None:
        return []
    said = {one["statement"]: one["words"] for one in measured["statements"]}
    found = []
    if "st_elevation" in said and report["decision"] != "mi_indicated":
        found.append({"caution": "st_elevation", "words": WORDS["st_elevation"].format(said=said["st_elevation"])})
    if "qrs_wide" in said and report["decision"] != "not_scorable":
        words = WORDS["wide_qrs"].format(qrs_ms=measured["qrs_ms"]["value"])
        found.append({"caution": "wide_qrs", "words": words})
    return found
