"""What the server's own pages say; records' pages are those of ``reports`` with a bar above and a form below."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from functools import cache
from html import unescape
from pathlib import Path
from typing import Any

from markupsafe import Markup

from ecgbatch import __version__
from ecgbatch.reports.pages import Around, environment_of, probability_text
from ecgbatch.reports.worklist import WORDS, Shown
from ecgbatch.serving.access import Reader
from ecgbatch.serving.listing import ROWS, Choice, Listed, Words
from ecgbatch.terms import NOTICE

FOLDER = Path(__file__).parent
_MOST_CHOICES = 200  # of a filter: more are searched for, not chosen


def rendered(template: str, reader: Reader | None, **content: Any) -> str:
    """Return one of the server's own pages, or a piece of one."""
    environment = environment_of(FOLDER / "templates")
    return environment.get_template(template).render(reader=reader, notice=NOTICE, version=__version__, **content)


def around(above: str, below: str) -> Around:
    """Return what is put around a record's page; both are rendered by templates, escaped there."""
    head = '<link rel="icon" href="data:,">\n<link rel="stylesheet" href="/static/serve.css">\n'
    head += '<script src="/static/review.js" defer></script>'
    return Around(Markup(head), Markup(above), Markup(below))  # noqa: S704 - our own templates, whose text is escaped


@cache
def static_files() -> Mapping[str, tuple[bytes, str, str]]:
    """Return the server's style and scripts by name, their kind and their tag; nothing else below ``/static/`` exists."""
    kinds = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8"}
    files = (path for path in sorted((FOLDER / "static").iterdir()) if path.suffix in kinds)
    found = ((path.name, path.read_bytes(), kinds[path.suffix]) for path in files)
    return {name: (content, kind, f'"{hashlib.sha256(content).hexdigest()[:20]}"') for name, content, kind in found}


def policy_of(page: str) -> dict[str, str]:
    """Return the header that repeats the policy which a report's page states of itself; empty of a page that states none.

    It lets that page's own script and style run by their digests, and adds what a page cannot say itself.
    """
    found = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', page[:4000])
    return {"content-security-policy": f"{unescape(found[1])}; frame-ancestors 'none'"} if found else {}


def word(name: str, text: str) -> str:
    """Return what a reader is told for a column's word."""
    if text == "":
        return "none"
    return WORDS.get(name, {}).get(text) or (text if name == "reason" else text.replace("_", " "))


def _words(one: Shown, text: str) -> str:
    each = text.split(" ") if one.filter == "words" else [text]
    return ", ".join(word(one.name, part) for part in each if part)


def cell(one: Shown, row: Mapping[str, Any]) -> tuple[str, str]:
    """Return what stands in a cell of the list, and small below it."""
    value = row[one.name]
    beside = [" ".join(word(name, part) for part in row[name].split(" ")) for name in one.beside if row.get(name)]
    if value is None:
        return "unknown", ", ".join(beside)
    if isinstance(value, str):
        return (value if one.name in ("record_name", "patient_id") else _words(one, value)), ", ".join(beside)
    text = probability_text(value) if one.digits == 3 else str(value) if one.digits is None else f"{value:z.{one.digits}f}"
    if one.then and one.then[0] in row:
        other = row[one.then[0]]
        then = "unknown" if other is None else probability_text(other) if one.digits == 3 else str(other)
        text = f"{text} {one.then[1]} {then}"
    return text, ", ".join(beside)


def filters(listed: Listed, choice: Choice) -> list[dict[str, Any]]:
    """Return the filters of a list: name, title, and either the words that can be chosen or the ends of a range."""
    chosen = dict(choice.filters)
    found = []
    for one in listed.shown:
        column, value = listed.columns[one.name], chosen.get(one.name, "")
        if one.filter == "range" and not isinstance(column, Words):
            low, _, high = value.partition("..")
            found.append(
                {"name": one.name, "title": one.title, "low": low, "high": high, "is_range": True, "is_set": bool(value)}
            )
        elif one.filter and isinstance(column, Words):
            said = {part for text in column.of for part in (text.split(" ") if one.filter == "words" else [text]) if part}
            if 0 < len(said) <= _MOST_CHOICES:
                order = [text for text in column.of if text in said] if one.filter == "choice" else sorted(said)
                options = [(text, word(one.name, text)) for text in order]
                found.append({"name": one.name, "title": one.title, "value": value, "options": options, "is_range": False})
                found[-1]["is_set"] = bool(value)
    return found


def list_rows(listed: Listed, places: Any, first: int) -> list[dict[str, Any]]:
    """Return a page of the list: place, and the cells of each column that is shown."""
    some = places[first : first + ROWS]
    columns = [one for one in listed.shown if one.is_column]
    rows = listed.rows(some)
    return [
        {"place": place, "cells": [cell(one, row) for one in columns]} for place, row in zip(some.tolist(), rows, strict=True)
    ]
