"""How far the quantities that serial comparison tells differ where nothing has changed: pieces of one recording.

    python -m benchmarks.accuracy.repeat_variation DATA

cuts each recording of ``DATA/ptb`` into pieces of ten seconds, takes them through the stages as recordings of their own, and
prints how far neighbouring pieces differ. ``reports/serial.py`` keeps the last column (``ORDINARY_CHANGE``). Recordings of other
days, with electrodes taken off and on, may differ by more.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from ecgbatch.beats.lookup import extract_beats
from ecgbatch.beats.record import BeatSettings
from ecgbatch.model.files import load_model, shipped_model
from ecgbatch.reports.serial import COMPARED, series_of
from ecgbatch.scores.stage import score_workspace
from ecgbatch.scores.table import scores_path
from ecgbatch.signals.stage import convert_archive
from storage import load_columns

PIECE_S = 10


def cut(archive: Path, pieces: Path) -> int:
    """Write the pieces of an archive's recordings (format 16, a lead of each file after the other) below ``pieces``."""
    n_recordings = 0
    for header in sorted(archive.glob("*/*.hea")):
        first, *lines = [line for line in header.read_text().splitlines() if line and not line.startswith("#")]
        name, _, rate, n_samples = first.split()[:4]
        fields = [line.split() for line in lines if (header.parent / line.split()[0]).is_file()]
        length = PIECE_S * int(rate)
        (pieces / header.parent.name).mkdir(parents=True, exist_ok=True)
        for number in range(int(n_samples) // length):
            said = [
                _piece(header.parent, pieces / header.parent.name, f"{name}_{number}", fields, file, number * length, length)
                for file in dict.fromkeys(field[0] for field in fields)
            ]
            content = [f"{name}_{number} {len(fields)} {rate} {length}", *(line for part in said for line in part), ""]
            (pieces / header.parent.name / f"{name}_{number}.hea").write_text("\n".join(content))
        n_recordings += 1
    return n_recordings


def _piece(source: Path, target: Path, name: str, fields: list[list[str]], file: str, start: int, length: int) -> list[str]:
    """Write one signal file of a piece; return its signals' lines."""
    own = [field for field in fields if field[0] == file]
    samples = np.fromfile(source / file, "<i2").reshape(-1, len(own))[start : start + length]
    written = f"{name}{Path(file).suffix}"
    samples.tofile(target / written)
    sums = samples.sum(axis=0, dtype=np.int64) % 65536
    return [
        f"{written} 16 {field[2]} 16 0 {samples[0, place]} {int(sums[place])} 0 {field[-1]}" for place, field in enumerate(own)
    ]


def differences(work: str, run: str) -> tuple[int, dict[str, np.ndarray[Any, Any]]]:
    """Return the number of neighbouring pieces, and how far they differ in each quantity: of leads the largest."""
    scores = load_columns(scores_path(work, run))
    found = series_of(work, scores, scores["record_name"].values)
    names = [str(scores["record_name"].values[record]).rpartition("_") for record in found.record]
    place_of = {name: place for place, name in enumerate(names)}
    pairs = [
        (place, place_of[stem, "_", str(int(number) + 1)])
        for (stem, _, number), place in place_of.items()
        if (stem, "_", str(int(number) + 1)) in place_of
    ]
    then, now = np.array(pairs).T
    sizes = {}
    for name, values in found.values.items():
        size = np.abs(values[now].astype(float) - values[then])
        size = np.nanmax(np.where(np.isfinite(size), size, -1.0), axis=1) if size.ndim > 1 else size
        sizes[name] = size[np.isfinite(size) & (size >= 0)]
    return len(pairs), sizes


def main(data: Path) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as folder:
        archive, work = Path(folder) / "archive", f"{folder}/work"
        n_recordings = cut(data / "ptb", archive)
        convert_archive(str(archive), work)
        extract_beats(work, BeatSettings(**load_model(shipped_model()).beats))
        n_pairs, sizes = differences(work, score_workspace(work, str(shipped_model())))
    print(f"{n_recordings} recordings, {n_pairs} pairs of neighbouring pieces of {PIECE_S} s\n")
    print("| quantity | pairs | half differ by at most | 95 of 100 by at most |")
    print("|---|---|---|---|")
    for name, of in COMPARED.items():
        ends = [
            f"{np.quantile(sizes[name], share):.{of.digits}f}" if sizes[name].size else "not measured" for share in (0.5, 0.95)
        ]
        print(f"| {of.title}, {of.unit or '1'} | {sizes[name].size} | {ends[0]} | {ends[1]} |")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
