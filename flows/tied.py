"""Prefect's command line in a process that ends with its owner: when standard input closes, whatever ended whoever holds it.

Run as a script (``python -P .../flows/tied.py server start ...``), as the leader of a process group; it imports nothing of ours.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

GRACE_S = 10
"""Seconds from SIGTERM to SIGKILL."""


def _end_with_owner() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=_end_with_owner, name="owner", daemon=True).start()
    sys.argv[0] = "prefect"
    runpy.run_module("prefect", run_name="__main__")
