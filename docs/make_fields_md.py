"""Write docs/fields.md, the data dictionary of the reports, from their schemas: ``python docs/make_fields_md.py``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ecgbatch.measurements.quantities import LEAD_QUANTITIES
from ecgbatch.reports.documents import COLUMNS as DOCUMENT_COLUMNS
from ecgbatch.reports.lead_columns import STANDARD
from ecgbatch.reports.tables import COLUMNS

PAGE = Path(__file__).with_name("fields.md")

HEAD = """# Fields of the reports

*Written by `docs/make_fields_md.py` from the schemas in [schema/](schema/README.md); do not edit. Files are tested against them.*

What the stores hold is in [stores.md](stores.md). Below `WORK/reports/<run>/` lies `records.parquet`, a row a record; for each
record that has a page, `records/<slug>.json` and `.html` (on request `.pdf` and `.fhir.json`); and for the archive
`cohort.json` and `.html`, `scores.csv` and `scores.parquet`.
`null` is unknown, never 0. `[]` stands for each entry of a list, `*` for each key of an object whose keys are names.
"""


def fields_page() -> str:
    """Return the whole page."""
    parts = [HEAD]
    for name, title in (("record", "records/<slug>.json"), ("cohort", "cohort.json")):
        schema = json.loads((PAGE.parent / "schema" / f"{name}.json").read_text(encoding="utf-8"))
        rows = [f"| `{path}` | {kind} | {words} |" for path, kind, words in _fields(schema, schema, "")]
        parts += [f"## {title}", "", "| field | type | what it is |", "|---|---|---|", *rows, ""]
    rows = [f"| `{name}` | {words} |" for name, words in COLUMNS.items()]
    parts += ["## scores.csv, scores.parquet", "", "| column | what it is |", "|---|---|", *rows, ""]
    of_leads = [f"| `{name}_<lead>` | {of.meaning}; {of.unit} |" for name, of in LEAD_QUANTITIES.items()]
    said = f"`<lead>` is one of {', '.join(STANDARD)}; null: no value."
    parts += ["## scores.parquet alone", "", said, "", "| column | what it is |", "|---|---|", *of_leads, ""]
    rows = [f"| `{name}` | {words} |" for name, words in DOCUMENT_COLUMNS.items()]
    parts += ["## records.parquet", "", "| column | what it is |", "|---|---|", *rows, ""]
    return "\n".join(parts)


def _fields(schema: Mapping[str, Any], root: Mapping[str, Any], path: str) -> Iterator[tuple[str, str, str]]:
    """Yield path, type and meaning of every field below a schema, in its order."""
    schema = _resolved(schema, root)
    named = {f"{path}.{name}".lstrip("."): inner for name, inner in schema.get("properties", {}).items()}
    if isinstance(schema.get("additionalProperties"), dict):
        named[f"{path}.*".lstrip(".")] = schema["additionalProperties"]
    if isinstance(schema.get("items"), dict):
        named[f"{path}[]"] = schema["items"]
    for name, entry in named.items():
        inner = _resolved(entry, root)
        if not (name.endswith("[]") and _is_plain(inner)):
            yield name, _kind(inner, root), str(inner.get("description", "")).replace("|", "\\|").replace("\n", " ")
        yield from _fields(inner, root, name)


def _resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    found: Any = root
    for step in str(schema["$ref"]).removeprefix("#/").split("/"):
        found = found[step]
    return {**found, **{key: value for key, value in schema.items() if key != "$ref"}}


def _is_plain(schema: Mapping[str, Any]) -> bool:
    return not {"properties", "additionalProperties", "items"} & set(schema) and "description" not in schema


def _kind(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    if "const" in schema:
        return f"always {schema['const']}"
    if "enum" in schema:
        return ", ".join(str(value) for value in schema["enum"])
    kinds = schema.get("type", "any")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    said = " or ".join(kinds)
    if "array" in kinds and isinstance(schema.get("items"), dict) and _is_plain(inner := _resolved(schema["items"], root)):
        said = said.replace("array", f"list of {_kind(inner, root)}")
    limits = [f"{words} {schema[key]}" for key, words in (("minimum", "at least"), ("maximum", "at most")) if key in schema]
    return "; ".join([said, *limits])


if __name__ == "__main__":
    PAGE.write_text(fields_page(), encoding="utf-8")
