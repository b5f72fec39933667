"""How fast each stage is beside an earlier commit, in turns.

python -m benchmarks.speed.against CHECKOUT [--records 1500] [--rounds 3] [--only-its-weights]

CHECKOUT is a checkout of that commit (``git worktree add --detach FOLDER 92df6dc``); it runs in this environment. Both work on
one archive of ten-second records of twelve leads at 500 Hz, of a hospital's mix, and write all pages: both with the earlier
commit's weights, and this tree once more with its own. What that commit did not have (measurements) is in "together" and not in
"without measure". Last, this tree's reports with pages of those called alone, beside the earlier commit's of all.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import whole
from ecgbatch.model.files import shipped_model
from ecgbatch.synthetic.archive import ArchiveShape, write_archive

ROOT = Path(__file__).resolve().parents[2]


def run(checkout: Path, archive: Path, work: Path, model: Path) -> dict[str, Any]:
    """Run all stages of a checkout in a new process; return what ``whole`` prints."""
    shutil.rmtree(work, ignore_errors=True)
    module = "benchmarks.speed.whole" if (checkout / "benchmarks" / "speed").is_dir() else "benchmarks.whole"
    command = [sys.executable, "-m", module, str(archive), str(work), "--model", str(model), "--warm"]
    command += ["--called"] * (checkout == ROOT)
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=checkout, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"reported": {"report": whole.size_of(work)}} | found


def weights_of(checkout: Path) -> Path:
    """Return the folder of the model that a checkout ships."""
    return next(path.parent for path in sorted(checkout.glob("ecgbatch/**/mi-12-leads/model.json")))


def printed(found: Mapping[str, list[dict[str, Any]]], n_records: int) -> None:
    """Print a line a stage: records a second of each way, and the medians of the rounds' ratios."""
    ways = list(found)
    print("stage      ", *(f"{way:>28}" for way in ways), "  times faster (wall, processor)")
    together = {
        "together": whole.STAGES,
        "without measure": [one for one in whole.STAGES if one != "measure"],
        "called alone": ["report"],
        "with called": [one for one in whole.STAGES if one != "measure"],
    }
    for stage in (*whole.STAGES, *together):
        stages = together.get(stage, [stage])
        took = {
            way: {kind: _took(rounds, kind, stages, stage) for kind in ("seconds", "processor")} for way, rounds in found.items()
        }
        cells = [_cell(took[way], n_records) for way in ways]
        ratios = [_ratio(took[ways[0]], took[way]) for way in ways[1:]]
        print(f"{stage:<16}", *cells, "  ", "; ".join(ratios))


def _took(rounds: Sequence[dict[str, Any]], kind: str, stages: Sequence[str], stage: str) -> list[float]:
    """Return what stages took in each round; of those "called" this tree's reports are the ones with fewer pages."""
    names = [whole.CALLED if one == "report" and "called" in stage else one for one in stages]
    return [
        sum(each[kind].get(name, each[kind].get(one, 0.0)) for name, one in zip(names, stages, strict=True)) for each in rounds
    ]


def reports_printed(found: Mapping[str, list[dict[str, Any]]], n_records: int) -> None:
    """Print how many records have a page, and the bytes of all reports."""
    for way, rounds in found.items():
        for kind, of in rounds[-1]["reported"].items():
            print(f"{way}, {kind}: {of['pages'] / n_records:.1%} with a page, {of['bytes'] / n_records:,.0f} bytes a record")


def _cell(took: Mapping[str, list[float]], n_records: int) -> str:
    wall, processor = (statistics.median(took[kind]) for kind in ("seconds", "processor"))
    return f"{n_records / wall if wall else 0:>9,.0f}/s {1e3 * processor / n_records:>8.2f} ms cpu"


def _ratio(before: Mapping[str, list[float]], now: Mapping[str, list[float]]) -> str:
    if not min(before["seconds"]):
        return "not there before"
    each = [statistics.median(a / b for a, b in zip(before[kind], now[kind], strict=True)) for kind in ("seconds", "processor")]
    return f"{each[0]:.2f}, {each[1]:.2f}"


def main() -> None:
    """Make the archive, run all ways in turns, and print what they took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.against", description="Beside an earlier commit, in turns.")
    parser.add_argument("checkout", type=Path, help="of the earlier commit")
    parser.add_argument("--records", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only-its-weights", action="store_true", help="leave out this tree with its own")
    options = parser.parse_args()
    earlier = options.checkout.resolve()
    ways = {
        "earlier": (earlier, weights_of(earlier)),
        "now, its weights": (ROOT, weights_of(earlier)),
    }
    if not options.only_its_weights:
        ways["now"] = (ROOT, shipped_model())
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as place:
        archive, few = Path(place, "archive"), Path(place, "few")
        shape = {"duration_s": 10, "sampling_frequency_hz": 500, "n_leads": 12, "mi_share": 0.05, "other_share": 0.1}
        write_archive(archive, ArchiveShape(n_records=options.records, **shape), seed=2)
        write_archive(few, ArchiveShape(n_records=20, **shape), seed=3)
        for checkout, model in ways.values():  # what is compiled is compiled here
            run(checkout, few, Path(place, "work"), model)
        for _ in range(options.rounds):
            for way, (checkout, model) in ways.items():
                found[way].append(run(checkout, archive, Path(place, "work"), model))
                print(way, json.dumps(found[way][-1]["seconds"]), file=sys.stderr, flush=True)
    printed(found, options.records)
    reports_printed(found, options.records)


if __name__ == "__main__":
    main()
