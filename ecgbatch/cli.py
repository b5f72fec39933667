"""The command line: the front door. It stands outside the floors, and alone may reach up to ``flows``."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecgbatch.settings import load_settings
from ecgbatch.terms import MODEL_NAME_DIGITS, NOTICE

if TYPE_CHECKING:
    from ecgbatch.signals import Conversion

app = typer.Typer(
    help=f"Archives of ECG recordings in, beats, myocardial infarction scores and reports out. {NOTICE}",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

OK, FAILED, USAGE, SET_ASIDE = 0, 1, 2, 3
"""Exit codes: fine; failed; wrong usage; done, but some of this command's records are set aside."""


def _work_place(text: str) -> Path:
    """Return a workspace's place: a folder, or an address of an object store as it is."""
    place = Path(text)
    if not text.startswith("s3:"):
        place = place.resolve()
        if place.exists() and not place.is_dir():
            raise typer.BadParameter(f"Directory {text!r} is a file.")
    return place


def _archive_place(text: str) -> Path:
    """Return an archive's folder; of one in an object store, the up-to-date copy that is kept in the user's cache."""
    if not text.startswith("s3:"):
        place = _work_place(text)
        if not place.exists():
            raise typer.BadParameter(f"Directory {text!r} does not exist.")
        return place
    from storage import cached_mirror

    try:
        return cached_mirror(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None


def _watched_place(text: str) -> Path:
    """Return an archive's place for a schedule: each night looks there anew, so an address stays one. It must answer now."""
    if not text.startswith("s3:"):
        return _archive_place(text)
    from storage import Folder

    try:
        if Folder(text).children():
            return Path(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.BadParameter(f"{text}: expected an archive, found nothing there.")


Archive = Annotated[Path, typer.Argument(help="Folder of WFDB records, or s3://bucket/prefix.", parser=_archive_place)]
WatchedArchive = Annotated[Path, typer.Argument(help="Folder of WFDB records, or s3://bucket/prefix.", parser=_watched_place)]
Work = Annotated[
    Path, typer.Argument(help="Workspace: where stores, models and reports lie; or s3://bucket/prefix.", parser=_work_place)
]
Labels = Annotated[Path | None, typer.Option(help="CSV: record, patient_id, label (mi, control, other or empty).", exists=True)]
Model = Annotated[Path | None, typer.Option(help="Folder of a model.", exists=True, file_okay=False, resolve_path=True)]
NeededModel = Annotated[Path, typer.Option(help="Folder of a model.", exists=True, file_okay=False, resolve_path=True)]
Prevalence = Annotated[
    float | None, typer.Option(help="Share of the patients here who have MI, where it is not that of the model's training.")
]
Dask = Annotated[
    str | None, typer.Option(help="Address of a Dask scheduler: tls://host:port, or tcp:// here. Default: threads here.")
]
Workers = Annotated[int | None, typer.Option(help="Threads (training: processes) here. Default: the processors.", min=1)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print shards, bytes, memory and minutes; do nothing.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else on standard output.")]
Rehash = Annotated[
    bool, typer.Option("--rehash", help="Look into every record, also those whose files have the size and time of the last run.")
]
Settle = Annotated[
    float | None, typer.Option(help="A record with a file changed less than this many seconds ago waits for the next run.", min=0)
]
KeepComments = Annotated[
    bool, typer.Option("--keep-comments", help="Keep the headers' comments, with all names and dates they hold.")
]
Pseudonymise = Annotated[bool, typer.Option("--pseudonymise", help="Name records and patients in reports by keyed digests only.")]
Method = Annotated[str, typer.Option(help="How beats are found and cut: robust or kachuee.")]
Recipe = Annotated[str, typer.Option(help="How a model is trained: ecgbatch, ecgbatch-lead-ii or kachuee.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="A new folder.", file_okay=False, resolve_path=True)],
    workers: Workers = None,
    as_json: AsJson = False,
) -> int:
    """Make a synthetic PTB-like archive in OUT and run the whole job on it."""
    from ecgbatch.synthetic import write_archive

    archive, work = out / "synthetic-archive", out / "work"
    with _progress(as_json) as on_progress:
        on_progress("synthetic archive", 0, 1)
        write_archive(archive, **DEMO)
        on_progress("synthetic archive", 1, 1)
    return run(archive, work, train=True, workers=workers, as_json=as_json)


DEMO: dict[str, Any] = {"n_records": 60, "duration_s": 30.0, "seed": 1}
"""Of the demo's archive: large enough for five folds by patient, small enough for about a minute on two processors."""


@app.command()
def run(
    archive: Archive,
    work: Work,
    model: Model = None,
    train: Annotated[bool, typer.Option("--train", help="Train a model on this archive's labels; score out of fold.")] = False,
    labels: Labels = None,
    method: Method = "robust",
    recipe: Recipe = "ecgbatch",
    prevalence: Prevalence = None,
    rehash: Rehash = False,
    settle_s: Settle = None,
    keep_comments: KeepComments = False,
    pseudonymise: Pseudonymise = False,
    dask: Dask = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Convert, find beats, score and report: the main job. Without --model or --train, the model that ships here scores."""
    if model is not None and train:
        raise typer.BadParameter("give --model FOLDER or --train, not both")
    settings = load_settings(model=model, labels=labels, settle_s=settle_s)
    model, labels = None if train else settings.model, settings.labels
    if model is None and not train:
        from ecgbatch.model import shipped_model

        model = shipped_model()
    if train and prevalence is not None:
        raise typer.BadParameter("--prevalence goes with a model that is there already, not with --train")
    looks = {"archive": True, "labels": _text(labels), "keep_comments": keep_comments}
    again = _made_again(work, beats=_beat_settings(model, method), model=_text(model), **looks)
    if dry_run:
        return _print_estimate(_estimate_archive(archive, work, labels, train=train) | again, as_json)
    model = _at_prevalence(work, model, prevalence)
    _quiet_prefect()
    from flows.server import guard_own_server

    guard_own_server()
    from flows.score import run_archive

    with _progress(as_json) as on_progress:
        result = run_archive(
            str(archive),
            str(work),
            model=_text(model),
            labels=_text(labels),
            rehash=rehash,
            settle_s=settings.settle_s,
            settings=_beat_settings(model, method),
            recipe=recipe,
            keep_comments=keep_comments,
            pseudonymise=pseudonymise,
            dask=dask,
            workers=workers,
            on_progress=on_progress,
        )
    _print_result(result, as_json)
    return SET_ASIDE if result["counts"]["n_set_aside"] else OK


@app.command()
def inspect(
    archive: Archive,
    labels: Labels = None,
    read_data: Annotated[bool, typer.Option("--read-data", help="Read every sample too: all verdicts.")] = False,
    dask: Dask = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> int:
    """Say what an archive holds and what is wrong with it; nothing is written."""
    from ecgbatch.archive import list_archive, summarise
    from flows.cluster import engine

    with engine(dask, workers) as on_engine:
        listing = list_archive(str(archive), labels=_text(labels), read_data=read_data, map=on_engine)
    summary = summarise(listing)
    _print(summary, as_json)
    return SET_ASIDE if summary["n_set_aside"] else OK


@app.command()
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
    again = _made_again(work, archive=True, labels=_text(labels), keep_comments=keep_comments)
    if dry_run:
        return _print_estimate(_estimate_archive(archive, work, labels, only="convert") | again, as_json)
    from ecgbatch.signals import convert_archive
    from flows.cluster import engine
    from storage import only_writer

    with only_writer(work, "convert"), _progress(as_json) as on_progress, engine(dask, workers) as on_engine:
        done = convert_archive(
            str(archive),
            str(work),
            labels=_text(labels),
            rehash=rehash,
            settle_s=settings.settle_s,
            keep_comments=keep_comments,
            map=on_engine,
            on_progress=on_progress,
        )
    _print(_conversion_summary(done, work), as_json)
    return SET_ASIDE if done.set_aside else OK


def _conversion_summary(done: Conversion, work: Path) -> dict[str, Any]:
    return {
        "n_records": done.n_records,
        "n_new": done.n_new,
        "n_superseded": len(done.superseded),
        "n_gone": len(done.gone),
        "n_waiting": len(done.waiting),
        "n_erased": done.n_erased,
        "n_set_aside": done.set_aside,
        "stores": [str(work / "signals" / f"{digest}.zarr") for digest in done.stores],
    }


@app.command()
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
    again = _made_again(work, beats={"method": _checked_method(method), "reference": reference or ""})
    if dry_run:
        return _print_estimate(_estimate_work(work, "beats") | again, as_json)
    from ecgbatch.beats import BeatSettings, export_annotations, extract_beats
    from flows.cluster import engine
    from storage import only_writer

    settings = BeatSettings(method=_checked_method(method), reference=reference or "")
    with only_writer(work, "beats"), _progress(as_json) as on_progress, engine(dask, workers) as on_engine:
        done = extract_beats(str(work), settings, archive=archive, map=on_engine, on_progress=on_progress)
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
        from ecgbatch.beat_table import write_beat_table

        said["n_beats_in_table"] = write_beat_table(str(work), csv)
    _print(said, as_json)
    return _exit_code(work)


@app.command()
def train(
    work: Work,
    out: Annotated[Path, typer.Option(help="Folder of the new model.")],
    recipe: Recipe = "ecgbatch",
    from_model: Annotated[
        str | None,
        typer.Option(
            "--from", help="Fine-tune: 'shipped', a shipped model's name, or a folder (a model, or a trunk of arrhythmia)."
        ),
    ] = None,
    task: Annotated[str, typer.Option(help="mi, or arrhythmia: AAMI classes from the reference beats of ARCHIVE.")] = "mi",
    archive: Annotated[
        Path | None, typer.Option(help="With --task arrhythmia: where the .atr files lie.", exists=True, file_okay=False)
    ] = None,
    dask: Dask = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Train a model on the prepared beats, by patient; or the beat classes of MIT-BIH (--task arrhythmia)."""
    start = _start(from_model)
    if task not in ("mi", "arrhythmia") or (task == "arrhythmia") != (archive is not None):
        raise typer.BadParameter("--task is mi or arrhythmia; arrhythmia goes with --archive FOLDER, where its annotations lie")
    if dry_run:
        return _print_estimate(_estimate_work(work, "train"), as_json)
    from ecgbatch.arrhythmia import train_arrhythmia
    from ecgbatch.model import load_model
    from ecgbatch.recipes import train_workspace
    from flows.cluster import processes
    from storage import only_writer

    with only_writer(work, "train"), _progress(as_json) as on_progress, processes(dask, workers) as on_processes:
        if archive is not None:
            _print(train_arrhythmia(str(work), archive, out, map=on_processes, on_progress=on_progress), as_json)
            return OK
        folder = train_workspace(str(work), recipe=recipe, start=start, out=str(out), map=on_processes, on_progress=on_progress)
    trained = load_model(folder)
    said = {"model": folder, "digest": trained.digest, "out_of_fold": dict(trained.figures)}
    if start is not None:
        said["n_patients_it_had_seen"] = trained.training["n_patients_known_before"]
    _print(said, as_json)
    return OK


def _start(name: str | None) -> str | None:
    """Return the folder of the model to fine-tune: a path, or the name of one that ships."""
    if name is None or Path(name).is_dir():
        return name
    from ecgbatch.model import SHIPPED, shipped_model

    return str(shipped_model(SHIPPED if name == "shipped" else name))


@app.command()
def evaluate(
    work: Work,
    model: Model = None,
    against: Annotated[
        Path | None, typer.Option(help="Another model: the difference, by patient.", exists=True, file_okay=False)
    ] = None,
    with_baselines: Annotated[bool, typer.Option("--baselines", help="Fit simple baselines by the same folds.")] = False,
    with_audit: Annotated[bool, typer.Option("--audit", help="What shortcuts and a leaking split would reach.")] = False,
    recipe: Annotated[str | None, typer.Option(help="Instead of --model: train anew by this recipe and test.")] = None,
    train_on: Annotated[
        list[Path] | None,
        typer.Option(help="With --recipe: workspaces to train on (repeatable). Default: WORK, by folds.", parser=_work_place),
    ] = None,
    split_beats: Annotated[
        bool,
        typer.Option(
            "--split-beats", help="With --recipe: deal beats, not patients, as published. LEAKS: shows what it is worth."
        ),
    ] = False,
    from_model: Annotated[
        str | None,
        typer.Option("--from", help="With --recipe: go on from a model, or from a trunk of arrhythmia, as train --from does."),
    ] = None,
    folds: Annotated[int, typer.Option(help="With --recipe: folds by patient.", min=2)] = 10,
    repeats: Annotated[int, typer.Option(help="With --recipe: trainings, each with other folds.", min=1)] = 1,
    dask: Dask = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Figures by patient with intervals, subgroups, baselines, comparisons and an audit, of a model or of a recipe."""
    if (model is None) == (recipe is None):
        raise typer.BadParameter("give --model FOLDER (judge a model) or --recipe NAME (train anew by folds and judge)")
    if from_model is not None and recipe is None:
        raise typer.BadParameter("--from goes with --recipe: a model that is there already is judged as it is")
    if dry_run:
        return _print_estimate(_estimate_work(work, "score" if model else "train"), as_json)
    from ecgbatch.audit import evaluate_workspace, repeated
    from flows.cluster import engine, processes

    with _progress(as_json) as on_progress, engine(dask, workers) as on_engine:
        if model is not None:
            found = evaluate_workspace(
                str(work),
                str(model),
                against=_text(against),
                with_baselines=with_baselines,
                with_audit=with_audit,
                map=on_engine,
                on_progress=on_progress,
            )
        else:
            sources = [str(path) for path in train_on or [work]]
            how: dict[str, Any] = {"n_folds": folds, "n_repeats": repeats, "by_beat": split_beats, "start": _start(from_model)}
            with processes(dask, workers) as on_processes:
                engines = {"map": on_engine, "map_training": on_processes, "on_progress": on_progress}
                found = repeated(str(work), sources, recipe=str(recipe), **how, **engines)
    _print(found, as_json)
    return OK


@app.command()
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
    again = _made_again(work, model=_text(model))
    if dry_run:
        return _print_estimate(_estimate_work(work, "score") | again, as_json)
    from ecgbatch.scoring import scores_path

    scored = _score(work, _at_prevalence(work, model, prevalence) or model, dask, workers, as_json)
    _print({"run": scored, "store": scores_path(str(work), scored)}, as_json)
    return _exit_code(work)


def _at_prevalence(work: Path, model: Path | None, prevalence: float | None) -> Path | None:
    """Return the model's folder, or where it is kept in the workspace with its probabilities moved to a prevalence."""
    if model is None or prevalence is None:
        return model
    from ecgbatch.model import load_model, save_model, with_prevalence

    moved = with_prevalence(load_model(model), prevalence)
    return save_model(moved, work / "models" / moved.digest[:MODEL_NAME_DIGITS])


def _score(work: Path, model: Path, dask: str | None, workers: int | None, as_json: bool) -> str:
    from ecgbatch.runs import Timing, log_file, name_log, write_run
    from ecgbatch.scoring import score_workspace
    from flows.cluster import engine
    from storage import only_writer

    timing = Timing()
    with only_writer(work, "score"), log_file(str(work)), _progress(as_json) as on_progress, engine(dask, workers) as on_engine:
        with timing.stage("score"):
            scored = score_workspace(str(work), str(model), map=on_engine, on_progress=on_progress)
        write_run(str(work), scored, {"model": str(model), "seconds": timing.seconds})
        name_log(str(work), scored)
    return scored


@app.command()
def report(
    work: Work,
    run_name: Annotated[str | None, typer.Option("--run", help="Name of the run; default the last.")] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Each record's report as one A4 page too (needs ecgbatch[pdf]).")] = False,
    fhir: Annotated[bool, typer.Option("--fhir", help="Each record's report as FHIR R4 too (needs ecgbatch[fhir]).")] = False,
    pseudonymise: Pseudonymise = False,
    dask: Dask = None,
    workers: Workers = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Write the reports of a run: a page and JSON for each record, the cohort page, tables."""
    if dry_run:
        return _print_estimate(_estimate_work(work, "report"), as_json)
    from ecgbatch.reports import report_workspace
    from ecgbatch.runs import latest_run
    from flows.cluster import engine
    from storage import only_writer

    name = run_name or latest_run(str(work))
    with only_writer(work, "report"), _progress(as_json) as on_progress, engine(dask, workers) as on_engine:
        extras = [kind for kind, wanted in (("pdf", pdf), ("fhir", fhir)) if wanted]
        summary = report_workspace(
            str(work), name, extras=extras, pseudonymise=pseudonymise, map=on_engine, on_progress=on_progress
        )
    _print({"run": name, **summary}, as_json)
    return _exit_code(work)


@app.command()
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
    from ecgbatch import upkeep
    from flows.cluster import engine
    from storage import only_writer

    with _progress(as_json) as on_progress, engine(dask, workers) as on_engine:
        watched: dict[str, Any] = {"map": on_engine, "on_progress": on_progress}
        found = upkeep.verify_workspace(str(work), read_data=read_data, **watched)
        said: dict[str, Any] = {}
        if found and repair is not None:
            with only_writer(work, "verify --repair"):
                said["not_repaired"] = upkeep.repair(str(work), str(repair), found, labels=_text(labels), **watched)
            said["n_repaired"] = len(found) - len(said["not_repaired"])
            found = upkeep.verify_workspace(str(work), read_data=read_data, **watched)
    problems = sorted(problem for each in found.values() for problem in each)
    n_checked = len(upkeep.items_of(str(work)))
    _print({"n_checked": n_checked, "n_problems": len(problems), "problems": problems, **said}, as_json)
    return FAILED if problems else OK


@app.command()
def gc(
    work: Work,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also builds that the same command would finish: their work is lost.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Remove what dead runs left behind; never a published store, report, run or model."""
    from ecgbatch.upkeep import collect_garbage
    from storage import only_writer

    with only_writer(work, "gc"):
        said = collect_garbage(str(work), unfinished=unfinished)
    _print(said, as_json)
    return OK


@app.command()
def compact(work: Work, workers: Workers = None, as_json: AsJson = False) -> int:
    """Copy the stores of many nights into few, bit for bit; verify still proves each earlier store's digests."""
    from ecgbatch.compact import compact as compact_workspace
    from flows.cluster import engine
    from storage import only_writer

    with only_writer(work, "compact"), _progress(as_json) as on_progress, engine(None, workers) as on_engine:
        said = compact_workspace(str(work), map=on_engine, on_progress=on_progress)
    _print(said, as_json)
    return OK


@app.command()
def erase(
    work: Work,
    patient: Annotated[str, typer.Option(help="The patient's id, as the stores and scores.csv have it.")],
    workers: Workers = None,
    as_json: AsJson = False,
) -> int:
    """Remove one patient from a workspace: samples, beats, scores, reports, names; for good."""
    from ecgbatch.erase import erase_patient
    from flows.cluster import engine
    from storage import only_writer

    with only_writer(work, "erase"), _progress(as_json) as on_progress, engine(None, workers) as on_engine:
        said = erase_patient(str(work), patient, map=on_engine, on_progress=on_progress)
    _print(said, as_json)
    return OK


@app.command()
def status(work: Work, as_json: AsJson = False) -> int:
    """Say what is stored, scored, pending and set aside, and how the last run ended."""
    from ecgbatch.status import status as status_of
    from ecgbatch.upkeep import leftovers

    _print(status_of(str(work)) | {"build": leftovers(str(work))}, as_json)
    return OK


@app.command()
def config(as_json: AsJson = False) -> int:
    """Print every setting: its value, where that comes from, and what it means."""
    from ecgbatch.settings import CONFIG_VARIABLE, config_file, stated

    settings = stated()
    if as_json:
        _print(settings, as_json)
        return OK
    for name, entry in settings.items():
        print(f"{name} = {'' if entry['value'] is None else entry['value']}  ({entry['from']})")
        print(f"    {entry['meaning']}")
    print(f"file: {config_file() or f'none; {CONFIG_VARIABLE} names one'}")
    return OK


@app.command()
def schedule(
    archive: WatchedArchive,
    work: Work,
    cron: Annotated[str, typer.Option(help="When, in five fields: minute, hour, day of month, month, day of week.")],
    timezone: Annotated[str, typer.Option(help="The clock that --cron means.")] = "UTC",
    model: Model = None,
    labels: Labels = None,
    settle_s: Settle = None,
    dask: Dask = None,
    workers: Workers = None,
) -> int:
    """Run at the hours of a cron line whatever is new, until stopped: a served Prefect deployment."""
    from flows.server import prefect_server

    settings = load_settings(model=model, labels=labels, settle_s=settle_s, dask=dask, workers=workers)
    wanted: dict[str, Any] = {
        "model": _text(settings.model),
        "labels": _text(settings.labels),
        "dask": settings.dask,
        "workers": settings.workers,
    }
    # A night must not take what is half copied: without a word about it, files rest for a minute first.
    wanted["settle_s"] = settings.settle_s if "settle_s" in settings.model_fields_set else 60.0
    with prefect_server(str(work)) as url:
        from flows.schedule import serve_nightly

        print(f"Prefect: {url}; schedule: {cron} ({timezone}); stop with Ctrl-C or SIGTERM", file=sys.stderr, flush=True)
        serve_nightly(str(archive), str(work), cron=cron, timezone=timezone, **wanted)
    return OK


@app.command()
def fetch(
    database: Annotated[str, typer.Argument(help="ptbdb, ptbxl or mitdb.")],
    dest: Annotated[Path, typer.Argument(help="Folder for its files.", file_okay=False, resolve_path=True)],
    base: Annotated[str | None, typer.Option("--from", help="Address of a mirror: the folder that has SHA256SUMS.txt.")] = None,
    as_json: AsJson = False,
) -> int:
    """Download a database of PhysioNet: goes on where it stopped, every file checked by its SHA-256."""
    from dataclasses import asdict

    from ecgbatch.fetch import fetch as fetch_database

    connections = load_settings().fetch_connections
    with _progress(as_json) as on_progress:
        fetched = fetch_database(database, dest, base=base, connections=connections, on_progress=on_progress)
    _print(asdict(fetched), as_json)
    return OK


STOPPED, TERMINATED = 130, 143
"""Exit codes of a command that was stopped, by Ctrl-C and by SIGTERM."""

STOPPED_MESSAGE = "ecgbatch: stopped; the same command goes on where this one was"


class Terminated(BaseException):
    """SIGTERM came: what is under way ends as at Ctrl-C (whose exception the command line library would take for its own)."""


def _stop_soon(_signal: int, _frame: Any) -> None:
    """End the command in an orderly way; if that takes longer than the settings allow, end it anyhow: receipts remain."""
    last = threading.Timer(load_settings().stop_within_s, os._exit, (TERMINATED,))
    last.daemon = True
    last.start()
    raise Terminated


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: errors a user can cause become one message, never a traceback."""
    from typer.exceptions import TyperException

    os.umask(0o077)  # recordings of patients: what is written here is its owner's alone
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stop_soon)
    command = typer.main.get_command(app)
    try:
        code = command.main(arguments, prog_name="ecgbatch", standalone_mode=False)
        if code == STOPPED:  # at Ctrl-C the command line library says nothing
            print(STOPPED_MESSAGE, file=sys.stderr)
    except TyperException as error:
        print(f"ecgbatch: {error.format_message()} Try 'ecgbatch --help'.", file=sys.stderr)
        code = error.exit_code
    except BaseException as error:
        if _is_users(error):
            print(f"ecgbatch: {error}{_what_to_do(error)}", file=sys.stderr)
            sys.exit(FAILED)
        if isinstance(error, MemoryError):
            print(f"ecgbatch: not enough memory here ({error}); fewer --workers take less. Nothing is lost", file=sys.stderr)
            sys.exit(FAILED)
        # Prefect's own word for SIGTERM is a BaseException of its own, and Prefect is not imported for that.
        by_signal = isinstance(error, Terminated) or type(error).__name__ == "TerminationSignal"
        if not (by_signal or isinstance(error, KeyboardInterrupt | typer.Abort)):
            raise
        print(STOPPED_MESSAGE, file=sys.stderr)
        code = TERMINATED if by_signal else STOPPED
    sys.exit(code if isinstance(code, int) else OK)


def _what_to_do(error: BaseException) -> str:
    """Return what to do about an error of the disk or of this machine's limits; nothing for others, which say it themselves."""
    number = error.errno if isinstance(error, OSError) else None
    advice = {
        errno.ENOSPC: "make room there",
        errno.EDQUOT: "make room there, or have the quota raised",
        errno.EMFILE: "raise the limit of open files (ulimit -n)",
        errno.ENFILE: "raise the machine's limit of open files",
        errno.EIO: "check the disk",
        errno.EROFS: "mount it for writing",
    }
    return (
        f". Nothing that was published is harmed: {advice[number]}, then run the same command again" if number in advice else ""
    )


def _is_users(error: BaseException) -> bool:
    """Tell whether an error is one that a user can cause. Storage, half a second of imports, is not imported to ask."""
    of_stores = sys.modules.get("storage.errors")
    return isinstance(error, ValueError | OSError) or (of_stores is not None and isinstance(error, of_stores.StoreError))


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _checked_method(method: str) -> Any:
    if method not in ("robust", "kachuee"):
        raise typer.BadParameter(f"--method must be robust or kachuee, found {method!r}")
    return method


def _beat_settings(model: Path | None, method: str) -> dict[str, Any]:
    """Return the beat settings of a run: those that its model was trained on, else the method asked for."""
    if model is None:
        return {"method": _checked_method(method)}
    from ecgbatch.model import load_model

    return dict(load_model(model).beats)


def _exit_code(work: Path) -> int:
    from ecgbatch.signals import current_records
    from ecgbatch.terms import STATUS

    return SET_ASIDE if (current_records(str(work), ["status"])["status"].values == STATUS["set_aside"]).any() else OK


def _quiet_prefect() -> None:
    """Leave the screen to the progress bars and to this command's own error message."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")


@contextmanager
def _progress(as_json: bool) -> Iterator[Callable[[str, int, int], None]]:
    """Yield ``on_progress(stage, done, total)``; bars on standard error, so that standard output stays a result."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=as_json) as bars:
        tasks: dict[str, Any] = {}

        def on_progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield on_progress


def _print_result(result: dict[str, Any], as_json: bool) -> None:
    """Print where the reports are and where the time went."""
    if as_json:
        _print(result, as_json)
        return
    counts, seconds = result["counts"], result["seconds"]
    print(f"{counts['n_records']} records of {counts['n_patients']} patients: {counts['n_scored']} scored")
    print("decisions: " + ", ".join(f"{word} {n}" for word, n in counts["decisions"].items()))
    for reason, n in counts["n_set_aside"].items():
        print(f"set aside: {n} {reason}")
    print("time: " + ", ".join(f"{stage} {value:.1f} s" for stage, value in seconds.items()))
    print(f"cohort report: {result['cohort']}")


def _print(document: dict[str, Any], as_json: bool) -> None:
    """Print a result: one JSON object, or lines for a person (curves and other long tables are left to the JSON)."""
    if as_json:
        print(json.dumps(document, ensure_ascii=False, default=str))
        return
    for line in _lines({key: value for key, value in document.items() if key != "curves"}):
        print(line)


def _lines(document: dict[str, Any], indent: str = "") -> Iterator[str]:
    """Yield a line a figure or value; what holds several is a heading with them below, two spaces further in."""
    for key, value in document.items():
        if isinstance(value, list | tuple):
            yield f"{indent}{key}:" + ("" if value else " none")
            for entry in value:
                nested = isinstance(entry, dict) and any(isinstance(one, dict) for one in entry.values())
                yield from _lines(entry, f"{indent}  ") if nested else [f"{indent}  {entry}"]
        elif isinstance(value, dict) and not _is_figure(value):
            yield f"{indent}{key}:" + ("" if value else " none")
            yield from _lines(value, f"{indent}  ")
        else:
            yield f"{indent}{key}: {_figure(value)}"


def _unit(figure: dict[str, Any]) -> str:
    """Spell how many of what a figure's interval rests on."""
    return f"{figure['n_units']} {figure['unit']}" if "n_units" in figure else f"{figure.get('n_patients', '?')} patients"


def _is_figure(value: Any) -> bool:
    return isinstance(value, dict) and "value" in value


def _figure(entry: Any) -> str:
    """Spell a figure as value, interval and number of patients; anything else as it is."""
    if not _is_figure(entry):
        return f"{entry:.3f}" if isinstance(entry, float) else str(entry)
    value, low, high = ("unknown" if entry.get(k) is None else f"{entry[k]:.3f}" for k in ("value", "low", "high"))
    note = f"; {entry['note']}" if entry.get("note") else ""
    return f"{value} [{low}, {high}] ({_unit(entry)}{note})"


def _estimate_archive(
    archive: Path, work: Path, labels: Path | None, *, train: bool = False, only: str | None = None
) -> dict[str, Any]:
    """Estimate a conversion (and what follows) from the archive's listing."""
    from ecgbatch.archive import list_archive
    from ecgbatch.estimates import estimate_conversion, estimate_stages
    from ecgbatch.signals import new_records

    listing = list_archive(str(archive), labels=_text(labels))
    estimate = estimate_conversion(new_records(str(work), listing))
    stages = [] if only == "convert" else ["beats", *(["train"] if train else []), "score", "report"]
    return estimate_stages(listing, stages, estimate)


def _estimate_work(work: Path, stage: str) -> dict[str, Any]:
    """Estimate one stage from the records that a workspace holds."""
    from ecgbatch.estimates import estimate_stages
    from ecgbatch.signals import current_records

    return estimate_stages(current_records(str(work)), [stage], {})


def _made_again(work: Path, **command: Any) -> dict[str, Any]:
    """Say on standard error what a command makes again since this installation makes it otherwise; return it for --dry-run."""
    from ecgbatch.upgrades import made_again, sentences

    again = made_again(str(work), **command)
    for sentence in sentences(again):
        print(f"ecgbatch: {sentence}", file=sys.stderr)
    return {"made_again": again} if again else {}


def _print_estimate(estimate: dict[str, Any], as_json: bool) -> int:
    _print(estimate, as_json)
    return OK
