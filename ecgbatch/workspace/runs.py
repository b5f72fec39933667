"""The record of a run: what it did, when, with what, and where the time went. Stores hold none of that."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import platform
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ecgbatch.settings import load_settings
from storage import CorruptStore, folder_at, installed_version, is_address, sealed, unsealed

log = logging.getLogger("ecgbatch")


def log_event(event: str, **facts: Any) -> None:
    """Log one event as one line: its name and facts, which ``log_file`` writes as JSON where the settings ask for that."""
    told = " ".join(f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in facts.items())
    log.info("%s %s", event, told, extra={"event": event, "facts": facts})


class AsJson(logging.Formatter):
    """A log line as one JSON object: ``time``, ``level``, ``event`` and the event's facts, or ``message``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {"time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")}
        line["level"] = record.levelname
        event = getattr(record, "event", None)
        line |= {"message": record.getMessage()} if event is None else {"event": event, **getattr(record, "facts", {})}
        return json.dumps(line, ensure_ascii=False, default=str)


@dataclass
class Timing:
    """Seconds of each stage of one command, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the time of the block under ``name``."""
        started = time.perf_counter()
        log_event("stage started", stage=name)
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            log_event("stage ended", stage=name, seconds=round(self.seconds[name], 2))


def write_run(work: str, run: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """Write ``WORK/runs/<run>.json`` and return it; a run that is repeated keeps its first ``created``.

    Parameters
    ----------
    run
        Digest of the score plan: the same records and model are the same run.
    document
        JSON-ready facts: archive, stores, model, counts, seconds.

    """
    folder = folder_at(work)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    earlier = read_run(work, run)
    stated = {"run": run, "created": earlier.get("created", now), "last_run": now}
    whole = {**earlier, **stated, **document, "versions": _versions(), "machine": platform.machine()}
    folder.put(f"runs/{run}.json", sealed(whole))
    return whole


def read_run(work: str, run: str) -> dict[str, Any]:
    """Return a run's record; empty if there is none."""
    try:
        return unsealed(folder_at(work).read(f"runs/{run}.json"), f"{work}/runs/{run}.json")
    except FileNotFoundError:
        return {}


def latest_run(work: str) -> str:
    """Return the name of the run that was made or repeated last.

    Raises
    ------
    ValueError
        If nothing has been scored yet.

    """
    names = runs_by_time(work)
    if not names:
        raise ValueError(f"{work}: no run here yet: score the records first (ecgbatch score {work} --model MODEL)")
    return names[0]


def runs_by_time(work: str) -> list[str]:
    """Return the names of all runs, the one that was made or repeated last first."""
    names = [name.removesuffix(".json") for name in folder_at(work).children("runs") if name.endswith(".json")]
    return sorted(names, key=lambda name: (read_run(work, name).get("last_run", ""), name), reverse=True)


def stated_reports(run: str, document: Mapping[str, Any]) -> str:
    """Return the name of the reports that were written with a run and that its record speaks of; empty if of none.

    A run whose reports hide names has them beside those of the house; one that a compaction renamed kept its reports' name.
    """
    if "reported" in document:
        return str(document["reported"].get("reports", run)).rstrip("/").rpartition("/")[2]
    return str(document.get("reports", run)) if "counts" in document else ""


def earlier_run(work: str, run: str) -> str:
    """Return the name of the run that was made last before this one; empty if there is none."""
    names = [name.removesuffix(".json") for name in folder_at(work).children("runs") if name.endswith(".json")]
    made = sorted((read_run(work, name).get("created", ""), name) for name in names)
    place = next((place for place, (_, name) in enumerate(made) if name == run), 0)
    return made[place - 1][1] if place else ""


def _versions() -> dict[str, str]:
    names = ("ecgbatch", "dask", "numba", "numpy", "prefect", "scipy", "torch", "wfdb", "xarray", "zarr")
    return {"python": platform.python_version()} | {name: installed_version(name) for name in names}


@contextmanager
def log_file(work: str) -> Iterator[None]:
    """Keep a log of what happens inside; ``name_log`` gives it its run's name."""
    folder = folder_at(work)
    place = Path(tempfile.mkdtemp(prefix="ecgbatch-log-")) if is_address(work) else folder.path(".build")
    place.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(place / f"log-{time.time_ns()}.log", encoding="utf-8", errors="backslashreplace")
    assert handler.stream is not None  # it is opened at once
    fcntl.flock(handler.stream, fcntl.LOCK_EX)  # until this process ends, whatever ends it: then another run may take it over
    as_json = load_settings().log_json
    handler.setFormatter(AsJson() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    level, propagate = log.level, log.propagate
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False  # the screen belongs to progress and result
    try:
        yield
    except BaseException as error:
        log.error("stopped: %s: %s", type(error).__name__, error)  # noqa: TRY400 (a traceback could carry personal data)
        raise
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        log.propagate = propagate
        handler.close()


def name_log(work: str, run: str) -> None:
    """Append this process's log so far to ``WORK/runs/<run>.log``, after the logs of runs that were cut short."""
    for handler in log.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.flush()
            folder, source = folder_at(work), Path(handler.baseFilename)
            try:
                before = folder.read(f"runs/{run}.log")
            except FileNotFoundError:
                before = b""
            dead = _dead_logs(source)
            put_log(work, run, before + b"".join(path.read_bytes() for path in dead) + source.read_bytes())
            for path in (*dead, source):
                path.unlink(missing_ok=True)


def _dead_logs(mine: Path) -> list[Path]:
    """Return the logs that runs which were cut short left beside this one, the eldest first: they belong to what went on."""
    found = []
    for path in sorted(mine.parent.glob("log-*.log")):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            found.append(path)
    return [path for path in found if path != mine]


def put_log(work: str, run: str, content: bytes) -> None:
    """Put a run's log, and into the run's record how many bytes it has and their digest: a log that grows keeps its beginning."""
    folder = folder_at(work)
    folder.put(f"runs/{run}.log", content)
    stated = read_run(work, run)
    if stated:
        folder.put(f"runs/{run}.json", sealed(stated | {"log": [len(content), hashlib.sha256(content).hexdigest()]}))


def log_problems(work: str, run: str) -> list[str]:
    """Return what is wrong with a run's log: it must begin with the bytes that the run's record vouches for."""
    folder = folder_at(work)
    try:
        stated = read_run(work, run).get("log")
    except CorruptStore:
        stated = None  # said of the record itself
    if stated is None:
        return []
    try:
        content = folder.read(f"runs/{run}.log")
    except FileNotFoundError:
        return [f"{folder}/runs/{run}.log: missing, expected {stated[0]} bytes"]
    is_same = hashlib.sha256(content[: stated[0]]).hexdigest() == stated[1]
    return [] if is_same else [f"{folder}/runs/{run}.log: its first {stated[0]} bytes are not those that were written"]
