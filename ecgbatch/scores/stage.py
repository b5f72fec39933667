"""Scores: from beat probabilities to a decision about each record, or a reason why there is none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ecgbatch import __version__
from ecgbatch.beats.lookup import current_beats, leads_of_signals
from ecgbatch.measurements.lookup import current_measurements, measure_workspace
from ecgbatch.model.electrodes import name_exchange, put_back
from ecgbatch.model.evidence import EVIDENCE_RULE, SEGMENTS, evidence
from ecgbatch.model.inference import ENGINE
from ecgbatch.model.novelty import novelty
from ecgbatch.model.precision import DECISION_MARGIN, choose_precision
from ecgbatch.model.splits import record_digest
from ecgbatch.scores.earlier import PLACE, find_earlier, known_rows, with_known
from ecgbatch.signals.stage import SIGNALS
from ecgbatch.terms import (
    DECISION,
    LABEL,
    MODEL_NAME_DIGITS,
    SCORE_FLAGS,
    SEX,
    STATUS,
    STEP_FAILED,
    UNSCORABLE_BEAT,
)
from storage import (
    NOT_OF_A_ROW,
    TEXT,
    Map,
    Plan,
    Progress,
    RowsFailed,
    Schema,
    Shard,
    Variable,
    build_around,
    make_plan,
    noting,
    open_once,
    row_key,
)

if TYPE_CHECKING:  # torch costs a second: only those who score pay for it
    from ecgbatch.model.definition import Calibration, Model

MIN_SCORABLE_BEATS = 3
"""Fewer usable beats give no score: with three, one odd beat cannot decide alone, and ten seconds at 30/min still hold five."""

MIN_LEAD_SHARE = 2 / 3
"""Share of the model's leads that must be usable: eight of twelve, the number of independent leads in a 12-lead ECG
(two limb leads give the other four; Malmivuo and Plonsey 1995, 15.7). One of one, two of two and of three, ten of fifteen."""

BEATS_A_BLOCK = 5
"""Consecutive beats drawn together by the bootstrap: about one breath (70 beats and 14 breaths a minute). Breathing turns
the heart's axis, so the beats of one breath are not independent; drawing them one by one would feign precision."""

N_DRAWS = 1000
"""Bootstrap draws a record, for 95 % percentile limits (Efron and Tibshirani 1993, section 14.3)."""

BEATS_A_SHARD = 2048
"""Work of one shard, in beats: some seconds on one core, so that two cores share even 40 records."""

REASONS = MappingProxyType(
    {
        "NO_BEATS": "no R peak was found",
        "TOO_FEW_BEATS": f"fewer than {MIN_SCORABLE_BEATS} beats can be used (the others are cut off, noisy or clipped)",
        "LEADS_MISSING": "fewer than two thirds of the model's leads can be used",
        "PATIENT_TRAINED_ON": "every member of the model has seen this patient in training",
    }
)
"""Why a record that is not set aside is not scored."""

INTERVAL_RULE = (
    f"95 % percentile bootstrap, {N_DRAWS} draws of members and of runs of up to {BEATS_A_BLOCK} beats, seeded by the record's "
    "name: how far other beats of this recording, or other members, would have moved the number; not how sure it is for the "
    "patient, and with one member used the spread of members is not in it (score_flags says so, and no page calls it a 95 % "
    "interval). What trees or random kernels give to a logit is the median beat's and does not move with the beats drawn"
)
"""What ``probability_low`` and ``probability_high`` mean; kept in every scores store."""

DECISION_RULE = (
    "indeterminate where limb electrodes seem exchanged, the record is unlike anything the model was trained on, or the interval "
    "holds the threshold (score_flags says which); else MI indicated above the threshold, not indicated below it"
)
"""How many records each kind leaves open, by group of patients: docs/model.md. The band catches what is close, not what is wrong
for sure."""

_INPUTS = ("record_name", "patient_id", *PLACE)
_LABELS = ("status", "label", "mi", "age_years", "sex", "reason")

SCORES = Schema(
    name="scores",
    version=4,
    row_dim="record",
    title="Probability of myocardial infarction of every record of the archive",
    variables={
        "beat_probability": Variable(
            ("record", "beat"),
            "float32",
            "MI probability of each beat of the record, in order, calibrated as the record's; NaN where not scored",
            "1",
            low=0,
            high=1,
            bulk=True,
            inner_chunk=(None,),
        ),
        "evidence": Variable(
            ("record", "lead", "segment"),
            "float32",
            "fall of the record's logit when this segment of this lead of its median beat is made average; positive: for MI",
            "1",
            bulk=True,
            inner_chunk=(None, None),
        ),
        "lead": Variable(("lead",), "string", "lead that the model uses", ""),
        "segment": Variable(("segment",), "string", "part of the beat, at fixed times from R", ""),
        "record_name": Variable(("record",), "string", "path of the header below the archive, without .hea", ""),
        "patient_id": Variable(("record",), "string", "patient identifier", ""),
        "signals_store": Variable(("record",), "string", "digest of the signals store that holds the record", ""),
        "signals_row": Variable(("record",), "int64", "its row there", "1", low=0),
        "beats_store": Variable(
            ("record",), "string", "digest of the beats store that holds its beats; empty where there is none", ""
        ),
        "beats_row": Variable(("record",), "int64", "its row on that store's record dimension", "1", low=0),
        "measurements_store": Variable(
            ("record",),
            "string",
            "digest of the store that holds its measurements, in the row beats_row too; empty where there is none",
            "",
        ),
        "status": Variable(("record",), "int8", "whether the record's files can be used", "1", flags=STATUS),
        "label": Variable(("record",), "int8", "reference label", "1", flags=LABEL),
        "mi": Variable(
            ("record",), "int8", "myocardial infarction: 1 yes, 0 healthy control, -1 other or unknown", "1", low=-1, high=1
        ),
        "age_years": Variable(("record",), "float32", "age; 90 means 90 or older", "year", low=0, high=90),
        "sex": Variable(("record",), "int8", "sex", "1", flags=SEX),
        "mi_probability": Variable(
            ("record",), "float32", "probability of myocardial infarction; NaN where not scored", "1", low=0, high=1
        ),
        "abnormal_probability": Variable(
            ("record",),
            "float32",
            "probability of any heart disease, infarction or another; NaN where not scored or the model does not know it",
            "1",
            low=0,
            high=1,
        ),
        "probability_low": Variable(("record",), "float32", "lower end of its 95 % interval", "1", low=0, high=1),
        "probability_high": Variable(("record",), "float32", "upper end of its 95 % interval", "1", low=0, high=1),
        "threshold": Variable(("record",), "float32", "operating point applied to this record", "1", low=0, high=1),
        "n_beats_detected": Variable(("record",), "int32", "R peaks found", "1", low=0),
        "n_beats_scored": Variable(("record",), "int32", "beats scored", "1", low=0),
        "beat_agreement": Variable(
            ("record",), "float32", "share of scored beats on the decision's side of the threshold", "1", low=0, high=1
        ),
        "heart_rate_bpm": Variable(("record",), "float32", "median heart rate; NaN with fewer than two beats", "min-1", low=0),
        "n_members_used": Variable(("record",), "int16", "members of the model that never saw this patient", "1", low=0),
        "novelty": Variable(
            ("record",),
            "float32",
            "distance of its median beat from those of training; above 1: further than 99 % of them; NaN where not measured",
            "1",
            low=0,
        ),
        "exchange": Variable(
            ("record",),
            "string",
            "electrodes that were probably exchanged (LA-RA, RA-LL); empty: none seem, or which is unclear",
            "",
        ),
        "probability_put_back": Variable(
            ("record",),
            "float32",
            "MI probability with the leads of that exchange put back, for information; NaN where none is named",
            "1",
            low=0,
            high=1,
        ),
        "score_flags": Variable(("record",), "uint8", "what to know about the score", "1", flags=SCORE_FLAGS, is_mask=True),
        "decision": Variable(("record",), "int8", "decision", "1", flags=DECISION),
        "reason": Variable(("record",), "string", "reason code where not scorable or partial", ""),
    },
)


@dataclass(frozen=True)
class RecordBeats:
    """What the stores hold of one record.

    Parameters
    ----------
    waveform : (beat, lead, sample) int16
        As in the beats store, all beats.
    beat_flags : (beat,) uint16
    rr_previous_s : (beat,) float32
    leads
        Names of the leads of ``waveform``.
    is_usable : (lead,) bool
        False where the signals store flags the lead with a bit of ``terms.UNUSABLE_LEAD``.
    is_exchanged
        Whether the signals store suspects exchanged electrodes.

    """

    waveform: npt.NDArray[np.int16]
    beat_flags: npt.NDArray[np.uint16]
    rr_previous_s: npt.NDArray[np.float32]
    leads: tuple[str, ...]
    is_usable: npt.NDArray[np.bool_]
    is_exchanged: bool = False

    @property
    def is_scorable(self) -> npt.NDArray[np.bool_]:
        """Which beats are scored, (beat,)."""
        return np.asarray((self.beat_flags & UNSCORABLE_BEAT) == 0)


@dataclass(frozen=True)
class RecordScore:
    """One record's result; ``beat_probability`` (scored beat,) is calibrated, on the threshold's scale."""

    probability: float
    low: float
    high: float
    threshold: float
    decision: int
    agreement: float
    beat_probability: npt.NDArray[np.float32]
    novelty: float
    flags: int


def plan_scores(records: xr.Dataset, model: Model, *, settings: Mapping[str, Any] | None = None) -> Plan:
    """Plan the scores of an archive: one row a record, shards of about ``BEATS_A_SHARD`` beats.

    Parameters
    ----------
    records
        One row a record on dimension ``record``: text ``record_name``, ``patient_id``, ``signals_store``, ``beats_store``
        (digests; empty without beats), ``reason``; integers ``signals_row``, ``beats_row``, ``n_beats``, ``status``,
        ``label``, ``mi``, ``sex``; float ``age_years``. ``measurements_store`` may be left out: then they stand on none. Other
        variables are ignored.
    model
        Its digest, operating point and calibration go into the store's settings.
    settings
        Anything else that the store should state (JSON).

    Raises
    ------
    ValueError
        If a variable is missing.

    """
    return plan_rows(records, model.leads, score_settings(model) | dict(settings or {}))


def score_settings(model: Model) -> dict[str, Any]:
    """Return what a store of scores by this model states of how it was made."""
    return {
        "model": {"digest": model.digest, "name": model.name, "n_members": len(model.members)},
        "operating_point": _plain(asdict(model.operating_point)),
        "calibration": asdict(model.calibration),
        "min_scorable_beats": MIN_SCORABLE_BEATS,
        "min_lead_share": MIN_LEAD_SHARE,
        "interval": INTERVAL_RULE,
        "decision": DECISION_RULE,
        "evidence": EVIDENCE_RULE,
        "inference": {"engine": ENGINE, **choose_precision(model)._asdict()},
        "segments_s": {name: list(bounds) for name, bounds in SEGMENTS.items()},
    }


def score_versions() -> dict[str, str]:
    """Return the versions that scores depend on beside the storage's."""
    return {"numba": version("numba"), "numpy": version("numpy")}


def plan_rows(records: xr.Dataset, leads: Sequence[str], settings: Mapping[str, Any]) -> Plan:
    """Plan a store of scores with these very settings; ``records`` as in ``plan_scores``, ``leads`` the model's."""
    wanted = (*_INPUTS, *_LABELS, "n_beats")
    records = _with_measurements(records)
    missing = sorted(set(wanted) - set(records.variables))
    if missing:
        raise ValueError(f"plan_scores: records lack {', '.join(missing)}; join the signals and beats stores first")
    inputs = xr.Dataset({name: ("record", _typed(records[name].values, name)) for name in wanted})
    if "failed" in records:  # only then, so that all other plans are what they always were
        inputs = inputs.assign(failed=("record", records["failed"].values.astype(TEXT)))
    inputs = inputs.assign(lead=("lead", np.array(leads, TEXT)), segment=("segment", np.array(list(SEGMENTS), TEXT)))
    n_beats = inputs["n_beats"].values
    n_records, widest = int(n_beats.size), int(n_beats.max(initial=1))
    mean = max(1.0, float(n_beats.mean())) if n_records else 1.0
    return make_plan(
        SCORES,
        sizes={"record": n_records, "beat": max(1, widest), "lead": len(leads), "segment": len(SEGMENTS)},
        inputs=inputs,
        settings=settings,
        versions=score_versions(),
        shard_rows=max(1, round(BEATS_A_SHARD / mean)),
    )


def _with_measurements(records: xr.Dataset) -> xr.Dataset:
    """Return a table of records that says of which measurements each is; of none where it says nothing."""
    if "measurements_store" in records:
        return records
    return records.assign(measurements_store=("record", np.full(records.sizes["record"], "", TEXT)))


def _typed(values: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    dtype = np.dtype("int32") if name == "n_beats" else SCORES.variables[name].numpy_dtype
    return values.astype(dtype)


def _plain(value: Any) -> Any:
    """Return nested mappings as dicts: plans are JSON."""
    return {key: _plain(entry) for key, entry in value.items()} if isinstance(value, Mapping) else value


def score_records(
    work: str | Path,
    records: xr.Dataset,
    model_folder: str | Path,
    *,
    settings: Mapping[str, Any] | None = None,
    map: Map = map,
    on_progress: Progress | None = None,
) -> str:
    """Score records and publish ``work/scores/<run>.zarr``; return its path.

    Parameters
    ----------
    work
        Workspace with the signals and beats stores that ``records`` name.
    records, settings
        As in ``plan_scores``.
    model_folder
        As ``save_model`` left it; every worker reads it.
    map, on_progress
        As in ``storage.build``.

    """
    model = _model(str(model_folder))
    plan = plan_scores(records, model, settings=settings)
    earlier = find_earlier(str(work), plan)
    facts: dict[str, Any] = {"n_beats": plan.sizes["beat"], "precision": plan.settings["inference"]["name"]}
    produce = partial(produce_scores, work=str(work), model_folder=str(model_folder), earlier=earlier, **facts)

    def plan_for(beside: Mapping[str, Any]) -> Plan:
        return plan_scores(records, model, settings=dict(settings or {}) | dict(beside)) if beside else plan

    return build_around(str(work), plan_for, produce, version=__version__, map=map, on_progress=on_progress)


def produce_scores(
    _shard: Shard,
    rows: xr.Dataset,
    *,
    work: str,
    model_folder: str,
    n_beats: int,
    earlier: str = "",
    precision: str = "float32",
    skip: Mapping[str, str] = MappingProxyType({}),
) -> xr.Dataset:
    """Score the records of one shard; those that an earlier store of scores has are taken from there.

    A record's numbers depend on that record, the model and the versions only: not on its neighbours, on the order of the
    shards or on who makes them. One torch thread: sums are in one order, and workers do not fight for cores.

    Parameters
    ----------
    rows
        The plan's inputs for these records.
    work, model_folder
        Where stores and model lie.
    n_beats
        Length of the store's dimension ``beat``.
    earlier
        Path of a store of scores by the same model, settings and versions (``earlier.find_earlier``), or nothing.
    precision
        As in ``score_shard``; the plan states it.
    skip
        Records (``storage.row_key``) that get no score, for their content makes scoring fail, and the type of exception.

    Returns
    -------
    xarray.Dataset
        Every variable of ``SCORES``.

    Raises
    ------
    RowsFailed
        If the content of other records makes it fail.

    """
    known = known_rows(earlier, rows)
    fresh = rows.isel(record=np.flatnonzero(known < 0))
    records = list(read_record_beats(fresh, Path(work), model_folder))
    if skip:
        fresh = _with_failed(fresh, skip)
        names = fresh["record_name"].values.tolist()
        records = [None if row_key(name) in skip else record for name, record in zip(names, records, strict=True)]
    score = partial(score_shard, model=_model(model_folder), n_beats=n_beats, precision=precision)
    try:
        block = score(fresh, records=records)
    except NOT_OF_A_ROW:
        raise
    except Exception:  # records are scored together: one by one tells whose content it is
        failed: dict[str, str] = {}
        for row, name in enumerate(fresh["record_name"].values.tolist()):
            with noting(failed, name):
                score(fresh.isel(record=[row]), records=records[row : row + 1])
        if not failed:
            raise
        raise RowsFailed(failed) from None
    return block if (known < 0).all() else with_known(block, earlier, known, n_beats)


@lru_cache(maxsize=2)
def _model(folder: str) -> Model:
    from ecgbatch.model.files import load_model

    return load_model(folder)


def _with_failed(rows: xr.Dataset, skip: Mapping[str, str]) -> xr.Dataset:
    names = rows["record_name"].values.tolist()
    told = rows["failed"].values.tolist() if "failed" in rows else [""] * len(names)
    kinds = [skip.get(row_key(name), "") for name in names]
    failed = [one or (f"scores:{kind}" if kind else "") for one, kind in zip(told, kinds, strict=True)]
    return rows.assign(failed=("record", np.array(failed, TEXT)))


def read_record_beats(rows: xr.Dataset, work: Path, model_folder: str) -> Iterator[RecordBeats | None]:
    """Yield the stored beats of each row, in order; None where there are none or the record is set aside."""
    from ecgbatch.model.preparation import check_beats

    names, places = rows["beats_store"].values.tolist(), rows["beats_row"].values
    usable = (rows["status"].values != STATUS["set_aside"]) & (rows["n_beats"].values > 0) & (np.array(names, dtype=str) != "")
    found: dict[int, RecordBeats] = {}
    for name in sorted({name for name, use in zip(names, usable, strict=True) if use}):
        path = work / "beats" / f"{name}.zarr"
        store = open_once(path, ("lead", "first_beat", "n_beats"))
        check_beats(_model(model_folder), store.attrs["settings"], str(path))
        mine = [row for row, use in enumerate(usable) if use and names[row] == name]
        usable_leads, exchanged = leads_of_signals(str(work), rows.isel(record=mine), store["lead"].values.tolist())
        if "lead_flags" in store:  # leads that were made of I and II
            usable_leads |= store["lead_flags"].values[places[mine]] != 0
        for row, beats in zip(mine, _read_beats(store, places[mine], usable_leads, exchanged), strict=True):
            found[row] = beats
    for row in range(len(names)):
        yield found.get(row)


def _read_beats(
    store: xr.Dataset, places: npt.NDArray[Any], is_usable: npt.NDArray[np.bool_], is_exchanged: npt.NDArray[np.bool_]
) -> Iterator[RecordBeats]:
    """Yield the beats of a store's records; neighbours are read in one go, since they share chunks."""
    leads = tuple(store["lead"].values.tolist())
    by_beat = [store[name].variable for name in ("waveform", "beat_flags", "rr_previous_s")]
    first, count = store["first_beat"].values[places], store["n_beats"].values[places]
    low, high = int(first.min()), int((first + count).max())
    joined = [values[low:high].values for values in by_beat] if high - low <= 2 * int(count.sum()) else None
    for start, n, usable, exchanged in zip(first.tolist(), count.tolist(), is_usable, is_exchanged.tolist(), strict=True):
        waveform, flags, rr_previous_s = (
            [values[start : start + n].values for values in by_beat]
            if joined is None
            else [values[start - low : start - low + n] for values in joined]
        )
        yield RecordBeats(waveform, flags.astype(np.uint16), rr_previous_s, leads, usable, exchanged)


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
    names, patients, status = (rows[name].values.tolist() for name in ("record_name", "patient_id", "status"))
    failed = rows["failed"].values.tolist() if "failed" in rows else [""] * len(names)
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
    medians: dict[tuple[int, ...], dict[int, npt.NDArray[np.float32]]] = {}
    for row, waveform, probability in _beat_probabilities(model, records, used, precision):
        record = records[row]
        assert record is not None
        beat = medians.setdefault(used[row], {})[row] = _median_beat(waveform)
        finish = partial(
            score_record,
            model,
            used[row],
            record_name=names[row],
            novelty=novelty(model.novelty, beat),
            is_exchanged=record.is_exchanged,
        )
        score = finish(probability)
        if precision != "float32" and _is_close(score):
            score = finish(_in_float32(model, used[row], waveform))
        _fill_score(arrays, row, record, score)
        if record.is_exchanged:
            arrays["exchange"][row], arrays["probability_put_back"][row] = _put_back(model, used[row], record)
    for indices, beats in medians.items():
        stacked = np.stack(list(beats.values()))
        arrays["evidence"][list(beats)] = evidence(model, indices, stacked)
        mi = arrays["mi_probability"][list(beats)]  # is part of any heart disease
        arrays["abnormal_probability"][list(beats)] = np.maximum(_abnormal(model, indices, stacked), mi)
    return block


def _abnormal(model: Model, indices: Sequence[int], medians: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Return the calibrated probability of any heart disease of each median beat, (record,); NaN of a model of two classes."""
    from ecgbatch.model.members import abnormal_logits
    from ecgbatch.model.probability import calibrated

    logit = abnormal_logits(model, indices, medians).mean(axis=0)
    return logit if model.abnormal is None else np.asarray(calibrated(logit, model.abnormal))


def _put_back(model: Model, indices: Sequence[int], record: RecordBeats) -> tuple[str, float]:
    """Return which electrodes were probably exchanged, and the MI probability with their leads put back; NaN where unclear."""
    from ecgbatch.model.members import member_probabilities
    from ecgbatch.model.probability import record_probability, rule_for

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


def _in_float32(model: Model, indices: Sequence[int], waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    from ecgbatch.model.members import member_probabilities

    return member_probabilities(model, indices, waveform)


def _members_for(model: Model, patient_id: str, record: RecordBeats | None) -> tuple[int, ...]:
    """Return the members that know neither the patient by name nor the recording by its content."""
    from ecgbatch.model.members import members_for

    if record is None or record.beat_flags.size == 0:
        return members_for(model, patient_id)
    content = record_digest(
        record.waveform, record.is_scorable, store_leads=record.leads, leads=model.leads, key=model.patient_key
    )
    return members_for(model, patient_id, content)


def reason_not_scored(status: int, record: RecordBeats | None, model: Model, indices: Sequence[int]) -> str | None:
    """Return why a record cannot be scored (a key of ``REASONS``, or SET_ASIDE where its row says why), or None.

    The first that applies of: set aside before; no beats; leads missing; patient trained on; too few beats. Missing leads
    that the model does not use, and status ``partial``, do not matter.
    """
    if status == STATUS["set_aside"]:
        return "SET_ASIDE"
    if record is None or record.beat_flags.size == 0:
        return "NO_BEATS"
    usable = {lead for lead, use in zip(record.leads, record.is_usable, strict=True) if use}
    if len(usable & set(model.leads)) < min_usable_leads(len(model.leads)):
        return "LEADS_MISSING"
    if not indices:
        return "PATIENT_TRAINED_ON"
    return "TOO_FEW_BEATS" if int(record.is_scorable.sum()) < MIN_SCORABLE_BEATS else None


def with_own_status(scores: xr.Dataset) -> xr.Dataset:
    """Return scores whose ``status`` is that of the records' files; before version 4 all without a score were set aside.

    Of those a record that had too few beats or leads can be read: it counts as ok, or partial where leads were missing.
    """
    status, reason = scores["status"].values, scores["reason"].values
    aside = np.flatnonzero(status == STATUS["set_aside"])
    read = [place for place in aside.tolist() if reason[place] in REASONS]
    if not read:
        return scores
    status = status.copy()
    status[read] = [STATUS["partial" if reason[place] == "LEADS_MISSING" else "ok"] for place in read]
    return scores.assign(status=("record", status))


def min_usable_leads(n_leads: int) -> int:
    """Return how many of a model's ``n_leads`` leads a record must have: ``MIN_LEAD_SHARE``, rounded up."""
    return -(-2 * n_leads // 3)


def _empty(rows: xr.Dataset, n_beats: int, n_leads: int) -> xr.Dataset:
    """Return a block in which nothing is scored; identity and labels are those of the rows."""
    sizes = {"record": rows.sizes["record"], "beat": n_beats, "lead": n_leads, "segment": len(SEGMENTS)}
    rows, block = _with_measurements(rows), {}
    for name, variable in (SCORES.bulk() | SCORES.columns()).items():
        shape = tuple(sizes[dim] for dim in variable.dims)
        values = np.full(shape, variable.fill_value, dtype=variable.numpy_dtype)
        if name in (*_INPUTS, *_LABELS):
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
    model: Model, records: Sequence[RecordBeats | None], used: Sequence[tuple[int, ...]], precision: str
) -> Iterator[tuple[int, npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Yield row, prepared scored beats (beat, lead, sample) and their probabilities (member, beat) of every record to score.

    Records of the same members go together.
    """
    from ecgbatch.model.members import member_probabilities

    for indices in sorted({indices for indices in used if indices}):
        mine = [row for row, other in enumerate(used) if other == indices]
        prepared = [prepared_beats(model, records[row]) for row in mine]
        ends = np.cumsum([len(beats) for beats in prepared])
        first = [0, *ends[:-1].tolist()]
        own = precision if len(indices) == len(model.members) else "float32"
        probability = member_probabilities(model, indices, np.concatenate(prepared), first, precision=own)
        yield from zip(mine, prepared, np.split(probability, ends[:-1], axis=1), strict=True)


def prepared_beats(model: Model, record: RecordBeats | None) -> npt.NDArray[np.float32]:
    """Return a record's scorable beats as the model's members take them, (beat, lead, sample)."""
    from ecgbatch.model.preparation import prepare_waveforms

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


def score_record(
    model: Model,
    indices: Sequence[int],
    beat_probability: npt.NDArray[np.float32],
    record_name: str,
    *,
    novelty: float = float("nan"),
    is_exchanged: bool = False,
) -> RecordScore:
    """Turn beat probabilities into the record's probability, its interval and a decision.

    The probability is ``model.members.record_probability``: the mean logit over members and beats, calibrated. A beat's own is
    its mean logit over members, calibrated alike, so that the record's logit is the mean of its beats'. The decision is
    ``DECISION_RULE``; agreement is the share of beats on the side where the record's probability lies.

    Parameters
    ----------
    indices
        Members used, at least one.
    beat_probability : (member, beat) float32
        Scored beats only, at least one.
    record_name
        Seeds the interval.
    novelty
        From ``model.novelty.novelty``; above 1 the record is unlike training and its decision indeterminate. NaN: not measured.
    is_exchanged
        Whether electrodes seem exchanged: then the decision is indeterminate too.

    """
    from ecgbatch.model.probability import beat_logit, calibrated, record_probability, rule_for

    calibration, threshold = rule_for(model, indices)
    logit = beat_logit(beat_probability)
    drawn = probability_interval(logit, calibration, record_name)
    probability, low, high, threshold = _stored(record_probability(beat_probability, calibration), *drawn, threshold)
    low, high = min(low, probability), max(high, probability)
    beats = np.asarray(calibrated(logit.mean(axis=0), calibration), dtype=np.float32)
    is_above = probability >= threshold
    decision = decide(probability, low, high, threshold)
    kinds = {
        "electrodes_exchanged": is_exchanged,
        "unlike_training": novelty > 1,
        "close_to_threshold": decision == DECISION["indeterminate"],
    }
    flags = {"one_member": len(indices) == 1} | kinds
    return RecordScore(
        probability=probability,
        low=low,
        high=high,
        threshold=threshold,
        decision=DECISION["indeterminate"] if any(kinds.values()) else decision,
        agreement=float(np.mean((beats >= threshold) == is_above)),
        beat_probability=beats,
        novelty=float(np.float32(novelty)),
        flags=sum(SCORE_FLAGS[word] for word, is_set in flags.items() if is_set),
    )


def _median_beat(waveform: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    from ecgbatch.model.preparation import median_beat

    return median_beat(waveform)


def _stored(*numbers: float) -> tuple[float, ...]:
    """Round to float32: decisions are taken on the numbers that the store keeps, so they can be checked from them."""
    return tuple(float(np.float32(number)) for number in numbers)


def decide(probability: float, low: float, high: float, threshold: float) -> int:
    """Return the code of ``terms.DECISION`` by ``DECISION_RULE``; an interval that ends on the threshold holds it."""
    if low <= threshold <= high:
        return DECISION["indeterminate"]
    return DECISION["mi_indicated" if probability > threshold else "mi_not_indicated"]


def probability_interval(
    logit: npt.NDArray[np.float64], calibration: Calibration, record_name: str, *, n_draws: int = N_DRAWS
) -> tuple[float, float]:
    """Return the 95 % interval of a record's probability: ``INTERVAL_RULE``.

    Each draw takes as many members as there are, with replacement, and circular runs of consecutive beats (Politis and
    Romano 1992) of ``BEATS_A_BLOCK`` beats, a third of the record at most. It holds the model fixed and says nothing about
    another day, another database or the labels.

    Parameters
    ----------
    logit : (member, beat) float64
        Of the scored beats, before calibration.
    record_name
        Its BLAKE2b digest is the seed: the same record gets the same interval, whatever else is scored.

    """
    n_members, n_beats = logit.shape
    random = np.random.default_rng(int.from_bytes(hashlib.blake2b(record_name.encode(), digest_size=8).digest()))
    length = max(1, min(BEATS_A_BLOCK, n_beats // 3))
    around = np.concatenate([logit, logit[:, : length - 1]], axis=1)
    total = np.concatenate([np.zeros((n_members, 1)), around.cumsum(axis=1)], axis=1)
    run = (total[:, length:] - total[:, :-length]) / length  # (member, beat): mean of the run that starts at this beat
    drawn = random.integers(0, n_members, (n_draws, n_members)) * n_draws + np.arange(n_draws)[:, None]
    share = np.bincount(drawn.ravel(), minlength=n_members * n_draws).reshape(n_members, n_draws) / n_members
    starts = random.integers(0, n_beats, (n_draws, n_beats // length))
    mean = (share * run.take(starts, axis=1).mean(axis=2)).sum(axis=0)  # (member, draw) to (draw)
    from ecgbatch.model.probability import calibrated

    low, high = np.quantile(calibrated(mean, calibration), (0.025, 0.975))
    return float(low), float(high)


def score_workspace(
    work: str, model_folder: str, *, map: Map = map, on_progress: Callable[[str, int, int], None] | None = None
) -> str:
    """Score every record now in the archive; return the run's name, which is the digest of the score plan.

    What is not measured yet is measured first. The model is kept in ``WORK/models/<digest>``, so that the run can be reported on
    when the original is gone.

    Parameters
    ----------
    work
        Workspace with beats cut as the model wants them.
    model_folder
        As ``save_model`` left it.
    map, on_progress
        As in ``storage.build``; ``on_progress`` is called with the stage's name too.

    """
    from ecgbatch.model.files import save_model

    model = _model(str(model_folder))
    kept = save_model(model, Path(work) / "models" / model.digest[:MODEL_NAME_DIGITS])
    measure_workspace(work, model.beats, map=map, on_progress=on_progress)
    columns = [name for name in (*_INPUTS, *_LABELS) if name in SIGNALS.variables]
    records = current_measurements(work, current_beats(work, model.beats, columns))
    progress = partial(on_progress, "score") if on_progress else None
    return Path(score_records(work, records, kept, map=map, on_progress=progress)).stem


def scores_path(work: str, run: str) -> str:
    """Return the path of a run's scores store."""
    return str(Path(work) / "scores" / f"{run}.zarr")
