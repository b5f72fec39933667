"""The store of scores: what it holds of each record, and its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from ecgbatch.model.definition import Model
from ecgbatch.model.evidence import EVIDENCE_RULE, SEGMENTS
from ecgbatch.model.inference import ENGINE
from ecgbatch.model.precision import choose_precision
from ecgbatch.scores.decision import DECISION_RULE, INTERVAL_RULE
from ecgbatch.scores.earlier import PLACE
from ecgbatch.scores.scorable import MIN_LEAD_SHARE, MIN_SCORABLE_BEATS
from ecgbatch.terms import DECISION, LABEL, SCORE_FLAGS, SEX, STATUS
from storage import TEXT, Plan, Schema, Variable, installed_version, make_plan

BEATS_A_SHARD = 2048
"""Work of one shard, in beats: some seconds on one core, so that two cores share even 40 records."""


INPUTS = ("record_name", "patient_id", *PLACE)


LABELS = ("status", "label", "mi", "age_years", "sex", "reason")


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
    return {"numba": installed_version("numba"), "numpy": installed_version("numpy")}


def plan_rows(records: xr.Dataset, leads: Sequence[str], settings: Mapping[str, Any]) -> Plan:
    """Plan a store of scores with these very settings; ``records`` as in ``plan_scores``, ``leads`` the model's."""
    wanted = (*INPUTS, *LABELS, "n_beats")
    records = with_measurements(records)
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


def with_measurements(records: xr.Dataset) -> xr.Dataset:
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


def scores_path(work: str, run: str) -> str:
    """Return the path of a run's scores store."""
    return str(Path(work) / "scores" / f"{run}.zarr")
