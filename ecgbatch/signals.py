"""Signals: the archive's records as chunked int16 stores, one row a record, nothing lost."""

from __future__ import annotations

from ecgbatch.terms import LABEL, LEAD_FLAGS, MISSING_SAMPLE, SEX, STATUS
from storage.schema import Schema, Variable

SIGNALS = Schema(
    name="signals",
    version=1,
    row_dim="record",
    title="ECG signals, one row a record, in ADC units exactly as recorded",
    variables={
        "signal": Variable(
            ("record", "lead", "sample"),
            "int16",
            "ECG signal in ADC units",
            "adu",
            MISSING_SAMPLE,
            bulk=True,
            inner_chunk=(None, 16384),
        ),
        "lead": Variable(("lead",), "string", "lead name", ""),
        "record_name": Variable(("record",), "string", "path of the header below the archive, without .hea", ""),
        "fingerprint": Variable(
            ("record",), "string", "SHA-256 of name, file sizes, header and label: what makes a record new", ""
        ),
        "patient_id": Variable(("record",), "string", "patient identifier", ""),
        "patient_unknown": Variable(("record",), "int8", "1 where patient_id is the record itself", "1", low=0, high=1),
        "n_samples": Variable(("record",), "int64", "samples per lead", "1", low=0),
        "sampling_frequency_hz": Variable(("record",), "float64", "sampling frequency", "Hz", low=0),
        "status": Variable(("record",), "int8", "whether the record can be used", "1", flags=STATUS),
        "reason": Variable(("record",), "string", "reason code where status is not ok; see docs/reason-codes.md", ""),
        "status_detail": Variable(("record",), "string", "what was expected and found", ""),
        "warnings": Variable(("record",), "string", "warning codes, separated by spaces", ""),
        "source_digest": Variable(("record",), "string", "SHA-256 of header and signal files", ""),
        "label": Variable(("record",), "int8", "reference label", "1", flags=LABEL),
        "label_rule": Variable(("record",), "string", "the rule or table that gave the label", ""),
        "mi": Variable(
            ("record",), "int8", "myocardial infarction: 1 yes, 0 healthy control, -1 other or unknown", "1", low=-1, high=1
        ),
        "diagnosis": Variable(("record",), "string", "reason for admission as the header states it", ""),
        "infarct_location": Variable(("record",), "string", "localisation of the infarction", ""),
        "infarct_age": Variable(("record",), "string", "acute, former or empty", ""),
        "age_years": Variable(("record",), "float32", "age; 90 means 90 or older", "year", low=0, high=90),
        "sex": Variable(("record",), "int8", "sex", "1", flags=SEX),
        "adc_gain": Variable(("record", "lead"), "float64", "ADC units per millivolt", "adu mV-1"),
        "baseline": Variable(("record", "lead"), "int32", "ADC value of 0 mV", "adu"),
        "checksum": Variable(("record", "lead"), "int32", "sum of all samples modulo 65536", "1", low=0, high=65535),
        "lead_flags": Variable(("record", "lead"), "uint16", "quality of the lead", "1", flags=LEAD_FLAGS, is_mask=True),
    },
)
