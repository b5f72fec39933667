"""WFDB records written by the letter of header(5) and signal(5), with truth known: for tests of what reads them."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.int64]

WIDTH = {8: 16, 16: 16, 24: 24, 32: 32, 61: 16, 80: 8, 160: 16, 212: 12, 310: 10, 311: 10, 508: 8, 516: 16, 524: 24}
"""Bits of a sample; format 8 stores differences of 8 bits."""


@dataclass(frozen=True)
class Lead:
    """Samples (frame, sample of the frame) as they are stored, and the other fields of a signal line."""

    name: str
    samples: Samples
    file: str = "r.dat"
    fmt: int = 16
    skew: int = 0
    offset: int = 0
    gain: str = "1000"
    tail: str = ""
    """Of the signal line in place of resolution, zero, initial value, checksum, block size."""

    def line(self) -> str:
        """Return the signal line."""
        per_frame = self.samples.shape[1]
        fmt = f"{self.fmt}{f'x{per_frame}' if per_frame > 1 else ''}{f':{self.skew}' if self.skew else ''}"
        checksum = (int(self.samples.sum()) + 32768) % 65536 - 32768
        tail = self.tail or f"{WIDTH[self.fmt]} 0 {self.samples[0, 0]} {checksum} 0"
        return f"{self.file} {fmt}{f'+{self.offset}' if self.offset else ''} {self.gain} {tail} {self.name}"


@dataclass(frozen=True)
class Record:
    """A record to write: ``leads`` in the header's order, those of one file together."""

    leads: Sequence[Lead]
    name: str = "r"
    fs: str = "250"
    comments: Sequence[str] = field(default_factory=tuple)

    def header(self) -> str:
        """Return the header's text."""
        lines = [f"{self.name} {len(self.leads)} {self.fs} {len(self.leads[0].samples)}", *(lead.line() for lead in self.leads)]
        return "\n".join([*lines, *(f"# {comment}" for comment in self.comments), ""])

    def write(self, folder: Path) -> Path:
        """Write header and signal files; return the folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{self.name}.hea").write_text(self.header(), encoding="utf-8")
        for file in dict.fromkeys(lead.file for lead in self.leads):
            leads = [lead for lead in self.leads if lead.file == file]
            (folder / file).write_bytes(b"\xaa" * leads[0].offset + encoded(leads))
        return folder


def wave(n_frames: int, width: int, seed: int = 0, per_frame: int = 1, step: int = 1 << 30) -> Samples:
    """Return a random walk of ``width`` bits that touches both ends of its range, but not the mark of a missing sample."""
    rng = np.random.default_rng([seed, width])
    top = 2 ** (width - 1) - 1
    walk = np.cumsum(rng.integers(-min(step, top // 4 + 1), min(step, top // 4 + 1) + 1, n_frames * per_frame))
    walk = np.abs((walk + top) % (4 * top) - 2 * top) - top  # folded back at the ends: steps stay as small as they were
    return walk.astype(np.int64).reshape(n_frames, per_frame)


def simple(n_frames: int = 500, leads: Sequence[str] = ("I", "II", "V1"), fmt: int = 16, seed: int = 0, **fields: Any) -> Record:
    """Return a record of one file."""
    waves = [wave(n_frames, min(WIDTH[fmt], 16), seed + i, step=100) for i in range(len(leads))]
    return Record([Lead(name, values, fmt=fmt, **fields) for name, values in zip(leads, waves, strict=True)])


def encoded(leads: Sequence[Lead]) -> bytes:
    """Return the bytes of one signal file."""
    fmt = leads[0].fmt
    frames = np.concatenate([lead.samples for lead in leads], axis=1)
    if fmt in {508, 516, 524}:
        return _flac(frames, fmt)
    if fmt == 8:
        parts = [np.diff(lead.samples.reshape(-1), prepend=lead.samples[0, 0]).reshape(lead.samples.shape) for lead in leads]
        return np.concatenate(parts, axis=1).astype("i1").tobytes()
    return _packed(frames.reshape(-1), fmt)


def _packed(values: Samples, fmt: int) -> bytes:
    if fmt == 24:
        return values.astype("<i4").view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    if fmt == 212:
        return _grouped(values, 2, 12, 3)[: -(-values.size * 3 // 2)]
    if fmt == 311:
        return _grouped(values, 3, 10, 4)[: _cut(values.size, {1: 2, 2: 3})]
    if fmt == 310:
        a, b, c = np.resize(np.append(values, [0, 0]), (-(-values.size // 3), 3)).T & 0x3FF
        words = np.stack([(a << 1) | ((c & 31) << 11), (b << 1) | ((c >> 5) << 11)], axis=1)
        return words.astype("<u2").tobytes()[: _cut(values.size, {1: 2, 2: 4})]
    shift = {80: 128, 160: 32768}.get(fmt, 0)
    return (values + shift).astype({16: "<i2", 32: "<i4", 61: ">i2", 80: "u1", 160: "<u2"}[fmt]).tobytes()


def _cut(n_samples: int, rest: dict[int, int]) -> int:
    return n_samples // 3 * 4 + rest.get(n_samples % 3, 0)


def _grouped(values: Samples, n: int, width: int, n_bytes: int) -> bytes:
    """Pack ``n`` samples of ``width`` bits into ``n_bytes``, the first lowest (212: high nibbles share the middle byte)."""
    groups = np.resize(np.append(values, [0] * (n - 1)), (-(-values.size // n), n)) & (2**width - 1)
    if width == 12:
        a, b = groups.T
        return np.stack([a & 255, (a >> 8) | ((b >> 8) << 4), b & 255], axis=1).astype("u1").tobytes()
    total = sum(groups[:, i] << (width * i) for i in range(n))
    return np.asarray(total).astype("<u4").view("u1").reshape(-1, 4)[:, :n_bytes].tobytes()


def _flac(frames: Samples, fmt: int) -> bytes:
    subtype, dtype, shift = {508: ("PCM_S8", "int16", 8), 516: ("PCM_16", "int16", 0), 524: ("PCM_24", "int32", 8)}[fmt]
    file = io.BytesIO()
    soundfile.write(file, (frames << shift).astype(dtype), 96000, format="FLAC", subtype=subtype)
    return file.getvalue()
