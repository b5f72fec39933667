"""The door to wfdb: decodes a FLAC signal file (formats 508, 516, 524). Run as a program, in a process of its own.

Standard input is the file, standard output the file's samples per channel (one int64), then the frames that were asked for as
int32, (frame, signal, sample of the frame). It imports nothing of
ecgbatch; wfdb reads a header written here from checked numbers, so that no text of an archive reaches its parser, and it, and
libsndfile below it, are kept away from archive and store by limits on memory and processor time.
"""

from __future__ import annotations

import sys
import tempfile
import warnings
from pathlib import Path


def main(fmt: int, n_signals: int, per_frame: int, n_frames: int, offset: int, memory: int, seconds: int) -> None:
    """Decode ``n_frames`` frames of ``n_signals`` signals from sample ``offset`` on, within bytes and seconds of processor."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    warnings.simplefilter("ignore")
    import numpy as np
    import soundfile  # by which wfdb decodes
    import wfdb

    lines = [f"r.dat {fmt}x{per_frame}+{offset} 200(0)/mV 16 0 0 0 0 s{number}" for number in range(n_signals)]
    with tempfile.TemporaryDirectory(prefix="ecgbatch-") as folder:
        Path(folder, "r.dat").write_bytes(sys.stdin.buffer.read())
        Path(folder, "r.hea").write_text("\n".join([f"r {n_signals} 250 {n_frames}", *lines, ""]), encoding="ascii")
        n_there = soundfile.info(f"{folder}/r.dat").frames
        record = wfdb.rdrecord(f"{folder}/r", physical=False, smooth_frames=False, ignore_skew=True, return_res=32)
    columns = [np.asarray(values).reshape(n_frames, per_frame) for values in record.e_d_signal]
    sys.stdout.buffer.write(np.int64(n_there).tobytes())
    sys.stdout.buffer.write(np.concatenate(columns, axis=1).astype(np.int32).tobytes())


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
