"""Models: train, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ecgbatch.cli.dry_run import estimate_work, print_estimate
from ecgbatch.cli.exit_codes import OK
from ecgbatch.cli.options import AsJson, Dask, DryRun, Model, Recipe, Work, Workers, as_text, checked_recipe, work_place
from ecgbatch.cli.output import print_document, progress


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
    from ecgbatch.api import stages

    start = stages.start_model(from_model)
    checked_recipe(recipe)
    if task not in ("mi", "arrhythmia") or (task == "arrhythmia") != (archive is not None):
        raise typer.BadParameter("--task is mi or arrhythmia; arrhythmia goes with --archive FOLDER, where its annotations lie")
    if dry_run:
        return print_estimate(estimate_work(work, "train"), as_json)
    if archive is not None:
        return _train_arrhythmia(work, archive, out, dask, workers, as_json)
    from ecgbatch.model.files import load_model

    with progress(as_json) as on_progress:
        compute = stages.Compute(dask, workers, on_progress)
        folder = stages.train(work, out=out, recipe=recipe, start=start, compute=compute)
    trained = load_model(folder)
    said = {"model": folder, "digest": trained.digest, "out_of_fold": dict(trained.figures)}
    if start is not None:
        said["n_patients_it_had_seen"] = trained.training["n_patients_known_before"]
    print_document(said, as_json)
    return OK


def _train_arrhythmia(work: Path, archive: Path, out: Path, dask: str | None, workers: int | None, as_json: bool) -> int:
    """Train the paper's five beat classes on an archive's reference beats."""
    from ecgbatch.training.arrhythmia import train_arrhythmia
    from flows.cluster import processes
    from storage import only_writer

    with only_writer(work, "train"), progress(as_json) as on_progress, processes(dask, workers, sees=[work]) as on_processes:
        print_document(train_arrhythmia(str(work), archive, out, map=on_processes, on_progress=on_progress), as_json)
    return OK


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
        typer.Option(help="With --recipe: workspaces to train on (repeatable). Default: WORK, by folds.", parser=work_place),
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
        return print_estimate(estimate_work(work, "score" if model else "train"), as_json)
    from ecgbatch.api.stages import start_model
    from ecgbatch.evaluation.audit import Repeats, evaluate_workspace, repeated
    from flows.cluster import engine, processes

    with progress(as_json) as on_progress, engine(dask, workers, sees=[work]) as on_engine:
        if model is not None:
            found = evaluate_workspace(
                str(work),
                str(model),
                against=as_text(against),
                with_baselines=with_baselines,
                with_audit=with_audit,
                map=on_engine,
                on_progress=on_progress,
            )
        else:
            sources = [str(path) for path in train_on or [work]]
            how = Repeats(str(recipe), folds, repeats, by_beat=split_beats, start=start_model(from_model))
            with processes(dask, workers) as on_processes:
                engines: dict[str, Any] = {"map": on_engine, "map_training": on_processes, "on_progress": on_progress}
                found = repeated(str(work), sources, how, **engines)
    print_document(found, as_json)
    return OK
