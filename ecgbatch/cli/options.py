"""What a user types after a command's name: arguments and options that several commands share, and how they are read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer


def work_place(text: str) -> Path:
    """Return a workspace's place: a folder, or an address of an object store as it is."""
    place = Path(text)
    if not _is_address(text):
        place = place.resolve()
        if place.exists() and not place.is_dir():
            raise typer.BadParameter(f"Directory {text!r} is a file.")
    return place


def _is_address(text: str) -> bool:
    """Tell whether a place is in an object store; wrong usage if it is an address that nothing here understands."""
    if not text.strip():  # else it were the folder in which the command is called
        raise typer.BadParameter("expected a folder or s3://bucket/prefix, found an empty text: is a variable not set?")
    _check_spelling(text)
    if ":" not in text:
        return False
    from storage import is_address, refuse_foreign

    try:
        refuse_foreign(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return is_address(text)


def _check_spelling(text: str) -> None:
    """Refuse a place whose whole path is no text, as in a locale without such letters: documents and logs have to name it."""
    try:
        str(Path(text).absolute()).encode()
    except UnicodeEncodeError:
        raise typer.BadParameter(
            f"expected a path that is UTF-8, found {str(Path(text).absolute())!a}: rename the folder or link to it under another "
            f"name; or, if its name is right, set LC_ALL=C.UTF-8 (names are read as {sys.getfilesystemencoding()} here)"
        ) from None


def _archive_place(text: str) -> Path:
    """Return an archive's folder; of one in an object store, the up-to-date copy that is kept in the user's cache."""
    if not _is_address(text):
        place = work_place(text)
        if not place.exists():
            raise typer.BadParameter(f"Directory {text!r} does not exist.")
        return place
    from storage import cached_mirror

    try:
        return cached_mirror(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None


def watched_place_unseen(text: str) -> Path:
    """Return an archive's place whether or not it is there: who looks at it says so."""
    return Path(text) if _is_address(text) else Path(text).resolve()


def _watched_place(text: str) -> Path:
    """Return an archive's place for a schedule: each night looks there anew, so an address stays one. It must answer now."""
    if not _is_address(text):
        return _archive_place(text)
    from storage import folder_at

    try:
        if folder_at(text).children():
            return Path(text)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from None
    raise typer.BadParameter(f"{text}: expected an archive, found nothing there.")


def model_place(text: str) -> Path:
    """Return a model's folder; of a name that is no folder here, the model of that name that ships with the package."""
    place = Path(text)
    if place.is_dir():
        return place.resolve()
    from ecgbatch.model.definition import ModelError
    from ecgbatch.model.files import shipped_model

    try:
        return shipped_model(text)
    except ModelError as error:
        raise typer.BadParameter(f"{text!r} is no folder, and {error}") from None


Archive = Annotated[Path, typer.Argument(help="Folder of WFDB records, or s3://bucket/prefix.", parser=_archive_place)]
WatchedArchive = Annotated[Path, typer.Argument(help="Folder of WFDB records, or s3://bucket/prefix.", parser=_watched_place)]
Work = Annotated[
    Path, typer.Argument(help="Workspace: where stores, models and reports lie; or s3://bucket/prefix.", parser=work_place)
]
Labels = Annotated[Path | None, typer.Option(help="CSV: record, patient_id, label (mi, control, other or empty).", exists=True)]
Model = Annotated[
    Path | None,
    typer.Option(help="A model's folder, or the name of one that ships: mi-12-leads, mi-lead-ii.", parser=model_place),
]
NeededModel = Annotated[
    Path, typer.Option(help="A model's folder, or the name of one that ships: mi-12-leads, mi-lead-ii.", parser=model_place)
]
Prevalence = Annotated[
    float | None, typer.Option(help="Share of the patients here who have MI, where it is not that of the model's training.")
]
Dask = Annotated[
    str | None, typer.Option(help="Address of a Dask scheduler: tls://host:port, or tcp:// here. Default: threads here.")
]
Workers = Annotated[int | None, typer.Option(help="Threads (training: processes) here. Default: the processors.", min=1)]
Prefect = Annotated[
    bool,
    typer.Option(
        "--prefect",
        help="As a flow run of Prefect's, on a server for this command alone. Where a server is named, it is one anyway.",
    ),
]
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
Pages = Annotated[
    str | None,
    typer.Option(help="Records that get a page: all, called or none. Default: all up to 2,000, else called."),
]
Pdf = Annotated[bool, typer.Option("--pdf", help="Each record's report as one A4 page too (needs ecgbatch[pdf]).")]
Fhir = Annotated[bool, typer.Option("--fhir", help="Each record's report as FHIR R4 too (needs ecgbatch[fhir]).")]
Method = Annotated[str, typer.Option(help="How beats are found and cut: robust or kachuee.")]
Recipe = Annotated[str, typer.Option(help="How a model is trained: ecgbatch, ecgbatch-lead-ii or kachuee.")]
RunMethod = Annotated[
    str | None, typer.Option("--method", help="How beats are found and cut: robust or kachuee. Default: as the model wants them.")
]
RunRecipe = Annotated[
    str | None, typer.Option("--recipe", help="With --train: ecgbatch (the default), ecgbatch-lead-ii or kachuee.")
]


def as_text(path: Path | None) -> str | None:
    """Return a path as the stages take it."""
    return None if path is None else str(path)


def report_options(pages: str | None, *, pdf: bool, fhir: bool) -> dict[str, Any]:
    """Return what reports are made with, as ``report_workspace`` takes it; wrong usage if there is no such choice of pages."""
    from ecgbatch.reports.chosen_pages import MODES
    from ecgbatch.reports.record_files import check_extras

    if pages not in (None, *MODES):
        raise typer.BadParameter(f"--pages must be {', '.join(MODES[:-1])} or {MODES[-1]}, found {pages!r}.")
    extras = [kind for kind, wanted in (("pdf", pdf), ("fhir", fhir)) if wanted]
    check_extras(extras)
    return {"pages": pages, "extras": extras}


def checked_method(method: str) -> Any:
    """Return the method; wrong usage if it is none."""
    if method not in ("robust", "kachuee"):
        raise typer.BadParameter(f"--method must be robust or kachuee, found {method!r}.")
    return method


def checked_recipe(recipe: str) -> str:
    """Return the recipe; wrong usage if it is none."""
    from ecgbatch.training.recipes import RECIPES

    if recipe not in RECIPES:
        raise typer.BadParameter(f"--recipe must be one of {', '.join(RECIPES)}, found {recipe!r}.")
    return recipe
