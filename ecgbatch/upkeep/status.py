"""How a workspace stands: what is stored, scored, pending, set aside; how the last run ended; and the same as metrics."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import numpy as np

from ecgbatch.reports.reviewed import OF_SCORES, reviewed
from ecgbatch.signals.lookup import archive_facts, current_records, left_out_counts
from ecgbatch.terms import STATUS
from ecgbatch.workspace.reviews import REVIEWS
from ecgbatch.workspace.runs import latest_run, log_event, read_run
from storage import CorruptStore, UnfinishedStore, document_problems, folder_at, list_stores, load_columns, sealed, unsealed

log = logging.getLogger("ecgbatch")

LAST_RUN_FILE = "last-run.json"
"""Below the workspace: when the last run began and how it ended. Without an end, and without its process, it was killed."""

METRICS_FILE = "metrics.prom"
"""Below the workspace: the last run in Prometheus' text format, for a node exporter's textfile collector."""

KINDS = {"convert": "signals", "peaks": "peaks", "beats": "beats", "measure": "measurements", "score": "scores"}
"""Stage and the kind of store that it leaves."""


_began: ContextVar[float | None] = ContextVar("began", default=None)


@contextmanager
def counted_from(began: float) -> Iterator[None]:
    """Have ``recorded`` count the seconds in all from here (seconds since 1970): what was waited before the first stage too."""
    token = _began.set(began)
    try:
        yield
    finally:
        _began.reset(token)


@contextmanager
def recorded(work: str, command: str) -> Iterator[dict[str, Any]]:
    """Write down that a run began and how it ended, and its metrics; what the block puts into the yielded dict is kept too.

    Parameters
    ----------
    command
        What the run is of: ``run``, ``convert`` ...

    """
    facts: dict[str, Any] = {}
    before = {stage: set(list_stores(work, kind)) for stage, kind in KINDS.items()}
    started = _began.get() or time.time()
    last_good = last_good_end(work)
    log_event("run started", command=command, version=version("ecgbatch"), workspace=str(folder_at(work)))
    stated = {"command": command, "started": _now(), "pid": os.getpid(), "host": socket.gethostname()}
    _put(work, stated | {"outcome": "running"})
    outcome, said = "ok", ""
    try:
        yield facts
    except BaseException as error:
        is_stop = isinstance(error, KeyboardInterrupt | SystemExit) or type(error).__name__ in _STOPS
        outcome, said = ("stopped" if is_stop else "failed"), f"{type(error).__name__}: {error}"
        raise
    finally:
        facts["bytes"] = {
            stage: sum(_n_bytes(path) for path in list_stores(work, kind) if path not in before[stage])
            for stage, kind in KINDS.items()
        }
        ended = {"ended": _now(), "seconds_in_all": round(time.time() - started, 3), "outcome": outcome, "error": said}
        facts["last_good_end"] = ended["ended"] if outcome == "ok" else last_good
        log_event("run ended", command=command, version=version("ecgbatch"), **_told(facts), **ended)
        aside = facts.pop("records_set_aside", {})  # names: of the log only, which is named as the reports are
        log_event("records set aside", run=facts.get("run", ""), records=aside)
        told = metrics(stated | ended | facts)
        folder_at(work).put(METRICS_FILE, told)
        _put(work, stated | ended | facts | {"metrics": hashlib.sha256(told).hexdigest()})


def last_good_end(work: str) -> str:
    """Return when the last run that ended well did so (ISO 8601); empty if none is known to have."""
    before = last_run(work)
    return str(before.get("last_good_end") or (before.get("ended", "") if before.get("outcome") == "ok" else ""))


def _told(facts: dict[str, Any]) -> dict[str, Any]:
    names = (
        "run",
        "model",
        "archive",
        "records",
        "decisions",
        "set_aside",
        "not_scorable",
        "drift",
        "unlike_training",
        "seconds",
    )
    return {name: facts[name] for name in names if name in facts}


_STOPS = frozenset({"TerminationSignal", "Terminated", "Abort", "CancelledRun"})
"""Names of what ends a run from outside; Prefect's own is not imported here."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _put(work: str, document: dict[str, Any]) -> None:
    folder_at(work).put(LAST_RUN_FILE, sealed(json.loads(json.dumps(document, default=str))))


def _n_bytes(path: str) -> int:
    return sum(n_bytes for _, n_bytes in folder_at(path).files())


def last_run(work: str) -> dict[str, Any]:
    """Return what is known of the last run; empty where none is.

    ``outcome`` is ok, failed, stopped, running, killed, or damaged where what was written of it is not what is found: the next
    run writes it anew, and no run waits for that.
    """
    try:
        document = unsealed(folder_at(work).read(LAST_RUN_FILE), f"{work}/{LAST_RUN_FILE}")
    except FileNotFoundError:
        return {}
    except (OSError, CorruptStore):
        return {"outcome": "damaged"}
    if "outcome" not in document:
        return {"outcome": "damaged"}
    is_here = document.get("host") == socket.gethostname()
    if document["outcome"] == "running" and is_here and not _is_alive(document["pid"]):
        document["outcome"] = "killed"
    return document


def last_run_problems(work: str, key: str) -> list[str]:
    """Return what is wrong with the last run's record or its metrics; those of earlier versions have no seal."""
    folder = folder_at(work)
    where, next_run = f"{folder}/{key}", "the next run writes it anew"
    if key == METRICS_FILE:
        stated = "" if last_run(work).get("outcome") == "damaged" else last_run(work).get("metrics", "")
        try:
            is_same = not stated or hashlib.sha256(folder.read(key)).hexdigest() == stated
        except OSError as error:
            return [f"{where}: cannot be read ({type(error).__name__}); {next_run}"]
        return [] if is_same else [f"{where}: altered: it is not what the last run wrote; {next_run}"]
    if last_run(work).get("outcome") == "damaged":
        return [f"{where}: altered: it is not what the last run wrote; {next_run}"]
    return list(document_problems(folder, key)) if b'"metrics"' in folder.read(key) else []


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def status(work: str) -> dict[str, Any]:
    """Return how a workspace stands, from its published stores and the last run's own record.

    Returns
    -------
    dict
        ``archive`` (name), ``n_stored`` (records now in the archive that have a row), ``n_set_aside`` {reason: n} (their files
        cannot be used), ``n_scored`` (by the last run, of those stored), ``n_not_scorable`` (seen by it and without a score,
        those set aside among them), ``not_scorable_reasons`` {reason: n}, ``n_pending`` (rows that the last run did not see),
        ``n_waiting`` (files still being written when last looked at), ``n_gone`` (no longer in the archive), ``n_erased`` (in the
        archive and left out: ``ecgbatch erase``), ``n_left_out`` {reason: n} (folders, links and hidden files of the archive in
        which no record was looked for: ``ecgbatch inspect`` names them), ``stores`` {kind: n}, ``run`` (name and model of the
        last scores), ``report`` (path of the latest cohort page; empty where none is), of the last run where known
        ``decisions``, ``drift`` and ``unlike_training``, and ``last_run``; where there are any, ``reviews`` of the last scores
        (``reports.reviewed``).

    Raises
    ------
    UnfinishedStore
        If nothing was ever converted or tried here.

    """
    ended = last_run(work)
    stores = {kind: len(list_stores(work, kind)) for kind in KINDS.values()}
    try:
        facts, records = archive_facts(work), current_records(work, ["status", "reason"])
    except UnfinishedStore:
        if not ended:
            raise
        return {"archive": "", "n_stored": 0, "stores": stores, "last_run": ended}
    is_aside = records["status"].values == STATUS["set_aside"]
    told = {
        "archive": facts["archive"],
        "n_stored": records.sizes["record"],
        "n_set_aside": dict(sorted(Counter(records["reason"].values[is_aside].tolist()).items())),
        **_scored(work, list(zip(records["signals_store"].values.tolist(), records["signals_row"].values.tolist(), strict=True))),
        "n_waiting": len(facts.get("waiting", [])),
        "n_gone": len(facts.get("gone", [])),
        "n_erased": facts.get("n_erased", 0),
        "n_left_out": left_out_counts(work),
    }
    found: dict[str, Any] = {name: ended[name] for name in ("decisions", "drift", "unlike_training") if name in ended}
    shown = folder_at(work).pointed("reports/latest")
    report = f"{folder_at(work)}/reports/{shown}/cohort.html" if shown else ""
    run = told["run"]
    if run is not None and folder_at(work).children(REVIEWS):
        scores = load_columns(folder_at(work).path(f"scores/{run['name']}.zarr"), OF_SCORES)
        found["reviews"] = reviewed(work, scores, run["model_digest"])
    return told | found | {"report": report, "stores": stores, "last_run": ended}


def _scored(work: str, places: list[tuple[str, int]]) -> dict[str, Any]:
    """Say how many of the records' rows the last scores hold, how many of those have a number, and why the others have none."""
    columns = ("mi_probability", "reason", "signals_store", "signals_row")
    try:
        run = latest_run(work)
        scores = load_columns(folder_at(work).path(f"scores/{run}.zarr"), columns)
    except (ValueError, UnfinishedStore):
        return {"n_scored": 0, "n_not_scorable": 0, "not_scorable_reasons": {}, "n_pending": len(places), "run": None}
    has_number = np.isfinite(scores["mi_probability"].values).tolist()
    keys = zip(scores["signals_store"].values.tolist(), scores["signals_row"].values.tolist(), strict=True)
    why = [None if has else reason for has, reason in zip(has_number, scores["reason"].values.tolist(), strict=True)]
    known = dict(zip(keys, why, strict=True))
    found = [known[place] for place in places if place in known]
    reasons = Counter(reason for reason in found if reason is not None)
    model, at = scores.attrs["settings"]["model"], read_run(work, run).get("last_run", "")
    return {
        "n_scored": len(found) - reasons.total(),
        "n_not_scorable": reasons.total(),
        "not_scorable_reasons": dict(sorted(reasons.items())),
        "n_pending": len(places) - len(found),
        "run": {
            "name": run,
            "model": model["name"],
            "model_digest": model["digest"],
            "at": at,
        },
    }


def metrics(run: dict[str, Any]) -> bytes:
    """Return a run in Prometheus' text format.

    Parameters
    ----------
    run
        What ``recorded`` writes: ``outcome``, ``ended``, ``seconds_in_all``, and where known ``records`` {word: n}, ``set_aside``
        and ``not_scorable`` {reason: n}, ``seconds`` {stage: s}, ``bytes`` {stage: n}, ``decisions`` {word: n}, ``drift``,
        ``unlike_training`` and ``last_good_end``.

    """
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()

    def gauge(name: str, meaning: str, label: str, values: dict[str, float]) -> None:
        made = Gauge(f"ecgbatch_{name}", meaning, [label], registry=registry)
        for key, value in sorted(values.items()):
            made.labels(key).set(value)

    gauge("records", "Records of the last run", "state", run.get("records", {}))
    gauge("records_set_aside", "Records whose files cannot be used, by reason code", "reason", run.get("set_aside", {}))
    not_scorable = "Records without a score, those set aside among them, by reason code"
    gauge("records_not_scorable", not_scorable, "reason", run.get("not_scorable", {}))
    gauge("stage_seconds", "Seconds that the last run spent in a stage", "stage", run.get("seconds", {}))
    gauge("stage_bytes", "Bytes of stores that the last run published", "stage", run.get("bytes", {}))
    success = Gauge("ecgbatch_last_run_success", "1 if the last run ended well", registry=registry)
    success.set(run["outcome"] == "ok")
    gauge("decisions", "Records of the last run by decision", "decision", run.get("decisions", {}))
    drift = {name: value for name, value in run.get("drift", {}).items() if value is not None}
    gauge("drift", "Scores of the last run's new records against the run before: how many, distance, p", "figure", drift)
    if run.get("unlike_training") is not None:
        unlike = Gauge(
            "ecgbatch_unlike_training_share", "Share of records unlike what the model was trained on", registry=registry
        )
        unlike.set(run["unlike_training"])
    if run.get("last_good_end"):
        good = Gauge(
            "ecgbatch_last_good_run_end_time_seconds", "When a run last ended well, seconds since 1970", registry=registry
        )
        good.set(datetime.fromisoformat(run["last_good_end"]).timestamp())
    ended = Gauge("ecgbatch_last_run_end_time_seconds", "When the last run ended, seconds since 1970", registry=registry)
    ended.set(datetime.fromisoformat(run["ended"]).timestamp())
    whole = Gauge("ecgbatch_last_run_duration_seconds", "How long the last run took", registry=registry)
    whole.set(run["seconds_in_all"])
    written: bytes = generate_latest(registry)
    return written
