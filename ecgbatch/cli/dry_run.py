"""What a command would do: estimates, and what it makes again since this installation makes it otherwise."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecgbatch.cli.exit_codes import OK
from ecgbatch.cli.options import as_text
from ecgbatch.cli.output import print_document

if TYPE_CHECKING:
    import xarray as xr

    from flows.options import RunOptions


def estimate_archive(archive: Path, work: Path, labels: Path | None) -> dict[str, Any]:
    """Estimate a conversion from the archive's listing."""
    from ecgbatch.upkeep.estimates import estimate_conversion, estimate_stages

    return estimate_stages({}, estimate_conversion(_listed(str(archive), str(work), as_text(labels))[1]))


def estimate_run(options: RunOptions) -> dict[str, Any]:
    """Estimate what a run has still to do, stage by stage."""
    from ecgbatch.upkeep.estimates import estimate_conversion, estimate_stages
    from ecgbatch.upkeep.pending import pending, stored_records, together

    listing, new = _listed(options.archive, options.work, options.labels)
    stay = set(listing["record_name"].values.tolist()) - set(new["record_name"].values.tolist())
    stored = stored_records(options.work)
    stored = stored.isel(record=[row for row, name in enumerate(stored["record_name"].values.tolist()) if name in stay])
    stages = pending(options.work, stored, new, beats=options.settings, model=options.model)
    if options.model is None and stages["beats"].sizes["record"]:
        stages["train"] = together(stored, new)
    stages["report"] = stages["score"] if _has_reports(options) else together(stored, new)
    order = ("beats", "train", "measure", "score", "report")
    return estimate_stages({stage: stages[stage] for stage in order if stage in stages}, estimate_conversion(new))


def _has_reports(options: RunOptions) -> bool:
    """Tell whether the last run's reports are there, made as this run makes them: those of records scored then are kept."""
    from ecgbatch.workspace.runs import runs_by_time
    from flows.score import finished_reports

    last = next(iter(runs_by_time(options.work)), None)
    return last is not None and finished_reports(options.work, last, options.pseudonymise, **(options.reports or {})) is not None


def _listed(archive: str, work: str, labels: str | None) -> tuple[xr.Dataset, xr.Dataset]:
    """Return an archive's listing, and of it the records that no store has seen."""
    from ecgbatch.archive.listing import list_archive
    from ecgbatch.signals.known import new_records

    listing = list_archive(archive, labels=labels)
    return listing, new_records(work, listing)


def estimate_work(work: Path, *stages: str, beats: Mapping[str, Any] | None = None, model: Path | None = None) -> dict[str, Any]:
    """Estimate stages on the records that a workspace holds: of those that follow receipts, what is still to be done."""
    from ecgbatch.upkeep.estimates import estimate_stages
    from ecgbatch.upkeep.pending import pending, stored_records, together

    stored = stored_records(str(work))
    left = pending(str(work), stored, stored.isel(record=[]), beats=beats, model=as_text(model))
    return estimate_stages({stage: left.get(stage, together(stored)) for stage in stages}, {})


def made_again_by(work: Path, **command: Any) -> dict[str, Any]:
    """Say on standard error what a command makes again since this installation makes it otherwise; return it for --dry-run."""
    from ecgbatch.upkeep.upgrades import made_again, sentences

    again = made_again(str(work), **command)
    for sentence in sentences(again):
        print(f"ecgbatch: {sentence}", file=sys.stderr)
    return {"made_again": again} if again else {}


def print_estimate(estimate: dict[str, Any], as_json: bool) -> int:
    """Print an estimate; return the exit code of a command that did nothing else."""
    print_document(estimate, as_json)
    return OK
