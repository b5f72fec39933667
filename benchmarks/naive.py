"""The naive way: what one writes first, a loop over records with the usual libraries, one record and one beat at a time.

wfdb reads physical float64 samples; each record becomes a float32 Zarr array; SciPy resamples; ``find_peaks`` finds R peaks on
lead II; a Python loop cuts the beats; PyTorch scores them one by one. Same windows, leads, network and weights as ecgbatch's.
"""

from __future__ import annotations

import json
import math
import time
import warnings
from pathlib import Path

import numpy as np
import torch
import zarr
from safetensors.numpy import load_file
from scipy.signal import butter, find_peaks, resample_poly, sosfiltfilt

from ecgbatch.model import BeatNet

with warnings.catch_warnings():  # wfdb 4.3.1 uses an argument that pandas 3.1 deprecates
    warnings.simplefilter("ignore")
    import wfdb

RATE_HZ = 125
BEFORE, AFTER = 31, 57  # samples before R, and from R on: 88 in all
N_SCORED_LEADS = 12


def naive(archive: str, work: str, model: str) -> dict[str, float]:
    """Convert, cut beats and score; return seconds by stage."""
    torch.set_num_threads(1)  # batches of one beat are slower on two threads
    seconds = {}
    for stage, function in (("convert", _convert), ("beats", _cut_beats), ("score", _score)):
        start = time.perf_counter()
        function(Path(archive), Path(work), Path(model))
        seconds[stage] = time.perf_counter() - start
    return seconds


def found(work: str) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Return what the run found: R peaks and MI probability of every record, by record name."""
    beats = zarr.open_group(f"{work}/beats.zarr", mode="r")
    scores = json.loads((Path(work) / "scores.json").read_text())
    return {name: beats[f"{name}/r_sample"][:] for name in scores}, scores


def _names(archive: Path) -> list[str]:
    return (archive / "RECORDS").read_text().split()


def _convert(archive: Path, work: Path, _model: Path) -> None:
    signals = zarr.open_group(work / "signals.zarr", mode="w")
    for name in _names(archive):
        record = wfdb.rdrecord(str(archive / name))
        array = signals.create_array(name, data=record.p_signal.astype(np.float32))
        array.attrs.update({"fs": record.fs, "leads": record.sig_name, "comments": record.comments})


def _cut_beats(archive: Path, work: Path, _model: Path) -> None:
    signals = zarr.open_group(work / "signals.zarr", mode="r")
    beats = zarr.open_group(work / "beats.zarr", mode="w")
    for name in _names(archive):
        fs = int(signals[name].attrs["fs"])
        common = math.gcd(fs, RATE_HZ)
        signal = resample_poly(signals[name][:], RATE_HZ // common, fs // common, axis=0)
        r_sample, windows = [], []
        for r in _detect_r_peaks(signal[:, 1]):
            if r >= BEFORE and r + AFTER <= len(signal):
                windows.append(signal[r - BEFORE : r + AFTER].T)
                r_sample.append(r * fs // RATE_HZ)
        beats.create_array(
            f"{name}/waveform", data=np.array(windows, dtype=np.float32).reshape(-1, signal.shape[1], BEFORE + AFTER)
        )
        beats.create_array(f"{name}/r_sample", data=np.array(r_sample, dtype=np.int64))


def _detect_r_peaks(lead_two: np.ndarray) -> np.ndarray:
    """Return R peaks at ``RATE_HZ``: local maxima of the rectified 5-20 Hz band, 0.3 s apart at least."""
    band = np.abs(sosfiltfilt(butter(2, (5, 20), btype="bandpass", fs=RATE_HZ, output="sos"), lead_two))
    peaks, _ = find_peaks(band, height=0.35 * np.quantile(band, 0.99), distance=round(0.3 * RATE_HZ))
    return peaks


def _score(archive: Path, work: Path, model: Path) -> None:
    beats = zarr.open_group(work / "beats.zarr", mode="r")
    network = _network(model)
    scores = {}
    for name in _names(archive):
        waveform = beats[f"{name}/waveform"][:, :N_SCORED_LEADS]
        mean, sd = waveform.mean(axis=(0, 2), keepdims=True), waveform.std(axis=(0, 2), keepdims=True)
        waveform = np.clip((waveform - mean) / np.maximum(sd, 0.001), -8, 8)
        logits = []
        with torch.no_grad():
            for beat in waveform:
                control, mi = network(torch.from_numpy(beat[None]))[0].tolist()
                logits.append(mi - control)
        scores[name] = 1 / (1 + math.exp(-float(np.mean(logits)))) if logits else math.nan
    (work / "scores.json").write_text(json.dumps(scores))


def _network(model: Path) -> BeatNet:
    """Return the first member's network; its tensors are named ``<member>.<tensor>`` or ``<member>/<tensor>``."""
    tensors = load_file(model / "model.safetensors")
    network = BeatNet(N_SCORED_LEADS, BEFORE + AFTER)
    wanted = network.state_dict()
    weights = {name: next(values for key, values in tensors.items() if key.endswith(name)) for name in wanted}
    network.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})
    return network.eval()
