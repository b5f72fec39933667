"""What changed: records new, changed and gone since the last run, and distributions beside the last run's and the training's."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from ecgbatch.terms import DECISION, LEAD_FLAGS
from storage import Folder, StoreError, algorithm_of, open_once

MOST_NAMED = 200
"""Records named in a list; its number counts all."""

STABLE_PSI, LARGE_PSI = 0.1, 0.25
"""Population stability index: below, no shift worth a look; above, a shift to explain (rule of thumb; Siddiqi 2006)."""

FEWEST_RECORDS = 100
"""With fewer on either side an index moves by chance alone."""

EDGES: Mapping[str, Sequence[float]] = {
    "mi_probability": [round(0.05 * k, 2) for k in range(21)],
    "heart_rate_bpm": [0, 40, 50, 60, 70, 80, 90, 100, 120, 150, 400],
    "scorable_share": [0, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0001],
    "n_leads_usable": [0, 1, 3, 6, 8, 11, 12, 13, 1000],
    "duration_s": [0, 9, 11, 30, 60, 120, 300, 1800, 1e9],
    "novelty": [0, 0.25, 0.5, 0.75, 1, 1.5, 2, 1e9],
}
"""Bins of the distributions that are kept and compared; the last bin holds everything above."""

WORDS = {
    "mi_probability": "probability of infarction",
    "heart_rate_bpm": "heart rate, per minute",
    "scorable_share": "share of beats scored",
    "n_leads_usable": "leads without a fault",
    "duration_s": "length, seconds",
    "novelty": "distance from training recordings",
}


def distributions(scores: xr.Dataset, facts: Mapping[str, NDArray[Any]]) -> dict[str, dict[str, Any]]:
    """Count records by each of ``EDGES``; unknown values count nowhere.

    Parameters
    ----------
    scores
        Variables of ``scores.stage.SCORES`` on ``record``.
    facts
        (record,) each: ``n_leads_usable`` and ``duration_s``.

    """
    detected = scores["n_beats_detected"].values
    nothing = np.full(detected.size, np.nan)
    values = {
        "mi_probability": scores["mi_probability"].values,
        "heart_rate_bpm": scores["heart_rate_bpm"].values,
        "scorable_share": np.where(detected > 0, scores["n_beats_scored"].values / np.maximum(detected, 1), np.nan),
        "n_leads_usable": facts["n_leads_usable"].astype(float),
        "duration_s": facts["duration_s"],
        "novelty": scores["novelty"].values if "novelty" in scores else nothing,
    }
    return {name: _counted(name, values[name]) for name in EDGES}


def of_training(probability: NDArray[np.float64]) -> dict[str, dict[str, Any]]:
    """Return what a model states of its training records for later comparison: their out-of-fold probabilities, (record,)."""
    return {"mi_probability": _counted("mi_probability", probability)}


def _counted(name: str, values: NDArray[Any]) -> dict[str, Any]:
    known = values[np.isfinite(values)].astype(float)
    return {"edges": list(EDGES[name]), "counts": np.histogram(known, EDGES[name])[0].tolist()}


def compare(then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Compare two results of ``distributions``, variable by variable, where both counted something in the same bins.

    Returns
    -------
    dict
        Name to ``psi``, ``largest_difference`` (of the cumulative shares, as Kolmogorov and Smirnov's), ``n_then``, ``n_now`` and
        ``verdict`` (stable, moderate, large, or few records).

    """
    found = {}
    for name, mine in now.items():
        other = then.get(name)
        if not other or other["edges"] != mine["edges"] or not sum(other["counts"]) or not sum(mine["counts"]):
            continue
        before, after = (np.array(one["counts"], float) for one in (other, mine))
        p, q = ((counts + 0.5) / (counts + 0.5).sum() for counts in (before, after))
        psi = float(((q - p) * np.log(q / p)).sum())
        cumulative = np.abs((before / before.sum()).cumsum() - (after / after.sum()).cumsum()).max()
        few = min(before.sum(), after.sum()) < FEWEST_RECORDS
        verdict = "stable" if psi < STABLE_PSI else ("large" if psi > LARGE_PSI else "moderate")
        found[name] = {
            "psi": round(psi, 4),
            "largest_difference": round(float(cumulative), 4),
            "n_then": int(before.sum()),
            "n_now": int(after.sum()),
            "verdict": "few records" if few else verdict,
        }
    return found


def drift(
    folder: Folder, earlier: str, model: Mapping[str, Any], now: Mapping[str, Any], *, is_training: bool = False
) -> dict[str, Any]:
    """Compare distributions with the last run's report and with what the model states of its training records.

    With ``is_training`` these are its training records, and nothing is compared with them.

    Returns
    -------
    dict
        ``last_run`` and ``training``: ``reason`` (why nothing is compared, or empty) and ``variables`` (from ``compare``);
        ``training`` also ``n_unlike`` of ``n_measured`` records: further from the training's than 99 % of those are.

    """
    last: dict[str, Any] = {"run": earlier, "reason": "there is no earlier run", "variables": {}}
    if earlier:
        last["reason"] = "the last run has no report with distributions"
        with suppress(OSError, ValueError, KeyError, TypeError):
            report = json.loads(folder.read(f"reports/{earlier}/cohort.json"))
            then = report["distributions"]
            if report["schema_version"] < 4:
                del then["n_leads_usable"]  # counted noisy leads as well
            last |= {"reason": "", "variables": compare(then, now)}
    novelty = now["novelty"]
    n_unlike = sum(n for low, n in zip(novelty["edges"], novelty["counts"], strict=False) if low >= 1)
    reference = model.get("reference") or {}
    reason = "" if reference else "this model states no distributions of the records that it was trained on"
    if is_training:
        reason = "most of these records are the model's own training"
    training = {
        "reason": reason,
        "variables": {} if is_training else compare(reference, now),
        "n_unlike": n_unlike,
        "n_measured": sum(novelty["counts"]),
    }
    return {"last_run": last, "training": training}


CHANGES: Mapping[str, int] = {"new": 1, "changed": 2, "decided_otherwise": 4}
"""Bits of a record since the last run: new in the archive; its source files have changed; its decision is another."""


@dataclass(frozen=True)
class SinceLastRun:
    """What became of an archive since an earlier run: ``changes`` (bits of ``CHANGES``) and ``then`` (decision) of each record.

    ``gone`` are the names of records that are no longer there, sorted. ``then`` means nothing of a new record.
    """

    run: str
    changes: NDArray[np.int64]
    then: NDArray[np.int64]
    gone: list[str]

    def document(self, scores: xr.Dataset) -> dict[str, Any]:
        """Return it as the cohort's JSON says it; ``MOST_NAMED`` names of each kind."""
        is_kind = {kind: self.changes & bit > 0 for kind, bit in CHANGES.items()}
        names, words = scores["record_name"].values, {value: word for word, value in DECISION.items()}
        n = {kind: int(chosen.sum()) for kind, chosen in is_kind.items()}
        chosen = np.flatnonzero(is_kind["decided_otherwise"])[:MOST_NAMED]
        decided = zip(*(values[chosen].tolist() for values in (names, self.then, scores["decision"].values)), strict=True)
        return {
            "run": self.run,
            "n_new": n["new"],
            "n_changed": n["changed"],
            "n_gone": len(self.gone),
            "n_same": names.size - n["new"] - n["changed"],
            "n_decisions_changed": n["decided_otherwise"],
            "new": names[is_kind["new"]][:MOST_NAMED].tolist(),
            "changed": names[is_kind["changed"]][:MOST_NAMED].tolist(),
            "gone": self.gone[:MOST_NAMED],
            "decisions_changed": [
                {"record_name": name, "then": words[was], "now": words[decision]} for name, was, decision in decided
            ],
        }


def since_last_run(folder: Folder, earlier: str, scores: xr.Dataset) -> SinceLastRun | None:
    """Say which records are new, changed and gone since an earlier run, and whose decision is another; None without one.

    A record has changed where its source files' digest has, not where it merely moved to another store.

    Parameters
    ----------
    folder, earlier
        Workspace; name of the earlier run.
    scores
        This run's.

    """
    if not earlier:
        return None
    try:
        before = open_once(str(folder.path(f"scores/{earlier}.zarr")), _COMPARED)
    except (StoreError, OSError):
        return None
    names, mine = before["record_name"].values, scores["record_name"].values
    place_of = {name: place for place, name in enumerate(names)}
    then = np.array([place_of.get(name, -1) for name in mine], dtype=np.int64)
    is_new, old = then < 0, _row_of(before["decision"], then)
    is_gone = np.ones(names.size, bool)
    is_gone[then[~is_new]] = False
    has_moved = _is_elsewhere(before, scores, then)
    is_changed = np.zeros(then.size, bool)
    is_changed[has_moved] = _are_other_files(_sources(folder, before, then[has_moved]), _sources(folder, scores, has_moved))
    kinds = {"new": is_new, "changed": is_changed, "decided_otherwise": ~is_new & (old != scores["decision"].values)}
    changes = sum(bit * kinds[kind].astype(np.int64) for kind, bit in CHANGES.items())
    return SinceLastRun(earlier, np.asarray(changes), old.astype(np.int64), sorted(names[is_gone].tolist()))


_COMPARED = ("record_name", "decision", "signals_store", "signals_row")


def _is_elsewhere(before: xr.Dataset, scores: xr.Dataset, then: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each record has a row before, and it is another one of the signals stores, (record,)."""
    is_other = [_row_of(before[name], then) != scores[name].values for name in ("signals_store", "signals_row")]
    return np.asarray((then >= 0) & (is_other[0] | is_other[1]))


def _row_of(column: xr.DataArray, rows: NDArray[np.int64]) -> NDArray[Any]:
    """Return the values at these rows; at -1 something, even of an empty column."""
    return np.append(column.values, np.zeros(1, column.dtype))[rows]


def _sources(folder: Folder, scores: xr.Dataset, chosen: NDArray[Any]) -> list[tuple[str, bytes]]:
    """Return of each chosen row the digest of its source files, and what else tells samples apart: sums, gains and length."""
    stores, rows = scores["signals_store"].values[chosen], scores["signals_row"].values[chosen]
    found = [("", b"")] * len(stores)
    for store in sorted(set(stores.tolist()) - {""}):
        here = np.flatnonzero(stores == store).tolist()
        try:
            signals = open_once(str(folder.path(f"signals/{store}.zarr")), ("source_digest", *_OF_SAMPLES))
            digests, leads = signals["source_digest"].values, signals["lead"].values.tolist()
            columns = [signals[name].values for name in _OF_SAMPLES]
        except (StoreError, OSError):
            for place in here:
                found[place] = ("unknown: its store is gone", b"")
            continue
        for place in here:
            row = rows[place]
            found[place] = (str(digests[row]), _said_of_samples(leads, [values[row] for values in columns]))
    return found


_OF_SAMPLES = ("n_samples", "checksum", "adc_gain", "baseline", "lead_flags")


def _said_of_samples(leads: list[str], columns: list[Any]) -> bytes:
    """Return length, and sum, gain and baseline of each lead that the record has, whatever leads its store has besides."""
    n_samples, *by_lead, flags = columns
    of_leads = sorted(
        (lead, *(float(values[place]) for values in by_lead))
        for place, lead in enumerate(leads)
        if not flags[place] & LEAD_FLAGS["missing"]
    )
    return repr((int(n_samples), of_leads)).encode()


def _are_other_files(before: list[tuple[str, bytes]], now: list[tuple[str, bytes]]) -> NDArray[np.bool_]:
    """Return whether each record's files are others than before.

    By their digests where one algorithm made both; else by what the rows say of the samples: a digest is never compared with one
    of another kind.
    """
    pairs = zip(before, now, strict=True)
    return np.array(
        [one[0] != other[0] if algorithm_of(one[0]) == algorithm_of(other[0]) else one[1] != other[1] for one, other in pairs],
        dtype=bool,
    )


FEWEST_NEW_RECORDS = 30
"""New and earlier records with a score, at least: with fewer, distances above any useful threshold are chance."""

LEVEL = 0.001
"""Of the two-sample Kolmogorov-Smirnov test: one false alarm in a thousand nights, whatever the threshold."""


@dataclass(frozen=True)
class Shift:
    """Scores of the records that are new, against those that an earlier run had."""

    n_new: int
    n_earlier: int
    distance: float
    """Largest difference of the two distributions of MI probabilities (Kolmogorov-Smirnov), 0 to 1; NaN with too few records."""
    p_value: float

    def is_beyond(self, threshold: float) -> bool:
        """Tell whether the distance is above the threshold and more than chance."""
        return bool(self.distance > threshold and self.p_value < LEVEL)

    def document(self) -> dict[str, Any]:
        """Return it JSON-ready."""
        return {name: None if math.isnan(value) else value for name, value in asdict(self).items()}


def shift_of_new(scores: xr.Dataset, earlier: xr.Dataset | None) -> Shift:
    """Compare the scores of records that ``earlier`` does not have with all of ``earlier``.

    Parameters
    ----------
    scores, earlier
        Stores of scores (variables ``record_name``, ``signals_store``, ``signals_row``, ``mi_probability``) by the same model.

    """
    if earlier is None:
        return Shift(0, 0, float("nan"), float("nan"))
    from scipy.stats import ks_2samp

    known = set(_places(earlier))
    is_new = np.array([place not in known for place in _places(scores)], dtype=bool)
    new, old = _numbers(scores)[is_new], _numbers(earlier)
    new, old = new[np.isfinite(new)], old[np.isfinite(old)]
    if min(new.size, old.size) < FEWEST_NEW_RECORDS:
        return Shift(int(new.size), int(old.size), float("nan"), float("nan"))
    found = ks_2samp(new, old)
    return Shift(int(new.size), int(old.size), float(found.statistic), float(found.pvalue))


def _places(scores: xr.Dataset) -> list[tuple[str, int]]:
    return list(zip(scores["signals_store"].values.tolist(), scores["signals_row"].values.tolist(), strict=True))


def _numbers(scores: xr.Dataset) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.asarray(scores["mi_probability"].values, dtype=np.float64)
