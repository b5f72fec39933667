"""Beats: R peaks found on several leads together, and windows cut around them."""

from __future__ import annotations

from ecgbatch.terms import BEAT_FLAGS, LABEL, STATUS
from storage.schema import Schema, Variable

PEAKS = Schema(
    name="peaks",
    version=1,
    row_dim="record",
    title="R peaks of every record of a signals store",
    variables={
        "r_sample": Variable(
            ("record", "peak"),
            "int32",
            "sample number of the R peak, 0-based, at the record's own rate",
            "1",
            -1,
            bulk=True,
            inner_chunk=(None,),
        ),
        "beat_flags": Variable(
            ("record", "peak"),
            "uint16",
            "quality of the beat",
            "1",
            flags=BEAT_FLAGS,
            is_mask=True,
            bulk=True,
            inner_chunk=(None,),
        ),
        "n_beats": Variable(("record",), "int32", "R peaks found", "1", low=0),
        "n_leads_used": Variable(("record",), "int16", "leads that took part in detection", "1", low=0),
    },
)

BEATS = Schema(
    name="beats",
    version=1,
    row_dim="beat",
    title="Windows around every R peak, all leads together",
    variables={
        # robust: 1 uV a step. kachuee: 1/16384 of the 10 s window's range a step. The store's settings say which (scale, units).
        "waveform": Variable(("beat", "lead", "sample"), "int16", "beat window", "", -32768, bulk=True, inner_chunk=(None, None)),
        "r_sample": Variable(
            ("beat",), "int32", "sample number of the R peak in its record, 0-based, at the record's own rate", "1", low=0
        ),
        "record_index": Variable(("beat",), "int32", "row of the record", "1", low=0),
        "rr_previous_s": Variable(("beat",), "float32", "time since the record's previous R peak; NaN for its first", "s", low=0),
        "beat_flags": Variable(("beat",), "uint16", "quality of the beat", "1", flags=BEAT_FLAGS, is_mask=True),
        "lead": Variable(("lead",), "string", "lead name", ""),
        "sample_time_s": Variable(("sample",), "float32", "time from the R peak", "s"),
        "record_name": Variable(("record",), "string", "path of the header below the archive, without .hea", ""),
        "patient_id": Variable(("record",), "string", "patient identifier", ""),
        "status": Variable(("record",), "int8", "whether the record can be used", "1", flags=STATUS),
        "label": Variable(("record",), "int8", "reference label", "1", flags=LABEL),
        "mi": Variable(
            ("record",), "int8", "myocardial infarction: 1 yes, 0 healthy control, -1 other or unknown", "1", low=-1, high=1
        ),
        "first_beat": Variable(("record",), "int64", "row of the record's first beat", "1", low=0),
        "n_beats": Variable(
            ("record",),
            "int32",
            "beats of the record (CF contiguous ragged array)",
            "1",
            low=0,
            attrs={"sample_dimension": "beat"},
        ),
    },
)
