"""Erase one patient from a workspace: stores without that patient's rows take the place of those that had them."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from ecgbatch.beats.lookup import ANNOTATIONS_FOLDER
from ecgbatch.upkeep.compact import forget_proofs
from ecgbatch.upkeep.moves import (
    OF_REPORTS,
    Batch,
    OnProgress,
    abandoned_by_compaction,
    left_over,
    move,
    point_to,
    remove_replaced,
)
from ecgbatch.upkeep.status import LAST_RUN_FILE
from ecgbatch.upkeep.verify import LATEST, reports_to_show
from ecgbatch.workspace.compacted import compacted, stands_for
from ecgbatch.workspace.erased import Erased, erased_list, write_erased
from ecgbatch.workspace.privacy import PSEUDONYMOUS, TABLE_FILE
from ecgbatch.workspace.reviews import forget
from ecgbatch.workspace.runs import put_log, read_run, stated_reports
from storage import Folder, Map, folder_at, list_stores, open_once, remove_whole, sealed


def erase_patient(work: str, patient_id: str, *, map: Map = map, on_progress: OnProgress | None = None) -> dict[str, Any]:
    """Erase a patient from a workspace; the caller holds its lock. Cut off anywhere, the same call goes on.

    Every signals store that holds a record of the patient, be it superseded or gone from the archive, is replaced by one in which
    that row is empty (``ERASED``); its peaks, beats, measurements and scores follow, row by row the same bits for everybody else.
    Reports of runs that had the patient go, those of the latest run are written anew; so do annotation files, lines of logs,
    unfinished builds, and whatever else below the workspace names the patient or one of the records. A list of keyed digests
    (``workspace.erased.Erased``) keeps the patient from coming back with the next run.

    Parameters
    ----------
    patient_id
        As the stores have it.
    map, on_progress
        As in ``storage.build``; ``on_progress`` is called with the stage's name too.

    Returns
    -------
    dict
        ``n_records`` of the patient, ``replaced`` {store: store}, ``n_removed`` {sort: n}, ``models`` that were trained on the
        patient, ``began`` and ``ended``.

    Raises
    ------
    ValueError
        If the workspace has no such patient, or a compaction has not ended.

    """
    if compacted(work)["pending"]:
        raise ValueError(f"{work}: a compaction has not ended; run `ecgbatch compact {work}` again first; nothing was changed")
    erased = erased_list(work)
    erasure = erased.of(patient_id)
    abandoned = abandoned_by_compaction(work)
    names, batches = _rows_of(work, patient_id, abandoned)
    if not names and not erasure:
        raise ValueError(_unknown(work, patient_id))
    if not (batches or abandoned) and erasure.get("ended"):
        return _told(erasure)
    erasure = _begun(erasure, erased, patient_id, names) | {"models": _models_trained_on(work, patient_id)}
    # First of all the list: from here on no run takes the patient in again.
    write_erased(work, erased.with_erasure(erasure))
    moved = move(work, batches, abandoned=abandoned, map=map, on_progress=on_progress)
    moved.replaced |= left_over(work, moved)
    erasure["replaced"] |= moved.replaced
    write_erased(work, erased.with_erasure(erasure))
    point_to(work, moved, erased.with_erasure(erasure).has_record)
    forget_proofs(work, erasure["replaced"])
    erasure["n_removed"] |= _remove_files(work, erasure["replaced"], names, patient_id, map, on_progress)
    remove_replaced(work, erasure["replaced"])
    erasure["ended"] = _now()
    write_erased(work, erased.with_erasure(erasure))
    return _told(erasure)


def _begun(before: Mapping[str, Any], erased: Erased, patient_id: str, names: Iterable[str]) -> dict[str, Any]:
    """Return an erasure that begins, or goes on where an earlier call was cut off: what that one did stays counted."""
    digests = {erased.digest("record", name) for name in names}
    return {
        "patient": erased.digest("patient", patient_id),
        "records": sorted(digests.union(before.get("records", ()))),
        "began": before.get("began") or _now(),
        "ended": "",
        "replaced": before.get("replaced", {}),
        "n_removed": before.get("n_removed", {}),
    }


def records_of(work: str, patient_id: str) -> list[str]:
    """Return the records of a patient that ``erase_patient`` would remove, by name; none of one who is erased already.

    Raises
    ------
    ValueError
        If the workspace has no such patient.

    """
    names, _ = _rows_of(work, patient_id, abandoned_by_compaction(work))
    if not names and not erased_list(work).of(patient_id):
        raise ValueError(_unknown(work, patient_id))
    return sorted(names)


def _unknown(work: str, patient_id: str) -> str:
    return (
        f"{work}: no record of patient {patient_id!r} in the signals stores here, expected a patient_id as the stores and "
        "scores.csv have it (of most archives: the record's folder); nothing was changed"
    )


def _told(erasure: dict[str, Any]) -> dict[str, Any]:
    told = {name: erasure[name] for name in ("replaced", "n_removed", "models", "began", "ended")}
    return {"n_records": len(erasure["records"]), **told}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _rows_of(work: str, patient_id: str, abandoned: Iterable[str]) -> tuple[set[str], list[Batch]]:
    """Return the names of a patient's records, and the stores that hold any of them with those rows marked, but the abandoned.

    A record that was stored under another patient before (without a label table, say) is this patient's nevertheless.
    """
    paths = (path for path in list_stores(work, "signals") if Path(path).stem not in abandoned)
    stores = {Path(path).stem: open_once(path) for path in paths}
    columns = {digest: [store[name].values for name in ("record_name", "patient_id")] for digest, store in stores.items()}
    names = {name for found, patients in columns.values() for name in found[patients == patient_id].tolist()}
    batches = []
    for digest, (found, _) in columns.items():
        is_theirs = np.isin(found, list(names)) if names else np.zeros(found.size, bool)
        if is_theirs.any():
            is_empty = is_theirs | (stores[digest]["reason"].values == "ERASED")
            batches.append(Batch((digest,), np.zeros(found.size, np.int64), np.arange(found.size), is_empty))
    return names, batches


def _models_trained_on(work: str, patient_id: str) -> list[str]:
    """Return the workspace's models that have seen a patient in training: weights cannot forget."""
    from ecgbatch.model.definition import ModelError
    from ecgbatch.model.files import load_model
    from ecgbatch.model.members import members_for

    folder, found = folder_at(work), []
    for name in [name for name in folder.children("models") if not name.startswith(".")]:
        try:
            model = load_model(folder.path(f"models/{name}"))
        except ModelError:
            found.append(f"models/{name} (cannot be read, so perhaps)")
            continue
        if len(members_for(model, patient_id)) < len(model.members):
            found.append(f"models/{name}")
    return found


def _remove_files(
    work: str, replaced: dict[str, str], names: set[str], patient_id: str, map: Map, on_progress: OnProgress | None
) -> dict[str, int]:
    """Remove whatever beside the stores names the patient; return how much of each sort."""
    folder = folder_at(work)
    is_named = _mentions({*names, patient_id})
    removed = {"annotation files": 0, "report folders": 0, "lines of logs": 0}
    removed["reviews"] = forget(work, patient_id, sorted(names), is_named)  # before reports: those count them
    theirs = tuple(f"{ANNOTATIONS_FOLDER}/{name}." for name in names)
    for key in [key for key, _ in folder.files(ANNOTATIONS_FOLDER) if key.startswith(theirs)]:
        folder.delete(key)
        removed["annotation files"] += 1
        while (key := key.rpartition("/")[0]) and not folder.children(key):
            folder.delete(key)  # a folder's name may be the patient's
    removed["lines of logs"] = sum(_without_lines(work, name, is_named) for name in folder.children("runs"))
    _without_row(folder, names)
    if folder.exists(LAST_RUN_FILE) and is_named(folder.read(LAST_RUN_FILE).decode("utf-8", "replace")):
        folder.delete(LAST_RUN_FILE)
    removed["report folders"] = _replace_reports(work, replaced, is_named, map, on_progress)
    for name in folder.children(".build"):
        if name != "lock":
            remove_whole(folder, f".build/{name}")
    return {sort: n for sort, n in removed.items() if n}


def _mentions(names: Iterable[str]) -> Callable[[str], bool]:
    """Return what tells whether a text holds one of these names as a word of its own."""
    found = re.compile("|".join(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])" for name in names if name))
    return lambda text: found.search(text) is not None


def _without_lines(work: str, name: str, is_named: Callable[[str], bool]) -> int:
    """Write a run's log anew without the lines that name somebody; return how many those were."""
    if not name.endswith(".log"):
        return 0
    lines = folder_at(work).read(f"runs/{name}").decode("utf-8", "replace").splitlines(keepends=True)
    kept = [line for line in lines if not is_named(line)]
    if len(kept) < len(lines):
        put_log(work, Path(name).stem, "".join(kept).encode())
    return len(lines) - len(kept)


def _without_row(folder: Folder, names: set[str]) -> None:
    """Write the table of pseudonyms anew without these records."""
    try:
        rows = list(csv.reader(StringIO(folder.read(TABLE_FILE).decode("utf-8", "replace"))))
    except FileNotFoundError:
        return
    kept = [row for row in rows if row[0] not in names]
    if len(kept) < len(rows):
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(kept)
        folder.put(TABLE_FILE, text.getvalue().encode())


def _replace_reports(
    work: str, replaced: dict[str, str], is_named: Callable[[str], bool], map: Map, on_progress: OnProgress | None
) -> int:
    """Remove the reports of runs that had the patient, or say that the patient is gone; write those of the latest run anew."""
    from ecgbatch.reports.chosen_pages import stated_mode
    from ecgbatch.reports.writing import report_workspace

    folder, document = folder_at(work), compacted(work)
    now = {Path(key).stem: Path(new).stem if new else "" for key, new in replaced.items() if key.startswith("scores/")}
    there = [name for name in folder.children("reports") if name != "latest"]
    runs = {name: Path(stands_for(document, f"scores/{name.removesuffix(PSEUDONYMOUS)}.zarr")).stem for name in there}
    named = [name for name in there if runs[name] in {*now, *now.values()} or _cohort_names(folder, name, is_named)]
    shown = folder.pointed(LATEST)
    again = now.get(runs[shown], runs[shown]) if shown in named else ""
    if again:
        files = folder.children(f"reports/{shown}/records")
        extras = [kind for kind, end in (("pdf", ".pdf"), ("fhir", ".fhir.json")) if any(name.endswith(end) for name in files)]
        as_they_were: dict[str, Any] = {
            "extras": extras,
            "pages": stated_mode(folder, f"reports/{shown}"),
            "pseudonymise": shown.endswith(PSEUDONYMOUS),
        }
        told = report_workspace(work, again, **as_they_were, map=map, on_progress=on_progress)
        if stated := read_run(work, again):
            folder.put(f"runs/{again}.json", sealed(stated | {"counts": told["counts"], "reports": Path(told["reports"]).name}))
    removed = [name for name in named if not (again and name == folder.pointed(LATEST))]
    for name in removed:
        remove_whole(folder, f"reports/{name}")
        run = name.removesuffix(PSEUDONYMOUS)
        stated = read_run(work, run)
        if stated and stated_reports(run, stated) == name:
            folder.put(f"runs/{run}.json", sealed({key: value for key, value in stated.items() if key not in OF_REPORTS}))
    if folder.pointed(LATEST) in removed:
        folder.delete(LATEST)
        if left := reports_to_show(folder):
            folder.point(LATEST, left)
    return len(removed)


def _cohort_names(folder: Folder, run: str, is_named: Callable[[str], bool]) -> bool:
    """Tell whether a run's cohort page names somebody: it says which records are gone since the run before."""
    keys = [f"reports/{run}/{name}" for name in ("cohort.html", "cohort.json")]
    return any(is_named(folder.read(key).decode("utf-8", "replace")) for key in keys if folder.exists(key))
