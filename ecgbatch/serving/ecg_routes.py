"""The viewer over HTTP: a page, what it shows as JSON, samples in tiles, beats, median beats. Nothing is written by looking."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import HTMLResponse, JSONResponse

from ecgbatch.reports.grid import grid_patterns
from ecgbatch.reports.pages import environment_of
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

_SAFE = {"x-content-type-options": "nosniff"}
_FRESH = _SAFE | {"cache-control": "no-store"}
"""Of everything: what a browser kept on its disk would be somebody's ECG after the session, and after an erasure. The page's own
script keeps its tiles while it is open."""

_log = logging.getLogger("ecgbatch")

Links = Callable[[str], Iterable[tuple[str, str]]]


class _Refused(Exception):
    """A status, and words for the reader."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


def ecg_router(
    find: Callable[[str], Place | None], *, links: Links = lambda _: (), static: str = "../../static", kept: Kept | None = None
) -> APIRouter:
    """Return the routes below ``/record/{key}/ecg``.

    Parameters
    ----------
    find
        Gives the place of a record's rows by the key in its address, None where there is none for who asks. A key is looked up,
        never made into a path.
    links
        Words and addresses that a record's page leads to: its report, the list.
    static
        Address of ``ecgbatch/serving/static``, from a record's page.
    kept
        Where decoded samples are kept between requests; by default a place of its own.

    """
    router = APIRouter(prefix="/record/{key}/ecg")

    def recording_of(key: str) -> Recording:
        if (place := find(key)) is None:
            raise _Refused(404, "there is no such record")
        return read_recording(place)

    _pages(router, recording_of, links, static)
    _data(router, recording_of, kept or Kept())
    return router


Found = Callable[[str], Recording]


def _pages(router: APIRouter, recording_of: Found, links: Links, static: str) -> None:
    """Add what a reader opens."""

    @router.get("")
    @answered
    def page(key: str) -> Response:
        return _page("viewer.html", recording_of(key), links(key), static)

    @router.get("/median")
    @answered
    def median(key: str) -> Response:
        recording = recording_of(key)
        beats = draw_median_beats(recording)
        return _page("median.html", recording, links(key), f"../{static}", beats=beats, grid=grid_patterns())


def _data(router: APIRouter, recording_of: Found, blocks: Kept) -> None:
    """Add what the page's script asks for."""

    @router.get("/meta")
    @answered
    def meta(key: str) -> Response:
        recording = recording_of(key)
        levels = [level._asdict() for level in levels_of(recording.n_samples)]
        tiles = {"version": version_of(recording), "levels": levels, "filters": filters_for(recording.sampling_frequency_hz)}
        return JSONResponse(describe(recording) | {"tiles": tiles}, headers=_FRESH)

    @router.get("/beats")
    @answered
    def beats(key: str) -> Response:
        return JSONResponse(read_beats(recording_of(key)), headers=_FRESH)

    @router.get("/tiles/{version}/{filter_name}/{level:int}/{number:int}")
    @answered
    def tile(key: str, version: str, filter_name: str, level: int, number: int) -> Response:
        recording = recording_of(key)
        if version != version_of(recording):
            raise _Refused(404, "this recording was replaced by a newer one; load the page again")
        check_tile(recording, level, number, filter_name)
        steps = read_tile(recording, level, number, blocks, filter_name=filter_name)
        return Response(steps.astype("<i2", copy=False).tobytes(), media_type="application/octet-stream", headers=_FRESH)


def answered(route: Callable[..., Response]) -> Callable[..., Response]:
    """Return a route that says in words what it refuses; of a store that cannot be read only the operator is told where it is."""

    @wraps(route)
    def answer(*args: Any, **options: Any) -> Response:
        try:
            return route(*args, **options)
        except _Refused as error:
            return JSONResponse({"detail": str(error)}, error.status, headers=_FRESH)
        except NoSuchTile as error:
            return JSONResponse({"detail": str(error)}, 404, headers=_FRESH)
        except StoreError as error:
            _log.error("viewer: a store cannot be read: %s", error)
            words = "the store of this record cannot be read now; who runs this server finds the reason in its log"
            return JSONResponse({"detail": words}, 503, headers=_FRESH)

    return answer


def _page(template: str, recording: Recording, links: Iterable[tuple[str, str]], static: str, **content: Any) -> Response:
    found = environment_of(Path(__file__).parent / "templates").get_template(template)
    text = found.render(name=recording.place.shown_name, links=list(links), static=static, notice=NOTICE, **content)
    return HTMLResponse(text, headers=_FRESH | {"content-security-policy": POLICY, "referrer-policy": "same-origin"})
