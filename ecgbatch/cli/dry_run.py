"""What a command would do: estimates, and what it makes again since this installation makes it otherwise."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ecgbatch.cli.exit_codes import OK
from ecgbatch.cli.options import as_text
from ecgbatch.cli.output import print_document


def estimate_archive(
    archive: Path, work: Path, labels: Path | None, *, train: bool = False, only: str | None = None
) -> dict[str, Any]:
    """Estimate a conversion (and what follows) from the archive's listing."""
    from ecgbatch.archive.listing import list_archive
    from ecgbatch.signals.stage import new_records
    from ecgbatch.upkeep.estimates import estimate_conversion, estimate_stages

    listing = list_archive(str(archive), labels=as_text(labels))
    estimate = estimate_conversion(new_records(str(work), listing))
    stages = [] if only == "convert" else ["beats", *(["train"] if train else []), "measure", "score", "report"]
    return estimate_stages(listing, stages, estimate)


def estimate_work(work: Path, *stages: str) -> dict[str, Any]:
    """Estimate stages from the records that a workspace holds."""
    from ecgbatch.signals.stage import current_records
    from ecgbatch.upkeep.estimates import estimate_stages

    return estimate_stages(current_records(str(work)), list(stages), {})


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
