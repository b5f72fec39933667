"""The main job, once, on a synthetic archive, or every night: demo, run, schedule."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ecgbatch.cli.doctor import look_before_nights
from ecgbatch.cli.dry_run import estimate_run, made_again_by, print_estimate
from ecgbatch.cli.exit_codes import OK, SET_ASIDE
from ecgbatch.cli.options import (
    Archive,
    AsJson,
    Dask,
    DryRun,
    Fhir,
    KeepComments,
    Labels,
    Model,
    Pages,
    Pdf,
    Prefect,
    Prevalence,
    Pseudonymise,
    Rehash,
    RunMethod,
    RunRecipe,
    Settle,
    WatchedArchive,
    Work,
    Workers,
    as_text,
    checked_method,
    checked_recipe,
    report_options,
)
from ecgbatch.cli.output import print_result, progress
from ecgbatch.settings import load_settings

if TYPE_CHECKING:
    from flows.options import RunOptions

DEMO_RECORDS, DEMO_S, DEMO_SEED = 60, 30.0, 1
"""Of the demo's archive: large enough for five folds by patient, small enough for about a minute on two processors."""


def demo(
    out: Annotated[Path, typer.Argument(help="A new folder.", file_okay=False, resolve_path=True)],
    workers: Workers = None,
    prefect: Prefect = False,
    as_json: AsJson = False,
) -> int:
    """Make a synthetic PTB-like archive in OUT and run the whole job on it."""
    from ecgbatch.synthetic.archive import ArchiveShape, write_archive

    archive, work = out / "synthetic-archive", out / "work"
    with progress(as_json) as on_progress:
        on_progress("synthetic archive", 0, 1)
        write_archive(archive, ArchiveShape(n_records=DEMO_RECORDS, duration_s=DEMO_S), seed=DEMO_SEED)
        on_progress("synthetic archive", 1, 1)
    return run(archive, work, train=True, workers=workers, prefect=prefect, as_json=as_json)


def run(
    archive: Archive,
    work: Work,
    model: Model = None,
    train: Annotated[bool, typer.Option("--train", help="Train a model on this archive's labels; score out of fold.")] = False,
    labels: Labels = None,
    method: RunMethod = None,
    recipe: RunRecipe = None,
    prevalence: Prevalence = None,
    pages: Pages = None,
    pdf: Pdf = False,
    fhir: Fhir = False,
    rehash: Rehash = False,
    settle_s: Settle = None,
    keep_comments: KeepComments = False,
    pseudonymise: Pseudonymise = False,
    dask: Dask = None,
    workers: Workers = None,
    prefect: Prefect = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> int:
    """Convert, find beats, score and report: the main job. Without --model or --train, the model that ships here scores."""
    from flows.options import RunOptions

    settings = load_settings(model=model, labels=labels, settle_s=settle_s)
    asked = RunOptions(
        archive=str(archive),
        work=str(work),
        model=as_text(model),
        labels=as_text(settings.labels),
        rehash=rehash,
        settle_s=settings.settle_s,
        recipe=recipe or "ecgbatch",
        keep_comments=keep_comments,
        pseudonymise=pseudonymise,
        reports=report_options(pages, pdf=pdf, fhir=fhir),
        dask=dask,
        workers=workers,
    )
    if recipe is not None and not train:
        raise typer.BadParameter(f"--recipe {recipe} says how a model is trained: it goes with --train.")
    if train and prevalence is not None:
        raise typer.BadParameter("--prevalence goes with a model that is there already, not with --train")
    options = _checked(asked, train=train, method=method, configured=as_text(settings.model))
    if dry_run:
        return print_estimate(estimate_run(options) | _made_again(options), as_json)
    return _run(options, prevalence, by_prefect=prefect, as_json=as_json)


def _checked(asked: RunOptions, *, train: bool, method: str | None, configured: str | None) -> RunOptions:
    """Return what a run does: with a model that is there, or by a recipe that is known, and on the beats that these take."""
    if train and asked.model is not None:
        raise typer.BadParameter("give --model FOLDER or --train, not both")
    if train:
        if asked.recipe != type(asked).recipe:  # to know the recipes takes PyTorch
            checked_recipe(asked.recipe)
        return replace(asked, settings=_beat_settings(None, method))
    model = asked.model or configured
    if model is None:
        from ecgbatch.model.files import shipped_model

        model = str(shipped_model())
    return replace(asked, model=model, settings=_beat_settings(Path(model), method))


def _made_again(options: RunOptions) -> dict[str, Any]:
    looks = {"archive": True, "labels": options.labels, "keep_comments": options.keep_comments}
    return made_again_by(Path(options.work), beats=options.settings, model=options.model, **looks)


def _run(options: RunOptions, prevalence: float | None, *, by_prefect: bool, as_json: bool) -> int:
    began = time()
    with progress(as_json) as on_progress:
        on_progress("starting", 0, 1)  # a second of imports, in which nobody should look at an empty screen
        _made_again(options)
        _quiet_prefect()
        from ecgbatch.api import stages
        from ecgbatch.signals.lookup import left_out_counts
        from ecgbatch.upkeep.status import counted_from
        from flows.chosen import prefect_if_wanted

        moved = stages.at_prevalence(options.work, options.model, prevalence)
        with prefect_if_wanted(by_prefect), counted_from(began):
            from flows.score import run_archive

            on_progress("starting", 1, 1)
            result = run_archive(**replace(options, model=as_text(moved)).document(), on_progress=on_progress)
    print_result(result | {"n_left_out": left_out_counts(options.work)}, as_json)
    return SET_ASIDE if result["counts"]["n_set_aside"] else OK


def _beat_settings(model: Path | None, method: str | None) -> dict[str, Any]:
    """Return the beat settings of a run: those that its model was trained on, else the method asked for.

    Wrong usage where a method is asked for that is not the model's: its scores of other beats would mean nothing.
    """
    asked = None if method is None else checked_method(method)
    if model is None:
        return {"method": asked or "robust"}
    from ecgbatch.model.files import load_model

    settings = dict(load_model(model).beats)
    own = settings.get("method", "robust")
    if asked not in (None, own):
        raise typer.BadParameter(
            f"--method {asked}: the model {model.name} was trained on beats cut by {own}, and scores no others."
        )
    return settings


def _quiet_prefect() -> None:
    """Leave the screen to the progress bars and to this command's own error message."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")


def schedule(
    archive: WatchedArchive,
    work: Work,
    cron: Annotated[str, typer.Option(help="When, in five fields: minute, hour, day of month, month, day of week.")],
    timezone: Annotated[str, typer.Option(help="The clock that --cron means.")] = "UTC",
    model: Model = None,
    labels: Labels = None,
    prevalence: Prevalence = None,
    pages: Pages = None,
    pdf: Pdf = False,
    fhir: Fhir = False,
    pseudonymise: Pseudonymise = False,
    settle_s: Settle = None,
    dask: Dask = None,
    workers: Workers = None,
) -> int:
    """Run at the hours of a cron line whatever is new, until stopped: a served Prefect deployment."""
    from ecgbatch.api import stages
    from flows.server import prefect_server

    settings = load_settings(model=model, labels=labels, settle_s=settle_s, dask=dask, workers=workers)
    reports = report_options(pages, pdf=pdf, fhir=fhir)
    chosen = settings.model
    if chosen is None and prevalence is not None:  # it is moved now, and stays that one until the schedule is made anew
        from ecgbatch.model.files import shipped_model

        chosen = shipped_model()
    wanted: dict[str, Any] = {
        "reports": reports,
        "pseudonymise": pseudonymise,
        "model": as_text(stages.at_prevalence(work, chosen, prevalence)),
        "labels": as_text(settings.labels),
        "dask": settings.dask,
        "workers": settings.workers,
    }
    # A night must not take what is half copied: without a word about it, files rest for a minute first.
    wanted["settle_s"] = settings.settle_s if "settle_s" in settings.model_fields_set else 60.0

    is_server_named = bool(os.environ.get("PREFECT_API_URL"))

    def before_start() -> None:
        from flows.schedule import check_times

        try:
            check_times(cron, timezone)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

        look_before_nights(str(archive), str(work), dask=settings.dask, model=as_text(settings.model), server=is_server_named)

    with prefect_server(str(work), before_start) as url:
        from flows.schedule import serve_nightly

        print(f"Prefect: {url}; schedule: {cron} ({timezone}); stop with Ctrl-C or SIGTERM", file=sys.stderr, flush=True)
        serve_nightly(str(archive), str(work), cron=cron, timezone=timezone, **wanted)
    return OK
