"""Who makes shards in this process: the version and a digest of the code, the same wherever the same code runs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ecgbatch", "flows", "storage")
"""Those that are installed together with this one: any of them may hold what decides a shard's content."""


def _code_digest() -> str:
    digest = hashlib.sha256()
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _version() -> str:
    try:
        return version(PACKAGES[0])
    except PackageNotFoundError:
        return "none"


@cache
def this_maker() -> dict[str, str]:
    """Return the version and the code's digest of this process, as it finds the files at its first shard or admission.

    Asked then, and not at each shard: an upgrade under a worker that runs does not change what it runs.
    """
    return {PACKAGES[0]: _version(), "code": _code_digest()}


def makers_of(shards: Iterable[tuple[int, Mapping[str, str]]], published_by: Mapping[str, str]) -> dict[str, Any]:
    """Return, JSON-ready, who published a store and who made its shards.

    Parameters
    ----------
    shards
        Number of each shard and its maker, in order; no maker where an earlier version's receipt names none.

    Returns
    -------
    dict
        ``published`` (a maker), ``shards``: ``[{"by": maker, "from": first, "to": last}]``, neighbours of one maker together.

    """
    spans: list[dict[str, Any]] = []
    for number, maker in shards:
        if spans and spans[-1]["by"] == maker and spans[-1]["to"] == number - 1:
            spans[-1]["to"] = number
        else:
            spans.append({"by": dict(maker), "from": number, "to": number})
    return {"published": dict(published_by), "shards": spans}


def other_makers(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the spans of a published store's shards that other code made than published it; none of an earlier version's."""
    made = attributes.get("made_by", {})
    return [span for span in made.get("shards", []) if span["by"] != made["published"]]
