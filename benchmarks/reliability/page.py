"""The figures, a JSON line a campaign, and docs/RELIABILITY.md, which a program writes from them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.reliability.bench import Tally
from benchmarks.reliability.promises import BY_TESTS, CAMPAIGNS, NOT_TESTED
from ecgbatch import __version__

HERE = Path(__file__).parent
LEDGER = HERE / "results.jsonl"
PAGE = HERE.parents[1] / "docs" / "RELIABILITY.md"

TOLD = """# Reliability: what is promised, how it is tested, what was not

*Written by `python -m benchmarks.reliability --page` from benchmarks/reliability/results.jsonl; change those, not this.*

After each fault of a campaign the same command is run again, undisturbed. A case is right if every byte of the stores and models
is then that of a run which nothing disturbed, the same reports are there, nothing lies beside them, and `ecgbatch verify` finds
nothing. "Hit" counts the cases that the fault reached (a kill can come when the run has ended).

Any line again: `python -m benchmarks.reliability --only NAME` with the options of its last column (`make reliability` runs all of
them, for hours); `--write` keeps the figures.
"""

BEFORE = "What stands in the column *before* was run until"


def keep(ledger: Path, name: str, tally: Tally, seconds: float, settings: Mapping[str, Any]) -> None:
    """Add a campaign's figures to the ledger."""
    line = {
        "campaign": name,
        "tried": tally.tried,
        "hit": tally.hit,
        "wrong": len(tally.failures),
        "failures": tally.failures[:5],
        **({"note": tally.note} if tally.note else {}),
        "seconds": round(seconds),
        **settings,
        "day": datetime.now(UTC).strftime("%Y-%m-%d"),
        "version": __version__,
        "commit": _commit(),
    }
    with ledger.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _commit() -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def write(ledger: Path) -> None:
    """Write docs/RELIABILITY.md."""
    PAGE.write_text(page(ledger), encoding="utf-8")


def page(ledger: Path) -> str:
    """Return the page: every campaign, run or not, what tests prove, what went wrong once, what is not tested.

    A ledger's line ``{"rebuilt": why, "day": ...}`` says that figures above it are of an earlier tree: told apart.
    """
    lines = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines() if line]
    rebuilt = max((number for number, line in enumerate(lines) if line.get("rebuilt")), default=-1)
    rows = ["| | promise | how it is tested | right | hit | when, and with what | before |", "|---|---|---|---|---|---|---|"]
    for name, (promise, how) in CAMPAIGNS.items():
        before, now = (
            [line for line in part if line.get("campaign") == name and not line.get("mended")]
            for part in (lines[: rebuilt + 1], lines[rebuilt + 1 :])
        )
        rows.append(f"| {name} | {promise} | {how} | {_figure(now)} | {_before(before)} |")
    tests = ["| promise | how it is tested | figure |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in BY_TESTS)]
    mended = [f"- {line['campaign']} ({line['day']}): {line['mended']}" for line in lines if line.get("mended")]
    why = f"{BEFORE} {lines[rebuilt]['day']}: {lines[rebuilt]['rebuilt']}" if rebuilt >= 0 else ""
    parts = [TOLD, why, "## Campaigns", "\n".join(rows), "## By tests", "\n".join(tests)]
    parts += ["## What the campaigns found, and is mended", "\n".join(mended)] if mended else []
    return "\n\n".join(part.strip() for part in [*parts, "## Not tested", NOT_TESTED] if part) + "\n"


def _figure(runs: list[dict[str, Any]]) -> str:
    if not runs:
        return "not run for this page | | "
    tried, hit, wrong = (sum(run[key] for run in runs) for key in ("tried", "hit", "wrong"))
    notes = [run["note"] for run in runs if run.get("note")]
    said = "; ".join(dict.fromkeys([*map(_when, runs), *notes]))
    return f"{tried - wrong:,} of {tried:,} | {hit:,} | {said}"


def _before(runs: list[dict[str, Any]]) -> str:
    tried, hit, wrong = (sum(run[key] for run in runs) for key in ("tried", "hit", "wrong"))
    return f"{tried - wrong:,} of {tried:,}, {hit:,} hit, {max(run['day'] for run in runs)}" if runs else ""


def _when(run: Mapping[str, Any]) -> str:
    usual = {"count": None, "stride": 1, "records": 4, "seed": None}
    options = [f"--{key} {run[key]}" for key, value in usual.items() if run.get(key, value) != value]
    lasted = f", {run.get('seconds')} s" if run.get("seconds") else ""
    return f"{run['day']}{lasted}: {' '.join(options)}"
