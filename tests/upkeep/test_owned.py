"""Processes of a pool end with the process that started them, even where that is killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil

OWNER = """
import os, time
from flows.cluster import processes

def pid(_):
    time.sleep(0.2)
    return os.getpid()

if __name__ == "__main__":
    with processes(workers=2) as on_processes:
        print(*set(on_processes(pid, range(6))), flush=True)
        time.sleep(60)
"""


def test_a_killed_owner_leaves_no_process_behind(tmp_path: Path) -> None:
    script = tmp_path / "owner.py"
    script.write_text(OWNER)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pool = [psutil.Process(int(pid)) for pid in owner.stdout.readline().split()]
        assert pool
        owner.kill()
    gone, alive = psutil.wait_procs(pool, timeout=20)
    assert not alive, f"{len(alive)} of {len(gone) + len(alive)} wait for work from a process that is dead"
