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
    import ecgbatch
    import flows
    import storage

    assert {str(Path(one.__path__[0]).parent) for one in (ecgbatch, flows, storage)} == {root}
    sys.path.remove(root)
    sys.argv = ["prefect.engine"]
    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)
