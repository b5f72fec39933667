"""Beat annotations in the field's own form: WFDB annotation files (MIT format, annot(5)), written and read.

A file is a row of 16-bit words: six bits of code and ten of time since the annotation before, with escapes for longer times and
further fields. Small and fixed, so it is done here; the tests hold it against wfdb, both ways.
"""

from __future__ import annotations

import hashlib
import math
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.formats.files import check_record_name, read_small_file
from ecgbatch.terms import LONGEST_HEART_RATE_BPM

Array = NDArray[Any]

EXTENSION = "qrs"
"""Of the files written here: the name that WFDB's own detectors use."""

CODES = dict(enumerate(' NLRaVFJASEj/Q~ | sT*D"=pB^t+u?![]en@xf()r', 0))
"""Symbol of each code: ecgcodes.h of the WFDB library."""

BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
"""Symbols that stand for a beat: ANSI/AAMI EC57 and WFDB's isqrs."""

_NORMAL, _NOTE, _SKIP, _NUM, _SUB, _CHN, _AUX = 1, 22, 59, 60, 61, 62, 63
_RESOLUTION = re.compile(r"## time resolution: (\d+(?:\.\d+)?)")
_MOST_BYTES = 1 << 26
"""Of a reference file: millions of beats, days of recording."""


class UnreadableAnnotations(ValueError):
    """An annotation file that breaks off or makes no sense."""


class Annotations(NamedTuple):
    """What an annotation file holds.

    ``sample`` (annotation) int64, ``symbol`` (annotation) one character each, ``subtype`` (annotation) int8, and the rate that
    samples are counted at, where the file states it (else NaN: the record's own).
    """

    sample: Array
    symbol: Array
    subtype: Array
    sampling_frequency_hz: float


class Reference(NamedTuple):
    """Beats of a reference: ``r_sample`` (beat) int64 increasing, SHA-256 of the file, and why there are none (else empty)."""

    r_sample: Array
    digest: str
    reason: str


def encode_beats(r_sample: Array, beat_flags: Array, sampling_frequency_hz: float) -> bytes:
    """Return a WFDB annotation file of one record's beats.

    Parameters
    ----------
    r_sample : (beat,) int, increasing
        0-based samples at the record's own rate, which the file states.
    beat_flags : (beat,) uint16
        Kept as each annotation's ``subtyp``.

    Returns
    -------
    bytes
        Every beat is ``N``: a beat was found here; timing and shape flags are no diagnosis of its class.

    """
    stated = f"## time resolution: {sampling_frequency_hz:.12g}".encode()
    words = [_NOTE << 10, _AUX << 10 | len(stated), *np.frombuffer(stated + b"\0" * (len(stated) % 2), "<u2").tolist()]
    for gap, flags in zip(np.diff(r_sample, prepend=0).tolist(), np.asarray(beat_flags).tolist(), strict=True):
        words += [_NORMAL << 10 | gap] if gap < 1024 else [_SKIP << 10, gap >> 16, gap & 0xFFFF, _NORMAL << 10]
        words += [_SUB << 10 | flags] if flags else []
    return np.array([*words, 0], "<u2").tobytes()


def decode(content: bytes) -> Annotations:
    """Read a WFDB annotation file.

    Raises
    ------
    UnreadableAnnotations
        If it breaks off, or time runs before the record's start.

    """
    words = np.frombuffer(content[: len(content) // 2 * 2], "<u2").tolist()
    found: list[list[int]] = []
    rate, time, at = float("nan"), 0, 0
    try:
        while words[at]:
            code, value = words[at] >> 10, words[at] & 1023
            if code == _SKIP:
                gap = words[at + 1] << 16 | words[at + 2]
                time += gap - (gap >> 31 << 32)
                at += 3
                continue
            if code < _SKIP:
                time += value
                found.append([time, code, 0])
            elif code == _SUB and found:
                found[-1][2] = (value & 255) - (value >> 7 & 1) * 256
            elif code == _AUX:
                stated = _RESOLUTION.match(content[2 * at + 2 : 2 * at + 2 + value].decode("latin-1"))
                rate = float(stated[1]) if stated and len(found) == 1 and found[0][:2] == [0, _NOTE] else rate
                at += (value + 1) // 2
            at += 1
    except IndexError:
        raise UnreadableAnnotations(
            f"an annotation file ends with two zero bytes, this one breaks off after {len(found)} annotations: fetch it again"
        ) from None
    if not math.isnan(rate):  # the note that states the rate is no annotation
        del found[0]
    # Code 0 is no annotation: wfdb writes one to close the note that states the rate.
    table = np.array([row for row in found if row[1]], np.int64).reshape(-1, 3)
    if len(table) and table[:, 0].min() < 0:
        raise UnreadableAnnotations(f"annotation at sample {table[:, 0].min()}: expected 0 or later, fetch the file again")
    symbol = np.array([CODES.get(code, " ") for code in table[:, 1].tolist()], "U1")
    return Annotations(table[:, 0], symbol, table[:, 2].astype(np.int8), rate)


def reference_beats(
    archive: str | Path, record_name: str, extension: str, *, sampling_frequency_hz: float, n_samples: int
) -> Reference:
    """Read the beats of a record's reference annotation file, which lies beside its header.

    Returns
    -------
    Reference
        Annotations with a symbol of ``BEAT_SYMBOLS``, each sample once. A file that is missing, unreadable, of another time
        base than it can be converted from, or with more than 300 beats a minute gives no beats and a reason.

    """
    nothing = np.zeros(0, np.int64)
    try:
        check_record_name(record_name)
        content = read_small_file(archive, f"{record_name}.{extension}", _MOST_BYTES, "HEADER_TOO_BIG")
        found = decode(content)
    except ValueError as error:
        return Reference(nothing, "", f"no reference beats: {getattr(error, 'detail', error)}")
    rate = found.sampling_frequency_hz
    factor = sampling_frequency_hz / rate if rate > 0 else 1.0
    beats = np.rint(found.sample[np.isin(found.symbol, sorted(BEAT_SYMBOLS))] * factor).astype(np.int64)
    beats = np.unique(beats[beats < n_samples])
    most = n_samples / sampling_frequency_hz * LONGEST_HEART_RATE_BPM / 60
    if len(beats) > max(1.0, most):
        return Reference(nothing, "", f"no reference beats: {len(beats)} in the record's time, at most {most:.0f} are plausible")
    return Reference(beats, hashlib.sha256(content).hexdigest(), "" if len(beats) else "no reference beats: the file has none")
