"""Write docs/stores.md, the data dictionary, from the schemas: ``python docs/make_stores_md.py``."""

from __future__ import annotations

import textwrap
from pathlib import Path

from ecgbatch.beats.stage import BEATS, PEAKS
from ecgbatch.measurements.stage import MEASUREMENTS
from ecgbatch.scores.table import SCORES
from ecgbatch.signals.table import SIGNALS
from storage import Schema, Variable

PAGE = Path(__file__).with_name("stores.md")

SCHEMAS = (SIGNALS, PEAKS, BEATS, MEASUREMENTS, SCORES)

HEAD = """# Stores

*Written by `docs/make_stores_md.py` from the schemas that every block is checked against; do not edit.*

A store is a folder `WORK/<kind>/<digest>.zarr`: Zarr v3, sharded, complete, and never changed again. `digest` is that of its
plan: the same records, settings and versions have the same name and the same bytes. `WORK/archive.json` says which row of which
signals store each record of the archive is now; a scores store says for each record where its signals, beats and measurements
are.

    import xarray as xr
    signals = xr.open_zarr(PATH, consolidated=False)

**Missing** is the value that stands where nothing is known, also in the attribute `fill`; it is not masked for you.
**Written** is *by shard* for what is large, *at once* for small columns. `string` is UTF-8 of any length, empty where
unknown. A flag's meanings are also in its attributes (`flag_values` or, where several may hold at once, `flag_masks`;
`flag_meanings`), as in the CF conventions.

Attributes of every store: `title`, `schema`, `schema_version`, `digest`, `settings` (what decided its content), `versions`
(of the libraries that did), `plan` (all of it), `content_digest`, `content_digests`, `files` and `seal` (what `ecgbatch
verify` compares), and `made_by`: the version and a digest of the code of the ecgbatch that published it, and of those that made
its shards (`verify` names shards that another made). The group `receipts` holds sizes and digests of each shard.
"""

NOTES = {
    "signals": "Millivolts are `(signal - baseline) / adc_gain`, lead by lead. Samples from `n_samples` on are padding: missing.",
    "peaks": "A row has room for as many R peaks as its longest record could hold; its first `n_beats` are the record's.",
    "beats": (
        "The beats of a record are the rows `first_beat` to `first_beat + n_beats`, in order of time. `waveform` times the "
        "setting `waveform_step` is in the setting `waveform_units`: microvolts for `robust`, shares of a ten second window's "
        "range for `kachuee`."
    ),
    "measurements": (
        "Row `k` is of record `k` of the beats store that the setting `beats` names, measured as the setting `method` says, on "
        "the ten seconds from `excerpt_start_s`: those that the record's page shows. Values of a record are NaN exactly where "
        "their reason is not `measured`; a lead of which nothing is known has its `lead_reason`. Each record is measured by "
        "itself."
    ),
    "scores": (
        "Column `k` of `beat_probability` belongs to the record's beat `k` of its beats store. The settings state model, "
        "operating point, calibration, what interval and evidence mean, where the segments lie (`segments_s`) and how the "
        "decision follows. Version 3 had no `measurements_store`; version 2 had no `abnormal_probability`, `exchange` and "
        "`probability_put_back`, and none of the bits 4 and 8 of `score_flags`; version 1 no `evidence`, `lead`, `segment`, "
        "`novelty` and `score_flags` either."
    ),
}


def stores_page() -> str:
    """Return the whole page."""
    return "\n".join([HEAD, *(_section(schema) for schema in SCHEMAS)])


def _section(schema: Schema) -> str:
    lines = [
        f"## {schema.name}",
        "",
        f"{schema.title}. Schema version {schema.version}; a row a {schema.row_dim}.",
        "",
        textwrap.fill(NOTES[schema.name], 124, break_on_hyphens=False),
        "",
        "| variable | dimensions | type | units | missing | written | what it is |",
        "|---|---|---|---|---|---|---|",
        *(_row(name, variable) for name, variable in schema.variables.items()),
        "",
    ]
    return "\n".join(lines)


def _row(name: str, variable: Variable) -> str:
    cells = (
        f"`{name}`",
        ", ".join(variable.dims),
        variable.dtype,
        variable.units or "-",
        _missing(variable),
        "by shard" if variable.bulk else "at once",
        "; ".join([variable.long_name, *_details(variable)]),
    )
    return f"| {' | '.join(cells)} |"


def _missing(variable: Variable) -> str:
    if variable.dtype == "string":
        return "empty"
    if variable.fill is not None:
        return f"{variable.fill}"
    return "NaN" if variable.numpy_dtype.kind == "f" else "-"


def _details(variable: Variable) -> list[str]:
    """Return the range and the flags' meanings, as far as there are any."""
    details = []
    if variable.low is not None or variable.high is not None:
        details.append(
            f"{variable.low} to {variable.high}"
            if variable.low is not None and variable.high is not None
            else (f"at least {variable.low}" if variable.low is not None else f"at most {variable.high}")
        )
    if variable.flags is not None:
        kind = "bits" if variable.is_mask else "values"
        details.append(f"{kind}: " + ", ".join(f"{value} {word}" for word, value in variable.flags.items()))
    return details


if __name__ == "__main__":
    PAGE.write_text(stores_page(), encoding="utf-8")
