"""Mutants: good records with random damage to header or samples, judged against what was written."""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from ecgbatch.formats.header import REASONS, WARNINGS, UnreadableRecord
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import read_record
from ecgbatch.terms import MISSING_SAMPLE, STATUS
from tests.formats.wfdb_files import WIDTH, Lead, Record, Samples, wave

TOKENS = (
    *["0", "1", "-1", "9" * 12, "1e9", "nan", ".", ",", "-", "+", "/", "(", ")", ":", "x", "~", " ", "\t", "\n", "\r", "#", "\0"],
    *["\u00b5V", "mV", "uV", "II", "r.dat", "r.xyz", "../", "16", "212", "61", "160", "80", "x2", ":3", "+2", "%s", "\u2028"],
)


def good(fmt: int, seed: int) -> Record:
    """Return a record of five leads in two files, with comments."""
    step = 90 if fmt != 8 else 60
    leads = [
        Lead(name, wave(200, min(WIDTH[fmt], 16), seed + i, step=step), fmt=fmt) for i, name in enumerate(("I", "II", "V1", "V2"))
    ]
    leads.append(Lead("Vx", wave(200, min(WIDTH[fmt], 16), seed + 9, step=step), "r.xyz", fmt=fmt))
    return Record(leads, comments=["age: 81", "sex: female", "Reason for admission: Healthy control"])


def judge_mutants(folder: Path, fmt: int, *, seed: int, n: int) -> Counter[str]:
    """Write, read and judge ``n`` mutants; return counts of outcomes, and the longest time as ``longest_ms``."""
    record = good(fmt, seed)
    record.write(folder)
    originals = {path.name: path.read_bytes() for path in folder.iterdir()}
    rng = np.random.default_rng([seed, fmt])
    told: Counter[str] = Counter(exceptions=0, wrong=0, disagree=0)
    longest = 0.0
    for _ in range(n):
        for name, content in originals.items():
            (folder / name).write_bytes(content)
        name = "r.hea" if rng.random() < 0.65 else str(rng.choice(["r.dat", "r.xyz"]))
        change = changed_text if name == "r.hea" else changed_bytes
        (folder / name).write_bytes(change(originals[name], rng))
        start = time.perf_counter()
        told[outcome(folder, record)] += 1
        longest = max(longest, time.perf_counter() - start)
    told["longest_ms"] = round(1000 * longest)
    return told


def changed_text(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a header after one to three edits: characters, tokens, fields, lines, cuts."""
    text = content.decode()
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(0, max(1, len(text))))
        kind = rng.integers(0, 8)
        token = TOKENS[rng.integers(len(TOKENS))]
        if kind == 0:
            text = text[:at] + chr(int(rng.integers(1, 256))) + text[at + 1 :]
        elif kind == 1:
            text = text[:at] + text[at + 1 :]
        elif kind == 2:
            text = text[:at] + token + text[at:]
        elif kind == 3:
            fields = re.split(r"(\s+)", text)
            fields[2 * int(rng.integers(0, (len(fields) + 1) // 2))] = token
            text = "".join(fields)
        elif kind == 4:
            text = text[:at]
        elif kind == 5:
            digits = [match.start() for match in re.finditer(r"\d", text)] or [0]
            place = digits[int(rng.integers(len(digits)))]
            text = text[:place] + str(rng.integers(0, 10)) + text[place + 1 :]
        else:
            lines = text.split("\n")
            a, b = rng.integers(0, len(lines), 2)
            if kind == 6:
                lines[a], lines[b] = lines[b], lines[a]
            else:
                lines.insert(a, lines[b])
            text = "\n".join(lines)
    return text.encode("utf-8", "surrogatepass") if rng.random() < 0.9 else text.encode("latin-1", "replace")


def changed_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """Return a signal file after one to three edits: bits, bytes, stretches, cuts, insertions."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        at, n = int(rng.integers(0, max(1, len(data)))), int(rng.integers(1, 40))
        kind = rng.integers(0, 7)
        if kind <= 1 and data:
            data[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 2:
            data[at : at + n] = rng.bytes(len(data[at : at + n]))
        elif kind == 3:
            data[at : at + n] = bytes(len(data[at : at + n]))
        elif kind == 4:
            del data[at : at + n]
        elif kind == 5:
            data[at:at] = rng.bytes(n)
        else:
            data = data[:at] if rng.random() < 0.5 else data + rng.bytes(n)
    return bytes(data)


def outcome(folder: Path, record: Record) -> str:
    """Return what became of the record ``r``: a word for ``judge_mutants``'s counts."""
    try:
        verdict = inspect_record(folder, "r")
        read = read_record(folder, "r")
    except UnreadableRecord as error:
        in_time = verdict.status != STATUS["set_aside"] or verdict.reason == error.code
        return "refused" if in_time and error.code in REASONS else "disagree"
    except Exception as error:
        return _said("exceptions", error)
    if verdict.status == STATUS["set_aside"] or not set(read.attrs["warnings"]) <= WARNINGS.keys():
        return "disagree"
    return _judged(read, [lead.samples[:, 0] for lead in record.leads], record)


def _said(word: str, what: object) -> str:
    print(word, repr(what))
    return word


def _judged(read: Any, truth: list[Samples], record: Record) -> str:
    rows = read["signal"].values.astype(np.int64)
    if "GAIN_NEGATIVE" in read.attrs["warnings"]:  # another valid header: such a lead is stored turned over
        truth = [*truth, *(-lead for lead in truth)]
    is_true = [any(row.size == lead.size and (row == lead).all() for lead in truth) for row in rows]
    if not all(is_true):
        if "SKEW_APPLIED" in read.attrs["warnings"]:
            kept = all(any(_is_shifted(row, lead) for lead in truth) for row in rows)
            return "another valid header (skew)" if kept else "wrong"
        sums = {int(lead.sum()) % 65536 for lead in truth}
        hidden = all(int(row.sum()) % 65536 in sums for row in rows)
        return _said("undetectable (sums unchanged)", read.attrs["warnings"]) if hidden else _said("wrong", read.attrs)
    same = set(read["lead"].values.tolist()) == {lead.name for lead in record.leads}
    same = same and read.attrs["sampling_frequency_hz"] == 250 and (read["adc_gain"].values == 1000).all()
    if same and not read["baseline"].values.any():
        return "right"
    return "right samples, leads missing" if len(rows) < len(truth) else "another valid header"


def _is_shifted(row: Samples, lead: Samples) -> bool:
    n = int((row == MISSING_SAMPLE).sum())
    return bool((row[: row.size - n] == lead[n:]).all())
