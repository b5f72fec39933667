"""doctor: what a night needs, looked at beforehand."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ecgbatch.cli.exit_codes import FAILED, OK
from ecgbatch.cli.options import AsJson, Dask, Model, as_text, watched_place_unseen, work_place
from ecgbatch.cli.output import print_document


def doctor(
    archive: Annotated[
        Path | None, typer.Argument(help="Folder of WFDB records, or s3://bucket/prefix.", parser=watched_place_unseen)
    ] = None,
    work: Annotated[Path | None, typer.Argument(help="Workspace, or s3://bucket/prefix.", parser=work_place)] = None,
    dask: Dask = None,
    model: Model = None,
    as_json: AsJson = False,
) -> int:
    """Look at all that a night needs: disk, home, Prefect, proxies, Dask workers, bucket, clock, certificates, model, room."""
    from flows.doctor import BAD, examine_night

    found = examine_night(as_text(archive), as_text(work), dask=dask, model=as_text(model))
    n_bad = sum(finding.state == BAD for finding in found)
    print_document({"n_bad": n_bad, "findings": [finding.document() for finding in found]}, as_json)
    return FAILED if n_bad else OK


def look_before_nights(archive: str, work: str, *, dask: str | None, model: str | None, server: bool) -> None:
    """Say on standard error what a schedule will want, before its first night; it is served all the same.

    ``server``: whether Prefect's server is one that the user names. Our own has not been started yet.
    """
    from flows.doctor import GOOD, examine_night

    for finding in examine_night(archive, work, dask=dask, model=model, schedules=server):
        if finding.state != GOOD:
            print(f"ecgbatch: {finding.state}: {finding.sentence()}", file=sys.stderr, flush=True)
