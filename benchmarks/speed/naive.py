"""The naive ways: what one writes first, a loop over records with the usual libraries, one record and one beat at a time.

wfdb reads physical float64 samples; each record becomes a float32 Zarr array; SciPy resamples; the paper's seven steps,
``find_peaks``, NeuroKit2 or sleepecg find R peaks; a Python loop cuts the beats; PyTorch scores them one by one. Same beats,
leads, network and weights as on ecgbatch's side.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from scipy.signal import butter, find_peaks, resample_poly, sosfiltfilt

with warnings.catch_warnings():  # wfdb 4.3.1 uses an argument that pandas 3.1 deprecates
    warnings.simplefilter("ignore")
    import wfdb

RATE_HZ = 125
BEFORE, AFTER = 31, 57  # samples before R, and from R on: 88 in all
PAPER_WINDOW, PAPER_LENGTH = 1250, 187

Array = np.ndarray


def convert(archive: Path, names: Sequence[str], work: Path) -> None:
    """Write every record as one float32 Zarr array (sample, lead), mV."""
    signals = zarr.open_group(work / "signals.zarr", mode="w")
    for name in names:
        record = wfdb.rdrecord(str(archive / name))
        array = signals.create_array(name, data=record.p_signal.astype(np.float32))
        array.attrs.update({"fs": record.fs, "leads": record.sig_name, "comments": record.comments})


def convert_int16(archive: Path, names: Sequence[str], work: Path) -> None:
    """Write every record as one array of its own as bio2zarr or a careful user would: int16 as stored, chunks, blosc."""
    signals = zarr.open_group(work / "int16.zarr", mode="w")
    codec = zarr.codecs.BloscCodec(cname="lz4", shuffle="bitshuffle", typesize=2)
    for name in names:
        record = wfdb.rdrecord(str(archive / name), physical=False)
        digital = record.d_signal.T.astype(np.int16)
        chunks = (len(digital), min(16384, digital.shape[1]))
        array = signals.create_array(name, shape=digital.shape, dtype=np.int16, chunks=chunks, compressors=codec)
        array[:] = digital
        array.attrs.update({"fs": record.fs, "leads": record.sig_name, "gain": record.adc_gain, "comments": record.comments})


def paper_beats(names: Sequence[str], work: Path) -> None:
    """Cut the beats of every record by the seven steps of Kachuee et al. 2018, lead by lead and beat by beat."""
    signals = zarr.open_group(work / "signals.zarr", mode="r")
    beats = zarr.open_group(work / "paper.zarr", mode="w")
    for name in names:
        fs = int(signals[name].attrs["fs"])
        common = math.gcd(fs, RATE_HZ)
        signal = signals[name][:].astype(np.float64)
        leads = [
            resample_poly(signal[:, lead], RATE_HZ // common, fs // common, padtype="edge") for lead in range(signal.shape[1])
        ]
        parts, places, is_whole = paper_parts(leads)
        beats.create_array(f"{name}/waveform", data=np.array(parts, np.float32).reshape(-1, len(leads), PAPER_LENGTH))
        beats.create_array(f"{name}/r_sample", data=np.array([round(place * fs / RATE_HZ) for place in places], np.int64))
        beats.create_array(f"{name}/is_whole", data=np.array(is_whole, bool))


def paper_parts(leads: Sequence[Array]) -> tuple[list[Array], list[int], list[bool]]:
    """Return the beats of leads at 125 Hz (lead, sample), the samples that they begin at, and whether their window holds them."""
    places, parts, is_whole = [], [], []
    for start in range(0, len(leads[0]) - PAPER_WINDOW + 1, PAPER_WINDOW):
        windows = [lead[start : start + PAPER_WINDOW] for lead in leads]
        scaled = [(w - w.min()) / (w.max() - w.min()) if w.max() > w.min() else np.zeros_like(w) for w in windows]
        peaks = _paper_peaks(scaled[1])
        if len(peaks) < 2:
            continue
        length = int(1.2 * np.median(np.diff(peaks)) + 1e-9)
        for peak in peaks:
            part = np.zeros((len(leads), PAPER_LENGTH), np.float32)
            for lead, values in enumerate(scaled):
                cut = values[peak : peak + min(length, PAPER_LENGTH)]
                part[lead, : len(cut)] = cut
            parts.append(part)
            places.append(start + peak)
            is_whole.append(peak + min(length, PAPER_LENGTH) <= PAPER_WINDOW)
    return parts, places, is_whole


def _paper_peaks(scaled: Array) -> list[int]:
    """Return local maxima above 0.9; of a flat top the first sample."""
    peaks, rising, top = [], False, 0
    for sample in range(1, len(scaled)):
        if scaled[sample] > scaled[sample - 1]:
            rising, top = True, sample
        elif scaled[sample] < scaled[sample - 1]:
            if rising and scaled[top] > 0.9:
                peaks.append(top)
            rising = False
    return peaks


def window_beats(names: Sequence[str], work: Path, detector: str, only_lead: int | None = None) -> None:
    """Cut windows of 0.25 s before to 0.45 s after the R peaks of lead II; of all leads, or of one."""
    signals = zarr.open_group(work / "signals.zarr", mode="r")
    beats = zarr.open_group(work / f"{detector}.zarr", mode="w")
    for name in names:
        fs = int(signals[name].attrs["fs"])
        common = math.gcd(fs, RATE_HZ)
        signal = signals[name][:] if only_lead is None else signals[name][:, only_lead : only_lead + 1]
        lead_two = signal[:, 1 if only_lead is None else 0]
        at_125 = resample_poly(signal, RATE_HZ // common, fs // common, axis=0)
        r_sample, windows = [], []
        for peak in DETECTORS[detector](lead_two, fs):
            r = round(peak * RATE_HZ / fs)
            if r >= BEFORE and r + AFTER <= len(at_125):
                windows.append(at_125[r - BEFORE : r + AFTER].T)
                r_sample.append(peak)
        data = np.array(windows, dtype=np.float32).reshape(-1, at_125.shape[1], BEFORE + AFTER)
        beats.create_array(f"{name}/waveform", data=data)
        beats.create_array(f"{name}/r_sample", data=np.array(r_sample, dtype=np.int64))
        beats.create_array(f"{name}/is_whole", data=np.ones(len(data), bool))


def by_scipy(lead: Array, fs: int) -> Array:
    """Return local maxima of the rectified 5-20 Hz band, 0.3 s apart at least."""
    band = np.abs(sosfiltfilt(butter(2, (5, 20), btype="bandpass", fs=fs, output="sos"), lead))
    return find_peaks(band, height=0.35 * np.quantile(band, 0.99), distance=round(0.3 * fs))[0]


def by_neurokit(lead: Array, fs: int) -> Array:
    """Return R peaks as NeuroKit2 finds them by default."""
    import neurokit2

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cleaned = neurokit2.ecg_clean(lead, sampling_rate=fs)
        return np.asarray(neurokit2.ecg_peaks(cleaned, sampling_rate=fs)[1]["ECG_R_Peaks"])


def by_sleepecg(lead: Array, fs: int) -> Array:
    """Return heartbeats as sleepecg finds them."""
    import sleepecg

    return np.asarray(sleepecg.detect_heartbeats(lead.astype(np.float64), fs))


DETECTORS: dict[str, Callable[[Array, int], Array]] = {"scipy": by_scipy, "neurokit2": by_neurokit, "sleepecg": by_sleepecg}


def missing_peers() -> dict[str, str]:
    """Return the peers that cannot be imported here, and why."""
    import importlib

    absent = {}
    for name in ("neurokit2", "sleepecg"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                importlib.import_module(name)
        except ImportError as error:
            absent[name] = f"not measured: {error} (pip install 'ecgbatch[peers]')"
    return absent


def score(names: Sequence[str], work: Path, beats_name: str, model: Path, *, scaled: bool, leads: Sequence[int]) -> None:
    """Score beat by beat, and write what ecgbatch writes of each record: probability, 95 % interval, evidence.

    One torch thread: batches of one beat are slower on two.
    """
    import torch

    torch.set_num_threads(1)
    beats = zarr.open_group(work / f"{beats_name}.zarr", mode="r")
    (network,), segments = networks(model, len(leads)), _segments(model)
    random = np.random.default_rng(0)
    scores = {}

    def logit(beat: Array) -> float:
        with torch.no_grad():
            control, mi = network(torch.from_numpy(beat[None]))[0].tolist()
        return float(mi - control)

    for name in names:
        waveform = beats[f"{name}/waveform"][:][beats[f"{name}/is_whole"][:]][:, list(leads)]
        if len(waveform) < 3:
            scores[name] = {"probability": math.nan}
            continue
        if not scaled:
            mean, sd = waveform.mean(axis=(0, 2), keepdims=True), waveform.std(axis=(0, 2), keepdims=True)
            waveform = np.clip((waveform - mean) / np.maximum(sd, 0.001), -8, 8)
        logits = np.array([logit(beat) for beat in waveform])
        median = np.median(waveform, axis=0)
        scores[name] = {
            "probability": _sigmoid(float(logits.mean())),
            "interval": _interval(logits, random),
            "evidence": [
                [logit(median) - logit(_without(median, lead, part)) for part in segments] for lead in range(len(leads))
            ],
        }
    (work / f"{beats_name}.json").write_text(json.dumps(scores))


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def _interval(logits: Array, random: np.random.Generator) -> list[float]:
    """Return the 95 % interval of 1000 draws of runs of five beats."""
    n, length = len(logits), max(1, min(5, len(logits) // 3))
    means = []
    for _ in range(1000):
        starts = random.integers(0, n, n // length)
        drawn = [logits[(start + step) % n] for start in starts for step in range(length)]
        means.append(_sigmoid(float(np.mean(drawn))))
    return [float(limit) for limit in np.quantile(means, (0.025, 0.975))]


def _without(beat: Array, lead: int, part: slice) -> Array:
    """Return the beat with a straight line in place of a part of a lead."""
    copy = beat.copy()
    left, right = max(part.start - 1, 0), min(part.stop, beat.shape[1] - 1)
    line = np.linspace(beat[lead, left], beat[lead, right], right - left + 1, dtype=np.float32)
    copy[lead, part] = line[part.start - left :][: part.stop - part.start]
    return copy


def _segments(folder: Path) -> list[slice]:
    from ecgbatch.model.evidence import segment_samples
    from ecgbatch.model.files import load_model

    model = load_model(folder)
    return [part for part in segment_samples(model.beats, model.n_samples).values() if part.stop > part.start]


def score_leads(names: Sequence[str], work: Path, beats_name: str, model: Path) -> None:
    """Score every lead's part of every beat by a network of one lead, one after another; a record's logit is the mean."""
    import torch

    torch.set_num_threads(1)
    beats = zarr.open_group(work / f"{beats_name}.zarr", mode="r")
    (network,) = networks(model, 1)
    scores = {}
    for name in names:
        waveform, logits = beats[f"{name}/waveform"][:][beats[f"{name}/is_whole"][:]], []
        with torch.no_grad():
            for beat in waveform:
                for lead in beat:
                    control, mi = network(torch.from_numpy(lead[None, None]))[0].tolist()
                    logits.append(mi - control)
        scores[name] = {"probability": _sigmoid(float(np.mean(logits))) if logits else math.nan}
    (work / f"{beats_name}-leads.json").write_text(json.dumps(scores))


def networks(folder: Path, n_leads: int) -> list[Any]:
    """Return a model's members as plain networks of so many leads, ready to score."""
    from ecgbatch.model.files import load_model

    model = load_model(folder)
    return [network_of(n_leads, model.n_samples, member.weights) for member in model.members]


def network_of(n_leads: int, n_samples: int, weights: Mapping[str, Array]) -> Any:
    """Return a plain network of these weights, ready to score, of as many classes as they have."""
    return with_weights(plain_network(n_leads, n_samples, len(weights["output.bias"])), weights)


def plain_network(n_leads: int, n_samples: int, n_classes: int = 2) -> Any:
    """Return ``BeatNet`` with random weights, its forward pass as one writes it down from the paper."""
    import torch
    from torch.nn.functional import max_pool1d

    from ecgbatch.model.network import BeatNet

    class Plain(BeatNet):
        def forward(self, waveform: Any) -> Any:
            x = self.first(waveform)
            for inner, outer in zip(self.inner, self.outer, strict=True):
                x = torch.relu(x + outer(torch.relu(inner(x))))
                x = max_pool1d(x, 5, 2) if x.shape[-1] >= 5 else x
            return self.output(torch.relu(self.hidden2(torch.relu(self.hidden1(x.flatten(1))))))

    return Plain(n_leads, n_samples, n_classes)


def with_weights(network: Any, weights: Mapping[str, Array]) -> Any:
    """Return a network that was given these weights, ready to score."""
    import torch

    network.load_state_dict({name: torch.from_numpy(np.array(values)) for name, values in weights.items()})
    return network.eval()


def peaks_found(names: Sequence[str], work: Path, beats_name: str) -> dict[str, Array]:
    """Return the R peaks of every record, by name."""
    beats = zarr.open_group(work / f"{beats_name}.zarr", mode="r")
    return {name: beats[f"{name}/r_sample"][:] for name in names}


def scores_found(work: Path, beats_name: str) -> dict[str, dict[str, Any]]:
    """Return what was found of every record, by name: ``probability``, and ``interval`` and ``evidence`` (lead, segment)."""
    found: dict[str, dict[str, Any]] = json.loads((work / f"{beats_name}.json").read_text())
    return found
