"""The network's forward pass: ecgbatch's kernel beside torch, and what bfloat16 changes on real records."""

from __future__ import annotations

import shutil
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed import naive, ours
from benchmarks.speed.machine import multiplications_a_second
from benchmarks.speed.section import Claim, Section, Times
from ecgbatch.model.definition import Model
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.model.inference import PRECISIONS, beat_logits, logit_of, pack
from ecgbatch.model.precision import choose_precision, reference_beats
from ecgbatch.model.tile_kernels import may_use_tiles
from ecgbatch.scores.shard import score_shard
from ecgbatch.scores.stored_beats import RecordBeats, read_record_beats
from ecgbatch.signals.stage import convert_archive
from flows.cluster import engine, usable_processors

FLOAT32, BFLOAT16 = "ecgbatch, float32", "ecgbatch, bfloat16"
EAGER, EAGER_64, TORCH_BFLOAT16 = "torch eager", "torch eager, 64 beats a pass, a thread each", "torch, channels last, bfloat16"
BEATS_A_PASS = 256


def measure(folder: Path, *, rounds: int, data: Path | None) -> Section:
    """Score beats like those of training by one member of the shipped model, in turn by every engine."""
    import torch

    from ecgbatch.model.network import BeatNet

    model = load_model(shipped_model())
    beats = np.tile(reference_beats(model), (8, 1, 1))
    shape, weights, processors = (len(model.leads), model.n_samples), model.members[0].weights, usable_processors()
    network = naive.network_of(*shape, weights)
    packed, halves = pack(weights), np.array_split(beats, processors)
    times, answers = Times(), {}
    with ThreadPoolExecutor(processors) as pool:

        def on_all(one: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
            return np.concatenate(list(pool.map(one, halves)))

        def with_threads(n: int, work: Callable[[], Any]) -> Any:
            torch.set_num_threads(n)
            return work()

        ways: dict[str, Callable[[], np.ndarray]] = {
            EAGER: lambda: with_threads(processors, lambda: eager(network, beats, BEATS_A_PASS)),
            EAGER_64: lambda: with_threads(1, lambda: on_all(lambda some: eager(network, some, 64))),
            FLOAT32: lambda: on_all(lambda some: beat_logits(packed, some)),
        }
        if may_use_tiles():
            ways[BFLOAT16] = lambda: on_all(lambda some: beat_logits(packed, some, "bfloat16"))
            half = naive.with_weights(BeatNet(*shape, len(weights["output.bias"])), weights).bfloat16()
            ways[TORCH_BFLOAT16] = lambda: with_threads(processors, lambda: eager(half, beats, BEATS_A_PASS))
        for way in ways.values():
            way()
        for number in range(rounds):
            for name in sorted(ways, reverse=bool(number % 2)):
                answers[name] = times.take("score", name, ways[name])
    rate = multiplications_a_second("float32"), multiplications_a_second("bfloat16")
    flops = ours.network_flops(shipped_model())
    out = Section("The network's forward pass")
    out.lines = [
        f"{len(beats)} beats of {len(model.leads)} leads and {model.n_samples} samples, drawn from the shipped model's "
        f"description of its training records; one member; {flops / 1e6:.2f} million operations a beat; "
        f"medians of {rounds} interleaved rounds.",
        "",
        "| engine | beats a second (lowest-highest) | largest difference from torch in a probability |",
        "|---|---:|---:|",
    ]
    sigmoid = {name: 0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64))) for name, logits in answers.items()}
    for name in ways:
        speeds = sorted(len(beats) / seconds for seconds in times.wall["score", name])
        apart = np.abs(sigmoid[name] - sigmoid[EAGER]).max()
        out.lines.append(f"| {name} | {statistics.median(speeds):,.0f} ({speeds[0]:,.0f}-{speeds[-1]:,.0f}) | {apart:.1e} |")
    out.lines += [
        f"| limit: matrix product, float32 | {rate[0] / flops:,.0f} | |",
        f"| limit: matrix product, bfloat16 | {rate[1] / flops:,.0f} | |",
        "",
        f"The limits are torch's matrix products of 1536 x 1536 ({rate[0] / 1e9:.0f} and {rate[1] / 1e9:.0f} GFLOP/s), not the "
        "processor's peak, over all operations of the network: a kernel may pass them, and in float32 ours does two of "
        "five multiplications.",
        "",
        f"The shipped model scores in {choose_precision(model).name}: {choose_precision(model).why}.",
    ]
    out.claims = [
        Claim(f"network, {way.split()[1]}: times faster than torch eager", times.ratios(["score"], EAGER, way), least)
        for way, least in ((FLOAT32, 2.5), (BFLOAT16, 6))
        if way in ways
    ]
    if data is not None:
        out.lines += ["", *real_records(folder, data, model)]
    out.figures = {"wall": {name: times.wall["score", name] for name in ways}}
    return out


def eager(network: Any, beats: np.ndarray, size: int) -> np.ndarray:
    """Return the logits of MI of beats by torch, ``size`` a pass, in the precision of the network's weights."""
    import torch

    kind = network.output.weight.dtype
    with torch.inference_mode():
        parts = [network(torch.from_numpy(beats[start : start + size]).to(kind)) for start in range(0, len(beats), size)]
    return logit_of(torch.cat(parts).float().numpy())


def real_records(folder: Path, data: Path, model: Model) -> list[str]:
    """Return lines that say what bfloat16 changes on real records, scored by all members as if no member knew them."""
    unknowing = replace(model, members=tuple(replace(member, seen=()) for member in model.members))
    lines = [
        "On real records, scored by all members as if none had seen them:",
        "",
        "| records | scored | decisions that differ | largest difference of a record | of a beat |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in ("ptbxl", "ptb", "ptb-10s"):
        if not (data / name / "RECORDS").exists():
            continue
        work = folder / "real"
        with engine() as on_threads:
            convert_archive(str(data / name), str(work), map=on_threads)
        ours.beats(work, ours.ROBUST)
        rows = ours.current_beats(str(work), model.beats)
        records: list[RecordBeats | None] = list(read_record_beats(rows, work, load_model(shipped_model())))
        plain, rounded = (score_shard(rows, unknowing, records, precision=kind) for kind in PRECISIONS)
        n = int(np.isfinite(plain["mi_probability"].values).sum())
        differ = int((plain["decision"].values != rounded["decision"].values).sum())
        apart = [np.nanmax(np.abs(plain[key].values - rounded[key].values)) for key in ("mi_probability", "beat_probability")]
        lines.append(f"| {name} | {n} of {len(records)} | {differ} | {apart[0]:.1e} | {apart[1]:.1e} |")
        shutil.rmtree(work)
    return lines if len(lines) > 4 else []
