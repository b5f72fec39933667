"""Measure ecgbatch, its peers and the limit of the machine: ``python -m benchmarks [--only PART] [--full] [--write]``.

Parts: ``ptb`` (convert, beats and score of 549 PTB-shaped records), ``beats`` (the kernels alone), ``score`` (the network
alone), ``train`` (a member), ``ten-seconds`` (the whole run on many short records), ``growth`` (whether time and memory grow as
they should). Peers that are not installed are left out and said to be: ``pip install 'ecgbatch[peers]'``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks.speed import beat_stage, forward, growth, ptb, training
from benchmarks.speed.machine import description, load
from benchmarks.speed.page import drawing, page
from benchmarks.speed.section import Section

ROOT = Path(__file__).parents[2]
PLOT = "images/performance.svg"


def main() -> None:
    """Parse arguments, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", choices=sorted(PARTS), help="only this part; may be repeated")
    parser.add_argument("--full", action="store_true", help="20,000 ten-second and 50,000 tiny records: 40 minutes")
    parser.add_argument("--records", type=int, default=549, help="PTB-shaped records (default 549)")
    parser.add_argument("--sample", type=int, default=16, help="of them for the peers, whose time is given for all (default 16)")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds whose medians are shown (default 3)")
    parser.add_argument("--folder", help="where to work (default: a temporary folder, removed at the end; 6 GB)")
    parser.add_argument("--data", default=os.environ.get("ECGBATCH_TEST_DATA"), help="real records, to compare precisions on")
    parser.add_argument("--write", action="store_true", help="write docs/PERFORMANCE.md and its plot")
    parser.add_argument("--json", help="also write every measurement to this file")
    options = parser.parse_args()
    began, sections, failed = load(), list[Section](), list[str]()
    for name in options.only or PARTS:
        begun = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="ecgbatch-benchmarks-", dir=options.folder) as folder:
            try:
                sections.append(PARTS[name](Path(folder), options))
            except Exception:  # what the others took an hour to measure is not lost with it
                traceback.print_exc()
                failed.append(name)
                sections.append(Section(f"Part {name}", ["Not measured: it ended in an error."]))
        print(f"{name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    bars = [bar for section in sections for bar in section.bars]
    text = page(sections, description(), (began, load()), list(PARTS), PLOT if bars else "")
    if options.write:
        (ROOT / "docs" / "PERFORMANCE.md").write_text(text)
        if bars:
            title = next(section.title for section in sections if section.bars)
            (ROOT / "docs" / PLOT).write_text(drawing(bars, title))
    print(text)
    if options.json:
        Path(options.json).write_text(json.dumps({section.title: section.figures for section in sections}, indent=1) + "\n")
    if failed:
        sys.exit(f"ended in an error, see above: {', '.join(failed)}")


def _ptb(folder: Path, options: argparse.Namespace) -> Section:
    n_sample = min(options.sample, options.records)
    return ptb.measure(folder, n_records=options.records, n_sample=n_sample, rounds=options.rounds)


def _beats(folder: Path, options: argparse.Namespace) -> Section:
    return beat_stage.measure(folder, rounds=3 * options.rounds, data=Path(options.data) if options.data else None)


def _score(folder: Path, options: argparse.Namespace) -> Section:
    return forward.measure(folder, rounds=4 * options.rounds, data=Path(options.data) if options.data else None)


def _train(folder: Path, options: argparse.Namespace) -> Section:
    return training.measure(folder, rounds=options.rounds, data=Path(options.data) if options.data else None)


def _ten_seconds(folder: Path, options: argparse.Namespace) -> Section:
    return growth.ten_seconds(folder, n_records=20_000 if options.full else 2_000, rounds=1)


def _growth(folder: Path, options: argparse.Namespace) -> Section:
    few = 10_000 if options.full else 1_000
    return growth.growth(folder, n_few=few, n_many=5 * few)


PARTS: dict[str, Callable[[Path, argparse.Namespace], Section]] = {
    "ptb": _ptb,
    "beats": _beats,
    "score": _score,
    "train": _train,
    "ten-seconds": _ten_seconds,
    "growth": _growth,
}


if __name__ == "__main__":
    main()
