"""Decoding: the bytes of a signal file as integers, for every format of signal(5)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ecgbatch.formats.header import SignalLine, UnreadableRecord
from ecgbatch.formats.inspection import FLAC_FORMATS, SignalFile, has_checksums, required_bytes

DTYPES = MappingProxyType({8: "i1", 16: "<i2", 32: "<i4", 61: ">i2", 80: "u1", 160: "<u2"})
"""Formats whose samples are numbers of the machine."""
_CHILD_SECONDS, _SAMPLES_PER_SECOND = 10.0, 2e6
_PATIENCE = 15
"""Wall-clock seconds for each second of processor time: the verdict must not depend on how busy the machine is."""
_CHILD_BYTES, _BYTES_PER_SAMPLE = 2 << 30, 64
"""Limits of the process that decodes FLAC: a start, and a share for each sample (its own arrays take about 12 bytes)."""


def decode_frames(content: NDArray[np.uint8], file: SignalFile, lines: list[SignalLine], n_frames: int) -> NDArray[Any]:
    """Return the raw samples of one signal file.

    Parameters
    ----------
    content
        All bytes of the file; at least as many as ``inspect_record`` requires.
    lines
        Its signals.

    Returns
    -------
    (frame, sample of the frame) of integers, adu
        Signals side by side, each with its samples a frame, as they are stored: marks of missing samples too.

    Raises
    ------
    UnreadableRecord
        ``DECODER_FAILED`` or ``DECODER_LIMIT``.

    """
    per_frame = sum(line.samples_per_frame for line in lines)
    if file.fmt in FLAC_FORMATS:
        return _decode_in_child(content, file, lines, n_frames)
    n = n_frames * per_frame
    packed = content[file.byte_offset : file.byte_offset + required_bytes(file.fmt, n)]
    frames = _unpacked(packed, file.fmt, n).reshape(n_frames, per_frame)
    return _summed(frames, file, lines) if file.fmt == 8 else frames


def _unpacked(packed: NDArray[np.uint8], fmt: int, n: int) -> NDArray[Any]:
    """Return ``n`` samples of an uncompressed format of signal(5)."""
    if fmt == 212:
        return _unpacked_212(packed, n)
    if fmt in {310, 311}:
        return _unpacked_310(packed, n) if fmt == 310 else _unpacked_311(packed, n)
    if fmt == 24:
        wide = np.zeros((n, 4), np.uint8)
        wide[:, 1:] = packed.reshape(n, 3)
        return wide.view("<i4")[:, 0] >> 8
    values = packed.view(DTYPES[fmt])
    if fmt == 160:
        return (values ^ 0x8000).view(np.int16)
    return values.astype(np.int16) - np.int16(128) if fmt == 80 else values


def _unpacked_212(packed: NDArray[np.uint8], n: int) -> NDArray[np.int16]:
    """Two samples of 12 bits in three bytes: low byte, two high nibbles (the first sample's is low), low byte."""
    whole = np.zeros(-(-n // 2) * 3, np.uint8)
    whole[: packed.size] = packed
    triples = whole.reshape(-1, 3)
    middle = triples[:, 1].astype(np.int16)
    samples = np.empty((len(triples), 2), np.int16)
    # Twelve bits shifted to the top of sixteen and back: the arithmetic shift extends the sign.
    samples[:, 0] = ((middle << 12) | (triples[:, 0].astype(np.int16) << 4)) >> 4
    samples[:, 1] = (((middle & 0xF0) << 8) | (triples[:, 2].astype(np.int16) << 4)) >> 4
    return samples.reshape(-1)[:n]


def _unpacked_310(packed: NDArray[np.uint8], n: int) -> NDArray[np.int16]:
    """Three samples of 10 bits in two words: bits 1-10 of each are two samples, bits 11-15 of both the third (low half first)."""
    whole = np.zeros(-(-n // 3) * 4, np.uint8)
    whole[: packed.size] = packed
    words = whole.view("<u2").reshape(-1, 2)
    triples = np.empty((len(words), 3), np.uint16)
    triples[:, :2] = words << 5
    triples[:, 2] = ((words[:, 0] >> 11) << 6) | ((words[:, 1] >> 11) << 11)
    return _top_ten_bits(triples)[:n]


def _unpacked_311(packed: NDArray[np.uint8], n: int) -> NDArray[np.int16]:
    """Three samples of 10 bits in 32, the first lowest; wfdb 4.3 reads one of the two unused bits too, we do not."""
    whole = np.zeros(-(-n // 3) * 4, np.uint8)
    whole[: packed.size] = packed
    words = whole.view("<u4")
    return _top_ten_bits(np.stack([words << 6, words >> 4, words >> 14], axis=1).astype(np.uint16))[:n]


def _top_ten_bits(values: NDArray[np.uint16]) -> NDArray[np.int16]:
    # The upper ten of sixteen bits, shifted down: the arithmetic shift extends the sign and drops what is below.
    return (values.view(np.int16) >> 6).reshape(-1)


def _summed(differences: NDArray[np.int8], file: SignalFile, lines: list[SignalLine]) -> NDArray[np.int64]:
    """Return the samples of format 8, which stores each signal's differences; the first is from its initial value."""
    frames = np.empty(differences.shape, np.int64)
    first = 0
    for line in lines:
        if line.initial_value is None:
            raise UnreadableRecord("DECODER_FAILED", f"{file.name}: format 8 needs the initial value of lead {line.lead}")
        columns = slice(first, first + line.samples_per_frame)
        total = np.cumsum(differences[:, columns], dtype=np.int64) + line.initial_value
        frames[:, columns] = total.reshape(len(frames), -1)
        first += line.samples_per_frame
    return frames


def _decode_in_child(content: NDArray[np.uint8], file: SignalFile, lines: list[SignalLine], n_frames: int) -> NDArray[np.int32]:
    """Decode a FLAC file with wfdb, in a process that cannot hang, grow or see anything but this file's bytes."""
    per_frame = lines[0].samples_per_frame
    if any(line.samples_per_frame != per_frame for line in lines):
        raise UnreadableRecord("DECODER_FAILED", f"{file.name}: expected as many samples a frame of every signal in FLAC")
    n = n_frames * per_frame * len(lines)
    seconds = _CHILD_SECONDS + n / _SAMPLES_PER_SECOND
    memory = _CHILD_BYTES + content.size + _BYTES_PER_SAMPLE * n
    numbers = (file.fmt, len(lines), per_frame, n_frames, file.byte_offset, memory, int(seconds) + 1)
    command = [sys.executable, "-I", str(Path(__file__).with_name("wfdb_child.py")), *map(str, numbers)]
    told = _run_child(command, content, seconds, file)
    decoded = np.frombuffer(told[8:], np.int32)
    if decoded.size != n:
        raise UnreadableRecord("DECODER_FAILED", f"{file.name}: expected {n} samples, decoded {decoded.size}")
    n_there, n_stated = int.from_bytes(told[:8], sys.byteorder), file.byte_offset + n_frames * per_frame
    if n_there > n_stated and not has_checksums(lines):
        detail = f"{file.name}: expected {n_stated} samples a signal, found {n_there}, and no checksums tell which are meant"
        raise UnreadableRecord("DAT_TOO_LONG", detail)
    return decoded.reshape(n_frames, len(lines) * per_frame)


def _run_child(command: list[str], content: NDArray[np.uint8], seconds: float, file: SignalFile) -> bytes:
    environment = {"PATH": os.defpath, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(  # noqa: S603
            command, input=content.data, env=environment, capture_output=True, timeout=_PATIENCE * seconds, check=False
        )
    except subprocess.TimeoutExpired:
        raise UnreadableRecord("DECODER_LIMIT", f"{file.name}: not decoded in {_PATIENCE * seconds:.0f} s") from None
    if done.returncode != 0:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        error = lines[-1].partition(":")[0][:80] if lines else f"ended with {done.returncode}"
        code = "DECODER_LIMIT" if "MemoryError" in error or done.returncode < 0 else "DECODER_FAILED"
        raise UnreadableRecord(code, f"{file.name}: format {file.fmt} cannot be decoded ({error}); fetch it again")
    return done.stdout
