"""A record's samples in memory: put into rows, finished, and compared with what the header says of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.formats.header import SignalLine, UnreadableRecord, columns_of
from ecgbatch.formats.inspection import FLAC_FORMATS, Inspection
from ecgbatch.terms import LEAD_FLAGS, MISSING_SAMPLE

PLAIN_FORMATS = frozenset({16, 61, 160})
"""WFDB formats whose samples are 16-bit integers, one after the other."""
_SENTINELS = MappingProxyType(
    dict.fromkeys((16, 61, 160, 516), MISSING_SAMPLE)
    | {24: -(2**23), 32: -(2**31), 80: -128, 212: -2048, 310: -512, 311: -512, 508: -128, 524: -(2**23)}
)
"""Missing sample of each format; format 8 has none: signal(5), as in wfdb 4.3."""


@dataclass
class Samples:
    """A record's samples and what reading them has told; rows are the leads in canonical order."""

    block: NDArray[np.int16]
    """(lead, at least n_samples), C-contiguous."""
    n_samples: int
    adc_gain: NDArray[np.float64]
    baseline: NDArray[np.int32]
    checksum: NDArray[np.int32]
    lead_flags: NDArray[np.uint16]
    warnings: set[str] = field(default_factory=set)
    source_digest: str = ""

    @property
    def signal(self) -> NDArray[np.int16]:
        """The samples (lead, sample) alone."""
        return self.block[:, : self.n_samples]


def empty_samples(inspection: Inspection, block: NDArray[np.int16] | None = None) -> Samples:
    """Return a record's samples before any is read, in ``block`` where one is given."""
    n = len(inspection.leads)
    return Samples(
        np.empty((n, inspection.n_samples), np.int16) if block is None else block,
        inspection.n_samples,
        np.ones(n),
        np.zeros(n, np.int32),
        np.zeros(n, np.int32),
        np.zeros(n, np.uint16),
    )


class Found(NamedTuple):
    """What a file holds of one lead, before anything is replaced or shifted."""

    line: SignalLine
    row: int
    first_value: int
    checksum: int
    lowest: int | None = None
    """None where it is to be looked for once samples are replaced and shifted."""


def finish_leads(samples: Samples, found: list[Found]) -> None:
    """Fill the columns of many leads: those of nearly all are known by now."""
    rows = [lead.row for lead in found]
    samples.checksum[rows] = [lead.checksum for lead in found]
    samples.adc_gain[rows] = [lead.line.adc_gain for lead in found]
    samples.baseline[rows] = [lead.line.baseline for lead in found]
    for lead in found:
        is_odd = lead.line.skew or lead.line.is_turned or not lead.line.is_millivolts
        if is_odd or lead.lowest in {None, MISSING_SAMPLE}:
            _finish_lead(samples, lead)


def take_usual(
    samples: Samples, rows: NDArray[np.int64], lines: list[SignalLine], totals: NDArray[np.int64], lowest: NDArray[np.int64]
) -> bool:
    """Fill the columns of all leads of a record of which nothing is to be said, as of nearly all; else do nothing, return False.

    Its leads are in one file, their first samples and their sums, ``totals``, are those of the header, no sample is missing or
    to be changed, and they have volts.
    """
    if len(lines) < len(samples.adc_gain):
        return False
    told, checksums = columns_of(lines), (totals % 65536).tolist()
    is_usual = any(checksums) and list(told.checksum) == checksums and all(told.is_millivolts)
    if not is_usual or any(told.skew) or any(told.is_turned) or lowest.min() == MISSING_SAMPLE:
        return False
    if samples.block[rows, 0].tolist() != list(told.initial_value):
        return False
    samples.checksum[rows], samples.adc_gain[rows], samples.baseline[rows] = checksums, told.adc_gain, told.baseline
    return True


def _finish_lead(samples: Samples, found: Found) -> None:
    """Undo the skew of one lead and fill its other columns."""
    line, row = found.line, found.row
    stored = samples.signal[row]
    if line.is_turned:
        np.negative(stored, out=stored, where=stored != MISSING_SAMPLE)  # what means missing stays: it has no opposite
    if line.skew:
        skew = line.skew * line.samples_per_frame  # header(5) states it in frames
        stored[:-skew] = stored[skew:].copy()
        stored[-skew:] = MISSING_SAMPLE
        samples.warnings.add("SKEW_APPLIED")
    is_raw = line.fmt in PLAIN_FORMATS and line.samples_per_frame == 1 and not (line.skew or line.is_turned)
    samples.checksum[row] = found.checksum if is_raw else sum_16(stored)
    samples.adc_gain[row], samples.baseline[row] = line.adc_gain, line.baseline
    if not line.is_millivolts:
        samples.lead_flags[row] |= LEAD_FLAGS["not_millivolts"]
    lowest = stored.min() if found.lowest is None or line.skew or line.is_turned else found.lowest
    if lowest == MISSING_SAMPLE:
        samples.lead_flags[row] |= LEAD_FLAGS["gaps"]
        samples.warnings.add("GAPS")


def sum_16(values: NDArray[np.int16]) -> int:
    """Return the sum of samples modulo 65536, as headers state it."""
    # uint16 arithmetic wraps at 65536: the sum modulo 65536 without widening a single sample.
    return int(np.add.reduce(values.view(np.uint16), dtype=np.uint16))


def as_int16(values: NDArray[Any], line: SignalLine) -> NDArray[np.int16]:
    """Return a lead's samples, the format's mark of a missing sample replaced by ours."""
    missing = values == _SENTINELS[line.fmt] if line.fmt in _SENTINELS else np.zeros(values.shape, bool)
    lowest, highest = values.min(where=~missing, initial=0), values.max(where=~missing, initial=0)
    if lowest <= MISSING_SAMPLE or highest > 32767:
        raise UnreadableRecord("RANGE", f"lead {line.lead}: samples {lowest} to {highest}; -32767 to 32767 can be stored")
    return np.where(missing, MISSING_SAMPLE, values).astype(np.int16)


def check_checksums(samples: Samples, found: list[Found]) -> None:
    """Compare sums of samples with the header's; flag the leads for which it states none."""
    stated = [lead.line.checksum for lead in found]
    if any(stated) and stated == [lead.checksum for lead in found]:
        return  # as nearly always
    is_stated = any(stated)
    is_verified = is_stated or all(lead.line.checksum == lead.checksum for lead in found)
    wrong = [lead for lead in found if is_stated and lead.line.checksum not in {None, lead.checksum}]
    if wrong:
        line, total = wrong[0].line, wrong[0].checksum
        detail = (
            f"lead {line.lead} has checksum {total}, the header says {line.checksum}; {len(wrong)} of {len(found)} leads differ"
        )
        raise UnreadableRecord("CHECKSUM_MISMATCH", f"{detail}: {line.file_name} or the header is altered, fetch both again")
    for lead in found:
        if not is_verified or lead.line.checksum is None:
            samples.lead_flags[lead.row] |= LEAD_FLAGS["unverified"]
            samples.warnings.add("CHECKSUM_UNVERIFIED")


def check_initial_values(samples: Samples, found: list[Found]) -> None:
    """Compare first samples: weak evidence, but the only one against a format mistaken for another of the same size.

    Not compared where all are zero beside checksums that are all zero (old headers), nor in format 8, whose samples are
    made from them. FLAC and several samples a frame: valid records of PhysioNet disagree, so only a warning.
    """
    if [lead.line.initial_value for lead in found] == [lead.first_value for lead in found]:
        return  # as nearly always
    stated = [lead for lead in found if lead.line.initial_value is not None and lead.line.fmt != 8]
    if not any(lead.line.initial_value or lead.line.checksum for lead in stated):
        return
    wrong = [lead for lead in stated if lead.line.initial_value != lead.first_value]
    strict = [lead for lead in wrong if lead.line.fmt not in FLAC_FORMATS and lead.line.samples_per_frame == 1]
    if 2 * len(strict) > len(stated):
        line, value = strict[0].line, strict[0].first_value
        detail = (
            f"lead {line.lead} begins with {value}, the header says {line.initial_value}; {len(wrong)} of {len(stated)} differ"
        )
        raise UnreadableRecord("INIT_MISMATCH", f"{detail}: is format {line.fmt} right?")
    if wrong:
        samples.warnings.add("INIT_DIFFERS")


def put(
    samples: Samples, inspection: Inspection, line: SignalLine, stored: NDArray[np.int16], *, is_verified: bool = False
) -> None:
    """Fill the row of a lead of a record that is one file, most of which have no checksums."""
    row = inspection.leads.index(line.lead)
    samples.signal[row] = stored
    _finish_lead(samples, Found(line, row, 0, sum_16(samples.signal[row])))
    if not is_verified:
        samples.lead_flags[row] |= LEAD_FLAGS["unverified"]
        samples.warnings.add("CHECKSUM_UNVERIFIED")
