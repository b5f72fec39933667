"""Measure ecgbatch against the naive way on PTB-shaped synthetic records and print a table: ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks import naive as naive_way
from benchmarks import ours as our_way
from ecgbatch.synthetic import Truth, write_archive
from flows.cluster import engine, usable_processors

STAGES = ("convert", "beats", "score")
R_TOLERANCE_S = 0.05
"""An R peak this close to a true one has found it; ANSI/AAMI EC57 allows 0.15 s."""

Way = Callable[[str, str, str], dict[str, float]]


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--records", type=int, default=24, help="records of 115.2 s and 15 leads (default 24)")
    parser.add_argument("--full", action="store_true", help="100 records")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds whose medians are shown (default 3)")
    parser.add_argument("--duration", type=float, default=115.2, help="seconds per record (default 115.2, as most of PTB)")
    parser.add_argument("--folder", help="where to work (default: a temporary folder, removed at the end)")
    parser.add_argument("--markdown", help="also write the table to this file")
    parser.add_argument("--json", help="also write every measurement to this file")
    options = parser.parse_args()
    n_records = 100 if options.full else options.records
    with tempfile.TemporaryDirectory(prefix="ecgbatch-benchmarks-", dir=options.folder) as folder:
        result = measure(Path(folder), n_records=n_records, rounds=options.rounds, duration_s=options.duration)
    text = table(result)
    print(text)
    if options.markdown:
        Path(options.markdown).write_text(text + "\n")
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n")


def measure(folder: Path, *, n_records: int, rounds: int, duration_s: float) -> dict:
    """Run both ways in turn, each round in a new workspace, and return seconds and what was found.

    Both run once on two short records before: imports and compiled kernels are not what is compared. Files are in the page cache.
    """
    archive, model = str(folder / "archive"), our_way.write_untrained_model(str(folder / "model"))
    with engine() as on_threads:
        truth = write_archive(archive, n_records=n_records, seed=1, duration_s=duration_s, map=on_threads)
    write_archive(folder / "warm-up", n_records=2, duration_s=12.0)
    ways: dict[str, Way] = {"ecgbatch": our_way.ours, "naive": naive_way.naive}
    for name, way in ways.items():
        run_once(way, str(folder / "warm-up"), folder / f"warm-up-{name}", model)
    result: dict = {"n_records": n_records, "record_s": duration_s, "rounds": [], "machine": machine()}
    for number in range(rounds):
        seconds = {}
        for name in sorted(ways, reverse=bool(number % 2)):  # each goes first in half of the rounds
            seconds[name] = run_once(ways[name], archive, folder / name, model)
        result["rounds"].append(seconds)
    for name, module in (("ecgbatch", our_way), ("naive", naive_way)):
        peaks, _ = module.found(str(folder / name))
        bytes_written = sum(path.stat().st_size for path in (folder / name).rglob("*") if path.is_file())
        result[name] = {"bytes": bytes_written, **detection(truth, peaks)}
    return result


def run_once(way: Way, archive: str, work: Path, model: str) -> dict[str, float]:
    """Run one way in an empty workspace, which stays until the next round; return seconds by stage."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    return way(archive, str(work), model)


def detection(truth: Truth, peaks: dict[str, np.ndarray]) -> dict[str, float]:
    """Return how many R peaks were found and how many of the true ones among them."""
    n_true = n_found = n_hits = 0
    for record in truth.records:
        here = np.sort(np.asarray(peaks.get(record.record_name, ()), dtype=np.int64))
        n_true, n_found = n_true + len(record.r_sample), n_found + len(here)
        if len(here):
            after = np.searchsorted(here, record.r_sample).clip(0, len(here) - 1)
            before = (after - 1).clip(0)
            distance = np.minimum(np.abs(here[after] - record.r_sample), np.abs(here[before] - record.r_sample))
            n_hits += int((distance <= R_TOLERANCE_S * record.sampling_frequency_hz).sum())
    return {"n_beats": n_found, "n_true_beats": n_true, "sensitivity": n_hits / n_true, "precision": n_hits / max(n_found, 1)}


def machine() -> dict[str, str | int]:
    """Return what the figures depend on."""
    from importlib.metadata import version

    versions = {name: version(name) for name in ("numpy", "scipy", "torch", "wfdb", "zarr")}
    return {
        "processor": platform.machine(),
        "usable_processors": usable_processors(),
        "load": f"{os.getloadavg()[0]:.1f}",
        **versions,
    }


def table(result: dict) -> str:
    """Return the result as Markdown: medians over rounds, and the ratio of both in each round."""
    rounds = result["rounds"]
    minutes = result["n_records"] * result["record_s"] / 60
    lines = [
        f"{result['n_records']} synthetic records of {result['record_s']:g} s, 15 leads, 1000 Hz ({minutes:.0f} minutes of ECG); "
        f"medians of {len(rounds)} interleaved rounds on {result['machine']['usable_processors']} processors",
        "",
        "| stage | naive (s) | ecgbatch (s) | times faster (range over rounds) |",
        "|---|---:|---:|---:|",
    ]
    for stage in (*STAGES, "together"):
        both = {
            name: [sum(seconds[name].values()) if stage == "together" else seconds[name][stage] for seconds in rounds]
            for name in ("naive", "ecgbatch")
        }
        ratios = [slow / fast for slow, fast in zip(both["naive"], both["ecgbatch"], strict=True)]
        slow, fast = (statistics.median(both[name]) for name in ("naive", "ecgbatch"))
        lines.append(
            f"| {stage} | {slow:.2f} | {fast:.2f} | {statistics.median(ratios):.1f} ({min(ratios):.1f}-{max(ratios):.1f}) |"
        )
    lines += ["", "| | naive | ecgbatch |", "|---|---:|---:|"]
    rows = {
        "beats found": lambda side: f"{side['n_beats']} of {side['n_true_beats']}",
        "true R peaks found within 50 ms": lambda side: f"{100 * side['sensitivity']:.2f} %",
        "found R peaks that are true": lambda side: f"{100 * side['precision']:.2f} %",
        "written": lambda side: f"{side['bytes'] / 1e6:.0f} MB",
    }
    lines += [f"| {title} | {show(result['naive'])} | {show(result['ecgbatch'])} |" for title, show in rows.items()]
    versions = ", ".join(f"{name} {value}" for name, value in result["machine"].items())
    return "\n".join([*lines, "", f"Machine: {versions}. Training, reports and Prefect's start are not in these figures."])


if __name__ == "__main__":
    main()
