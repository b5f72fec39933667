"""Score the prepared records and report on them; and the whole run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from ecgbatch import __version__
from ecgbatch.measurements.lookup import measure_workspace
from ecgbatch.model.files import load_model
from ecgbatch.reports.chosen_pages import checked_pages
from ecgbatch.reports.shape import shape_digest
from ecgbatch.scores.stage import score_workspace
from ecgbatch.upkeep.findings import findings_of
from ecgbatch.upkeep.status import recorded
from ecgbatch.workspace.privacy import PSEUDONYMOUS
from ecgbatch.workspace.runs import Timing, log_file, name_log, read_run, runs_by_time, write_run
from flows.cluster import engine, measure_engine, report_engine
from flows.options import RunOptions
from flows.plain import OnProgress
from flows.prepare import prepare_archive
from flows.steps import flow, keep_link, keep_table, shown, task
from flows.train import train_model, training_ahead
from storage import folder_at, is_address, only_writer


@task
def measure(work: str, model: str, dask: str | None, workers: int | None, on_progress: OnProgress | None) -> int:
    """Measure every record now in the archive, on the beats that the model takes; return how many records those are."""
    with measure_engine(dask, workers, sees=[work]) as on_engine:
        settings = load_model(model).beats
        return measure_workspace(work, settings, map=on_engine, on_progress=shown(on_progress, "measure")).n_records


@task
def score(work: str, model: str, dask: str | None, workers: int | None, on_progress: OnProgress | None) -> str:
    """Score every record now in the archive; return the run."""
    with engine(dask, workers, sees=[work]) as on_engine:
        return score_workspace(work, model, map=on_engine, on_progress=shown(on_progress, "score"))


@task
def report(
    work: str, run: str, reports: dict[str, Any], dask: str | None, workers: int | None, on_progress: OnProgress | None
) -> dict[str, Any]:
    """Write the record reports, the cohort report and the tables; ``reports`` as ``report_workspace`` takes it."""
    from ecgbatch.reports.writing import report_workspace

    with report_engine(dask, workers, sees=[work]) as on_engine:
        return report_workspace(work, run, **reports, map=on_engine, on_progress=shown(on_progress, "report"))


@flow(name="score-archive")
def score_archive(
    work: str,
    model: str,
    *,
    archive: str | None = None,
    pseudonymise: bool = False,
    reports: dict[str, Any] | None = None,
    before: dict[str, float] | None = None,
    dask: str | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Measure and score every record of a prepared workspace, with a model, and write all reports.

    ``reports`` are ``pages`` and ``extras`` of ``ecgbatch.reports.writing.report_workspace``: which pages, which further forms.
    ``before`` are the seconds of the stages before these, for the cohort page.

    Returns
    -------
    dict
        ``run``, paths of the reports, counts, and seconds by stage.

    """
    timing = Timing()
    chosen = {"pseudonymise": pseudonymise, **(reports or {})}
    with timing.stage("measure"):
        measure(work, model, dask, workers, on_progress)
    with timing.stage("score"):
        run = score(work, model, dask, workers, on_progress)
    write_run(work, run, {"archive": archive or "", "model": str(model), "seconds": {**(before or {}), **timing.seconds}})
    with timing.stage("report"):
        summary = finished_reports(work, run, **chosen) or report(work, run, chosen, dask, workers, on_progress)
    reported = {**summary, "by": _report_code(**chosen)}
    write_run(work, run, {"counts": summary["counts"], "seconds": timing.seconds, "reported": reported})
    keep_table([summary["counts"]], key="scored", description=f"Run {run}")
    cohort = str(summary["cohort"]) if is_address(work) else Path(summary["cohort"]).absolute().as_uri()
    keep_link(cohort, key="cohort", text="Cohort report")
    return {"run": run, **summary, "seconds": timing.seconds}


def finished_reports(
    work: str, run: str, pseudonymise: bool = False, pages: str | None = None, extras: Sequence[str] = ()
) -> dict[str, Any] | None:
    """Return what ``report`` said of this very run if its reports are there, the latest, and made by this code; else None.

    A night without anything new is the same run: it has nothing to report again (``ecgbatch report`` looks at every page).
    """
    said, folder = read_run(work, run).get("reported", {}), folder_at(work)
    shown = f"{run}{PSEUDONYMOUS}" if pseudonymise else run
    if said.get("by") != _report_code(pseudonymise, pages, extras) or folder.pointed("reports/latest") != shown:
        return None
    if not folder.exists(f"reports/{shown}/cohort.html"):
        return None
    here = f"{folder}/reports/{shown}"  # what was said may name the place that the workspace was moved or copied from
    return {name: value for name, value in said.items() if name != "by"} | {"reports": here, "cohort": f"{here}/cohort.html"}


def _report_code(pseudonymise: bool, pages: str | None = None, extras: Sequence[str] = ()) -> str:
    """Return what shapes the reports besides their run: this version, its pages and which, forms, names of records."""
    names = "pseudonyms" if pseudonymise else "own names"
    which = f"pages {checked_pages(pages) or 'by number'}"
    return " ".join([__version__, shape_digest(), names, which, *sorted(extras)])


@flow(name="run-archive")
def run_archive(
    archive: str,
    work: str,
    *,
    model: str | None = None,
    labels: str | None = None,
    rehash: bool = False,
    settle_s: float = 0.0,
    settings: dict[str, Any] | None = None,
    recipe: str = "ecgbatch",
    keep_comments: bool = False,
    pseudonymise: bool = False,
    reports: dict[str, Any] | None = None,
    dask: str | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Prepare, train if no model is given, score and report: the main job.

    Returns
    -------
    dict
        What ``score_archive`` returns, with the counts of ``prepare_archive`` and the seconds of all stages.

    """
    options = RunOptions(
        archive=archive,
        work=work,
        model=model,
        labels=labels,
        rehash=rehash,
        settle_s=settle_s,
        settings=settings,
        recipe=recipe,
        keep_comments=keep_comments,
        pseudonymise=pseudonymise,
        reports=reports,
        dask=dask,
        workers=workers,
    )
    return _run(options, on_progress)


def _run(options: RunOptions, on_progress: OnProgress | None) -> dict[str, Any]:
    work = options.work
    earlier = next(iter(runs_by_time(work)), None)
    with only_writer(work, "run"), log_file(work), recorded(work, "run") as facts:
        facts["archive"] = options.archive
        with training_ahead(work, options.dask, options.workers) if options.model is None else nullcontext():
            prepared = prepare_archive(**options.part_of(prepare_archive), on_progress=on_progress)
            seconds = dict(prepared["seconds"])
            facts |= {"seconds": seconds, "set_aside": prepared["set_aside_reasons"], "records": _states(prepared)}
            if options.model is None:
                trained = train_model(**options.part_of(train_model), on_progress=on_progress)
                seconds |= trained["seconds"]
                options = replace(options, model=trained["model"])
        scored = score_archive(**options.part_of(score_archive), before=dict(seconds), on_progress=on_progress)
        seconds |= scored["seconds"]
        counts = scored["counts"]
        facts |= {"run": scored["run"], "set_aside": counts["n_set_aside"], "not_scorable": counts["not_scorable_reasons"]}
        facts.update(findings_of(work, scored["run"], earlier, pseudonymise=options.pseudonymise))
        facts["records"] |= {"scored": counts["n_scored"], "not_scorable": counts["n_not_scorable"]}
        write_run(work, scored["run"], {"seconds": seconds, "prepared": {k: v for k, v in prepared.items() if k != "seconds"}})
        name_log(work, scored["run"])
    return {**scored, "prepared": prepared, "model": options.model, "seconds": seconds}


def _states(prepared: dict[str, Any]) -> dict[str, int]:
    """Return the records of a run by state: those seen are those stored and those that wait."""
    stored, waiting = prepared["records"], prepared["waiting"]
    counts = {name: prepared[name] for name in ("superseded", "gone", "waiting", "set_aside")}
    return {"seen": stored + waiting, "stored": stored, "new": prepared["new_records"], **counts}
