"""EDF+D, a recording that may have interruptions: when each data record began, and leads with gaps as missing samples."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ecgbatch.formats.edf import EdfHeader
from ecgbatch.formats.files import open_regular
from ecgbatch.formats.header import UnreadableRecord
from ecgbatch.terms import MISSING_SAMPLE

MAX_RECORDS = 1 << 20
"""Of an EDF+D file: twelve days in records of a second. Each is looked at: a second for the limit."""
_ONSET_BYTES = 32
"""From the beginning of a data record's annotations: they begin with when it began."""
_ONSET = re.compile(rb"([+-]\d{1,9}(?:\.\d{0,9})?)\x14\x14", re.ASCII)
_JITTER_S = 0.002
"""Times have few digits: a data record that begins so close to the end of the one before follows it; at least a sample."""


def with_gaps(edf: EdfHeader, path: str) -> EdfHeader:
    """Return an EDF+D header with the length of its recording, interruptions included.

    Parameters
    ----------
    path
        Of the file, whose size is what the header requires.

    Raises
    ------
    UnreadableRecord
        ``HEADER_LIMIT``; ``FMT_UNSUPPORTED`` where the data records do not tell their times, or tell times that run backwards.

    """
    if edf.n_records > MAX_RECORDS:
        raise UnreadableRecord("HEADER_LIMIT", f"EDF+D of {edf.n_records} data records; at most {MAX_RECORDS} are read")
    n_samples = int(_starts(edf, _onsets_of_file(edf, path))[-1]) + edf.lead_samples
    return edf._replace(header=edf.header._replace(n_samples=n_samples))


def starts_of(edf: EdfHeader, frames: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return the sample at which each data record begins, the first at 0.

    Parameters
    ----------
    edf
        Of ``parse_edf``.
    frames : (data record, sample) int16
        All signals and annotations, one after the other.

    Raises
    ------
    UnreadableRecord
        As ``with_gaps``.

    """
    first = edf.onset_sample
    return _starts(edf, (frame[first : first + _ONSET_BYTES // 2].tobytes() for frame in frames))


def on_one_grid(starts: NDArray[np.int64], stretches: NDArray[np.int16]) -> NDArray[np.int16]:
    """Return a lead over the whole time of the recording, ``MISSING_SAMPLE`` in its interruptions.

    ``starts`` is of ``starts_of``; ``stretches`` (data record, sample) int16 the lead's part of each.
    """
    n_each = stretches.shape[1]
    whole = np.full(int(starts[-1]) + n_each, MISSING_SAMPLE, np.int16)
    breaks = [0, *(np.flatnonzero(np.diff(starts) != n_each) + 1).tolist(), len(starts)]
    for first, last in pairwise(breaks):
        part = stretches[first:last].reshape(-1)
        whole[starts[first] : starts[first] + part.size] = part
    return whole


def _onsets_of_file(edf: EdfHeader, path: str) -> Iterator[bytes]:
    descriptor, _ = open_regular(path)
    try:
        at = edf.n_header_bytes + 2 * edf.onset_sample
        for _ in range(edf.n_records):
            yield os.pread(descriptor, _ONSET_BYTES, at)
            at += 2 * edf.record_samples
    except OSError as error:
        raise UnreadableRecord("UNREADABLE_FILE", f"EDF+D: {error.strerror}") from None
    finally:
        os.close(descriptor)


def _starts(edf: EdfHeader, texts: Iterable[bytes]) -> NDArray[np.int64]:
    """Return the sample at which each data record begins, the first at 0, by the beginnings of their annotations."""
    fs = edf.header.sampling_frequency_hz
    near, end, first_s = max(1, math.floor(_JITTER_S * fs)), 0, 0.0
    starts = np.empty(edf.n_records, np.int64)
    for number, text in enumerate(texts):
        onset = _ONSET.match(text)
        if onset is None:
            detail = f"EDF+D whose data record {number + 1} does not tell when it began; export it as EDF+C"
            raise UnreadableRecord("FMT_UNSUPPORTED", detail)
        first_s = float(onset[1]) if number == 0 else first_s
        start = round((float(onset[1]) - first_s) * fs)
        start = end if abs(start - end) <= near else start
        if start < end:
            detail = f"EDF+D whose data record {number + 1} begins before the one before it ends; export it as EDF+C"
            raise UnreadableRecord("FMT_UNSUPPORTED", detail)
        starts[number], end = start, start + edf.lead_samples
    return starts
