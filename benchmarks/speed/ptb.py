"""549 records shaped like the PTB database: convert, beats and score, by ecgbatch, by its peers, and at the machine's limit."""

from __future__ import annotations

import math
import shutil
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import naive, ours, proof
from benchmarks.speed.machine import files_below, multiplications_a_second, seconds_to_read, seconds_to_write
from benchmarks.speed.section import Claim, Section, Times
from ecgbatch.synthetic.archive import ArchiveShape, Truth, write_archive
from flows.cluster import engine

RECORD_S = 115.2
N_LEADS = 15
R_TOLERANCE_S = 0.05
"""An R peak this close to a true one has found it; ANSI/AAMI EC57 allows 0.15 s."""

FIR_TAPS = 161
"""Of the low-pass before 1000 Hz become 125 Hz: SciPy's ``resample_poly``, 20 x 8 + 1."""

STAGES = ("convert", "beats", "score")
EACH_LEAD = ("convert", "beats", "score, lead by lead")
WAYS = ("naive", "ecgbatch", "limit")


def measure(folder: Path, *, n_records: int, n_sample: int, rounds: int) -> Section:
    """Run all ways in turn, each round in empty workspaces; files are in the page cache.

    Peers take ``n_sample`` records a round; their seconds are given for all. Every way has run once on two short records before:
    imports and compiled kernels are not what is compared.
    """
    archive, short = folder / "archive", folder / "short"
    with engine() as on_threads:
        truth = write_archive(archive, ArchiveShape(n_records=n_records, duration_s=RECORD_S), seed=1, map=on_threads)
    write_archive(short, ArchiveShape(n_records=2, duration_s=22.0))
    models = {
        "paper": ours.write_untrained_model(folder / "model-paper", ours.PAPER, ours.FIFTEEN),
        "one lead": ours.write_untrained_model(folder / "model-one-lead", ours.PAPER, ours.LEAD_TWO),
        "lead II": ours.write_untrained_model(folder / "model-ii", ours.ROBUST, ours.LEAD_TWO),
    }
    absent = naive.missing_peers()
    run_peers(short, folder / "peers", models, absent, Times(), 2)
    run_ours(short, folder / "work", models, Times())
    times = Times()
    steps = {
        "ours": lambda: run_ours(archive, folder / "work", models, times),
        "peers": lambda: run_peers(archive, folder / "peers", models, absent, times, n_sample),
    }
    runs: dict[str, Any] = {}
    for number in range(rounds):
        for name in sorted(steps, reverse=bool(number % 2)):
            runs |= steps[name]() or {}
        note_limits(archive, folder, models, times)
    names = _names(archive)[:n_sample]
    return section(folder, names, runs, times, absent, truth, n_records, rounds)


def _names(archive: Path) -> list[str]:
    return (archive / "RECORDS").read_text().split()


def run_ours(archive: Path, work: Path, models: dict[str, Path], times: Times) -> dict[str, Any]:
    """Run ecgbatch by the paper's extraction, and on robust beats of which lead II is scored; return runs and probabilities."""
    shutil.rmtree(work, ignore_errors=True)
    times.take("convert", "ecgbatch", lambda: ours.convert(archive, work))
    times.take("beats", "ecgbatch", lambda: ours.beats(work, ours.PAPER))
    times.take("measure", "ecgbatch", lambda: ours.measure(work, ours.PAPER))
    runs: dict[str, Any] = {"paper": times.take("score", "ecgbatch", lambda: ours.score(work, models["paper"]))}
    runs["each lead"] = times.take("score, lead by lead", "ecgbatch", lambda: ours.score_leads(work, models["one lead"]))
    times.take("robust beats", "ecgbatch", lambda: ours.beats(work, ours.ROBUST))
    ours.measure(work, ours.ROBUST)
    runs["lead II"] = times.take("lead II score", "ecgbatch", lambda: ours.score(work, models["lead II"]))
    return runs


def run_peers(archive: Path, work: Path, models: dict[str, Path], absent: dict[str, str], times: Times, n_sample: int) -> None:
    """Run the naive ways on the first ``n_sample`` records, and note what all would take."""
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    everything = _names(archive)
    names = everything[:n_sample]
    share = len(everything) / len(names)

    def take(stage: str, way: str, what: Any) -> None:
        times.take(stage, way, what, share)

    take("convert", "naive", lambda: naive.convert(archive, names, work))
    take("convert", "int16 arrays", lambda: naive.convert_int16(archive, names, work))
    take("beats", "naive", lambda: naive.paper_beats(names, work))
    take("score", "naive", lambda: naive.score(names, work, "paper", models["paper"], scaled=True, leads=range(N_LEADS)))
    take("score, lead by lead", "naive", lambda: naive.score_leads(names, work, "paper", models["one lead"]))
    for detector in naive.DETECTORS:
        if detector not in absent:
            take("robust beats", detector, lambda d=detector: naive.window_beats(names, work, d))
    if "neurokit2" not in absent:
        take("lead II beats", "neurokit2", lambda: naive.window_beats(names, work, "neurokit2", 1))
        score = {"scaled": False, "leads": (0,)}
        take("lead II score", "neurokit2", lambda: naive.score(names, work, "neurokit2", models["lead II"], **score))


def note_limits(archive: Path, folder: Path, models: dict[str, Path], times: Times) -> None:
    """Note what the machine needs for each stage.

    convert: to write and fsync every stored byte (reading fits beside it); beats and score: to read the input, to multiply as
    fast as a matrix product does, and to write and fsync; nothing overlapped.
    """
    work, sources = folder / "work", [path for path in files_below(archive) if path.suffix in (".dat", ".xyz")]
    stored = {name: files_below(work / name) for name in ("signals", "peaks", "beats", "measurements", "scores")}
    paper = _store_of(stored["beats"], ours.PAPER.n_samples)
    single = multiplications_a_second("float32")
    n_samples = sum(path.stat().st_size for path in sources) / 2 / N_LEADS
    n_beats = paper["n_beats"]
    read = {name: seconds_to_read(paths) for name, paths in (("source", sources), ("signals", stored["signals"]))}
    write = {
        name: _written(folder, [path.stat().st_size for path in paths])
        for name, paths in (("signals", stored["signals"]), ("beats", paper["files"]), ("scores", stored["scores"]))
    }
    fir = n_samples / 8 * N_LEADS * FIR_TAPS * 2 / single
    n_explained = len(_names(archive)) * (1 + 3 * N_LEADS)  # the median beat and, for QRS, ST and T of each lead, a copy
    network = (n_beats + n_explained) * ours.network_flops(models["paper"]) / single
    each = n_beats * ours.network_flops(models["one lead"]) / single
    read_beats = seconds_to_read(paper["files"])
    times.note("convert", "limit", max(write["signals"], read["source"]))
    times.note("beats", "limit", read["signals"] + fir + write["beats"])
    times.note("score", "limit", read_beats + network + write["scores"])
    times.note("score, lead by lead", "limit", read_beats + N_LEADS * each)
    raw = [path.stat().st_size for path in sources]
    times.note("convert", "raw / 1.9", _written(folder, [round(sum(raw) / 1.9)]))


def _written(folder: Path, sizes: list[int]) -> float:
    seconds = seconds_to_write(folder / "written", sizes)
    shutil.rmtree(folder / "written")
    return seconds


def _store_of(files: list[Path], n_samples: int) -> dict[str, Any]:
    """Return files and number of beats of the beats store of windows of this length."""
    from storage import open_store

    for root in sorted({path for path in files if path.parent.suffix == ".zarr" and path.name == "zarr.json"}):
        store = open_store(str(root.parent))
        if store.sizes["sample"] == n_samples:
            return {"files": [path for path in files if root.parent in path.parents], "n_beats": store.sizes["beat"]}
    raise LookupError(f"no beats store of windows of {n_samples} samples")


def section(
    folder: Path, names: list[str], runs: dict[str, Any], times: Times, absent: dict[str, str], truth: Truth, n_records: int,
    rounds: int,
) -> Section:  # fmt: skip
    """Return the section: tables, whether both sides did the same, claims."""
    minutes = n_records * RECORD_S / 60
    proofs = proof.floor(folder / "archive", names, folder)
    out = Section(f"{n_records} records shaped like PTB: convert, beats, score")
    out.lines = [
        f"Synthetic records of {RECORD_S:g} s, {N_LEADS} leads, 1000 Hz ({minutes:.0f} minutes of ECG, "
        f"{n_records * RECORD_S * 30_000 / 1e9:.2f} GB); medians (lowest-highest) of {rounds} interleaved rounds, seconds of "
        f"processor time in square brackets. Peers ran on the first {len(names)} records of each round and are given for all "
        f"{n_records} (seconds a record times records). Both sides write probability, interval and evidence of each record; "
        "ecgbatch's side holds what peers lack: checks of every record, receipts, reading back, fsync.",
        "",
        "### The extraction of Kachuee et al. 2018, 15 leads, one network of 15 leads",
        "",
        *times.table(STAGES, WAYS, "together"),
        "",
        f"Measuring, which no peer does, is left out: {statistics.median(times.wall['measure', 'ecgbatch']):.2f} s. "
        "Limit: convert: every stored byte written and fsynced (reading fits beside it); beats: signals read, resampled to 125 "
        f"Hz by a filter of {FIR_TAPS} taps at the speed of a float32 matrix product, written and fsynced; score: beats read, "
        "the network's multiplications at that speed, to score all beats and explain each record, written and fsynced.",
        "",
        *_same(folder, names, runs),
        "",
        "The same with the paper's network of one lead on every lead's part of every beat, fifteen times the work:",
        "",
        *times.table(EACH_LEAD, WAYS, "together"),
        "",
        "### Conversion",
        "",
        *times.table(["convert"], ["naive", "int16 arrays", "ecgbatch", "limit", "raw / 1.9"]),
        "",
        "Naive: wfdb, one float32 Zarr array a record. int16 arrays: wfdb, one chunked int16 array a record with blosc, as "
        "bio2zarr lays out arrays; neither is fsynced nor checked. raw / 1.9: one file of the raw bytes over 1.9, "
        "written and fsynced.",
        "",
        *proof.lines(proofs),
        "",
        "### Windows around R peaks",
        "",
        *times.table(["robust beats"], [*(peer for peer in naive.DETECTORS if peer not in absent), "ecgbatch"]),
        "",
        "ecgbatch looks at all leads together; peers look for R peaks on lead II, resample and cut all leads. ",
        *_detection(folder, names, truth, absent),
    ]
    out.claims = _claims(times, n_records, n_records / proof.records_a_second(proofs))
    if "neurokit2" in absent:
        out.lines += ["", f"NeuroKit2 {absent['neurokit2']}."]
    else:
        _add_lead_two(out, times)
    for stage in STAGES:
        out.bars += [(stage, way, statistics.median(times.wall[stage, way])) for way in WAYS]
    out.bars += [("together", way, statistics.median(times.total(way, STAGES))) for way in WAYS]
    out.figures = {"wall": {"/".join(key): value for key, value in times.wall.items()}}
    return out


def _claims(times: Times, n_records: int, proofs_s: float) -> list[Claim]:
    """Return what was to be reached; ``proofs_s`` are the seconds that the proofs of all records take on all processors."""
    total = {way: statistics.median(times.total(way, STAGES)) for way in WAYS}
    each = {way: statistics.median(times.total(way, EACH_LEAD)) for way in WAYS}
    raw_s, convert_s = (statistics.median(times.wall["convert", way]) for way in ("raw / 1.9", "ecgbatch"))
    disk = n_records * RECORD_S * 1000 * N_LEADS * 2 / 1.9 / (convert_s / 1.8) / 1e6
    slow = {
        "naive": f"11 times would be {total['naive'] / 11:.1f} s; the limit is {total['limit']:.1f} s, and the proofs that it "
        f"leaves out take {proofs_s:.1f} s on all processors.",
        "limit": "the limit knows bytes and multiplications only; digests, compression and reading back (table below) take "
        f"{proofs_s:.1f} s of `convert` on all processors. Less those it would be "
        f"{(total['ecgbatch'] - proofs_s) / total['limit']:.2f}.",
        "each": f"15 times would be {each['naive'] / 15:.1f} s, {each['naive'] / 15 / each['limit']:.2f} of the limit.",
        "raw": f"1.8 times would be {1.8 * raw_s:.1f} s on this disk; the proofs alone take {proofs_s:.1f} s on all processors. "
        f"It is reached on a disk that writes at most {disk:.0f} MB a second.",
        "beats": "kernels alone, without a store, are compared below; here signals are decompressed as well, and what is made is "
        "compressed, hashed, fsynced and read back, which peers leave out.",
    }
    return [
        Claim(
            "`kachuee`, one network of 15 leads: times faster than naive", times.ratios(STAGES, "naive", "ecgbatch"), 11,
            why=slow["naive"],
        ),
        Claim("the same: times the measured limit", times.ratios(STAGES, "ecgbatch", "limit"), 2.1, False, slow["limit"]),
        Claim(
            "`kachuee`, a network on each of 15 leads: times faster", times.ratios(EACH_LEAD, "naive", "ecgbatch"), 15,
            why=slow["each"],
        ),
        Claim("the same: times the measured limit", times.ratios(EACH_LEAD, "ecgbatch", "limit"), 1.6, False),
        Claim("convert: times faster than wfdb and float32 Zarr", times.ratios(["convert"], "naive", "ecgbatch"), 7),
        Claim(
            "convert: times raw bytes / 1.9 written and fsynced", times.ratios(["convert"], "ecgbatch", "raw / 1.9"), 1.8, False,
            slow["raw"],
        ),
        Claim(
            "`kachuee` beats, store and all: times faster than naive", times.ratios(["beats"], "naive", "ecgbatch"), 25,
            why=slow["beats"] + " Its sums equal SciPy's in double precision to the last bit.",
        ),
        Claim(
            "windows around R peaks, store and all: times faster than SciPy's way",
            times.ratios(["robust beats"], "scipy", "ecgbatch"), 25, why=slow["beats"],
        ),
    ]  # fmt: skip


def _add_lead_two(out: Section, times: Times) -> None:
    """Add the comparison on lead II; ecgbatch still converts, searches and cuts all 15 leads."""
    for stage, way in (("convert", "naive"), ("lead II beats", "neurokit2"), ("lead II score", "neurokit2")):
        for wall, processor in zip(times.wall[stage, way], times.processor[stage, way], strict=True):
            times.note(f"II: {stage.removeprefix('lead II ')}", "NeuroKit2", wall, processor)
    for stage, own in (("convert", "convert"), ("beats", "robust beats"), ("score", "lead II score")):
        for wall, processor in zip(times.wall[own, "ecgbatch"], times.processor[own, "ecgbatch"], strict=True):
            times.note(f"II: {stage}", "ecgbatch", wall, processor)
    stages = [f"II: {stage}" for stage in STAGES]
    out.lines += [
        "",
        "### Lead II only, NeuroKit2's R peaks, one network of one lead",
        "",
        *times.table(stages, ["NeuroKit2", "ecgbatch"], "together"),
        "",
        "wfdb and float32 Zarr, NeuroKit2 on lead II at 1000 Hz, SciPy's resampling and a loop for lead II alone; ecgbatch finds "
        "and cuts the beats of all 15 leads, then scores lead II.",
    ]
    out.claims.append(
        Claim("lead II only: times faster than the NeuroKit2 way", times.ratios(stages, "NeuroKit2", "ecgbatch"), 6)
    )


def _same(folder: Path, names: list[str], runs: dict[str, Any]) -> list[str]:
    """Return a line that says whether both sides found the same beats and probabilities in the sampled records."""
    peaks, theirs = ours.peaks_found(folder / "work", ours.PAPER), naive.peaks_found(names, folder / "peers", "paper")
    n_same = sum(len(np.intersect1d(peaks[name], theirs[name])) for name in names)
    n_own, n_theirs = (sum(len(side[name]) for name in names) for side in (peaks, theirs))
    scores, by_lead = ours.scores_found(folder / "work", runs["paper"]), naive.scores_found(folder / "peers", "paper-leads")
    apart, evidence_apart = [], []
    for name, other in naive.scores_found(folder / "peers", "paper").items():
        if other["probability"] == other["probability"]:
            probability, evidence = scores[name]
            apart += [abs(probability - other["probability"]), abs(runs["each lead"][name] - by_lead[name]["probability"])]
            shown = evidence[:, np.isfinite(evidence).any(axis=0)]
            evidence_apart.append(float(np.abs(shown - np.array(other["evidence"])).max()))
    return [
        f"Both sides did the same: of {n_theirs} beats by naive and {n_own} by ecgbatch in {len(names)} records {n_same} are on "
        f"the same sample; {len(apart)} probabilities that both computed differ by at most {max(apart, default=math.nan):.1e}, "
        f"evidence by at most {max(evidence_apart, default=math.nan):.1e}."
    ]


def _detection(folder: Path, names: list[str], truth: Truth, absent: dict[str, str]) -> list[str]:
    """Return a table of how many of the true R peaks each way found in the sampled records."""
    rows = ["", "| way | beats found | true R peaks found within 50 ms | found R peaks that are true |", "|---|---:|---:|---:|"]
    peaks = {"ecgbatch": ours.peaks_found(folder / "work", ours.ROBUST)}
    import zarr

    for detector in naive.DETECTORS:
        if detector not in absent:
            group = zarr.open_group(folder / "peers" / f"{detector}.zarr", mode="r")
            peaks[detector] = {name: group[f"{name}/r_sample"][:] for name in names}
    for way, found in peaks.items():
        n_true, n_found, n_hits = detection(truth, {name: found[name] for name in names})
        rows.append(f"| {way} | {n_found} of {n_true} | {100 * n_hits / n_true:.2f} % | {100 * n_hits / max(1, n_found):.2f} % |")
    return rows


def detection(truth: Truth, peaks: dict[str, np.ndarray]) -> tuple[int, int, int]:
    """Return true R peaks, found ones, and how many of the true ones were found, in the records of ``peaks``."""
    n_true = n_found = n_hits = 0
    for record in truth.records:
        if record.record_name not in peaks:
            continue
        here = np.sort(np.asarray(peaks[record.record_name], dtype=np.int64))
        n_true, n_found = n_true + len(record.r_sample), n_found + len(here)
        if len(here):
            after = np.searchsorted(here, record.r_sample).clip(0, len(here) - 1)
            before = (after - 1).clip(0)
            distance = np.minimum(np.abs(here[after] - record.r_sample), np.abs(here[before] - record.r_sample))
            n_hits += int((distance <= R_TOLERANCE_S * record.sampling_frequency_hz).sum())
    return n_true, n_found, n_hits
