"""Many short records: 20,000 of ten seconds, and whether 50,000 tiny ones cost five times what 10,000 do."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from benchmarks.speed import instead, naive, proof, whole
from benchmarks.speed.section import Claim, Section, Times
from ecgbatch.model.files import shipped_model
from ecgbatch.synthetic.archive import ArchiveShape, write_archive
from flows.cluster import engine


def ten_seconds(folder: Path, *, n_records: int, rounds: int) -> Section:
    """Run all stages on ten-second records of twelve leads at 500 Hz with the shipped model; before and after, what one picks
    instead: an archive of a hospital's mix, one patient in twenty with an infarction, one in ten with another disease.
    """
    with engine() as on_threads:
        write_archive(
            folder / "archive",
            ArchiveShape(n_records, 10.0, 500.0, 12, mi_share=0.05, other_share=0.1),
            seed=2,
            map=on_threads,
        )
    times, peak, absent = Times(), 0, naive.missing_peers()
    peers = partial(instead.run, folder / "archive", _names(folder / "archive"), shipped_model(), folder, absent)
    for _ in range(rounds):
        peers(times)
        shutil.rmtree(folder / "work", ignore_errors=True)
        done = whole.run(folder / "archive", folder / "work", warm=True)
        peak = max(peak, done["peak_bytes"])
        for stage, seconds in done["seconds"].items():
            times.note(stage, "ecgbatch", seconds, done["processor"][stage])
        peers(times)
    limit = instead.limits(folder / "archive", folder / "work", shipped_model(), folder)
    out = Section(f"{n_records:,} records of ten seconds, 12 leads, 500 Hz: the whole run")
    proofs = proof.floor(folder / "archive", _names(folder / "archive")[:500], folder)
    rates = [n_records / seconds for seconds in times.wall["convert", "ecgbatch"]]
    each = " ".join(
        f"{stage} {n_records / sorted(times.wall[stage, 'ecgbatch'])[rounds // 2]:,.0f}," for stage in whole.STAGES
    ).rstrip(",")
    out.lines = [
        "A hospital's mix: 5 % of the patients with an infarction, 10 % with another disease. A command of its own, libraries "
        "and the kernels of convert loaded, with the shipped model, no member of which "
        f"knows these patients; {rounds} times; seconds of processor time in square brackets.",
        "",
        *times.table(whole.STAGES, ["ecgbatch"], "together"),
        "",
        f"Records a second: {each}. Peak memory {peak / 1e6:,.0f} MB.",
        "",
        *instead.lines(times, n_records, limit, absent),
        "",
        *proof.lines(proofs),
    ]
    why = (
        f"what a store needs to prove itself allows {proof.records_a_second(proofs):,.0f} a second with nothing else done (table "
        "below); headers, quality and putting samples in their places cost as much again and more. It takes more processors "
        "(`--dask`)."
    )
    out.claims = [Claim(f"convert: records of ten seconds a second, warm ({n_records:,})", rates, 5000, why=why)]
    out.figures = {"wall": {stage: times.wall[stage, "ecgbatch"] for stage in whole.STAGES}, "peak_bytes": peak}
    return out


def _names(archive: Path) -> list[str]:
    return (archive / "RECORDS").read_text().split()


def growth(folder: Path, *, n_few: int, n_many: int) -> Section:
    """Compare the whole run on few and on many tiny records: four seconds, twelve leads, 125 Hz."""
    found = {}
    for n_records in (n_few, n_many):
        with engine() as on_threads:
            write_archive(
                folder / f"archive{n_records}",
                ArchiveShape(n_records=n_records, duration_s=4, sampling_frequency_hz=125, n_leads=12),
                map=on_threads,
            )
        found[n_records] = whole.run(folder / f"archive{n_records}", folder / f"work{n_records}")
        for name in ("archive", "work"):
            shutil.rmtree(folder / f"{name}{n_records}")
    few, many = found[n_few], found[n_many]
    out = Section(f"Growth: {n_few:,} and {n_many:,} tiny records")
    out.lines = [
        "Four seconds, 12 leads, 125 Hz; the whole run, each in a process of its own, once.",
        "",
        f"| stage | {n_few:,} (s) | {n_many:,} (s) | ratio |",
        "|---|---:|---:|---:|",
    ]
    for stage in whole.STAGES:
        a, b = few["seconds"][stage], many["seconds"][stage]
        out.lines.append(f"| {stage} | {a:.1f} | {b:.1f} | {b / a:.2f} |")
    totals = [sum(one["seconds"].values()) for one in (few, many)]
    peaks = [one["peak_bytes"] for one in (few, many)]
    out.lines.append(f"| **together** | {totals[0]:.1f} | {totals[1]:.1f} | {totals[1] / totals[0]:.2f} |")
    out.lines.append(f"| peak memory (MB) | {peaks[0] / 1e6:.0f} | {peaks[1] / 1e6:.0f} | {peaks[1] / peaks[0]:.2f} |")
    times = n_many / n_few
    out.claims = [
        Claim(f"time for {n_many:,} records, over that for {n_few:,}", [totals[1] / totals[0]], round(1.06 * times, 2), False),
        Claim(f"peak memory for {n_many:,} records, over that for {n_few:,}", [peaks[1] / peaks[0]], 1.2, False),
    ]
    out.figures = {str(n): one for n, one in found.items()}
    return out
