"""``python -m benchmarks.reliability``: run the campaigns asked for and print a line each."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from functools import cached_property
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.reliability import __doc__ as told
from benchmarks.reliability import page
from benchmarks.reliability.bench import TRAINING, Bench, Cases, Tally, undisturbed
from benchmarks.reliability.calls import injected, injected_at_places
from benchmarks.reliability.changing import changing_archives, wrong_clocks
from benchmarks.reliability.disks import full_disks, power_cuts
from benchmarks.reliability.engines import killed_workers, lost_clusters, poison
from benchmarks.reliability.every_call import at_every_call
from benchmarks.reliability.network import faulty_stores
from benchmarks.reliability.nights import NEW_EVERY, many_nights
from benchmarks.reliability.processes import contests, gc_kills, interrupts, kills, of_nights, upkeep_kills
from ecgbatch.synthetic.archive import ArchiveShape, write_archive


class Campaigns:
    """What there is to run, by name; the archives that it runs on are made when they are first needed."""

    def __init__(self, options: argparse.Namespace, benches: Path, folder: Path) -> None:
        self.options, self.benches, self.folder, self.seed = options, benches, folder, options.seed

    @cached_property
    def bench(self) -> Bench:
        """Of few records of 10 s, from convert to report."""
        return undisturbed(self.benches / "bench", self.options.records)

    @cached_property
    def training(self) -> Bench:
        """Of as many records as five folds by patient need."""
        return undisturbed(self.benches / "training", 16, TRAINING)

    @cached_property
    def several(self) -> Bench:
        """Of four lengths of records, and so four stores of each kind."""
        return undisturbed(self.benches / "several", 2, durations_s=(8.0, 12.0, 24.0, 48.0))

    @cached_property
    def growing(self) -> Bench:
        """Of as many records as new ones come in the nights; only its archive is used."""
        bench = Bench(self.folder / "growing-from", self.folder / "growing-from" / "archive", {})
        write_archive(bench.archive, ArchiveShape(n_records=-(-self.count(200) // NEW_EVERY), duration_s=10.0), seed=1)
        return bench

    def count(self, usual: int) -> int:
        """Return how many cases to try."""
        return self.options.count or usual

    def nights(self, by: str) -> Cases:
        """Have nights in one process, at most so many and for so long."""
        return many_nights(self.growing, self.count(200), self.options.minutes, self.folder / f"nights-by-{by}", by)

    def swept(self, what: str) -> Cases:
        """Meet every stride-th call by what strace can do."""
        return injected(self.bench, self.options.stride, what, self.folder)

    def at_places(self, *faults: str) -> Cases:
        """Meet the calls on the places that every run touches, in an order drawn by the seed, at most ``--count`` of them."""
        return islice(injected_at_places(self.bench, faults, self.folder, seed=self.seed), self.options.count)

    def every_call(self, *faults: str) -> Cases:
        """Meet every stride-th call on the workspace, from the seed-th on."""
        return at_every_call(self.bench, self.options.stride, self.seed, faults, self.folder)

    @property
    def by_name(self) -> dict[str, Callable[[], Cases]]:
        """Name to campaign: the table's order."""
        return {
            "F1": lambda: kills(self.bench, self.count(50), self.seed, self.folder),
            "F1T": lambda: kills(self.training, self.count(40), self.seed, self.folder, ("train",)),
            "F1U": lambda: upkeep_kills(of_nights(self.benches / "of-nights"), self.count(40), self.seed, self.folder),
            "F1G": lambda: gc_kills(self.bench, self.count(20), self.seed, self.folder),
            "F1I": lambda: interrupts(self.bench, self.count(10), self.seed, self.folder),
            "F2": lambda: self.swept("signal=KILL"),
            "F3": lambda: (case for error in ("EIO", "ENOSPC") for case in self.swept(f"error={error}")),
            "F2P": lambda: self.at_places("signal=KILL"),
            "F3P": lambda: self.at_places("error=EIO", "error=ENOSPC", "error=EMFILE"),
            "F2C": lambda: self.every_call("KILL"),
            "F3C": lambda: self.every_call("EIO", "ENOSPC", "EMFILE"),
            "F4": lambda: full_disks(self.bench, self.count(40), self.folder),
            "F5": lambda: power_cuts(self.several, self.count(30), self.seed, self.folder),
            "F6": lambda: killed_workers(self.several, self.count(12), self.seed, self.folder),
            "F7": lambda: poison(self.count(200), self.seed, self.folder / "poison"),
            "F8": lambda: lost_clusters(self.several, self.count(12), self.seed, self.folder),
            "F9": lambda: contests(self.bench, self.count(20), 2, self.seed, self.folder),
            "F10": lambda: contests(self.bench, self.count(20), 8, self.seed, self.folder),
            "F11": lambda: wrong_clocks(self.bench, self.folder),
            "F12": lambda: faulty_stores(self.bench, self.count(50), self.seed, self.folder),
            "F16": lambda: changing_archives(self.bench, self.count(20), self.seed, self.folder),
            "F18": lambda: self.nights("stages"),
            "F18P": lambda: self.nights("flow"),
        }


def main() -> None:
    """Run the campaigns asked for."""
    names = list(Campaigns(argparse.Namespace(seed=0), Path(), Path()).by_name)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.reliability", description=told)
    parser.add_argument("--only", action="append", choices=names, help="this campaign (repeatable)")
    parser.add_argument("--count", type=int, help="F1: kills a stage; others: cases (each has its usual number)")
    parser.add_argument(
        "--stride", type=int, default=1, help="F2, F3, F2C, F3C: each N-th call (of the last two from the seed-th on)"
    )
    parser.add_argument("--minutes", type=float, default=math.inf, help="of each campaign: begin no case after so long")
    parser.add_argument("--benches", type=Path, help="keep undisturbed workspaces here, take those that are here (of this tree!)")
    parser.add_argument("--records", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--ledger", type=Path, default=page.LEDGER, help="where figures are kept, a JSON line each")
    parser.add_argument("--write", action="store_true", help="keep the figures and write docs/RELIABILITY.md")
    parser.add_argument("--page", action="store_true", help="run nothing, write the page from the figures kept")
    options = parser.parse_args()
    failed = 0
    if not options.page:
        with TemporaryDirectory() as benches:
            failed = sum(_ran(name, options, options.benches or Path(benches)) for name in options.only or names)
    if options.write or options.page:
        page.write(options.ledger)
    raise SystemExit(failed > 0)


def _ran(name: str, options: argparse.Namespace, benches: Path) -> int:
    """Run a campaign, in a folder of its own; print a line, keep its figures where asked, return how many cases were wrong."""
    began = time.time()
    with TemporaryDirectory() as folder:
        # Nothing here keeps the cases: whatever they have mounted or started ends with them, before the folder does.
        tally = watched(name, within(options.minutes, name, Campaigns(options, benches, Path(folder)).by_name[name]()))
    seconds = time.time() - began
    settings = {key: getattr(options, key) for key in ("seed", "stride", "records", "count")}
    print(
        f"{name}: {tally.tried} tried, {tally.hit} hit by the fault, {len(tally.failures)} wrong; {seconds:.0f} s, {settings}",
        flush=True,
    )
    if options.write:
        page.keep(options.ledger, name, tally, seconds, {key: one for key, one in settings.items() if one})
    return len(tally.failures)


OF_NIGHTS = ("F18", "F18P")
"""Campaigns that keep to their time themselves: what counts comes after the last night."""


def within(minutes: float, name: str, cases: Cases) -> Cases:
    """Yield a campaign's cases for so long."""
    began = time.monotonic()
    for case in cases:
        yield case
        if name not in OF_NIGHTS and time.monotonic() - began > 60 * minutes:
            return


def watched(name: str, cases: Cases) -> Tally:
    """Count a campaign's cases and say what goes wrong when it does; Ctrl-C ends it, with what it has by then."""
    tally = Tally()
    try:
        _count(name, cases, tally)
    except KeyboardInterrupt:
        tally.note = "stopped by the clock"
    return tally


def _count(name: str, cases: Cases, tally: Tally) -> None:
    for case, hit, wrong in cases:
        tally.tried += 1
        tally.hit += hit
        tally.failures += [f"{case}: {one}" for one in wrong[:1]]
        if wrong:
            print(f"  {name} {case}: {'; '.join(wrong)}", flush=True)
        elif tally.tried % 10 == 0:
            print(f"  {name}: {tally.tried} tried, {tally.hit} hit, {len(tally.failures)} wrong", flush=True)


if __name__ == "__main__":
    main()
