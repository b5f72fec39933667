"""FLAC: decodes a signal file of format 508, 516 or 524. Run as a program, in a process of its own, by ``records``.

Standard input is the file, standard output the samples as int32, (frame, signal, sample of the frame). It imports nothing of
ecgbatch, so that it starts at once; libsndfile, C code that reads what strangers wrote, is kept away from archive and store.
"""

from __future__ import annotations

import io
import sys

_BITS = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}
"""Of a sample, by libsndfile's name of the encoding."""
_BLOCK_FRAMES = 1 << 20
"""libsndfile fails in single reads of over 2**24 samples: its issue 431."""


def main(fmt: int, n_signals: int, per_frame: int, n_frames: int, offset: int, memory: int, seconds: int) -> None:
    """Decode ``n_frames`` frames of ``n_signals`` channels from sample ``offset`` on, within bytes and seconds of processor."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    import numpy as np
    import soundfile  # type: ignore[import-untyped]

    content = sys.stdin.buffer.read()
    if not content.startswith(b"fLaC"):
        raise ValueError("no FLAC file")
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        bits = _BITS.get(file.subtype, 99)
        if bits > fmt - 500 or file.channels != n_signals:
            raise ValueError(f"expected {n_signals} channels of {fmt - 500} bits, found {file.channels} of {file.subtype}")
        n = n_frames * per_frame
        samples = np.zeros((n, n_signals), np.int32)
        file.seek(offset)
        for first in range(0, n, _BLOCK_FRAMES):
            block = samples[first : first + _BLOCK_FRAMES]
            if len(file.read(out=block)) != len(block):
                raise ValueError(f"expected {n} samples, found fewer")
    samples >>= 32 - bits  # libsndfile puts them at the top of the 32 bits
    frames = samples.reshape(n_frames, per_frame, n_signals).transpose(0, 2, 1)
    sys.stdout.buffer.write(np.ascontiguousarray(frames).tobytes())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
