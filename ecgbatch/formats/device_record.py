"""What a hospital device's file gives, whatever its format: leads at one rate, their scales, what is known of the patient."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ecgbatch.formats.cart import NOTHING, Cart, warnings_of
from ecgbatch.formats.header import (
    FS_RANGE_HZ,
    GAIN_RANGE,
    MAX_SIGNALS,
    MILLIVOLTS_PER_UNIT,
    Header,
    SignalLine,
    UnreadableRecord,
    check_leads,
    day_number,
    patient_of,
)
from ecgbatch.terms import MISSING_SAMPLE

MAX_DEVICE_BYTES = 1 << 25
"""32 MiB: a 12-lead ECG of ten seconds has 30 to 500 kB, an hour of 12 leads at 500 Hz as numbers in text about 60 MB."""
MAX_DEVICE_SAMPLES = 1 << 25
"""Of all leads together: an hour and a half of 12 leads at 500 Hz."""
_NUMBER = re.compile(r"[-+]?(?:\d{1,14}(?:\.\d{0,14})?|\.\d{1,14})(?:[eE][-+]?\d{1,3})?", re.ASCII)
_INTEGRAL = re.compile(r"[-+]?\d{1,9}(?:\.0*)?", re.ASCII)
_NO_NUMBER = frozenset({"nan", "na", "ni", "null"})
_SEXES = {"m": "M", "male": "M", "f": "F", "female": "F"}


class Wave(NamedTuple):
    """One lead: ``samples`` (sample) integers, ``MISSING_SAMPLE`` where missing; ``gain`` adu per mV, ``baseline`` adu at 0.

    Samples that fit are int16 (``narrow``): hours of twelve leads would else take four times the memory.
    """

    lead: str
    samples: NDArray[Any]
    gain: float
    baseline: int = 0
    is_millivolts: bool = True


class Patient(NamedTuple):
    """What a file tells of the patient and the time; nothing else of them is kept."""

    identifier: str = ""
    """A name that ``patient_of`` made of the file's own."""
    age_years: float | None = None
    sex: str = ""
    day: int = -1


class DeviceRecord(NamedTuple):
    """A device's ECG as a WFDB header, and its samples."""

    header: Header
    signals: tuple[NDArray[np.int16], ...]
    """Of each line of ``header``."""
    is_verified: bool
    """Whether checksums of the file confirm every sample."""
    left_out: str = ""
    """Leads that the file names and holds nothing of, for people."""


def device_record(
    fs: float,
    waves: Sequence[Wave],
    patient: Patient,
    warnings: Iterable[str] = (),
    *,
    is_verified: bool = False,
    cart: Cart = NOTHING,
) -> DeviceRecord:
    """Return leads of one length as a record; III, aVR, aVL, aVF computed where only I and II are stored.

    ``cart`` is what the device said of the ECG: it goes into the header beside the leads, and has no part in anything else.

    Raises
    ------
    UnreadableRecord
        Where rate, length, number, scale or names of the leads cannot be those of an ECG.

    """
    if not waves:
        raise UnreadableRecord("NSIG_ZERO", "the file holds no rhythm waveform")
    if not FS_RANGE_HZ[0] <= fs <= FS_RANGE_HZ[1]:
        raise UnreadableRecord("FS_INVALID", f"expected a sampling frequency of {FS_RANGE_HZ} Hz, found {fs:g}")
    if len(waves) > MAX_SIGNALS:
        raise UnreadableRecord("HEADER_LIMIT", f"{len(waves)} leads; at most {MAX_SIGNALS} are read")
    n_samples = waves[0].samples.size
    if n_samples < 1 or any(wave.samples.size != n_samples for wave in waves):
        lengths = sorted({wave.samples.size for wave in waves})
        raise UnreadableRecord("LENGTH_INVALID", f"leads of {lengths[0]} to {lengths[-1]} samples; expected one length")
    derived = derived_leads(waves)
    every, told = [*waves, *derived], {*warnings, *(["LEADS_DERIVED"] if derived else []), *warnings_of(cart)}
    check_leads([wave.lead for wave in every])
    lines = tuple(_line(wave, told) for wave in every)
    signals = tuple(_as_int16(wave) for wave in every)
    comments = _comments(patient)
    described_by = ("", fs, n_samples, lines, len(lines), (), comments, tuple(sorted(told)))
    return DeviceRecord(Header(*described_by, patient.identifier, recording_day=patient.day, cart=cart), signals, is_verified)


def derived_leads(waves: Sequence[Wave]) -> list[Wave]:
    """Return those of III, aVR, aVL, aVF that are not stored, from I and II where both are on one scale.

    Halves are kept: the augmented leads have twice the gain of I and II (aVR = -(I + II) / 2 is -(I + II) there).
    """
    by_lead = {wave.lead: wave for wave in waves}
    first, second = by_lead.get("I"), by_lead.get("II")
    if first is None or second is None or first[2:] != second[2:] or not first.is_millivolts:
        return []
    zero = first.baseline
    one, two = first.samples.astype(np.int64) - zero, second.samples.astype(np.int64) - zero
    missing = (first.samples == MISSING_SAMPLE) | (second.samples == MISSING_SAMPLE)
    sums = {"III": (two - one, 1), "aVR": (-(one + two), 2), "aVL": (2 * one - two, 2), "aVF": (2 * two - one, 2)}
    return [
        Wave(lead, narrow(np.where(missing, MISSING_SAMPLE, values)), times * first.gain)
        for lead, (values, times) in sums.items()
        if lead not in by_lead
    ]


def narrow(samples: NDArray[Any]) -> NDArray[Any]:
    """Return samples as int16 if all of them fit, else as they are."""
    fits = samples.size > 0 and MISSING_SAMPLE <= int(samples.min()) <= int(samples.max()) <= 32767
    return samples.astype(np.int16) if fits else samples


def scaled(lead: str, samples: NDArray[Any], step: float, unit: str, origin: float, warnings: set[str]) -> Wave:
    """Return a lead whose sample ``n`` means ``origin + n * step`` of ``unit``."""
    millivolts = MILLIVOLTS_PER_UNIT.get(unit.lower())
    gain = float(f"{1 / (step * (millivolts or 1.0)):.12g}") if step else 0.0
    exact = -origin / step if step else 0.0
    if not -(2**31) <= exact < 2**31 - 1:
        raise UnreadableRecord("BASELINE_INVALID", f"lead {lead}: its zero does not fit 32 bits")
    if abs(exact - round(exact)) > 1e-3:
        warnings.add("BASELINE_ROUNDED")
    if gain < 0:
        warnings.add("GAIN_NEGATIVE")
        samples = np.where(samples == MISSING_SAMPLE, samples, -samples)
    return Wave(lead, samples, abs(gain), round(-exact if gain < 0 else exact), millivolts is not None)


def most_common_length(waves: list[Wave], warnings: set[str]) -> list[Wave]:
    """Return the leads that have the length of most (then the longer); leaving others out is a warning."""
    lengths = [wave.samples.size for wave in waves]
    chosen = max(set(lengths), key=lambda n: (lengths.count(n), n), default=0)
    if len(set(lengths)) > 1:
        warnings.add("GROUPS_LEFT_OUT")
    return [wave for wave in waves if wave.samples.size == chosen]


def _line(wave: Wave, warnings: set[str]) -> SignalLine:
    if not GAIN_RANGE[0] <= wave.gain <= GAIN_RANGE[1]:
        raise UnreadableRecord("GAIN_INVALID", f"lead {wave.lead}: {wave.gain:g} adu per mV; expected {GAIN_RANGE}")
    if not wave.is_millivolts:
        warnings.add("UNITS_UNKNOWN")
    return SignalLine("", 16, 1, 0, 0, wave.gain, wave.baseline, wave.is_millivolts, None, None, wave.lead)


def _as_int16(wave: Wave) -> NDArray[np.int16]:
    if wave.samples.dtype == np.int16:
        return wave.samples
    lowest, highest = int(wave.samples.min()), int(wave.samples.max())
    if not MISSING_SAMPLE <= lowest <= highest <= 32767:
        raise UnreadableRecord("RANGE", f"lead {wave.lead}: samples {lowest} to {highest}; -32767 to 32767 can be stored")
    return wave.samples.astype(np.int16)


def _comments(patient: Patient) -> tuple[str, ...]:
    age, sex = patient.age_years, _SEXES.get(patient.sex.strip().lower(), "")
    return (*([f"Age: {int(age)}"] if age is not None and 0 <= age < 200 else []), *([f"Sex: {sex}"] if sex else []))


def age_at(born: int, day: int) -> float | None:
    """Return the age in years on a day, by the day of birth (both of ``day_number``); None where one is unknown."""
    if not 0 < born <= day:
        return None
    birth, then = date.fromordinal(born), date.fromordinal(day)
    return float(then.year - birth.year - ((then.month, then.day) < (birth.month, birth.day)))


def day_of(text: str, pattern: str = r"(?P<year>\d{4})-?(?P<month>\d{2})-?(?P<day>\d{2})") -> int:
    """Return the day of a date at the beginning of a text (``day_number``); -1 where there is none."""
    match = re.match(pattern, text.strip(), re.ASCII)
    return -1 if match is None else day_number(int(match["year"]), int(match["month"]), int(match["day"]))


def identified(identifier: str, scope: str = "") -> str:
    """Return the patient's name for an identifier that holds within a ``scope``; empty where there is no identifier."""
    return patient_of(f"{scope} {identifier.strip()}" if scope else identifier) if patient_of(identifier) else ""


def number(text: str, what: str, code: str = "HEADER_SYNTAX") -> float:
    """Return a number that a file states as text; ``UnreadableRecord`` with ``code`` where it is none."""
    if not _NUMBER.fullmatch(text.strip()):
        raise UnreadableRecord(code, f"expected a number as {what}")
    return float(text)


def whole(text: str, what: str, code: str = "HEADER_SYNTAX") -> int:
    """Return a whole number that a file states as text; ``UnreadableRecord`` with ``code`` where it is none."""
    value = number(text, what, code)
    if value != int(value):
        raise UnreadableRecord(code, f"expected a whole number as {what}")
    return int(value)


def from_base64(text: str, what: str) -> bytes:
    """Return the bytes of a base64 text, white space allowed anywhere.

    Raises
    ------
    UnreadableRecord
        ``DECODER_FAILED``, for whatever is not base64 from its first to its last character.

    """
    try:
        return binascii.a2b_base64("".join(text.split()), strict_mode=True)
    except (binascii.Error, ValueError):
        raise UnreadableRecord("DECODER_FAILED", f"{what}: the samples are no whole base64 text; export the file again") from None


def numbers_of_text(text: str, what: str) -> NDArray[Any]:
    """Return whole numbers with white space between them; ``MISSING_SAMPLE`` for a word that stands for none (``NaN``).

    Raises
    ------
    UnreadableRecord
        ``DECODER_FAILED``, for whatever is neither.

    """
    from ecgbatch.formats.device_kernels import whole_numbers

    content = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
    found = np.empty(content.size // 2 + 1, np.int32)
    count = whole_numbers(content, found)
    if count >= 0:
        return found[:count]
    words = text.split()
    if not all(word.lower() in _NO_NUMBER or _INTEGRAL.fullmatch(word) for word in words):
        raise UnreadableRecord("DECODER_FAILED", f"{what}: its digits are not all whole numbers; export the file again")
    values = [MISSING_SAMPLE if word.lower() in _NO_NUMBER else int(word.partition(".")[0]) for word in words]
    return np.array(values, np.int64)
