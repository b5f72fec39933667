"""F4, F5: disks that are full, and disks whose power is cut."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from benchmarks.reliability.bench import Bench, Cases


def full_disks(bench: Bench, count: int, folder: Path) -> Cases:
    """Convert onto ``count`` disks from almost nothing to almost enough, then make room."""
    work = folder / "disk"
    work.mkdir()
    needed = sum(path.stat().st_blocks * 512 for path in bench.before("beats").rglob("*"))
    for number in range(1, count + 1):
        size = max(needed * number // count // 4096, 2) * 4096
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(work)], check=True)
        try:
            ended = subprocess.run(bench.command("convert", work), capture_output=True, text=True, check=False)
            wrong = ["a traceback"] if "Traceback" in ended.stderr else []
            if ended.returncode and not re.search(r"[Nn]o space|[Dd]isk|room", ended.stderr):
                wrong.append(f"no word about room: {ended.stderr.strip()[-200:]}")
            subprocess.run(["mount", "-o", "remount,size=1g", str(work)], check=True)
            yield f"{size} bytes", ended.returncode != 0, wrong + bench.problems("convert", work)
        finally:
            subprocess.run(["umount", str(work)], check=True)
