"""The server's addresses: which gives which page. Looking writes nothing; a verdict is one file (``workspace.reviews``)."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qsl

import pyarrow.compute as pc
import pyarrow.parquet as pq
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse
from starlette.concurrency import run_in_threadpool

from ecgbatch.serving.access import COOKIE, Doorkeeper, NotAdmitted, Proxy, Reader, cookie_of
from ecgbatch.serving.ecg_routes import ecg_router
from ecgbatch.serving.guard import READER, Guard
from ecgbatch.serving.listing import FILE, opened
from ecgbatch.serving.pages import policy_of, rendered, static_files
from ecgbatch.serving.recording import Place as EcgPlace
from ecgbatch.serving.recording import place_of
from ecgbatch.serving.shelf import NotThere, Shelf, key_of
from ecgbatch.serving.site import Refused, Site

log = logging.getLogger("ecgbatch")

TABLES = {
    "scores.csv": "text/csv; charset=utf-8",
    "scores.parquet": "application/vnd.apache.parquet",
    "records.parquet": "application/vnd.apache.parquet",
    "cohort.json": "application/json",
}
"""Files of a run's reports that its cohort page leads to."""


@dataclass(frozen=True)
class Rules:
    """Who may look, and what else a server was told: ``hosts`` are the names that it answers to."""

    keeper: Doorkeeper
    hosts: frozenset[str]
    proxy: Proxy | None = None
    read_only: bool = False


def application(shelf: Shelf, rules: Rules) -> Guard:
    """Return the server of a workspace, behind its guard."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)  # FastAPI's own pages load from another site
    site = Site(shelf, read_only=rules.read_only, has_sessions=rules.proxy is None)
    _door(app, rules)
    _pages(app, site)
    _viewer(app, site)
    _run_files(app, shelf)
    _form(app, site)
    app.add_exception_handler(NotThere, _not_there)
    app.add_exception_handler(404, _no_page)
    return Guard(app, rules.keeper, rules.hosts, rules.proxy)


def reader_now() -> Reader:
    """Return who asks what is being answered."""
    reader = READER.get()
    assert reader is not None  # the guard let nobody else through
    return reader


def _door(app: FastAPI, rules: Rules) -> None:
    """Add what is answered without a session, and its end."""

    @app.get("/healthz")
    def alive() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/static/{name}")
    def static(request: Request, name: str) -> Response:
        if name not in static_files():
            return PlainTextResponse("There is no such file.\n", 404)
        content, kind, tag = static_files()[name]
        headers = {"cache-control": "no-cache", "etag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=kind, headers=headers)

    @app.get("/enter")
    def enter(request: Request, token: str = "") -> Response:
        if rules.proxy is not None:
            return RedirectResponse("/", 303)
        address = request.client.host if request.client else ""
        try:
            secret = rules.keeper.exchange(token, address)
        except NotAdmitted as error:
            return _refused_at_the_door(error, cookie_of(request.headers.getlist("cookie")), rules.keeper)
        # A page that leads on, not a redirect: after a click in another site's page the browser would leave the cookie out.
        answer = HTMLResponse(rendered("enter.html", None))
        answer.set_cookie(COOKIE, secret, httponly=True, samesite="strict", path="/")
        return answer

    @app.post("/leave")
    async def leave(request: Request) -> Response:
        if (form := await _fields(request)) is None:
            return PlainTextResponse("This form is of another session.\n", 403)
        del form
        rules.keeper.leave(cookie_of(request.headers.getlist("cookie")))
        answer = HTMLResponse(rendered("message.html", None, title="You have left", words="The session has ended.", note=""))
        answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
        return answer


def _refused_at_the_door(error: NotAdmitted, secret: str, keeper: Doorkeeper) -> Response:
    """Say why a token opens nothing; who is in already, and loads the address again, stays in."""
    if keeper.reader_of(secret) is not None:
        return HTMLResponse(rendered("enter.html", None))
    seconds = math.ceil(error.seconds)
    log.warning("serve: a token was refused")  # neither which, nor whose
    words = f"No entry: {error}. Ask for a new address: each opens once. Another try from here in {seconds} s.\n"
    return PlainTextResponse(words, 429, {"retry-after": str(seconds)})


def _pages(app: FastAPI, site: Site) -> None:
    """Add the pages that are made of the workspace as it is now."""

    def html(text: str) -> Response:
        return HTMLResponse(text, headers=policy_of(text))

    @app.get("/")
    def overview() -> Response:
        return html(site.overview(reader_now()))

    @app.get("/run/{run}")
    def records(request: Request, run: str) -> Response:
        return html(site.list_page(reader_now(), run, request.query_params))

    @app.get("/record/{key}.json")
    def record_json(key: str) -> Response:
        return JSONResponse(site.record_json(reader_now(), key))

    @app.get("/record/{key}.html")
    def other_recording(key: str) -> Response:
        """Lead on: a report's links to the patient's other recordings end as those of files do."""
        return RedirectResponse(f"/record/{site.shelf.spot(key)[0].key}", 303)

    @app.get("/record/{key}")
    def record(request: Request, key: str) -> Response:
        return html(site.record_page(reader_now(), key, request.query_params))


def _viewer(app: FastAPI, site: Site) -> None:
    """Add the viewer of a whole recording; of a score that is hidden from who asks it shows nothing."""

    def find(key: str) -> EcgPlace | None:
        try:
            run, row, shown, is_hidden = site.whose_ecg(reader_now(), key)
        except NotThere:
            return None
        return place_of(site.shelf.work, run, row, shown, is_hidden=is_hidden)

    def links(key: str) -> list[tuple[str, str]]:
        return [("Report and review", f"/record/{key}"), ("List", f"/run/{site.shelf.spot(key)[0].run}")]

    app.include_router(ecg_router(find, links=links))


def _run_files(app: FastAPI, shelf: Shelf) -> None:
    """Add what the reports of a run wrote of all its records: hidden while a reading is blind."""

    def opened_to_all(run: str) -> str:
        if shelf.is_blind:
            raise NotThere("Scores of all records are hidden: this reading is blind.")
        return shelf.checked_run(run)

    def content(run: str, name: str) -> bytes:
        with suppress(FileNotFoundError):
            return shelf.folder.read(f"reports/{run}/{name}")
        raise NotThere("The reports of this run do not have that file.")

    @app.get("/run/{run}/cohort.html")
    def cohort(run: str) -> Response:
        page = content(opened_to_all(run), "cohort.html")
        return HTMLResponse(page, headers=policy_of(page[:4000].decode("utf-8", "replace")))

    @app.get("/run/{run}/records/{name}.html")
    def record_of_file(run: str, name: str) -> Response:
        """Lead from the cohort page's links, which name files, to the record."""
        with opened(shelf.folder, f"reports/{opened_to_all(run)}/{FILE}") as file:
            column = pq.ParquetFile(file).read(["report"]).column(0)
        place = pc.index(column, f"records/{name}.html").as_py()
        if place < 0:
            raise NotThere("There is no such record in this run.")
        return RedirectResponse(f"/record/{key_of(run, place)}", 303)

    @app.get("/run/{run}/{name}")
    def table(run: str, name: str) -> Response:
        if name not in TABLES:
            raise NotThere("There is no such page.")
        return Response(
            content(opened_to_all(run), name),
            media_type=TABLES[name],
            headers={"content-disposition": f"attachment; filename={name}"},
        )


def _form(app: FastAPI, site: Site) -> None:
    """Add the one address that writes."""

    @app.post("/record/{key}/review")
    async def review(request: Request, key: str) -> Response:
        form = await _fields(request)
        if form is None:
            return PlainTextResponse("This form is of another session: load the page again. Nothing was kept.\n", 403)
        if site.read_only:
            return PlainTextResponse("This server takes no reviews: it was started with --read-only.\n", 403)
        reader = reader_now()
        try:
            address = await run_in_threadpool(site.keep, reader, key, form)
        except Refused as error:
            text = rendered("message.html", reader, title="Not kept", words=str(error), note=error.note)
            return HTMLResponse(text, 409)
        except OSError as error:
            log.error("serve: a review could not be written: %s", type(error).__name__)  # noqa: TRY400
            words = "The verdict could not be written, and was not kept. Tell the server's operator, then send it again."
            return HTMLResponse(rendered("message.html", reader, title="Not kept", words=words, note=form.get("note", "")), 503)
        return RedirectResponse(address, 303)


async def _fields(request: Request) -> Mapping[str, str] | None:
    """Return the fields of a form of this session; None of another."""
    import hmac

    body = (await request.body()).decode("utf-8", "replace")
    fields = dict(parse_qsl(body, keep_blank_values=True, max_num_fields=100))
    return fields if hmac.compare_digest(fields.get("form_key", "").encode(), reader_now().form_key.encode()) else None


Handler = Callable[[Request, Exception], Response]


def _not_there(_request: Request, error: Exception) -> Response:
    text = rendered("message.html", READER.get(), title="Not there", words=str(error), note="")
    return HTMLResponse(text, 404)


def _no_page(_request: Request, _error: Exception) -> Response:
    return _not_there(_request, NotThere("There is no such page."))
