"""One shard of scores: beats of some records in, every column of the store out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ecgbatch.model.definition import Model
from ecgbatch.model.electrodes import name_exchange, put_back
from ecgbatch.model.evidence import SEGMENTS, evidence
from ecgbatch.model.members import Medians, abnormal_logits, medians_of, member_probabilities, members_for
from ecgbatch.model.novelty import novelty
from ecgbatch.model.precision import DECISION_MARGIN
from ecgbatch.model.preparation import prepare_waveforms
from ecgbatch.model.probability import calibrated, record_probability, rule_for
from ecgbatch.model.splits import record_digest
from ecgbatch.scores.decision import RecordScore, score_record
from ecgbatch.scores.scorable import reason_not_scored
from ecgbatch.scores.stored_beats import RecordBeats
from ecgbatch.scores.table import INPUTS, LABELS, SCORES, with_measurements
from ecgbatch.terms import DECISION, STATUS, STEP_FAILED


def score_shard(
    rows: xr.Dataset,
    model: Model,
    records: Sequence[RecordBeats | None],
    *,
    n_beats: int | None = None,
    precision: str = "float32",
) -> xr.Dataset:
    """Score records held in memory: all of scoring but the reading.

    Parameters
    ----------
    rows
        As in ``plan_scores``.
    records
        Beats of each row; None where the record is set aside or has none.
    n_beats
        Length of ``beat_probability``'s second dimension; default: the most beats of these records.
    precision
        ``model.precision.choose_precision``'s name, for records that all members score; the others, and those whose decision is
        as close as ``model.precision.DECISION_MARGIN``, are scored in float32.

    Returns
    -------
    xarray.Dataset
        Every variable of ``SCORES``. A record that is not scored has decision ``not_scorable``, a reason (its own where it is
        set aside, else one of ``REASONS``) and NaN for probability, interval, threshold and agreement; its status stays. A
        partial record that is scored keeps its reason.

    """
    longest = max((len(record.beat_flags) for record in records if record is not None), default=1)
    block = _empty(rows, longest if n_beats is None else n_beats, len(model.leads))
    arrays = {str(name): variable.values for name, variable in block.variables.items()}  # of the block: writing there writes here
    used = _members_used(arrays, rows, model, records)
    names = rows["record_name"].values.tolist()
    for indices in sorted({indices for indices in used if indices}):
        mine = [row for row, other in enumerate(used) if other == indices]
        prepared = [prepared_beats(model, records[row]) for row in mine]
        medians = medians_of(model, prepared)
        own = precision if len(indices) == len(model.members) else "float32"
        found = _beat_probabilities(model, indices, prepared, medians, own)
        for row, waveform, beat, probability in zip(mine, prepared, medians.beats, found, strict=True):
            record = records[row]
            assert record is not None
            far = novelty(model.novelty, beat)
            finish = partial(score_record, model, indices, record_name=names[row], novelty=far, is_exchanged=record.is_exchanged)
            score = finish(probability)
            if own != "float32" and _is_close(score):
                score = finish(member_probabilities(model, indices, waveform))
            _fill_score(arrays, row, record, score)
            if record.is_exchanged:
                arrays["exchange"][row], arrays["probability_put_back"][row] = _put_back(model, indices, record)
        arrays["evidence"][mine] = evidence(model, indices, medians)
        mi = arrays["mi_probability"][mine]  # is part of any heart disease
        arrays["abnormal_probability"][mine] = np.maximum(_abnormal(model, indices, medians.beats), mi)
    return block


def _members_used(
    arrays: Mapping[str, npt.NDArray[Any]], rows: xr.Dataset, model: Model, records: Sequence[RecordBeats | None]
) -> list[tuple[int, ...]]:
    """Return the members that score each record, none where it is not scored; fill in its counts and why it is not."""
    patients, status = rows["patient_id"].values.tolist(), rows["status"].values.tolist()
    failed = rows["failed"].values.tolist() if "failed" in rows else [""] * len(patients)
    used: list[tuple[int, ...]] = []
    for row, record in enumerate(records):
        indices = _members_for(model, patients[row], record)
        reason: str | None = f"{STEP_FAILED}:{failed[row]}"
        if not failed[row] or status[row] == STATUS["set_aside"]:
            reason = reason_not_scored(status[row], record, model, indices)
        used.append(indices if reason is None else ())
        _fill_counts(arrays, row, record, len(indices))
        if reason is not None and status[row] != STATUS["set_aside"]:
            arrays["reason"][row] = reason
    return used


def _abnormal(model: Model, indices: Sequence[int], medians: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the calibrated probability of any heart disease of each median beat, (record,); NaN of a model of two classes."""
    logit = abnormal_logits(model, indices, medians).mean(axis=0)
    return logit if model.abnormal is None else np.asarray(calibrated(logit, model.abnormal))


def _put_back(model: Model, indices: Sequence[int], record: RecordBeats) -> tuple[str, float]:
    """Return which electrodes were probably exchanged, and the MI probability with their leads put back; NaN where unclear."""
    median = np.median(record.waveform[record.is_scorable], axis=0)
    usable = [lead for lead, use in zip(record.leads, record.is_usable, strict=True) if use]
    exchange = name_exchange(median[record.is_usable], usable)  # a lead that cannot be used shows nothing, and replaces nothing
    if not exchange:
        return "", float("nan")
    restored = replace(record, waveform=put_back(record.waveform, record.leads, exchange))
    probability = member_probabilities(model, indices, prepared_beats(model, restored))
    return exchange, record_probability(probability, rule_for(model, indices)[0])


def _is_close(score: RecordScore) -> bool:
    """Return whether rounding of the networks could turn the decision."""
    return min(abs(number - score.threshold) for number in (score.low, score.probability, score.high)) <= DECISION_MARGIN


def _members_for(model: Model, patient_id: str, record: RecordBeats | None) -> tuple[int, ...]:
    """Return the members that know neither the patient by name nor the recording by its content."""
    if record is None or record.beat_flags.size == 0:
        return members_for(model, patient_id)
    content = record_digest(
        record.waveform, record.is_scorable, store_leads=record.leads, leads=model.leads, key=model.patient_key
    )
    return members_for(model, patient_id, content)


def _empty(rows: xr.Dataset, n_beats: int, n_leads: int) -> xr.Dataset:
    """Return a block in which nothing is scored; identity and labels are those of the rows."""
    sizes = {"record": rows.sizes["record"], "beat": n_beats, "lead": n_leads, "segment": len(SEGMENTS)}
    rows, block = with_measurements(rows), {}
    for name, variable in (SCORES.bulk() | SCORES.columns()).items():
        shape = tuple(sizes[dim] for dim in variable.dims)
        values = np.full(shape, variable.fill_value, dtype=variable.numpy_dtype)
        if name in (*INPUTS, *LABELS):
            values = rows[name].values.astype(variable.numpy_dtype)
        block[name] = xr.Variable(variable.dims, values)
    block["decision"].values[:] = DECISION["not_scorable"]
    return xr.Dataset(block)


def _fill_counts(arrays: Mapping[str, npt.NDArray[Any]], row: int, record: RecordBeats | None, n_members: int) -> None:
    arrays["n_members_used"][row] = n_members
    if record is not None:
        arrays["n_beats_detected"][row] = record.beat_flags.size
        arrays["heart_rate_bpm"][row] = heart_rate_bpm(record.rr_previous_s)


def heart_rate_bpm(rr_previous_s: npt.NDArray[np.floating[Any]]) -> float:
    """Return 60 over the median RR interval, which one ectopic or missed beat does not move; NaN with fewer than two beats."""
    known = np.asarray(rr_previous_s, dtype=np.float64)
    known = known[np.isfinite(known) & (known > 0)]
    return float(60 / np.median(known)) if known.size else float("nan")


def _fill_score(arrays: Mapping[str, npt.NDArray[Any]], row: int, record: RecordBeats, score: RecordScore) -> None:
    arrays["beat_probability"][row, np.flatnonzero(record.is_scorable)] = score.beat_probability
    arrays["n_beats_scored"][row] = score.beat_probability.size
    arrays["mi_probability"][row] = score.probability
    arrays["probability_low"][row] = score.low
    arrays["probability_high"][row] = score.high
    arrays["threshold"][row] = score.threshold
    arrays["beat_agreement"][row] = score.agreement
    arrays["decision"][row] = score.decision
    arrays["novelty"][row] = score.novelty
    arrays["score_flags"][row] = score.flags


def _beat_probabilities(
    model: Model, indices: Sequence[int], prepared: Sequence[npt.NDArray[np.float32]], medians: Medians, precision: str
) -> list[npt.NDArray[np.float32]]:
    """Return the probabilities (member, beat) of each record's prepared, scored beats (beat, lead, sample)."""
    ends = np.cumsum([len(beats) for beats in prepared])[:-1]
    joined = np.concatenate(prepared)
    probability = member_probabilities(model, indices, joined, [0, *ends.tolist()], precision=precision, medians=medians)
    return np.split(probability, ends, axis=1)


def prepared_beats(model: Model, record: RecordBeats | None) -> npt.NDArray[np.float32]:
    """Return a record's scorable beats as the model's members take them, (beat, lead, sample)."""
    assert record is not None
    waveform = prepare_waveforms(
        record.waveform,
        record.is_scorable,
        store_leads=record.leads,
        leads=model.leads,
        preprocessing=model.preprocessing,
        is_usable=record.is_usable,
    )
    return waveform[record.is_scorable]
