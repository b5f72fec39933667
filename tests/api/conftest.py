"""A workspace of several nights, rates and lengths, with all that can happen to a record."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import ecgbatch
from ecgbatch.synthetic.archive import ArchiveShape, write_archive

FLAT, GAP = "aVR", "II"
"""Leads of the record with faults: one without a beat, one with missing samples at the start."""


@dataclass(frozen=True)
class Nights:
    """Archive and workspace, and the names of the records with a story."""

    archive: Path
    work: str
    changed: str
    faulty: str
    broken: str
    short: tuple[str, ...]


def rewrite(header: Path, change) -> None:
    """Change the samples (lead, sample) of a synthetic record's ``.dat`` in place, and its header's checksums with them."""
    dat = header.with_suffix(".dat")
    signal = np.fromfile(dat, "<i2").reshape(-1, 12).T.copy()
    change(signal)
    dat.write_bytes(signal.T.astype("<i2").tobytes())
    lines, lead = header.read_text().splitlines(), 0
    for place, line in enumerate(lines):
        if ".dat 16 " in line:
            words = line.split()
            checksum = (int(signal[lead].sum(dtype=np.int64)) + 32768) % 65536 - 32768
            words[5], words[6] = str(signal[lead][0]), str(checksum)
            lines[place], lead = " ".join(words), lead + 1
    header.write_text("\n".join(lines) + "\n")


def put(source: Path, archive: Path, names: list[str], below: str = "") -> list[str]:
    put_names = []
    for name in names:
        target = archive / below / name
        target.parent.mkdir(parents=True, exist_ok=True)
        for path in (source / name).parent.glob(f"{Path(name).name}.*"):
            shutil.copy2(path, target.with_name(path.name))
        put_names.append(f"{below}{name}")
    return put_names


def add_faults(signal: np.ndarray) -> None:
    signal[3] = 0  # aVR
    signal[1, :100] = -32768  # II


@pytest.fixture(scope="session")
def nights(tmp_path_factory) -> Nights:
    """Two nights: the second brings records of another rate, length and lead count, a changed one, and one that is broken."""
    top = tmp_path_factory.mktemp("api")
    archive, work = top / "archive", str(top / "work")
    write_archive(top / "long", ArchiveShape(n_records=12, duration_s=8.0, mi_share=0.4, other_share=0.2), seed=5)
    write_archive(top / "short", ArchiveShape(n_records=3, duration_s=6.0, sampling_frequency_hz=250.0, n_leads=12), seed=6)
    long, short = ((top / one / "RECORDS").read_text().split() for one in ("long", "short"))
    faulty, broken = long[1], long[9]
    put(top / "long", archive, long[:6])
    rewrite((archive / faulty).with_suffix(".hea"), add_faults)
    ecgbatch.convert(archive, work)
    ecgbatch.find_beats(work)
    put(top / "long", archive, long[6:])
    added = put(top / "short", archive, short, "clinic/")
    for name in added:  # patients of their own: the folder names them
        path = (archive / name).with_suffix(".hea")
        folder = path.parent.with_name(path.parent.name.replace("patient", "patient9"))
        folder.mkdir(exist_ok=True)
        for file in path.parent.glob(f"{path.stem}.*"):
            file.rename(folder / file.name)
    others = tuple(re.sub("/patient", "/patient9", name) for name in added)
    rewrite((archive / long[0]).with_suffix(".hea"), lambda signal: np.floor_divide(signal, 2, out=signal))
    dat = (archive / broken).with_suffix(".dat")
    dat.write_bytes(dat.read_bytes()[:-1001])
    ecgbatch.convert(archive, work)
    ecgbatch.find_beats(work)
    ecgbatch.score(work)
    return Nights(archive, work, long[0], faulty, broken, others)


@pytest.fixture
def copied(nights, tmp_path) -> Nights:
    """A copy that a test may change."""
    work = shutil.copytree(nights.work, tmp_path / "work", symlinks=True)
    archive = shutil.copytree(nights.archive, tmp_path / "archive")
    return Nights(archive, str(work), nights.changed, nights.faulty, nights.broken, nights.short)
