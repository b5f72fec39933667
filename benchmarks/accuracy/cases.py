"""Inputs of the field run by the commands a user types: what comes out of each folder beside what should.

    python -m benchmarks.accuracy.cases DATA

``DATA/cases`` has a folder for each kind; its README says where each comes from and what the right value is. Prints a line for
each claim and ends with 1 where one does not hold. Tests ask the readers; this asks ``ecgbatch convert`` and ``ecgbatch run``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from ecgbatch.signals.lookup import current_records, signals_path
from ecgbatch.terms import LEAD_FLAGS, LEADS, STATUS
from storage import open_store

Array = np.ndarray[Any, Any]
TWELVE = list(LEADS[:12])
PEAK_TOLERANCE_S = 0.05
SCORE_TOLERANCE = 0.02
ECGBATCH = "from ecgbatch.cli import main; main()"
SET_ASIDE = 3
"""Exit code of a command that did its work and set records aside."""


class Claim(NamedTuple):
    """What should come out of a case, and whether it did."""

    case: str
    says: str
    holds: bool
    found: object


class Outcome(NamedTuple):
    """What became of one archive."""

    records: xr.Dataset
    """Of ``current_records``."""
    leads: list[list[str]]
    """Of each record, the leads that have samples."""
    millivolts: list[dict[str, Array]]
    """Of each record, each lead's samples; NaN where there is none."""
    work: Path

    def names(self) -> list[str]:
        """Return the records' names."""
        return [str(name) for name in self.records["record_name"].values]


def outcome(archive: Path, work: Path, command: str = "convert") -> Outcome:
    """Run a command on an archive, in a workspace of its own, and read what it stored."""
    line = [sys.executable, "-c", ECGBATCH, command, str(archive), str(work), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode not in {0, SET_ASIDE}:
        raise SystemExit(f"{archive}: ecgbatch {command} ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    records = current_records(str(work))
    stores = {digest: open_store(signals_path(str(work), digest)).load() for digest in set(records["signals_store"].values)}
    rows = [
        stores[digest].isel(record=row)
        for digest, row in zip(records["signals_store"].values, records["signals_row"].values.tolist(), strict=True)
    ]
    millivolts = [_millivolts(row) for row in rows]
    return Outcome(records, [list(one) for one in millivolts], millivolts, work)


def _millivolts(row: xr.Dataset) -> dict[str, Array]:
    if row["status"] == STATUS["set_aside"]:
        return {}
    told = {}
    for i, lead in enumerate(row["lead"].values.tolist()):
        if row["lead_flags"].values[i] & LEAD_FLAGS["missing"]:
            continue
        counts = row["signal"].values[i, : int(row["n_samples"])].astype(np.float64)
        counts[counts == np.iinfo(np.int16).min] = np.nan
        told[lead] = (counts - row["baseline"].values[i]) / row["adc_gain"].values[i]
    return told


def peaks_s(one: Outcome) -> Array:
    """Return the times of the R peaks of an archive's only record."""
    (path,) = (one.work / "peaks").glob("*.zarr")
    peaks = open_store(str(path)).load()
    found = peaks["r_sample"].values.reshape(-1)[: int(peaks["n_beats"].values.reshape(-1)[0])]
    return np.asarray(found / one.records["sampling_frequency_hz"].values[0])


def scores(one: Outcome) -> dict[str, tuple[float, str]]:
    """Return each record's probability and decision, as its JSON says them."""
    told = {}
    for path in (one.work / "reports" / "latest" / "records").rglob("*.json"):
        page = json.loads(path.read_text())
        told[page["record_name"]] = (page["mi_probability"], page["decision"])
    return told


def claims(data: Path, works: Path) -> Iterator[Claim]:
    """Yield what each folder of ``data/cases`` should give, and whether it does."""
    cases = data / "cases"

    def of(archive: str, command: str = "convert") -> Outcome:
        return outcome(cases / archive, works / f"{command}-{archive.replace('/', '-')}", command)

    yield from _one_record_each(of)
    yield from _samples(cases, of)
    yield from _beats_and_scores(cases, of)
    yield from _patients(of)
    yield from _layouts_outside_lists(cases, works)


def _one_record_each(of: Any) -> Iterator[Claim]:
    """Cases whose right value is which leads there are, at which rate and length."""
    expected = {
        "dicom-groups/a": (TWELVE, 500.0, 5000),
        "dicom-channels/a": (["Channel_1", "Channel_2", "Channel_3"], None, 5000),
        "dicom-values/a": (TWELVE, None, 5000),
        "dicom-class/a": (TWELVE, None, 5000),
        "same-name/a": (["ECG", "ECG_#2"], None, None),
        "extra-signal-lines/a": (["I", "II"], None, None),
        "edf-slow-ecg/a": (["ECG"], 256.0, None),
    }
    for archive, (leads, fs, n_samples) in expected.items():
        one = of(archive)
        found = (one.leads, one.records["sampling_frequency_hz"].values.tolist(), one.records["n_samples"].values.tolist())
        holds = found[0] == [leads] and (fs is None or found[1] == [fs]) and (n_samples is None or found[2] == [n_samples])
        yield Claim(archive, f"one record of {len(leads)} leads", holds, found)
    one = of("low-rate/a-62.5Hz-1lead")
    rates = sorted(one.records["sampling_frequency_hz"].values.tolist())
    yield Claim("low-rate", "four rows, one at 62.5 Hz", len(rates) == 4 and rates[0] == 62.5, rates)
    one = of("edf-odd-channel/a")
    yield Claim("edf-odd-channel", "the ECG is there", len(one.leads) == 1 and len(one.leads[0]) > 0, one.leads)


def _samples(cases: Path, of: Any) -> Iterator[Claim]:
    """Cases with the millivolts of lead II beside them, and how far these may be off: half a step of what is stored."""
    known = (
        ("samples-a-frame/a-icu", "a_truth_mv_II_250Hz.npy", 0.0006, 0),
        ("layout-length-zero/a-layout", "a-layout_truth_mv_II.npy", 0.501 / 100, 500),
        ("segment-gains/a", "a_truth_mv_II.npy", 0.501 / 53 + 0.5 / (8 * 86), 500),
    )
    for archive, file, step, n_missing in known:
        case = archive.split("/")[0]
        truth, found = np.load(cases / case / file), of(archive).millivolts[0].get("II", np.empty(0))
        is_whole = found.shape == truth.shape and int(np.isnan(found).sum()) == n_missing
        error = float(np.nanmax(np.abs(found - truth))) if is_whole else np.inf
        yield Claim(case, f"II within {step:.4f} mV, {n_missing} samples missing", error < step, f"{error:.5f} mV")


def _beats_and_scores(cases: Path, of: Any) -> Iterator[Claim]:
    for archive, file in (("edf-slow-ecg/a", "truth_R_s.npy"), ("other-signals-vote/a", "a_truth_R_s.npy")):
        case = archive.split("/")[0]
        truth, found = np.load(cases / case / file), peaks_s(of(archive, "run"))
        is_found = len(truth) == len(found) and float(np.abs(found - truth).max()) < PEAK_TOLERANCE_S
        yield Claim(case, f"{len(truth)} beats", is_found, len(found))
    for case, one, other in (("eight-leads", "eight", "twelve"), ("lead-names", "dialect", "standard")):
        told, right = scores(of(f"{case}/{one}", "run")), scores(of(f"{case}/{other}", "run"))
        alike = told.keys() == right.keys() and all(
            told[name][1] == right[name][1] and abs(told[name][0] - right[name][0]) < SCORE_TOLERANCE for name in right
        )
        yield Claim(case, f"{one} scores as {other}", bool(right) and alike, f"{told} against {right}")


def _patients(of: Any) -> Iterator[Claim]:
    for archive, n_patients in (("edf-patients/a", 4), ("folder-patients/files", 2)):
        patients = of(archive).records["patient_id"].values.tolist()
        yield Claim(archive, f"{n_patients} patients", len(set(patients)) == n_patients, patients)


def _layouts_outside_lists(cases: Path, works: Path) -> Iterator[Claim]:
    """Claim that a layout's header is no record of its own also where no list says what the records are."""
    for archive in ("segment-gains/a", "layout-length-zero/a-layout"):
        case = archive.split("/")[0]
        copy = works / f"unlisted-{case}"
        shutil.copytree(cases / archive, copy, ignore=shutil.ignore_patterns("RECORDS"))
        one = outcome(copy, works / f"work-unlisted-{case}")
        status = one.records["status"].values.tolist()
        names = one.names()
        yield Claim(case, "without a list: m, and no layout", "m" in names and "m_layout" not in names, (names, status))


def main() -> None:
    """Print a line for each claim; exit with 1 where one does not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that ECGBATCH_TEST_DATA names")
    data, n_wrong = parser.parse_args().data, 0
    with tempfile.TemporaryDirectory() as works:
        for claim in claims(data, Path(works)):
            n_wrong += not claim.holds
            print(f"{'right' if claim.holds else 'WRONG'}  {claim.case}: {claim.says}; found {claim.found}", flush=True)
    sys.exit(1 if n_wrong else 0)


if __name__ == "__main__":
    main()
