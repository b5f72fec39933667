"""What is made again because this installation makes it otherwise, said before it starts. Old stores stay and can be read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import xarray as xr

from ecgbatch.archive.remembered import changed_key
from ecgbatch.signals.lookup import archive_facts
from ecgbatch.workspace.runs import runs_by_time
from storage import Folder, Schema, StoreError, folder_at, list_stores
from storage.plan import canonical_json, with_own_versions
from storage.reading import read_root

if TYPE_CHECKING:  # numba takes a second: only those pay for it who have beats
    from ecgbatch.beats.record import BeatSettings

Made = dict[str, Any]
"""How a store was made: ``settings`` (without the names of its inputs), ``versions``, ``variables``."""

INPUTS = frozenset({"signals", "peaks", "beats", "without_reference", "failed", "not_ecg", "derived", "without_vote"})
"""Settings that say of what a store was made, not how."""


def made_again(
    work: str,
    *,
    beats: Mapping[str, Any] | None = None,
    measure: bool = False,
    model: str | None = None,
    labels: str | None = None,
    keep_comments: bool = False,
    archive: bool = False,
) -> dict[str, dict[str, Any]]:
    """Return what a command will make again, though its input is what it was, and why.

    Parameters
    ----------
    beats
        Fields of ``BeatSettings``, where the command finds beats.
    measure
        Whether it measures; scoring does, too.
    model
        Folder of the model, where it scores.
    archive, labels, keep_comments
        Whether it looks at an archive, and how. Samples are never converted again for an upgrade.

    Returns
    -------
    dict
        Of ``headers``, ``peaks``, ``beats``, ``measurements`` and ``scores`` those that will be made again: ``n`` (records, or
        stores), and ``because``, what differs. Of a workspace in which that was never done, nothing.

    """
    found: dict[str, dict[str, Any]] = {}
    if archive and (changed := changed_key(work, labels, keep_comments)):
        found["headers"] = {"n": changed[0], "because": changed[1]}
    if beats is not None and list_stores(work, "peaks"):
        from ecgbatch.beats.record import BeatSettings

        found |= _beats_again(work, BeatSettings(**beats))
    if (measure or model is not None) and list_stores(work, "measurements"):
        found |= _measurements_again(work, found)
    if model is not None and list_stores(work, "scores"):
        found |= _scores_again(work, model, found)
    return found


def sentences(again: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what ``made_again`` found, a line each."""
    words = {"headers": "header(s) will be read", "scores": "record(s) will be scored"}
    for kind, told in again.items():
        what = words.get(kind, f"store(s) of {kind} will be built")
        yield f"settings changed: {told['n']} {what} again because {'; '.join(told['because'])}"


def _beats_again(work: str, settings: BeatSettings) -> dict[str, dict[str, Any]]:
    from ecgbatch.beats.stage import BEATS, PEAKS, stage_settings, stage_versions

    used = signals_used(work)
    own = stage_settings(xr.Dataset(), settings)
    found: dict[str, dict[str, Any]] = {}
    for schema in (PEAKS, BEATS):
        wanted = made_by(own, with_own_versions(stage_versions()), schema)
        asked = {"reference": None} | settings.document()
        made: dict[str, list[Made]] = {}
        for root in roots_of(work, schema.name):
            if root["settings"]["signals"] in used and all(root["settings"].get(name) == value for name, value in asked.items()):
                made.setdefault(root["settings"]["signals"], []).append(made_of(root))
        reasons = [_closest(wanted, others) for others in made.values()]
        because = sorted({reason for why in reasons for reason in why})
        n_changed = sum(bool(why) for why in reasons)
        if schema is BEATS and found.get("peaks", {}).get("n", 0) > n_changed:
            n_changed, because = found["peaks"]["n"], [*because, "their peaks are found again"]
        if n_changed:
            found[schema.name] = {"n": n_changed, "because": because}
    return found


def _measurements_again(work: str, found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    from ecgbatch.measurements.stage import MEASUREMENTS, measure_settings, measure_versions

    used, made = signals_used(work), dict[str, list[Made]]()
    for root in roots_of(work, MEASUREMENTS.name):
        if root["settings"]["signals"] in used:
            made.setdefault(root["settings"]["beats"], []).append(made_of(root))
    wanted = made_by(measure_settings("", ""), with_own_versions(measure_versions()), MEASUREMENTS)
    reasons = [_closest(wanted, others) for others in made.values()]
    because = sorted({reason for why in reasons for reason in why})
    n_changed = sum(bool(why) for why in reasons)
    if found.get("beats", {}).get("n", 0) > n_changed:
        n_changed, because = found["beats"]["n"], [*because, "their beats are cut again"]
    return {MEASUREMENTS.name: {"n": n_changed, "because": because}} if n_changed else {}


def signals_used(work: str) -> set[str]:
    """Return the signals stores that hold a record now in the archive."""
    try:
        return set(archive_facts(work)["stores"])
    except StoreError:
        return set()


def _scores_again(work: str, folder: str, found: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    from ecgbatch.model.files import load_model
    from ecgbatch.model.precision import remember
    from ecgbatch.scores.table import SCORES, score_settings, score_versions

    model = load_model(folder)
    runs = [folder_at(work).path(f"scores/{run}.zarr") for run in runs_by_time(work)]
    roots = [root for root in (_root(folder_at(path)) for path in runs) if root]
    mine = [root for root in roots if root["settings"]["model"]["digest"] == model.digest]
    if not mine:
        return {}
    own = with_own_versions(score_versions())
    for root in mine:
        if root["versions"] == own:
            remember(model.digest, root["settings"].get("inference", {}))
    wanted = made_by(score_settings(model), own, SCORES)
    because = _closest(wanted, [made_of(root) for root in mine])
    because = because or (["their beats are cut again"] if "beats" in found else [])
    because = because or (["they are measured again"] if "measurements" in found else [])
    return {"scores": {"n": mine[0]["plan"]["sizes"]["record"], "because": because}} if because else {}


def roots_of(work: str, kind: str) -> Iterator[dict[str, Any]]:
    """Yield the root attributes of every store of a kind that can be read."""
    return (root for root in (_root(folder_at(path)) for path in list_stores(work, kind)) if root)


def _root(folder: Folder) -> dict[str, Any]:
    """Return a store's root attributes; none where it cannot be read: ``verify`` says what is wrong with it."""
    try:
        return read_root(folder)
    except StoreError:
        return {}


def made_by(settings: Mapping[str, Any], versions: Mapping[str, str], schema: Schema) -> Made:
    """Return how this installation makes a store, to compare with ``made_of`` one that is there."""
    variables = {name: asdict(variable) for name, variable in schema.variables.items()}
    said = {"settings": dict(settings), "versions": dict(versions), "variables": variables}
    return made_of({"plan": said} | said)


def made_of(root: Mapping[str, Any]) -> Made:
    """Return how a store was made."""
    settings = {name: value for name, value in root["settings"].items() if name not in INPUTS}
    said = {"settings": settings, "versions": root["versions"], "variables": root["plan"]["variables"]}
    made: Made = json.loads(canonical_json(said))
    return made


def _closest(wanted: Made, others: Iterable[Made]) -> list[str]:
    """Return what differs from the likest of others; nothing if one is the same."""
    return min((list(_differences(wanted, other)) for other in others), key=len)


def _differences(wanted: Made, other: Made) -> Iterator[str]:
    for name in sorted(wanted["versions"].keys() | other["versions"].keys()):
        before, now = (made["versions"].get(name, "none") for made in (other, wanted))
        if before != now:
            yield f"{name} {before} -> {now}"
    for name in sorted(wanted["settings"].keys() | other["settings"].keys()):
        before, now = (made["settings"].get(name) for made in (other, wanted))
        if before != now:
            is_short = all(isinstance(value, int | float | bool | None) for value in (before, now))
            yield f"{name} {before} -> {now}" if is_short else f"{name} differs"
    if wanted["variables"] != other["variables"]:
        changed = [name for name in wanted["variables"] if wanted["variables"][name] != other["variables"].get(name)]
        changed += sorted(other["variables"].keys() - wanted["variables"].keys())
        yield f"the store's variables differ ({', '.join(changed)})"
