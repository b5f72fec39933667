"""The stages of the main job as plain calls: the command line's, without what it prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgbatch.archive.watch import LookOptions
from ecgbatch.synthetic.archive import ArchiveShape
from ecgbatch.terms import MODEL_NAME_DIGITS
from flows.cluster import convert_engine, engine, measure_engine, processes, report_engine
from storage import cached_mirror, is_address, only_writer

if TYPE_CHECKING:
    from ecgbatch.beats.lookup import Extraction
    from ecgbatch.measurements.lookup import Measuring
    from ecgbatch.signals.view import Conversion

Place = str | Path
"""A folder, or an address of an object store (``s3://bucket/prefix``)."""


@dataclass(frozen=True)
class Compute:
    """Where a stage computes, and who hears how far it is. The bytes depend on neither.

    Fields
    ------
    dask
        Address of a Dask scheduler; None: threads here (training: processes).
    workers
        How many of those; None: the processors.
    on_progress
        Called with the stage's name, shards done and shards in all.

    """

    dask: str | None = None
    workers: int | None = None
    on_progress: Callable[[str, int, int], None] | None = None


def make_synthetic_archive(
    folder: Place, *, n_records: int = 60, seed: int = 0, duration_s: float = 30.0, sampling_frequency_hz: float = 1000.0
) -> Path:
    """Write a PTB-like archive of synthetic records, of healthy and infarcted hearts, and return its folder: to try things on.

    Raises
    ------
    ValueError
        If a number is out of range, or the folder holds something else.

    """
    from ecgbatch.synthetic.archive import write_archive

    write_archive(
        folder, ArchiveShape(n_records=n_records, duration_s=duration_s, sampling_frequency_hz=sampling_frequency_hz), seed=seed
    )
    return Path(folder)


def convert(
    archive: Place,
    work: Place,
    *,
    labels: Place | None = None,
    rehash: bool = False,
    settle_s: float = 0.0,
    keep_comments: bool = False,
    compute: Compute | None = None,
) -> Conversion:
    """Store the samples of every record of an archive that is new or has changed: ``ecgbatch convert``.

    Parameters
    ----------
    labels
        CSV with the columns record, patient_id, label, where the headers do not hold PTB's comments.
    rehash
        Look into every record, and take over an archive that has moved.
    settle_s
        A record with a file that changed less than this many seconds ago waits.
    keep_comments
        Keep the headers' comment lines, whatever names they hold.

    Returns
    -------
    Conversion
        ``n_records``, ``n_new``, ``set_aside`` (reason to number), ``superseded``, ``gone``, ``waiting`` and ``stores``.

    """
    from ecgbatch.signals.stage import convert_archive

    if labels is not None and not Path(labels).is_file():
        raise ValueError(f"labels: expected a CSV with the columns record, patient_id and label, found no file {labels}")
    place, compute = str(cached_mirror(str(archive)) if is_address(archive) else archive), compute or Compute()
    table = None if labels is None else str(labels)
    options = LookOptions(labels=table, keep_comments=keep_comments, rehash=rehash, settle_s=settle_s)
    with only_writer(work, "convert"), convert_engine(compute.dask, compute.workers, sees=[place, work]) as on_engine:
        return convert_archive(place, str(work), options, map=on_engine, on_progress=compute.on_progress)


def find_beats(
    work: Place,
    *,
    method: str = "robust",
    reference: str | None = None,
    archive: Place | None = None,
    compute: Compute | None = None,
) -> Extraction:
    """Find the R peaks of every record and cut a window around each: ``ecgbatch beats``.

    Parameters
    ----------
    method
        ``robust`` or ``kachuee``.
    reference, archive
        Take beats from the archive's annotation files of this extension (``atr``) instead; both or neither.

    Returns
    -------
    Extraction
        ``n_records``, ``n_beats``, ``n_without_beats`` and ``stores``.

    Raises
    ------
    ValueError
        If there is no such method, or a reference and no archive.

    """
    from ecgbatch.beats.lookup import extract_beats
    from ecgbatch.beats.record import BeatSettings

    if (reference is None) != (archive is None):
        raise ValueError("reference and archive go together: which annotation files, and where they lie")
    settings, compute = BeatSettings(method=method, reference=reference or ""), compute or Compute()  # type: ignore[arg-type]
    with only_writer(work, "beats"), engine(compute.dask, compute.workers, sees=[work]) as on_engine:
        place = None if archive is None else str(archive)
        return extract_beats(str(work), settings, archive=place, map=on_engine, on_progress=compute.on_progress)


def measure(work: Place, *, method: str = "robust", compute: Compute | None = None) -> Measuring:
    """Measure rate, intervals, axes and levels of every record, on beats of this method: ``ecgbatch measure``."""
    from ecgbatch.beats.record import BeatSettings
    from ecgbatch.measurements.lookup import measure_workspace

    settings, compute = BeatSettings(method=method).document(), compute or Compute()  # type: ignore[arg-type]
    with only_writer(work, "measure"), measure_engine(compute.dask, compute.workers, sees=[work]) as on_engine:
        return measure_workspace(str(work), settings, map=on_engine, on_progress=compute.on_progress)


def train(
    work: Place,
    *,
    out: Place | None = None,
    recipe: str = "ecgbatch",
    start: Place | None = None,
    compute: Compute | None = None,
) -> str:
    """Train a model on the labelled records of a workspace, by patient: ``ecgbatch train``; return the model's folder.

    Call it from a script's ``if __name__ == "__main__":``, since members are trained in processes of their own.

    Parameters
    ----------
    out
        Folder of the model; default one in ``WORK/models``, and what was trained on the same before is not trained again.
    recipe
        ``ecgbatch``, ``ecgbatch-lead-ii`` or ``kachuee``.
    start
        Model to go on from: ``shipped``, the name of a model that ships, or a folder.

    Raises
    ------
    ValueError
        If there is no such recipe, or too few labelled patients.

    """
    from ecgbatch.training.recipes import train_workspace

    place, compute = None if out is None else str(out), compute or Compute()
    with only_writer(work, "train"), processes(compute.dask, compute.workers, sees=[work]) as on_processes:
        begin = start_model(None if start is None else str(start))
        return train_workspace(
            str(work), recipe=recipe, start=begin, out=place, map=on_processes, on_progress=compute.on_progress
        )


def start_model(name: str | None) -> str | None:
    """Return the folder of the model to fine-tune: a path, or the name of one that ships."""
    if name is None or Path(name).is_dir():
        return name
    from ecgbatch.model.files import SHIPPED, shipped_model

    return str(shipped_model(SHIPPED if name == "shipped" else name))


def score(work: Place, *, model: Place | None = None, prevalence: float | None = None, compute: Compute | None = None) -> str:
    """Measure what is not measured, and score every record: ``ecgbatch score``; return the run's name.

    Parameters
    ----------
    model
        A folder, or the name of a model that ships; default the twelve-lead model that ships.
    prevalence
        Share of the patients here who have MI, where it is not that of the model's training.

    """
    from ecgbatch.measurements.lookup import measure_workspace
    from ecgbatch.model.files import load_model
    from ecgbatch.scores.stage import score_workspace
    from ecgbatch.workspace.runs import Timing, log_file, name_log, write_run

    folder, compute = (
        at_prevalence(work, start_model("shipped" if model is None else str(model)), prevalence),
        compute or Compute(),
    )
    timing, on_progress = Timing(), compute.on_progress
    place: dict[str, Any] = {"address": compute.dask, "workers": compute.workers, "sees": [work]}
    with only_writer(work, "score"), log_file(str(work)):
        with timing.stage("measure"), measure_engine(**place) as on_engine:
            measure_workspace(str(work), load_model(folder).beats, map=on_engine, on_progress=on_progress)
        with timing.stage("score"), engine(**place) as on_engine:
            run = score_workspace(str(work), str(folder), map=on_engine, on_progress=on_progress)
        write_run(str(work), run, {"model": str(folder), "seconds": timing.seconds})
        name_log(str(work), run)
    return run


def at_prevalence(work: Place, model: Place | None, prevalence: float | None) -> Any:
    """Return the model's folder, or where it is kept in the workspace with its probabilities moved to a prevalence."""
    if model is None or prevalence is None:
        return model
    from ecgbatch.model.files import load_model, save_model
    from ecgbatch.model.probability import with_prevalence

    moved = with_prevalence(load_model(model), prevalence)
    return save_model(moved, Path(work) / "models" / moved.digest[:MODEL_NAME_DIGITS])


def report(
    work: Place,
    *,
    run: str | None = None,
    pages: str | None = None,
    extras: tuple[str, ...] = (),
    pseudonymise: bool = False,
    compute: Compute | None = None,
) -> dict[str, Any]:
    """Write the reports of a run: ``ecgbatch report``.

    Parameters
    ----------
    run
        Its name; default the last.
    pages
        Records that get a page: ``all``, ``called`` or ``none``; default all up to 2,000, above that those called.
    extras
        ``pdf``, ``fhir``: each record's report in these forms too.
    pseudonymise
        Name records and patients by keyed digests only.

    Raises
    ------
    ValueError
        If there is no such run, choice of pages or form, or nothing has been scored yet.

    Returns
    -------
    dict
        ``run``, ``cohort`` (the page's path), ``reports`` (the folder), ``counts`` and ``pages`` (a sentence on which there are).

    """
    from ecgbatch.reports.record_files import EXTRAS, check_extras
    from ecgbatch.reports.writing import report_workspace
    from ecgbatch.workspace.runs import latest_run, read_run

    if unknown := set(extras) - set(EXTRAS):
        raise ValueError(f"extras: expected any of {', '.join(EXTRAS)}, found {', '.join(sorted(unknown))}")
    check_extras(extras)
    name, compute = run or latest_run(str(work)), compute or Compute()
    if not read_run(str(work), name):
        raise ValueError(f"{work}: expected the name of a run (default: {latest_run(str(work))}), found none named {name!r}")
    leads = not pseudonymise and name == latest_run(str(work))  # a copy for others, or of an older run, is not the latest
    chosen: dict[str, Any] = {"pages": pages, "extras": list(extras), "pseudonymise": pseudonymise, "leads": leads}
    with only_writer(work, "report"), report_engine(compute.dask, compute.workers, sees=[work]) as on_engine:
        return {"run": name, **report_workspace(str(work), name, **chosen, map=on_engine, on_progress=compute.on_progress)}
