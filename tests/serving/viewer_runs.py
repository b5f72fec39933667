"""Recordings for the viewer's tests: of twelve leads, with known pulses, gaps, unknown units; and a server of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from time import monotonic, sleep

import numpy as np
import uvicorn
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.reports.writing import record_slugs
from ecgbatch.serving import ecg_routes
from ecgbatch.serving.recording import Place
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import LEADS
from storage import list_stores, open_store

GAIN, BASELINE = 200.0, 37
PULSE_HZ = 500.0


def write_wfdb(
    folder: Path, name: str, signal: np.ndarray, *, fs: float, units: str = "mV", leads: tuple[str, ...] = LEADS[:12]
) -> None:
    """Write (sample, lead) int16 as a WFDB record of format 16, with its checksums."""
    folder.mkdir(parents=True, exist_ok=True)
    signal.astype("<i2").tofile(folder / f"{name}.dat")
    sums = [int(values.astype(np.int64).sum() + 32768) % 65536 - 32768 for values in signal.T]
    lines = [f"{name} {signal.shape[1]} {fs:g} {signal.shape[0]}"]
    for number, lead in enumerate(leads):
        lines.append(f"{name}.dat 16 {GAIN:g}({BASELINE})/{units} 16 0 {signal[0, number]} {sums[number]} 0 {lead}")
    (folder / f"{name}.hea").write_text("\n".join(lines) + "\n")
    with (folder / "RECORDS").open("a") as names:
        names.write(f"{name}\n")


def heart(n_samples: int, fs: float, seed: int = 0) -> np.ndarray:
    """Steps of twelve leads that look like an ECG: P, QRS and T at about 70/min, some wander and noise. (sample, lead) int16."""
    draws = np.random.default_rng(seed)
    beat_s = np.cumsum(0.857 + 0.05 * draws.standard_normal(int(n_samples / fs) * 2))
    time_s = np.arange(n_samples) / fs
    from_r = time_s - beat_s[np.clip(np.searchsorted(beat_s, time_s + 0.4) - 1, 0, None)]
    waves = ((0.12, -0.17, 0.025), (-0.1, -0.025, 0.008), (1.1, 0.0, 0.010), (-0.25, 0.028, 0.009), (0.3, 0.27, 0.045))
    shape = sum(height * np.exp(-0.5 * ((from_r - at) / width) ** 2) for height, at, width in waves)
    scales = np.array([0.7, 1.0, 0.4, -0.8, 0.3, 0.7, -0.6, 0.5, 0.9, 1.3, 1.2, 0.9])
    wander = 0.1 * np.sin(2 * np.pi * 0.15 * time_s + draws.uniform(0, 6))
    noise = 0.008 * draws.standard_normal((n_samples, 12))
    return np.rint((shape[:, None] * scales + wander[:, None] + noise) * GAIN + BASELINE).astype(np.int16)


def pulses(n_samples: int) -> np.ndarray:
    """Steps of twelve leads: 1 mV for 0.2 s, once a second, on a flat line. (sample, lead) int16, ``PULSE_HZ``."""
    time_s = np.arange(n_samples) / PULSE_HZ
    step = np.where((time_s % 1.0 >= 0.5) & (time_s % 1.0 < 0.7), GAIN, 0.0)
    return np.repeat((step + BASELINE)[:, None], 12, axis=1).astype(np.int16)


def converted(folder: Path, records: dict[str, tuple[np.ndarray, float]]) -> str:
    """Return a workspace with signals and beats of twelve-lead records, each (sample, lead) int16 and its rate."""
    for name, (signal, fs) in records.items():
        write_wfdb(folder / "archive", name, signal, fs=fs)
    work = str(folder / "work")
    convert_archive(str(folder / "archive"), work)
    extract_beats(work, BeatSettings())
    return work


def places(work: str) -> dict[str, Place]:
    """Return the place of every record of a workspace by a key that may stand in an address."""
    beats = {}
    for path in list_stores(work, "beats"):
        for row, name in enumerate(open_store(path)["record_name"].values.tolist()):
            beats[name] = {"beats_store": Path(path).stem, "beats_row": row}
    scores = {}
    for path in list_stores(work, "scores"):
        for row, name in enumerate(open_store(path)["record_name"].values.tolist()):
            scores[name] = {"scores_run": Path(path).stem, "scores_row": row}
    found = {}
    for path in list_stores(work, "signals"):
        for row, name in enumerate(open_store(path)["record_name"].values.tolist()):
            found[name] = Place(work, Path(path).stem, row, name, **beats.get(name, {}), **scores.get(name, {}))
    slugs = record_slugs(found)
    return {slugs[name]: place for name, place in found.items()}


def viewer_app(found: dict[str, Place]) -> FastAPI:
    """An application of nothing but the viewer."""
    app = FastAPI(openapi_url=None)
    app.include_router(ecg_routes.ecg_router(found.get, links=lambda key: [("Report", f"../../report/{key}")]))
    app.mount("/static", StaticFiles(directory=Path(ecg_routes.__file__).parent / "static"))
    return app


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve an application on a free port of loopback; yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off"))
    thread = Thread(target=server.run, daemon=True)
    thread.start()
    limit = monotonic() + 30
    while not server.started and thread.is_alive() and monotonic() < limit:
        sleep(0.02)
    assert server.started, "the server did not start"
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
