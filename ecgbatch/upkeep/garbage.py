"""Clear away what dead runs left behind."""

from __future__ import annotations

from typing import Any

from ecgbatch.upkeep.verify import KINDS
from storage import PARTIAL, folder_at


def leftovers(work: str) -> dict[str, int]:
    """Return how many builds are unfinished, and how many files and bytes lie in ``.build``: of those and of dead runs."""
    folder = folder_at(work)
    names = [name for name in folder.children(".build") if name != "lock"]
    files = [n_bytes for key, n_bytes in folder.files(".build") if key != ".build/lock"]
    n_builds = sum(folder.exists(f".build/{name}/plan.json") for name in names)
    return {"n_unfinished": n_builds, "n_files": len(files), "n_bytes": sum(files)}


def collect_garbage(work: str, *, unfinished: bool = False) -> dict[str, Any]:
    """Remove what dead runs left behind; the caller holds the workspace's lock.

    That is: files that were being written, builds whose store is published, folders of writers that were cut short, logs without
    a run, and what a repair put aside. Unfinished builds are kept, since the same command goes on with them, unless
    ``unfinished``; so are the checkpoints of a training.

    Returns
    -------
    dict
        ``removed`` (keys), ``n_bytes``, ``kept_unfinished`` (keys of builds that the same command would finish).

    """
    folder = folder_at(work)
    published = {name.removesuffix(".zarr") for kind in KINDS for name in folder.children(kind)}
    removed, kept = [], []
    for name in folder.children(".build"):
        key = f".build/{name}"
        digest = name.rpartition("-")[2]
        if name == "lock":
            continue
        is_build = name.startswith("train-") or (folder.exists(f"{key}/plan.json") and digest not in published)
        if is_build and not unfinished:
            kept.append(key)
            removed += [f"{key}/{one}" for one in folder.children(key) if one.endswith(".zarr") and one != f"{digest}.zarr"]
        else:
            removed.append(key)
    removed += [
        key
        for key, _ in folder.files("")
        if key.endswith(PARTIAL)
        and not any(key.startswith(f"{gone}/") for gone in removed)
        and (key.startswith(".build/") or ".zarr/" not in key)  # what lies in a published store is for ``verify`` to tell
    ]
    removed += [f"models/{name}" for name in folder.children("models") if name.startswith(".") and name.endswith(PARTIAL)]
    n_bytes = sum(n_bytes for key in removed for _, n_bytes in folder.files(key))
    for key in removed:
        folder.delete(key)
    return {"removed": removed, "n_bytes": n_bytes, "kept_unfinished": kept}
