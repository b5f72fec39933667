"""A night's own process: our packages first, then Prefect's engine, which puts the folder where it starts before all others.

Many who use Prefect have a package ``flows`` there. Run as a script, ``python -P .../flows/night.py``.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    root = str(Path(__file__).resolve().parents[1])
    sys.path.insert(0, root)
    from ecgbatch.own_packages import ForeignPackage, ours_first

    try:
        ours_first()
    except ForeignPackage as error:
        sys.exit(f"ecgbatch: {error}")
    import flows  # noqa: F401 - now, while ours are first
    import storage  # noqa: F401

    sys.path.remove(root)
    sys.argv = ["prefect.engine"]
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
