"""The viewer over HTTP: a page, what it shows as JSON, samples in tiles, beats, median beats. Nothing is written by looking."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import jinja2
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from ecgbatch.reports.grid import grid_patterns
from ecgbatch.serving.filters import filters_for
from ecgbatch.serving.recording import Kept, Place, Recording, describe, draw_median_beats, read_beats, read_recording
from ecgbatch.serving.tiles import NoSuchTile, check_tile, levels_of, read_tile, version_of
from ecgbatch.terms import NOTICE
from storage import StoreError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a viewer's page may load: its own script and style, and nothing from anywhere else."""

_FOREVER = "private, max-age=31536000, immutable"
"""Of tiles: their address names a store, and a store never changes."""

_log = logging.getLogger(__name__)

T = TypeVar("T")
Links = Callable[[str], Iterable[tuple[str, str]]]


def ecg_router(
    find: Callable[[str], Place | None], *, links: Links = lambda _: (), static: str = "../../static", kept: Kept | None = None
) -> APIRouter:
    """Return the routes below ``/record/{key}/ecg``.

    Parameters
    ----------
    find
        Gives the place of a record's rows by the key in its address, None where there is none. A key is looked up, never made
        into a path.
    links
        Words and addresses that a record's page leads to: its report, the list.
    static
        Address of ``ecgbatch/serving/static``, from a record's page.
    kept
        Where decoded samples are kept between requests; by default a place of its own.

    """
    router, blocks = APIRouter(prefix="/record/{key}/ecg"), kept or Kept()

    def recording_of(key: str) -> Recording:
        place = find(key)
        if place is None:
            raise HTTPException(404, "there is no such record")
        return told(lambda: read_recording(place))

    @router.get("", response_class=HTMLResponse)
    def page(key: str) -> Response:
        return _page("viewer.html", recording_of(key), links(key), static)

    @router.get("/median", response_class=HTMLResponse)
    def median(key: str) -> Response:
        recording = recording_of(key)
        beats = told(lambda: draw_median_beats(recording))
        return _page("median.html", recording, links(key), f"../{static}", beats=beats, grid=grid_patterns())

    @router.get("/meta")
    def meta(key: str) -> Response:
        recording = recording_of(key)
        levels = [level._asdict() for level in levels_of(recording.n_samples)]
        tiles = {"version": version_of(recording), "levels": levels, "filters": filters_for(recording.sampling_frequency_hz)}
        return JSONResponse(told(lambda: describe(recording)) | {"tiles": tiles, "notice": NOTICE}, headers=_FRESH)

    @router.get("/beats")
    def beats(key: str) -> Response:
        recording = recording_of(key)
        return JSONResponse(told(lambda: read_beats(recording)), headers=_FRESH)

    @router.get("/tiles/{version}/{filter_name}/{level:int}/{number:int}")
    def tile(request: Request, key: str, version: str, filter_name: str, level: int, number: int) -> Response:
        recording = recording_of(key)
        if version != version_of(recording):
            raise HTTPException(404, "this recording was replaced by a newer one; load the page again")
        try:
            check_tile(recording, level, number, filter_name)
        except NoSuchTile as error:
            raise HTTPException(404, str(error)) from None
        tag = f'"{version}-{filter_name}-{level}-{number}"'
        headers = _SAFE | {"etag": tag, "cache-control": _FOREVER}
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        steps = told(lambda: read_tile(recording, level, number, blocks, filter_name=filter_name))
        return Response(steps.astype("<i2", copy=False).tobytes(), media_type="application/octet-stream", headers=headers)

    return router


_SAFE = {"x-content-type-options": "nosniff"}
_FRESH = _SAFE | {"cache-control": "private, no-cache"}


def told(read: Callable[[], T]) -> T:
    """Return what is read; a store that cannot be read is told to the operator, with its path, and to the reader without."""
    try:
        return read()
    except StoreError:
        _log.exception("the viewer cannot read a store")
        raise HTTPException(503, "the store of this record cannot be read now; its operator finds the reason in the log") from None


def _page(template: str, recording: Recording, links: Iterable[tuple[str, str]], static: str, **content: Any) -> Response:
    text = _templates().get_template(template).render(
        name=recording.place.shown_name, links=list(links), static=static, notice=NOTICE, **content
    )
    return HTMLResponse(text, headers=_FRESH | {"content-security-policy": POLICY, "referrer-policy": "no-referrer"})


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
