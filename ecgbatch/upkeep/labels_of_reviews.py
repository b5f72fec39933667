"""Readers' verdicts as a label table, which ``--labels`` takes (docs/labels.md)."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path
from typing import Any

from ecgbatch.workspace.erased import erased_list
from ecgbatch.workspace.privacy import workspace_pseudonyms
from ecgbatch.workspace.reviews import agreed_labels, is_conflict, latest, read_reviews
from storage import Folder

HEADER = ("record", "patient_id", "label")


def export_labels(work: str, path: Path, *, blind_only: bool = False, pseudonymise: bool = False) -> dict[str, Any]:
    """Write the labels that readers agree on.

    Parameters
    ----------
    work, path
        Workspace; the table.
    blind_only
        Take verdicts alone that were given before the score was seen.
    pseudonymise
        Name records and patients as pseudonymous reports do: such a table goes with those, not with the archive.

    Returns
    -------
    dict
        ``n_labels``, ``labels`` {label: n}, ``n_records`` reviewed, ``n_conflicts`` (left out), ``n_without_label`` (left out:
        not judged, or no infarction without a word on what else), ``table``.

    Raises
    ------
    ValueError
        If no reader gave a label: a table without a row would label nothing.

    """
    erased = erased_list(work)
    reviews = [one for one in read_reviews(work) if not erased.has_record(one.record_name) and (one.is_blind or not blind_only)]
    found, verdicts = agreed_labels(reviews), latest(reviews)
    n_conflicts = sum(is_conflict(each.values()) for each in verdicts.values())
    if not found:
        said = f"{len(verdicts)} records are reviewed" + (" blind" if blind_only else "")
        raise ValueError(f"{work}: {said}, and on none of them readers agree on a label; nothing was written")
    if pseudonymise:
        names = workspace_pseudonyms(work)
        found = {names.record(name): (names.patient(patient), label) for name, (patient, label) in found.items()}
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows((name, patient, label) for name, (patient, label) in sorted(found.items()))
    place = path.absolute()
    Folder(place.parent).put(place.name, text.getvalue().encode("utf-8"))
    labels = [label for _, label in found.values()]
    return {
        "n_labels": len(found),
        "labels": {label: labels.count(label) for label in ("mi", "control", "other")},
        "n_records": len(verdicts),
        "n_conflicts": n_conflicts,
        "n_without_label": len(verdicts) - len(found) - n_conflicts,
        "table": str(place),
    }
