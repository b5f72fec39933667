"""The figures, a JSON line a campaign, and docs/RELIABILITY.md, which a program writes from them."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.reliability.bench import Tally
from ecgbatch import __version__

HERE = Path(__file__).parent
LEDGER = HERE / "results.jsonl"


def keep(ledger: Path, name: str, tally: Tally, seconds: float, settings: dict[str, Any]) -> None:
    """Add a campaign's figures to the ledger."""
    line = {
        "campaign": name,
        "tried": tally.tried,
        "hit": tally.hit,
        "wrong": len(tally.failures),
        "failures": tally.failures[:5],
        "seconds": round(seconds),
        **settings,
        "day": datetime.now(UTC).strftime("%Y-%m-%d"),
        "version": __version__,
        "commit": _commit(),
    }
    with ledger.open("a") as file:
        file.write(json.dumps(line) + "\n")


def _commit() -> str:
    try:
        return subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def write(ledger: Path) -> None:
    """Write docs/RELIABILITY.md."""
