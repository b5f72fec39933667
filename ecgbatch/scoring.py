"""Scores: from beat probabilities to a decision about each record."""

from __future__ import annotations

from ecgbatch.terms import DECISION, LABEL, SEX, STATUS
from storage.schema import Schema, Variable

SCORES = Schema(
    name="scores",
    version=1,
    row_dim="record",
    title="Probability of myocardial infarction of every record of the archive",
    variables={
        "beat_probability": Variable(
            ("record", "beat"),
            "float32",
            "MI probability of each beat of the record, in order; NaN where not scored",
            "1",
            low=0,
            high=1,
            bulk=True,
            inner_chunk=(None,),
        ),
        "record_name": Variable(("record",), "string", "path of the header below the archive, without .hea", ""),
        "patient_id": Variable(("record",), "string", "patient identifier", ""),
        "signals_store": Variable(("record",), "string", "digest of the signals store that holds the record", ""),
        "signals_row": Variable(("record",), "int64", "its row there", "1", low=0),
        "beats_store": Variable(
            ("record",), "string", "digest of the beats store that holds its beats; empty where there is none", ""
        ),
        "beats_row": Variable(("record",), "int64", "its row on that store's record dimension", "1", low=0),
        "status": Variable(("record",), "int8", "whether the record can be used", "1", flags=STATUS),
        "label": Variable(("record",), "int8", "reference label", "1", flags=LABEL),
        "mi": Variable(
            ("record",), "int8", "myocardial infarction: 1 yes, 0 healthy control, -1 other or unknown", "1", low=-1, high=1
        ),
        "age_years": Variable(("record",), "float32", "age; 90 means 90 or older", "year", low=0, high=90),
        "sex": Variable(("record",), "int8", "sex", "1", flags=SEX),
        "mi_probability": Variable(
            ("record",), "float32", "probability of myocardial infarction; NaN where not scored", "1", low=0, high=1
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
        "decision": Variable(("record",), "int8", "decision", "1", flags=DECISION),
        "reason": Variable(("record",), "string", "reason code where not scorable or partial", ""),
    },
)
