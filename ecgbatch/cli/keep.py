"""A workspace kept: status, verify, gc, compact, erase; and what lies around it: config, fetch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ecgbatch.cli.exit_codes import FAILED, OK
from ecgbatch.cli.options import AsJson, Dask, Labels, Work, Workers, as_text
from ecgbatch.cli.output import print_document, progress
from ecgbatch.settings import CONFIG_VARIABLE, config_file, load_settings, stated


def verify(
    work: Work,
    read_data: Annotated[
        bool, typer.Option("--read-data/--quick", help="Read every byte and compare all digests and checksums, or sizes only.")
    ] = True,
    repair: Annotated[
        Path | None,
        typer.Option(help="Make anew what is damaged, from this archive, to the same digest.", exists=True, file_okay=False),
    ] = None,
    labels: Labels = None,
    dask: Dask = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> int:
    """Check everything in a workspace against itself: stores, models, runs, reports; exit 1 if anything is wrong."""
    from ecgbatch.upkeep.repair import repair as mend
    from ecgbatch.upkeep.verify import items_of, made_by_others, verify_workspace
    from flows.cluster import engine
    from storage import only_writer

    with progress(as_json) as on_progress, engine(dask, workers, sees=[work]) as on_engine:
        watched: dict[str, Any] = {"map": on_engine, "on_progress": on_progress}
        found = verify_workspace(str(work), read_data=read_data, **watched)
        said: dict[str, Any] = {}
        if found and repair is not None:
            with only_writer(work, "verify --repair"):
                said["not_repaired"] = mend(str(work), str(repair), found, labels=as_text(labels), **watched)
            said["n_repaired"] = len(found) - len(said["not_repaired"])
            found = verify_workspace(str(work), read_data=read_data, **watched)
    problems = sorted(problem for each in found.values() for problem in each)
    said |= {"made_by_others": others} if (others := made_by_others(str(work))) else {}
    n_checked = len(items_of(str(work)))
    print_document({"n_checked": n_checked, "n_problems": len(problems), "problems": problems, **said}, as_json)
    return FAILED if problems else OK


def gc(
    work: Work,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also builds that the same command would finish: their work is lost.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Remove what dead runs left behind; never a published store, report, run or model."""
    from ecgbatch.upkeep.garbage import collect_garbage
    from storage import only_writer

    with only_writer(work, "gc"):
        said = collect_garbage(str(work), unfinished=unfinished)
    print_document(said, as_json)
    return OK


def compact(work: Work, workers: Workers = None, as_json: AsJson = False) -> int:
    """Copy the stores of many nights into few, bit for bit; verify still proves each earlier store's digests."""
    from ecgbatch.upkeep.compact import compact as compact_workspace
    from flows.cluster import engine
    from storage import only_writer

    with only_writer(work, "compact"), progress(as_json) as on_progress, engine(None, workers) as on_engine:
        said = compact_workspace(str(work), map=on_engine, on_progress=on_progress)
    print_document(said, as_json)
    return OK


def erase(
    work: Work,
    patient: Annotated[str, typer.Option(help="The patient's id, as the stores and scores.csv have it.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say which records would go; do nothing.")] = False,
    workers: Workers = None,
    as_json: AsJson = False,
) -> int:
    """Remove one patient from a workspace: samples, beats, scores, reports, names; for good."""
    from ecgbatch.upkeep.erase import erase_patient, records_of
    from flows.cluster import engine
    from storage import only_writer

    names = records_of(str(work), patient)
    if dry_run:
        print_document({"n_records": len(names), "records": names}, as_json)
        return OK
    if not yes:
        _ask(patient, names)
    with only_writer(work, "erase"), progress(as_json) as on_progress, engine(None, workers) as on_engine:
        said = erase_patient(str(work), patient, map=on_engine, on_progress=on_progress)
    print_document(said, as_json)
    return OK


def _ask(patient: str, names: list[str]) -> None:
    """Ask whether a patient is to be erased; wrong usage where nobody can answer."""
    if not sys.stdin.isatty():
        raise typer.BadParameter("erase cannot be undone, and nobody can be asked here: give --yes (or --dry-run to look first).")
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    typer.confirm(f"Erase patient {patient} ({shown or 'what an erasure cut off has left'}) for good?", abort=True, err=True)


def status(work: Work, as_json: AsJson = False) -> int:
    """Say what is stored, scored, pending and set aside, and how the last run ended."""
    from ecgbatch.upkeep.garbage import leftovers
    from ecgbatch.upkeep.status import status as status_of

    print_document(status_of(str(work)) | {"build": leftovers(str(work))}, as_json)
    return OK


def config(as_json: AsJson = False) -> int:
    """Print every setting: its value, where that comes from, and what it means."""
    settings = stated()
    if as_json:
        print_document(settings, as_json)
        return OK
    for name, entry in settings.items():
        print(f"{name} = {'' if entry['value'] is None else entry['value']}  ({entry['from']})")
        print(f"    {entry['meaning']}")
    print(f"file: {config_file() or f'none; {CONFIG_VARIABLE} names one'}")
    return OK


def fetch(
    database: Annotated[str, typer.Argument(help="ptbdb, ptbxl or mitdb.")],
    dest: Annotated[Path, typer.Argument(help="Folder for its files.", file_okay=False, resolve_path=True)],
    base: Annotated[str | None, typer.Option("--from", help="Address of a mirror: the folder that has SHA256SUMS.txt.")] = None,
    as_json: AsJson = False,
) -> int:
    """Download a database of PhysioNet: goes on where it stopped, every file checked by its SHA-256."""
    from dataclasses import asdict

    from ecgbatch.archive.fetch import fetch as fetch_database

    connections = load_settings().fetch_connections
    with progress(as_json) as on_progress:
        fetched = fetch_database(database, dest, base=base, connections=connections, on_progress=on_progress)
    print_document(asdict(fetched), as_json)
    return OK


def warm(as_json: AsJson = False) -> int:
    """Compile everything that is compiled on this machine now, so that no command has to: once after an installation."""
    from time import perf_counter

    from ecgbatch.machine_code import kept_in
    from ecgbatch.upkeep.warm import warm as make_all

    start = perf_counter()
    with progress(as_json) as on_progress:
        make_all(on_progress)
    print_document({"kept_in": kept_in(), "seconds": round(perf_counter() - start, 1)}, as_json)
    return OK
