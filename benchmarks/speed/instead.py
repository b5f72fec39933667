"""What a user picks instead for an archive of ten-second records, on all processors, and the machine's limit.

A plain PyTorch pipeline: a ``DataLoader`` whose processes read by wfdb, resample and cut beats by SciPy; batches of records are
scored by the same members, a probability a record is written. And NeuroKit2's ``ecg_process`` of lead II, a process a processor:
R peaks, waves and rate. Neither keeps signals or beats, sets a record aside, gives an interval, evidence or a page.
"""

from __future__ import annotations

import json
import math
import statistics
import warnings
from collections.abc import Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from scipy.signal import resample_poly

from benchmarks.speed import naive, ours
from benchmarks.speed.machine import files_below, multiplications_a_second, seconds_to_read, seconds_to_write
from benchmarks.speed.section import Times
from ecgbatch.model.evidence import EVIDENCE_MEMBERS, SEGMENTS
from ecgbatch.model.files import load_model
from flows.cluster import usable_processors
from storage import open_store

BATCH_RECORDS = 64
N_LEADS, LEAD_TWO = 12, 1
FIR_TAPS = 81
"""Of SciPy's filter that resamples 500 to 125 Hz: ``resample_poly`` takes ten times the factor to either side."""
STAGES = ("convert", "beats", "score")


class Records:
    """Records as a map-style data set of PyTorch: the standardised beats (beat, lead, sample) float32 of each."""

    def __init__(self, archive: Path, names: Sequence[str]) -> None:
        self.archive, self.names = archive, list(names)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, number: int) -> np.ndarray:
        record = naive.wfdb.rdrecord(str(self.archive / self.names[number]))
        signal, fs = record.p_signal.astype(np.float32), int(record.fs)
        common = math.gcd(fs, naive.RATE_HZ)
        at_125 = resample_poly(signal, naive.RATE_HZ // common, fs // common, axis=0)
        places = [round(peak * naive.RATE_HZ / fs) for peak in naive.by_scipy(signal[:, LEAD_TWO], fs)]
        windows = [
            at_125[r - naive.BEFORE : r + naive.AFTER].T for r in places if r >= naive.BEFORE and r + naive.AFTER <= len(at_125)
        ]
        beats = np.array(windows, np.float32).reshape(-1, signal.shape[1], naive.BEFORE + naive.AFTER)
        mean, sd = beats.mean(axis=(0, 2), keepdims=True), beats.std(axis=(0, 2), keepdims=True)
        return np.clip((beats - mean) / np.maximum(sd, 0.001), -8, 8)


def torch_pipeline(archive: Path, names: Sequence[str], model: Path, out: Path) -> None:
    """Score records in batches and write the probability of each."""
    import torch

    networks = naive.networks(model, N_LEADS)
    loader = torch.utils.data.DataLoader(Records(archive, names), BATCH_RECORDS, num_workers=usable_processors(), collate_fn=list)
    torch.set_num_threads(usable_processors())
    probabilities: list[float] = []
    with torch.no_grad():
        for batch in loader:
            lengths = [len(beats) for beats in batch]
            together = torch.from_numpy(np.concatenate(batch))
            mi = torch.stack([network(together).softmax(1)[:, 1] for network in networks]).mean(0)
            probabilities += [float(part.mean()) for part in mi.split(lengths)]
    out.write_text(json.dumps(dict(zip(names, probabilities, strict=True))))


def neurokit_pipeline(archive: Path, names: Sequence[str], out: Path) -> None:
    """Process lead II of every record by NeuroKit2 and write each record's mean rate."""
    with get_context("fork").Pool(usable_processors()) as pool:
        rates = pool.starmap(_processed, [(str(archive), name) for name in names], chunksize=4)
    out.write_text(json.dumps(dict(zip(names, rates, strict=True))))


def _processed(archive: str, name: str) -> float:
    import neurokit2

    record = naive.wfdb.rdrecord(f"{archive}/{name}", channels=[LEAD_TWO])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signals, _ = neurokit2.ecg_process(record.p_signal[:, 0], sampling_rate=int(record.fs))
    return float(signals["ECG_Rate"].mean())


def run(archive: Path, names: Sequence[str], model: Path, folder: Path, absent: dict[str, str], times: Times) -> None:
    """Run both on the first records; what they take is noted for all of ``names``, as the stage "everything"."""
    few = {"PyTorch": names[:512], "NeuroKit2": names[:64]}
    works = {"PyTorch": lambda own: torch_pipeline(archive, own, model, folder / "torch.json")}
    if "neurokit2" not in absent:
        works["NeuroKit2"] = lambda own: neurokit_pipeline(archive, own, folder / "neurokit.json")
    for way, work in works.items():
        times.take("everything", way, lambda work=work, own=few[way]: work(own), len(names) / len(few[way]))


def limits(archive: Path, work: Path, model: Path, folder: Path) -> dict[str, float]:
    """Return the seconds that the machine needs for each of ``STAGES``, nothing overlapped but reading beside writing.

    convert: to write and fsync every stored byte; beats: to read signals, to filter as fast as a matrix product does, to write;
    score: to read beats, to multiply, in float32, all products of each member for each beat and of those that explain for each
    changed copy, to write.
    """
    sources = [path for path in files_below(archive) if path.suffix == ".dat"]
    stored = {name: files_below(work / name) for name in ("signals", "beats", "scores")}
    single = multiplications_a_second("float32")
    n_members, flops = len(load_model(model).members), ours.network_flops(model)
    n_beats = sum(open_store(str(path)).sizes["beat"] for path in (work / "beats").glob("*.zarr"))
    fir = sum(path.stat().st_size for path in sources) / 2 / 4 * FIR_TAPS * 2 / single
    n_explained = len(sources) * (1 + len(SEGMENTS) * N_LEADS) * min(n_members, EVIDENCE_MEMBERS)
    network = (n_beats * n_members + n_explained) * flops / single
    read = {name: seconds_to_read(paths) for name, paths in {**stored, "source": sources}.items()}
    write = {
        name: seconds_to_write(folder / f"limit-{name}", [path.stat().st_size for path in paths])
        for name, paths in stored.items()
    }
    return {
        "convert": max(write["signals"], read["source"]),
        "beats": read["signals"] + fir + write["beats"],
        "score": read["beats"] + network + write["scores"],
    }


def lines(times: Times, n_records: int, limit: dict[str, float], absent: dict[str, str]) -> list[str]:
    """Return a table of the ways, the same job first: seconds for all records, and times as long as ecgbatch's three stages."""
    own = statistics.median(times.total("ecgbatch", STAGES))
    took = {way: statistics.median(seconds) for (stage, way), seconds in times.wall.items() if stage == "everything"}
    rows: list[tuple[str, float]] = [
        ("ecgbatch: convert, beats, score", own),
        ("PyTorch: wfdb, SciPy, batches of 64 records, a loader of a process a processor", took["PyTorch"]),
        *((("NeuroKit2: `ecg_process` of lead II, a process a processor", took["NeuroKit2"]),) if "NeuroKit2" in took else ()),
        ("limit: bytes read, written and fsynced, multiplications", sum(limit.values())),
    ]
    parts = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in limit.items())
    return [
        "What one picks instead, in the same run (peers on the first 512 and 64 records before and after, given for all "
        f"{n_records:,}):",
        "",
        "| way | seconds | times ecgbatch's |",
        "|---|---:|---:|",
        *(f"| {way} | {seconds:,.1f} | {seconds / own:.2f} |" for way, seconds in rows),
        "",
        "PyTorch scores the same beats by the same members, and leaves a probability a record: no store, no record set aside, no "
        f"interval, evidence or page. NeuroKit2 leaves peaks, waves and rate of one lead, and no score. The limit: {parts}; "
        "ecgbatch's networks make fewer multiplications than their layers have, and that in bfloat16 where the processor has "
        "a unit for it: they may pass the limit.",
        *(f"{name}: {why}." for name, why in absent.items() if name == "neurokit2"),
    ]
