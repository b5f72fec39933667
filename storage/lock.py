"""One writer at a time in a workspace: a courtesy that saves work. Correctness never rests on it, nor on clocks agreeing."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from storage.errors import LockedWorkspace
from storage.folder import Folder
from storage.location import folder_at

LOCK_FILE = ".build/lock"

BEAT_S = 2.0
"""How often a holder shows that it lives."""

SILENT_S = 20.0
"""A holder that shows nothing for this long, by the waiting process's own steady clock, is taken for dead."""

WAIT_S = 600.0
"""How long a second writer waits before it refuses."""

_held: set[str] = set()


@contextmanager
def only_writer(work: str | Path, command: str, *, wait_s: float | None = None) -> Iterator[None]:
    """Hold a workspace for writing while the block runs; a block inside a block of this process holds it already.

    A holder that is dead (its process is gone from this machine's present boot) is followed at once, one that is silent after
    ``SILENT_S``: frozen, or on a machine that was lost. One that wakes again does no harm: it can only write the same bytes,
    and what is published never changes.

    Parameters
    ----------
    command
        What the holder does, for the other's message.
    wait_s
        Longest time to wait; default ``WAIT_S``.

    Raises
    ------
    LockedWorkspace
        If another writer still lives after that time.

    """
    folder = folder_at(work)
    if str(folder) in _held:
        yield
        return
    mine = {"command": command, "token": os.urandom(8).hex(), **_myself()}
    _take(folder, mine, WAIT_S if wait_s is None else wait_s)
    _held.add(str(folder))
    over = threading.Event()
    beating = threading.Thread(target=_beat, args=(folder, mine, over), name="ecgbatch-lock", daemon=True)
    beating.start()
    try:
        yield
    finally:
        over.set()
        beating.join()
        _held.discard(str(folder))
        if _read(folder).get("token") == mine["token"]:
            folder.delete(LOCK_FILE)


def _take(folder: Folder, mine: dict[str, Any], wait_s: float) -> None:
    started = changed = time.monotonic()
    seen: dict[str, Any] = {}
    said = False
    while not folder.put_if_absent(LOCK_FILE, _document(mine, 0)):
        holder, now = _read(folder), time.monotonic()
        if holder != seen:
            seen, changed = holder, now
        is_dead = _is_dead(holder)
        if is_dead or now - changed > SILENT_S:
            if is_dead:
                folder.clear_partial(int(holder["pid"]))
            if _read(folder) == holder:
                folder.delete(LOCK_FILE)
            continue
        who = f"{holder.get('command', '?')} (process {holder.get('pid', '?')} on {holder.get('host', '?')})"
        if now - started >= wait_s:
            raise LockedWorkspace(
                f"LOCKED: {folder}: {who} is writing here; run this again when that has ended. Nothing was changed"
            )
        if not said and now - started > 1:
            said = True
            print(f"ecgbatch: {folder}: waiting for {who}", file=sys.stderr)
        time.sleep(0.2)


def _beat(folder: Folder, mine: dict[str, Any], over: threading.Event) -> None:
    beats = 0
    while not over.wait(BEAT_S):
        beats += 1
        with suppress(OSError):
            found = _read(folder)
            if found.get("token") != mine["token"]:
                return  # another took this one for dead: its lock stays
            folder.replace(LOCK_FILE, _document(mine, beats))


def _document(mine: dict[str, Any], beats: int) -> bytes:
    return json.dumps({**mine, "beats": beats}).encode()


def _read(folder: Folder) -> dict[str, Any]:
    try:
        found = json.loads(folder.read(LOCK_FILE))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _myself() -> dict[str, Any]:
    return {"pid": os.getpid(), "started": _start_of(os.getpid()), "boot": _boot(), "host": socket.gethostname()}


def _is_dead(holder: dict[str, Any]) -> bool:
    """Tell whether a holder's process is surely gone: of this host's present boot, and no process of that start has its id."""
    if not holder or (holder.get("host"), holder.get("boot")) != (socket.gethostname(), _boot()) or not _boot():
        return False
    return _start_of(int(holder["pid"])) != holder.get("started")


def _boot() -> str:
    return _text(Path("/proc/sys/kernel/random/boot_id"), str.strip)


def _start_of(pid: int) -> str:
    """Return a process's start in ticks since boot, so that an id that was given anew is not mistaken; empty if it is gone."""
    # the name in brackets may hold spaces; the third field, the state, follows it, the start is the 22nd
    state_and_on = _text(Path(f"/proc/{pid}/stat"), lambda stat: stat.rpartition(")")[2]).split()
    return "" if not state_and_on or state_and_on[0] in "ZX" else state_and_on[19]


def _text(path: Path, part: Callable[[str], str]) -> str:
    try:
        return part(path.read_text())
    except OSError:
        return ""
