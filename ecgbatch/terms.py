"""The vocabulary of ecgbatch: leads, flags, statuses, and every constant with its unit and source."""

from __future__ import annotations

from collections.abc import Mapping

LEADS = ("I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6", "Vx", "Vy", "Vz")
"""Canonical order of leads (the standard twelve, then Frank's); any other lead follows by name."""

LEAD_VECTORS = (
    (0.632, -0.235, 0.059),  # I
    (0.235, 1.066, -0.132),  # II
    (-0.515, 0.157, -0.917),  # V1
    (0.044, 0.164, -1.387),  # V2
    (0.882, 0.098, -1.277),  # V3
    (1.213, 0.127, -0.601),  # V4
    (1.125, 0.127, -0.086),  # V5
    (0.831, 0.076, 0.230),  # V6
)
"""Potential of a lead per unit of Frank's x, y, z. Dower, Machado, Osborne 1980, Clin Cardiol 3:87-95."""

STATUS: Mapping[str, int] = {"ok": 0, "partial": 1, "set_aside": 2}
"""Of a record's files, since they were converted: ok; partial = usable, some leads missing; set aside = cannot be used, see its
reason. Scoring changes none of these words: a record of which it can make nothing is *not scorable* (``DECISION``), and what is
set aside is one part of that; the other can be read, and has too few beats or leads."""

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

FAULTY_LEAD = UNUSABLE_LEAD | sum(LEAD_FLAGS[word] for word in ("noisy", "clipped", "gaps", "implausible_amplitude"))
"""Bits of a lead that no reader can trust: nothing is measured on it, and no page calls it usable; ``n_leads_usable`` counts
those without any. Scoring masks less (``UNUSABLE_LEAD``): a member weighs noise by the beats that it leaves usable."""

QUALITY: Mapping[str, int] = {"good": 0, "remarks": 1, "not_usable": 2}
"""Of a recording: no remark on any lead; a remark on some; fewer than two thirds of its leads without a fault, or set aside."""

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
"""Of a record; ``not_scorable`` is every record without a probability, those set aside among them."""

SCORE_FLAGS: Mapping[str, int] = {
    "one_member": 1,  # one member scored it: the interval holds no spread of members
    "unlike_training": 2,  # its median beat is unlike anything the model was trained on: indeterminate
    "close_to_threshold": 4,  # its interval holds the threshold: indeterminate
    "electrodes_exchanged": 8,  # limb electrodes seem exchanged: indeterminate
}
"""Bits of ``score_flags``."""

INDETERMINATE_KINDS = ("electrodes_exchanged", "unlike_training", "close_to_threshold")
"""Of ``SCORE_FLAGS``, those that make a decision indeterminate; the first that applies is the one that pages name."""

STATEMENTS: Mapping[str, int] = {
    "rate_slow": 1,
    "rate_fast": 2,
    "irregular_without_p": 4,
    "irregular": 8,
    "p_long": 16,
    "pr_long": 32,
    "pr_short": 64,
    "qrs_wide": 128,
    "qtc_long": 256,
    "qtc_very_long": 512,
    "qtc_short": 1024,
    "axis_left": 2048,
    "axis_right": 4096,
    "axis_extreme": 8192,
    "q_waves": 16384,
    "st_elevation": 32768,
    "st_depression": 65536,
    "lv_voltage": 131072,
    "low_voltage": 262144,
}
"""Bits of ``statements``: what follows from measured numbers alone, by the limits below. None is a diagnosis."""

SLOW_BPM, FAST_BPM = 50.0, 100.0
"""Bradycardia, tachycardia: Kusumoto and others 2019, Circulation 140:e382 (2018 ACC/AHA/HRS); Page and others 2016, 133:e506."""

LONG_P_MS, SHORT_PR_MS, LONG_PR_MS = 120.0, 120.0, 200.0
"""Hancock and others 2009, Circulation 119:e251 (AHA/ACCF/HRS part V: P); Mason and others 2007, 115:1325 (part II: PR)."""

WIDE_QRS_MS, QRS_ALLOWANCE_MS = 120.0, 10.0
"""Adults: Surawicz and others 2009, Circulation 119:e235 (AHA/ACCF/HRS part III). QRS is called wide from the sum on: the second
is how far single measurements scatter (docs/measurements.md), and 2.5 % of PTB-XL's healthy records reach 128 ms."""

LONG_QTC_MS: Mapping[str, float] = {"male": 450.0, "female": 460.0, "unknown": 460.0}
SHORT_QTC_MS, VERY_LONG_QTC_MS = 360.0, 500.0
"""Long: Rautaharju and others 2009, Circulation 119:e241 (AHA/ACCF/HRS part IV); short: Priori and others 2015, Eur Heart J
36:2793 (ESC); very long: Drew and others 2010, Circulation 121:1047."""

LEFT_AXIS_DEG, RIGHT_AXIS_DEG = -30.0, 90.0
"""Normal from the first to the second in adults; from -90 to -180 neither: Surawicz and others 2009 (part III)."""

HIGH_ST_MV: Mapping[str, float] = {"male under 40": 0.25, "male": 0.20, "female": 0.15, "unknown": 0.25}
HIGH_ST_ELSEWHERE_MV, LOW_ST_MV = 0.10, -0.05
"""Level at J: in V2 and V3 by sex and age, in other leads, and of depression, in two contiguous leads each: Thygesen and others
2018, Circulation 138:e618 (fourth universal definition of myocardial infarction). It leaves out bundle branch block."""

LONG_Q_MS, DEEP_Q_MV, LONG_Q_V2_MS = 30.0, -0.1, 20.0
"""Q in two contiguous leads of one of the groups below, and any longer Q in V2 or V3: Thygesen and others 2018, table 4."""

Q_GROUPS = (("I", "aVL"), ("V4", "V5", "V6"), ("II", "III", "aVF"))

CONTIGUOUS_LEADS = (("V1", "V2", "V3", "V4", "V5", "V6"), ("aVL", "I", "II", "aVF", "III"))
"""Neighbours in each row look at neighbouring walls; limb leads in Cabrera's order (aVR, between I and II, left out)."""

SOKOLOW_LYON_MV = 3.5
CORNELL_MV: Mapping[str, float] = {"male": 2.8, "female": 2.0, "unknown": 2.8}
FEWEST_YEARS_OF_VOLTAGE = 35.0
"""S in V1 plus R in V5 or V6 from the first; R in aVL plus S in V3 over the second; adults from 35: Hancock and others 2009."""

LOW_VOLTAGE_MV = 0.5
"""QRS of every limb lead under it, top to bottom: Surawicz and Knilans 2008, chapter 1."""

MISSING_SAMPLE = -32768
"""int16 adu: the WFDB sentinel of formats 16 and 80 (header(5), signal(5)); also our fill."""

LONGEST_HEART_RATE_BPM = 300.0
"""Upper bound for the number of R peaks that a record can hold: refractory period 200 ms (Pan and Tompkins 1985)."""

STEP_FAILED = "STEP_FAILED"
"""Reason of a record whose own content made a step fail in a way that nobody thought of. Where a later step than reading failed,
step and type of exception follow: ``STEP_FAILED:peaks:ValueError``."""

NOTICE = "Research software. Not a medical device. Not for diagnosis. Every result needs review by a physician."


ANALYSIS_RATE_HZ = 250.0
"""Rate to which records are averaged before anything is measured: QRS, mains and most muscle noise lie below its half."""

FLAT_RANGE_MV = 0.02
"""A second whose values span less shows no beat. Smallest median span of a real lead met: 0.14 mV in MIT-BIH, 0.18 in PTB."""

FLAT_SHARE = 0.5
"""Share of flat seconds above which a lead is flat: more than half of its beats cannot be seen."""

CLIPPED_S = 0.02
"""Time at exactly the lead's largest or smallest value, in runs, above which it is clipped: about two clipped R waves."""

CLIPPED_RUN_S = 0.1
"""One run at an extreme as long as this is clipping by itself; shorter ones must occur twice (a smooth wave has one top)."""

NOISE_MV = 0.010
NOISE_SHARE_OF_RANGE = 1 / 40
"""Noise between beats (rms, 30 to 125 Hz, mains left out) above both is noisy. Clean PTB leads: 0.003 mV in the median, 0.008 in
the 99th percentile, never above 1/46 of the lead's span."""

WANDER_MV_PER_S = 0.5
"""Change of the baseline from one second to the next, 90th percentile, above which a lead wanders: it then moves by about an
R wave of a limb lead within one beat. PTB 95th percentile 0.2, MIT-BIH maximum 0.6; wander in the noise stress test 0.25 to 3."""

MAINS_HZ = (50.0, 60.0)
MAINS_MV = 0.015
MAINS_RATIO = 2.0
"""Amplitude at a mains frequency between beats, and its ratio to those at 40 and 70 Hz, above which it is powerline. Such a hum
shifts an ST segment's reading by its amplitude; 99th percentile of PTB's leads: 0.015 mV."""

LARGEST_RANGE_MV = 10.0
"""Median span of a second above which amplitude is implausible: no QRS is taller than the +-5 mV that IEC 60601-2-25 asks an
electrocardiograph to record; taller means a wrong gain, pacing artefacts or a loose electrode."""

SMALLEST_RANGE_MV = 0.1
"""If every lead spans less, the gain is implausible: even "low voltage" means up to 0.5 mV (Surawicz and Knilans 2008)."""

LEAD_SUM_TOLERANCE = 0.05
LEAD_SUM_TOLERANCE_MV = 0.01
"""Residual (rms) of the limb-lead sums above both, the first as a share of the lead's rms, breaks them. PTB: below 0.004."""

SAME_PLANE_SHARE = 0.001
"""Limb leads span a plane, whatever the scale of each: the third eigenvalue of their correlations, as a share of their number,
is below 1e-5 in PTB and in amplitude-normalised PTB-XL. Below this, leads that break the sums are scaled apart, not wrong."""

SWAP_ONE_CORRELATION = -0.45
SWAP_CORRELATION = -0.3
SWAP_AVR_CORRELATION = -0.1
"""An exchange that involves the right arm turns I against V6 (correlation below the first), or I or II (below the second) and aVR
with it (above the third). Found in about 90 % of PTB-XL's records so changed, one of 492 unchanged; LA with LL is not found."""

SWAP_RESIDUAL_RATIO = 0.5
"""With Frank's leads: residual of Dower's prediction of I and II after the best exchange, as a share of that without, which shows
it. PTB itself holds one (patient071/s0236lre, left and right arm: 0.18); its other records have 0.8 or more."""


def lead_order(names: set[str]) -> list[str]:
    """Return lead names in canonical order, others after them by name."""
    return [lead for lead in LEADS if lead in names] + sorted(names - set(LEADS))


def words_of_mask(mask: int, flags: Mapping[str, int]) -> list[str]:
    """Return the meanings of the bits set in ``mask``."""
    return [word for word, bit in flags.items() if mask & bit]


SUMS_FILE = "SHA256SUMS.txt"
"""A database's list of digests, as PhysioNet gives it: a SHA-256 and a path below the folder, a line each."""

MOST_SUMS_BYTES = 1 << 28
"""A longer list is none."""

MODEL_NAME_DIGITS = 20
"""Digits of its digest that a model's folder in a workspace is named by."""
