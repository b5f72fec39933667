"""Synthetic: archives shaped like the PTB database, computed from a heart-vector model, with known beats and labels."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ecgbatch.synthetic.heart_vector import ADC_GAIN, LOCALISATION_SHARE, LOCALISATIONS, Case, compute_leads
from ecgbatch.terms import LEADS

SYNTHETIC_NOTE = "Synthetic: computed from a heart-vector model by ecgbatch; not a recording of any person"
"""Comment in every header, and the first line of the archive's ``SYNTHETIC.txt``."""

MAP = Callable[..., Iterable[Any]]

_OTHER_DIAGNOSES = (
    "Bundle branch block",
    "Hypertrophy",
    "Dysrhythmia",
    "Cardiomyopathy",
    "Valvular heart disease",
    "Myocarditis",
)
_NOT_KNOWN = ("", "no", "n/a", "unknown")


@dataclass(frozen=True)
class RecordPlan:
    """What one record is to be; everything of it follows from this and the archive's seed."""

    record_name: str
    patient_id: str
    patient_number: int
    record_number: int
    n_samples: int
    diagnosis: str
    acute_infarction: str = "no"
    former_infarction: str = "no"
    age_years: str = "n/a"
    sex: str = "n/a"

    @property
    def label(self) -> str:
        """A word of ``terms.LABEL``."""
        words = {"Myocardial infarction": "mi", "Healthy control": "control", "n/a": "unknown", "": "unknown"}
        return words.get(self.diagnosis, "other")

    @property
    def infarct_location(self) -> str:
        """Localisation of the acute infarction, else of the former one, else empty."""
        known = [place for place in (self.acute_infarction, self.former_infarction) if place not in _NOT_KNOWN]
        return known[0] if known and self.label == "mi" else ""


@dataclass(frozen=True)
class RecordTruth:
    """What is known of a synthetic record because it was made so.

    ``r_sample`` (beat,) int64, increasing: the sample where each QRS's heart vector is longest, 0-based;
    ``is_ectopic`` (beat,) bool: ventricular ectopic beats.
    """

    record_name: str
    patient_id: str
    label: str
    diagnosis: str
    infarct_location: str
    n_samples: int
    sampling_frequency_hz: float
    r_sample: npt.NDArray[np.int64]
    is_ectopic: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Truth:
    """Truth of every record of an archive, in the order of its RECORDS file."""

    records: tuple[RecordTruth, ...]


@dataclass(frozen=True)
class ArchiveShape:
    """How many records of what kind a synthetic archive has."""

    n_records: int = 60
    """Of patients with one to four records each."""
    duration_s: float = 30.0
    sampling_frequency_hz: float = 1000.0
    """100 Hz or more."""
    n_leads: int = 15
    """15 (``.dat`` with the twelve, ``.xyz`` with Frank's three) or 12."""
    mi_share: float = 0.5
    """Share of the patients with myocardial infarction."""
    other_share: float = 0.1
    """Share of those with another diagnosis; the rest are healthy controls."""


def write_archive(
    folder: str | Path,
    shape: ArchiveShape = ArchiveShape(),
    *,
    seed: int = 0,
    like: str | Path | None = None,
    map: MAP = map,
) -> Truth:
    """Write a PTB-shaped archive of synthetic WFDB records: ``patientNNN/sNNNNsyn.{hea,dat,xyz}`` and RECORDS.

    The same arguments give the same bytes, whatever ``map`` is (to the last bit on one processor type: NumPy's ``exp`` may differ
    by a unit in the last place between instruction sets).

    Parameters
    ----------
    folder
        New or empty, or made by the same call before; then it is written again.
    shape
        How many records, of what kind.
    like
        A table such as ``ptb_records.csv`` (columns patient, sig_len, age, sex, reason, acute_loc, former_loc): one record for
        each row, of its length in samples, patient and diagnosis. Number, duration and shares of ``shape`` do not apply then.
    map
        Engine, of the built-in's shape; may yield in any order.

    Raises
    ------
    ValueError
        If an argument is out of range, or the folder holds something else: an archive is never mixed with another.

    """
    _check(shape)
    if like is None:
        n_samples = round(shape.duration_s * shape.sampling_frequency_hz)
        plans = plan_records(shape.n_records, n_samples, seed=seed, mi_share=shape.mi_share, other_share=shape.other_share)
    else:
        plans = plan_records_like(like)
    folder = Path(folder)
    made: dict[str, Any] = {"seed": seed, "sampling_frequency_hz": shape.sampling_frequency_hz, "n_leads": shape.n_leads}
    _claim(folder, plans, made)
    write = partial(_write_record, folder=folder, **made)
    truth = {record.record_name: record for record in map(write, plans)}
    (folder / "RECORDS").write_text("".join(f"{plan.record_name}\n" for plan in plans))
    return Truth(tuple(truth[plan.record_name] for plan in plans))


def synthetic_record(
    *,
    diagnosis: str = "Healthy control",
    infarct_location: str = "no",
    seed: int = 0,
    duration_s: float = 30.0,
    sampling_frequency_hz: float = 1000.0,
    n_leads: int = 15,
) -> tuple[npt.NDArray[np.int16], RecordTruth]:
    """Compute one record without writing it.

    ``diagnosis`` is PTB's "Reason for admission"; ``infarct_location`` is used with ``Myocardial infarction``.

    Returns
    -------
    (lead, sample) int16, adu
        ``ADC_GAIN`` adu/mV, baseline 0, leads in the order of ``terms.LEADS``.
    RecordTruth

    """
    _check(ArchiveShape(duration_s=duration_s, sampling_frequency_hz=sampling_frequency_hz, n_leads=n_leads))
    plan = RecordPlan("synthetic", "patient001", 1, 1, round(duration_s * sampling_frequency_hz), diagnosis, infarct_location)
    return _produce(plan, seed, sampling_frequency_hz, n_leads)


def plan_records(
    n_records: int, n_samples: int, *, seed: int = 0, mi_share: float = 0.5, other_share: float = 0.1
) -> list[RecordPlan]:
    """Return plans of ``n_records`` records, one to four for each patient; classes by patient, in the shares asked."""
    rng = np.random.default_rng([seed, 0])
    counts: list[int] = []
    while sum(counts) < n_records:
        counts.append(min(int(rng.integers(1, 5)), n_records - sum(counts)))
    n_mi, n_other = round(mi_share * len(counts)), round(other_share * len(counts))
    diagnoses = ["Myocardial infarction"] * n_mi + [_OTHER_DIAGNOSES[k % len(_OTHER_DIAGNOSES)] for k in range(n_other)]
    diagnoses = (diagnoses + ["Healthy control"] * len(counts))[: len(counts)]
    plans: list[RecordPlan] = []
    for patient, (count, k) in enumerate(zip(counts, rng.permutation(len(counts)), strict=True), start=1):
        person = _draw_person(rng, diagnoses[k])
        for record in range(1, count + 1):
            patient_id = f"patient{patient:03d}"
            name = f"{patient_id}/s{len(plans) + 1:04d}syn"
            plans.append(RecordPlan(name, patient_id, patient, record, n_samples, diagnoses[k], **person))
    return plans


def plan_records_like(table: str | Path) -> list[RecordPlan]:
    """Return one plan for each row of a table such as ``ptb_records.csv``; see ``write_archive``."""
    with Path(table).open(newline="") as rows:
        reader = csv.DictReader(rows)
        wanted = {"patient", "sig_len", "age", "sex", "reason", "acute_loc", "former_loc"}
        if missing := wanted - set(reader.fieldnames or ()):
            raise ValueError(
                f"{table}: expected columns {sorted(wanted)}, {sorted(missing)} are not there; use a table like PTB's."
            )
        plans: list[RecordPlan] = []
        seen: dict[str, list[int]] = {}
        for row in reader:
            if not (row["sig_len"].isdigit() and row["patient"].isalnum()):
                raise ValueError(
                    f"{table}, line {reader.line_num}: expected a number of samples in sig_len, letters and digits in patient, "
                    f"found {row['sig_len']!r} and {row['patient']!r}; correct the row."
                )
            number, count = seen.setdefault(row["patient"], [len(seen) + 1, 0])
            seen[row["patient"]][1] += 1
            plans.append(
                RecordPlan(
                    f"{row['patient']}/s{len(plans) + 1:04d}syn",
                    row["patient"],
                    number,
                    count + 1,
                    int(row["sig_len"]),
                    row["reason"] or "n/a",
                    row["acute_loc"] or "n/a",
                    row["former_loc"] or "n/a",
                    f"{float(row['age']):.0f}" if row["age"] else "n/a",
                    row["sex"] or "n/a",
                )
            )
    return plans


def _check(shape: ArchiveShape) -> None:
    """Refuse what is out of range: ``ValueError``."""
    sampling_frequency_hz, duration_s = shape.sampling_frequency_hz, shape.duration_s
    mi_share, other_share = shape.mi_share, shape.other_share
    if shape.n_leads not in (12, 15):
        raise ValueError(f"n_leads: expected 12 or 15 (with Frank's x, y, z), found {shape.n_leads}; choose one of them.")
    if not 100 <= sampling_frequency_hz <= 10000:
        raise ValueError(f"sampling_frequency_hz: expected 100 to 10000 Hz, found {sampling_frequency_hz}; a QRS needs 100 Hz.")
    if not 1 <= duration_s <= 86400:
        raise ValueError(f"duration_s: expected 1 s to one day, found {duration_s}; choose a duration between.")
    if min(mi_share, other_share) < 0 or mi_share + other_share > 1:
        raise ValueError(
            f"mi_share, other_share: expected shares of at most 1 together, found {mi_share} and {other_share}; "
            "what they leave are healthy controls."
        )


def _claim(folder: Path, plans: Sequence[RecordPlan], settings: dict[str, Any]) -> None:
    """Mark the folder as this archive's, or refuse it."""
    lengths = sorted({plan.n_samples for plan in plans})
    settings = settings | {"n_records": len(plans), "n_samples": lengths, "first": asdict(plans[0]), "last": asdict(plans[-1])}
    text = f"{SYNTHETIC_NOTE}.\n{json.dumps(settings, sort_keys=True)}\n"
    mark = folder / "SYNTHETIC.txt"
    if folder.exists() and any(folder.iterdir()) and not (mark.exists() and mark.read_text() == text):
        raise ValueError(
            f"{folder}: expected an empty folder or this same synthetic archive, found other files; choose a new folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(text)


def _draw_person(rng: np.random.Generator, diagnosis: str) -> dict[str, str]:
    """Age, sex and site of the infarction of one patient, about as in PTB (controls are younger there, and so here)."""
    mean_age = 45.0 if diagnosis == "Healthy control" else 60.0
    age = float(np.clip(rng.normal(mean_age, 12.0), 18, 89))
    place = str(rng.choice(LOCALISATIONS, p=LOCALISATION_SHARE))
    is_former = rng.random() < 0.15
    person = {"age_years": f"{age:.0f}", "sex": "female" if rng.random() < 0.3 else "male"}
    if diagnosis == "Myocardial infarction":
        person["former_infarction" if is_former else "acute_infarction"] = place
    return person


def _write_record(plan: RecordPlan, *, folder: Path, seed: int, sampling_frequency_hz: float, n_leads: int) -> RecordTruth:
    """Write header, ``.dat`` and ``.xyz`` of one record."""
    signal, truth = _produce(plan, seed, sampling_frequency_hz, n_leads)
    header = folder / f"{plan.record_name}.hea"
    header.parent.mkdir(parents=True, exist_ok=True)
    header.with_suffix(".dat").write_bytes(signal[:12].T.astype("<i2").tobytes())
    if n_leads == 15:
        header.with_suffix(".xyz").write_bytes(signal[12:].T.astype("<i2").tobytes())
    header.write_text(_header(plan, signal, sampling_frequency_hz))
    return truth


def _header(plan: RecordPlan, signal: npt.NDArray[np.int16], sampling_frequency_hz: float) -> str:
    """Return the record's header in the grammar of the PTB database (header(5) of WFDB)."""
    name = plan.record_name.rpartition("/")[2]
    lines = [f"{name} {len(signal)} {sampling_frequency_hz:.10g} {signal.shape[1]}"]
    for k, (lead, samples) in enumerate(zip(LEADS, signal, strict=False)):
        checksum = (int(samples.sum(dtype=np.int64)) + 32768) % 65536 - 32768
        file = f"{name}.{'dat' if k < 12 else 'xyz'}"
        lines.append(f"{file} 16 {ADC_GAIN:.0f} 16 0 {samples[0]} {checksum} 0 {lead.lower()}")
    lines += ["", f"# age: {plan.age_years}", f"# sex: {plan.sex}", "# ECG date: n/a", "", "# Diagnose:"]
    lines += [f"# Reason for admission: {plan.diagnosis}", f"# Acute infarction (localization): {plan.acute_infarction}"]
    lines += [f"# Former infarction (localization): {plan.former_infarction}", "# Additional diagnoses: n/a", "# Smoker: unknown"]
    return "\n".join([*lines, f"# {SYNTHETIC_NOTE}", ""])


def _produce(
    plan: RecordPlan, seed: int, sampling_frequency_hz: float, n_leads: int
) -> tuple[npt.NDArray[np.int16], RecordTruth]:
    """Return signal and truth of one record."""
    is_acute = plan.acute_infarction not in _NOT_KNOWN
    signal, r_sample, is_ectopic = compute_leads(
        Case(plan.diagnosis, plan.infarct_location, is_acute, plan.record_number),
        seed=seed,
        patient_number=plan.patient_number,
        n_samples=plan.n_samples,
        sampling_frequency_hz=sampling_frequency_hz,
        n_leads=n_leads,
    )
    return signal, RecordTruth(
        plan.record_name,
        plan.patient_id,
        plan.label,
        plan.diagnosis,
        plan.infarct_location,
        plan.n_samples,
        sampling_frequency_hz,
        r_sample,
        is_ectopic,
    )
