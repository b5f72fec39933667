"""The stages of the main job, one by one: inspect, convert, beats, measure, score, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecgbatch.cli.dry_run import estimate_archive, estimate_work, made_again_by, print_estimate
from ecgbatch.cli.exit_codes import OK, SET_ASIDE
from ecgbatch.cli.options import (
    Archive,
    AsJson,
    Dask,
    DryRun,
    Fhir,
    KeepComments,
    Labels,
    Method,
    NeededModel,
    Pages,
    Pdf,
    Prevalence,
    Pseudonymise,
    Rehash,
    Settle,
    Work,
    Workers,
    as_text,
    checked_method,
    report_options,
)
from ecgbatch.cli.output import print_document, progress
from ecgbatch.settings import load_settings
from ecgbatch.terms import STATUS

if TYPE_CHECKING:
    from ecgbatch.signals.view import Conversion


def inspect(
    archive: Archive,
    labels: Labels = None,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read every sample too: all verdicts.")] = False,
    dask: Dask = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> int:
    """Say what an archive holds and what is wrong with it; nothing is written."""
    from ecgbatch.archive.finding import search, summarise_left_out
    from ecgbatch.archive.listing import list_archive, summarise
    from ecgbatch.archive.untaken import find_untaken, summarise_untaken
    from flows.cluster import engine

    found = search(archive)
    with engine(dask, workers, sees=[archive]) as on_engine:
        listing = list_archive(str(archive), labels=as_text(labels), read_data=read_data, names=found.names, map=on_engine)
    summary = summarise(listing) | summarise_untaken(find_untaken(found.beside, found.one_file))
    summary |= summarise_left_out(found.left_out)
    print_document(summary, as_json)
    return SET_ASIDE if summary["n_set_aside"] else OK


def convert(
    archive: Archive,
    work: Work,
    labels: Labels = None,
    rehash: Rehash = False,
    settle_s: Settle = None,
    keep_comments: KeepComments = False,
    dask: Dask = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Store every record's samples as chunked Zarr, exactly as they are."""
    settings = load_settings(labels=labels, settle_s=settle_s)
    labels = settings.labels
    again = made_again_by(work, archive=True, labels=as_text(labels), keep_comments=keep_comments)
    if dry_run:
        return print_estimate(estimate_archive(archive, work, labels) | again, as_json)
    from ecgbatch.api import stages

    with progress(as_json) as on_progress:
        done = stages.convert(
            archive,
            work,
            labels=labels,
            rehash=rehash,
            settle_s=settings.settle_s,
            keep_comments=keep_comments,
            compute=stages.Compute(dask, workers, on_progress),
        )
    print_document(_conversion_summary(done, work), as_json)
    return SET_ASIDE if done.set_aside else OK


def _conversion_summary(done: Conversion, work: Path) -> dict[str, Any]:
    from ecgbatch.signals.lookup import left_out_counts
    from storage import folder_at

    left_out = left_out_counts(str(work))
    return {
        "n_records": done.n_records,
        "n_new": done.n_new,
        "n_superseded": len(done.superseded),
        "n_gone": len(done.gone),
        "n_waiting": len(done.waiting),
        "n_erased": done.n_erased,
        "n_set_aside": done.set_aside,
        **({"n_left_out": left_out} if left_out else {}),
        **({"labels": dict(done.labels)} if done.labels else {}),
        "stores": [f"{folder_at(work)}/signals/{digest}.zarr" for digest in done.stores],
    }


def beats(
    work: Work,
    method: Method = "robust",
    reference: Annotated[
        str | None,
        typer.Option(help="Take beats from the archive's annotation files of this extension (atr) instead of detecting."),
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="Archive that the reference annotations lie in.", exists=True, file_okay=False)
    ] = None,
    annotations: Annotated[bool, typer.Option("--annotations", help="Also write WORK/annotations/RECORD.qrs (WFDB).")] = False,
    annotations_out: Annotated[Path | None, typer.Option(help="Also write RECORD.qrs (WFDB) below this folder.")] = None,
    csv: Annotated[Path | None, typer.Option(help="kachuee: also write labelled beats of lead II as the paper's CSV.")] = None,
    dask: Dask = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Find the R peaks of every record and cut a window around each."""
    if (reference is None) != (archive is None):
        raise typer.BadParameter("--reference and --archive go together: which annotation files, and where they lie")
    if csv is not None and method != "kachuee":
        raise typer.BadParameter("--csv has the paper's 187 columns: give --method kachuee with it")
    asked = {"method": checked_method(method), "reference": reference or ""}
    again = made_again_by(work, beats=asked)
    if dry_run:
        return print_estimate(estimate_work(work, "beats", beats=asked) | again, as_json)
    from ecgbatch.api import stages
    from ecgbatch.beats.lookup import export_annotations
    from ecgbatch.beats.record import BeatSettings

    settings = BeatSettings(method=checked_method(method), reference=reference or "")
    with progress(as_json) as on_progress:
        compute = stages.Compute(dask, workers, on_progress)
        done = stages.find_beats(work, method=method, reference=reference, archive=archive, compute=compute)
    said: dict[str, Any] = {
        "n_records": done.n_records,
        "n_beats": done.n_beats,
        "n_without_beats": done.n_without_beats,
        "stores": list(done.stores),
    }
    if reference:
        said["without_reference"] = done.without_reference
    if annotations or annotations_out:
        said["n_annotation_files"] = export_annotations(str(work), settings, annotations_out)
    if csv:
        from ecgbatch.beats.table import write_beat_table

        said["n_beats_in_table"] = write_beat_table(str(work), csv)
    print_document(said, as_json)
    return exit_code_of(work)


def measure(
    work: Work,
    method: Method = "robust",
    dask: Dask = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Measure rate, intervals, axes and levels of every record; score does it too, where it is not done."""
    again = made_again_by(work, measure=True)
    if dry_run:
        return print_estimate(estimate_work(work, "measure", beats={"method": checked_method(method)}) | again, as_json)
    from ecgbatch.api import stages

    with progress(as_json) as on_progress:
        done = stages.measure(work, method=checked_method(method), compute=stages.Compute(dask, workers, on_progress))
    print_document({"n_records": done.n_records, "n_with_qrs": done.n_measured, "stores": list(done.stores)}, as_json)
    return exit_code_of(work)


def score(
    work: Work,
    model: NeededModel,
    prevalence: Prevalence = None,
    dask: Dask = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Score every prepared record with a model."""
    again = made_again_by(work, model=as_text(model))
    if dry_run:
        from ecgbatch.model.files import load_model

        return print_estimate(
            estimate_work(work, "measure", "score", beats=load_model(model).beats, model=model) | again, as_json
        )
    from ecgbatch.api import stages
    from ecgbatch.scores.table import scores_path

    with progress(as_json) as on_progress:
        scored = stages.score(work, model=model, prevalence=prevalence, compute=stages.Compute(dask, workers, on_progress))
    print_document({"run": scored, "store": scores_path(str(work), scored)}, as_json)
    return exit_code_of(work)


def report(
    work: Work,
    run_name: Annotated[str | None, typer.Option("--run", help="Name of the run; default the last.")] = None,
    record: Annotated[str | None, typer.Option("--record", help="Make this record's page alone, whichever have one.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="With --record: a folder for it, not the run's reports.")] = None,
    pages: Pages = None,
    pdf: Pdf = False,
    fhir: Fhir = False,
    pseudonymise: Pseudonymise = False,
    dask: Dask = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Write the reports of a run: each record's as data, the cohort page, tables; pages of all, those called, or none."""
    if to is not None and record is None:
        raise typer.BadParameter("--to FOLDER goes with --record NAME")
    if dry_run:
        return print_estimate(estimate_work(work, "report"), as_json)
    from ecgbatch.api import stages

    chosen = report_options(pages, pdf=pdf, fhir=fhir)
    if record is not None:
        return _report_record(work, run_name, record, to, chosen["extras"], pseudonymise, as_json)
    with progress(as_json) as on_progress:
        compute = stages.Compute(dask, workers, on_progress)
        said = stages.report(work, run=run_name, **chosen, pseudonymise=pseudonymise, compute=compute)
    print_document(said, as_json)
    return exit_code_of(work)


def _report_record(
    work: Path, run_name: str | None, record: str, to: Path | None, extras: list[str], pseudonymise: bool, as_json: bool
) -> int:
    """Make one record's page: of the run, and under the names, of the reports that are shown now, unless others are asked for."""
    from ecgbatch.reports.writing import report_record
    from ecgbatch.workspace.privacy import PSEUDONYMOUS
    from ecgbatch.workspace.runs import latest_run
    from storage import folder_at, only_writer

    shown = folder_at(str(work)).pointed("reports/latest")
    name = run_name or shown.removesuffix(PSEUDONYMOUS) or latest_run(str(work))
    is_pseudonymous = pseudonymise or (run_name is None and shown.endswith(PSEUDONYMOUS))
    place = "" if to is None else str(to.absolute())
    with only_writer(work, "report"):
        made = report_record(str(work), name, record, extras=extras, pseudonymise=is_pseudonymous, place=place)
    print_document(made, as_json)
    return OK


def exit_code_of(work: Path) -> int:
    """Return the exit code of a stage that ended well: whether the workspace holds records that are set aside."""
    from ecgbatch.signals.lookup import current_records

    return SET_ASIDE if (current_records(str(work), ["status"])["status"].values == STATUS["set_aside"]).any() else OK
