"""The vocabulary of ecgbatch: leads, flags, statuses, and every constant with its unit and source."""

from __future__ import annotations

from collections.abc import Mapping

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", "Vx", "Vy", "Vz")
"""Canonical order of leads (the standard twelve, then Frank's); any other lead follows by name."""

STATUS: Mapping[str, int] = {"ok": 0, "partial": 1, "set_aside": 2}
"""Of a record: ok; partial = usable, some leads missing; set aside = cannot be used, see its reason."""

LABEL: Mapping[str, int] = {"unknown": 0, "control": 1, "mi": 2, "other": 3}
"""Of a record: what its label table or header says. ``mi`` (1, 0, -1) follows: mi 1, control 0, else -1."""

SEX: Mapping[str, int] = {"unknown": 0, "female": 1, "male": 2}

LEAD_FLAGS: Mapping[str, int] = {
    "missing": 1,  # the record has no samples of this lead
    "flat": 2,
    "clipped": 4,
    "noisy": 8,
    "wander": 16,
    "powerline": 32,
    "implausible_amplitude": 64,
    "lead_sum": 128,  # breaks II = I + III, or the aVR, aVL, aVF sums
    "unverified": 256,  # the header has no valid checksum for it
    "not_millivolts": 512,  # normalised or unknown units: its shape is real, its amplitude is not
    "suspected_swap": 1024,
    "gaps": 2048,  # some samples are missing
}
"""Bits of ``lead_flags``. A lead with a bit of ``UNUSABLE_LEAD`` does not vote in detection and is masked in scoring."""

UNUSABLE_LEAD = LEAD_FLAGS["missing"] | LEAD_FLAGS["flat"]

BEAT_FLAGS: Mapping[str, int] = {
    "edge": 1,  # its window leaves the record: filled there
    "noisy": 2,
    "ectopic": 4,  # by timing
    "aberrant": 8,  # by shape
    "clipped": 16,
    "cut": 32,  # kachuee: 1.2 T exceeds 187 samples, the rest is cut off
}
"""Bits of ``beat_flags``. No beat is ever removed."""

UNSCORABLE_BEAT = BEAT_FLAGS["edge"] | BEAT_FLAGS["noisy"] | BEAT_FLAGS["clipped"]
"""A beat with any of these bits is stored but not scored."""

DECISION: Mapping[str, int] = {"mi_not_indicated": 0, "mi_indicated": 1, "indeterminate": 2, "not_scorable": 3}

SCORE_FLAGS: Mapping[str, int] = {
    "one_member": 1,  # one member scored it: the interval holds no spread of members
    "unlike_training": 2,  # its median beat is unlike anything the model was trained on: indeterminate
}
"""Bits of ``score_flags``."""

MISSING_SAMPLE = -32768
"""int16 adu: the WFDB sentinel of formats 16 and 80 (header(5), signal(5)); also our fill."""

LONGEST_HEART_RATE_BPM = 300.0
"""Upper bound for the number of R peaks that a record can hold: refractory period 200 ms (Pan and Tompkins 1985)."""

NOTICE = "Research software. Not a medical device. Not for diagnosis. Every result needs review by a physician."


def lead_order(names: set[str]) -> list[str]:
    """Return lead names in canonical order, others after them by name."""
    return [lead for lead in LEADS if lead in names] + sorted(names - set(LEADS))


def words_of_mask(mask: int, flags: Mapping[str, int]) -> list[str]:
    """Return the meanings of the bits set in ``mask``."""
    return [word for word, bit in flags.items() if mask & bit]
