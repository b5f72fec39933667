"""Who is told when a night needs attention: a log line always, a webhook and a command where the settings name them."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import time
from typing import Any

import httpx

from ecgbatch.settings import Settings, load_settings
from storage import StoreError, folder_at, is_address

log = logging.getLogger("ecgbatch")

WITHIN_S = 20
"""Seconds that a webhook or a command may take: who is told must not hold up what is told."""


TOLD_FOR_S = 600.0
"""Seconds in which an end of one night is told once: who makes the same night again later, by hand, is told of it again."""


def is_first_to_tell(work: str, night: str) -> bool:
    """Tell whether nobody else has told of this night; of several processes at a time, one is the first.

    A mark in the workspace's ``.build`` says so. Where none can be put, as on a full disk, whoever asks may tell: twice is better
    than never.
    """
    try:
        folder = folder_at(work)
        # Nothing is made where a disk is not mounted.
        if not work or not (is_address(work) or folder.path(".build").is_dir()):
            return True
        mark, now = f".build/told/{night}", time.time()
        if folder.put_if_absent(mark, str(now).encode()):
            return True
        if now - float(folder.read(mark)) < TOLD_FOR_S:
            return False
        folder.put(mark, str(now).encode())
    except (OSError, ValueError, StoreError):
        return True
    return True


def notify(event: str, message: str, facts: dict[str, Any], settings: Settings | None = None) -> list[str]:
    """Tell that a night needs attention; never raises, since the night itself went as it went.

    Parameters
    ----------
    event
        ``failed``, ``server``, ``set_aside`` or ``drift``.
    message
        One sentence for a person: counts and reasons, no names of records or patients.
    facts
        JSON-ready, sent along.

    Returns
    -------
    list of str
        Which ways were tried and failed, and how.

    """
    settings = settings or load_settings()
    log.warning("%s: %s", event, message)
    document = json.dumps({"event": event, "message": message, **facts}, ensure_ascii=False, default=str)
    problems = []
    if settings.notify_url is not None:
        try:
            body = document.encode()
            answer = httpx.post(
                settings.notify_url.get_secret_value(),
                content=body,
                headers={"Content-Type": "application/json"},
                timeout=WITHIN_S,
            )
            answer.raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL, ImportError, ValueError) as error:  # a proxy of a kind that is not spoken here
            problems.append(f"webhook: {type(error).__name__}")  # its address may hold a secret: not in a log
    if settings.notify_command:
        try:
            command = shlex.split(settings.notify_command)
            subprocess.run(command, input=document, text=True, check=True, timeout=WITHIN_S, capture_output=True)  # noqa: S603
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            problems.append(f"command: {type(error).__name__}: {error}")
    for problem in problems:
        log.error("%s could not be told: %s", event, problem)
    return problems
