"""What is known of the patient: age, sex, diagnosis and label, from header comments or a label table."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import StringIO
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from ecgbatch.formats.header import day_number
from ecgbatch.terms import LABEL, SEX

PTB_RULE = "ptb:reason_for_admission"
"""The rule that reads PTB's clinical summary: its line 'Reason for admission' alone decides the label."""

CHALLENGE_RULE = "challenge:dx"
"""The rule that reads the ``Dx`` line of PhysioNet's Challenges 2020 and 2021, SNOMED CT codes: an infarction of any age or place
is mi, sinus rhythm and nothing else is control, any other code is other."""

PTBXL_RULE = "ptbxl:scp_codes"
"""The rule that reads PTB-XL's ``scp_codes``: an infarction of a likelihood of at least ``LEAST_LIKELIHOOD`` is mi; one of
less, or subendocardial injury alone, is unknown; NORM without another diagnosis is control, anything else is other."""

LEAST_LIKELIHOOD = 50.0
"""Per cent: PTB-XL's cardiologists say 15, 35, 50, 80 or 100; 0 means that they said nothing."""

OLDEST_AGE_YEARS = 90.0
"""Ages above 89 identify a person (45 CFR 164.514, safe harbour) and are stored as 90; PTB-XL writes them as 300."""

YEARS = (1900, 2100)
"""Years in which an ECG can have been recorded: first included, last not. Others are marks of an unknown date."""

_LABEL_OF_REASON = MappingProxyType({"myocardial infarction": LABEL["mi"], "healthy control": LABEL["control"]})
_LABEL_OF_WORD = MappingProxyType({word: LABEL[word] for word in ("mi", "control", "other")} | {"": LABEL["unknown"]})
_NOT_KNOWN = frozenset({"", "no", "none", "n/a", "na", "unknown", "?", "-"})
_SEX_OF_WORD = MappingProxyType({"f": SEX["female"], "female": SEX["female"], "m": SEX["male"], "male": SEX["male"]})
_WALLS = MappingProxyType(
    {
        "ant": ("antero", "anterior"),
        "inf": ("infero", "inferior"),
        "post": ("postero", "posterior"),
        "lat": ("latero", "lateral"),
        "sept": ("septo", "septal"),
        "api": ("apico", "apical"),
    }
)
"""Beginning of a wall's name to its combining form and its full form."""
_COLUMNS = ("record", "patient_id", "label")
_PTBXL_COLUMNS = ("patient_id", "scp_codes", "filename_lr", "filename_hr")
_INFARCTIONS = frozenset({"IMI", "ASMI", "ILMI", "AMI", "ALMI", "LMI", "IPLMI", "IPMI", "PMI"})
_INJURIES = frozenset({"INJAS", "INJAL", "INJIN", "INJLA", "INJIL"})
"""Of PTB-XL's scp_statements.csv, diagnostic class MI."""
_NORMAL = frozenset({"NORM", "SR", "SBRAD", "STACH", "SARRH"})
"""NORM, and the sinus rhythms that go with it."""
_SNOMED_INFARCTIONS = frozenset({"164865005", "57054005", "54329005", "164867002"})
"""Myocardial infarction; acute; anterior; old: the Challenges' mapping of diagnoses."""
_SNOMED_SINUS_RHYTHM = "426783006"

_AGE = re.compile(
    r"<?age>?\s*:\s*([<>]?=?\s*\d{1,3}(?:\.\d*)?)\+?\s*(?:y(?:ears?|rs?|o)?\b)?\s*(?:$|[,;]|<?(?:sex|gender)\b)",
    re.IGNORECASE | re.ASCII,
)
"""Years only: a number that months, an exponent or anything unknown follows is no age in years."""
_SEX = re.compile(r"(?:<?age>?\s*:\s*\S+\s+)?<?(?:sex|gender)>?\s*:\s*([a-z]+)", re.IGNORECASE | re.ASCII)
_DATE = re.compile(
    r"(?:(?P<day>\d{1,2})(?:[/.](?P<month>\d{1,2})[/.]|-(?P<word>[a-z]{3})-))?(?P<year>\d{4})"
    r"|(?P<iso_year>\d{4})-(?P<iso_month>\d{1,2})-(?P<iso_day>\d{1,2})",
    re.IGNORECASE | re.ASCII,
)
"""Forms whose year is not in doubt: four digits. The day stands before the month, as PTB writes it."""
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MITBIH = re.compile(r"(\d{1,3}|-\d+|\?+)\s+([MF?])\s+(?:\d+|N/A)(?:\s.*)?", re.IGNORECASE | re.ASCII)
_SCP_CODES = re.compile(r"\{(?:\s*'\w{1,12}'\s*:\s*\d{1,3}(?:\.\d{1,6})?\s*(?:,|(?=\})))*\}", re.ASCII)
_SCP_CODE = re.compile(r"'(\w+)'\s*:\s*([\d.]+)", re.ASCII)
_DOUBT = re.compile(r"\([\d+\s]*\)|\?")


@dataclass(frozen=True)
class Clinical:
    """What a header says of the patient; what it does not say is NaN, 0 or empty, never guessed."""

    age_years: float = math.nan
    """0-90; 90 means 90 or older; NaN where unknown."""
    sex: int = SEX["unknown"]
    """A value of ``terms.SEX``."""
    diagnosis: str = ""
    """The reason for admission as stated."""
    label: int = LABEL["unknown"]
    """A value of ``terms.LABEL``."""
    label_rule: str = ""
    """The rule that gave the label; empty where none applied."""
    infarct_location: str = ""
    """Walls in one spelling; several infarctions of one age are separated by a comma and a space."""
    infarct_age: str = ""
    """``acute`` or ``former``: of the infarction whose location is given; empty without one."""
    recording_year: int = -1
    """Of the ECG's date, if it lies in ``YEARS``; -1 where unknown. A day or month identifies a person and is never kept."""
    recording_day: int = -1
    """Of the ECG's date (``formats.header.day_number``), whose year lies in ``YEARS``; -1 where unknown. It is for the listing
    alone, which moves it."""


def read_clinical(comments: Sequence[str]) -> Clinical:
    """Read age, sex, diagnosis, label and infarction from a header's comments.

    Parameters
    ----------
    comments
        Comment lines without ``#``: PTB's clinical summary (``age: 81``, ``Reason for admission: ...``), or MIT-BIH's first
        line (``75 F 1011 654 x1``), which tells age and sex only.

    Returns
    -------
    Clinical
        Label by ``PTB_RULE``: 'Myocardial infarction' is mi, 'Healthy control' is control, 'n/a' or nothing is unknown, whatever
        else is other. Two reasons that differ are no reason: unknown. Without such a line, by ``CHALLENGE_RULE``. The acute
        infarction's location comes before the former's.

    """
    fields = _fields(comments)
    reasons = _values(fields, "reason for admission")
    known = list(dict.fromkeys(reason for reason in reasons if _plain(reason) not in _NOT_KNOWN))
    labels = {_LABEL_OF_REASON.get(_plain(reason), LABEL["other"]) for reason in known}
    rule = PTB_RULE if reasons else ""
    if not reasons and (codes := _snomed_codes(fields)):
        labels, rule = {_label_of_snomed(codes)}, CHALLENGE_RULE
    age_years, sex = _age_and_sex(comments)
    location, infarct_age = _infarction(fields)
    recording_year, recording_day = _recording_date(fields)
    return Clinical(
        age_years=age_years,
        sex=sex,
        diagnosis="; ".join(known),
        label=labels.pop() if len(labels) == 1 else LABEL["unknown"],
        label_rule=rule,
        infarct_location=location,
        infarct_age=infarct_age,
        recording_year=recording_year,
        recording_day=recording_day,
    )


def _recording_date(fields: list[tuple[str, str]]) -> tuple[int, int]:
    """Return year and number of the day of the ECG's date; -1 what is not stated, or stated in two ways."""
    matches = [match for value in _values(fields, "ecg date") if (match := _DATE.fullmatch(value))]
    years = {int(match["year"] or match["iso_year"]) for match in matches}
    if len(years) != 1 or not YEARS[0] <= min(years) < YEARS[1]:
        return -1, -1
    days = {_day(match) for match in matches}
    return years.pop(), days.pop() if len(days) == 1 else -1


def _day(match: re.Match[str]) -> int:
    if match["iso_year"]:
        return day_number(int(match["iso_year"]), int(match["iso_month"]), int(match["iso_day"]))
    if not match["day"]:
        return -1
    word = (match["word"] or "").lower()
    month = _MONTHS.index(word) + 1 if word in _MONTHS else int(match["month"] or 0)
    return day_number(int(match["year"]), month, int(match["day"]))


def _snomed_codes(fields: list[tuple[str, str]]) -> frozenset[str]:
    return frozenset(code for value in _values(fields, "dx") for code in re.split(r"[,;\s]+", value) if code)


def _label_of_snomed(codes: frozenset[str]) -> int:
    if not all(code.isascii() and code.isdigit() for code in codes):
        return LABEL["unknown"]
    if codes & _SNOMED_INFARCTIONS:
        return LABEL["mi"]
    return LABEL["control"] if codes == {_SNOMED_SINUS_RHYTHM} else LABEL["other"]


@lru_cache(maxsize=1024)
def normalise_location(text: str) -> str:
    """Return a localisation in one spelling, or empty where it is not known.

    ``infero-latera`` is infero-lateral, ``anterior (1), inferior (2)`` is ``anterior, inferior``, ``inferior ?`` is inferior;
    a word that is no wall of the heart is left as it is, in lower case.
    """
    places = [_plain(place) for place in _DOUBT.sub(" ", text).split(",")]
    return ", ".join(dict.fromkeys(_walls(place) for place in places if place not in _NOT_KNOWN))


def _walls(place: str) -> str:
    parts = re.split(r"\s*-\s*|\s+", place)
    forms = [next((forms for start, forms in _WALLS.items() if part.startswith(start)), None) for part in parts]
    known = [form for form in forms if form is not None]
    if len(known) < len(parts):
        return place
    return "-".join([combining for combining, _ in known[:-1]] + [known[-1][1]])


def _infarction(fields: list[tuple[str, str]]) -> tuple[str, str]:
    for age in ("acute", "former"):
        for value in _values(fields, f"{age} infarction (localization)"):
            location = normalise_location(value)
            if location:
                return location, age
    return "", ""


def _age_and_sex(comments: Sequence[str]) -> tuple[float, int]:
    line = _MITBIH.fullmatch(comments[0].strip()) if comments else None
    if line:
        return _age(line[1]), _SEX_OF_WORD.get(line[2].lower(), SEX["unknown"])
    ages = [_age(match[1]) for match in map(_AGE.match, comments) if match]
    sexes = [_SEX_OF_WORD.get(match[1].lower(), SEX["unknown"]) for match in map(_SEX.match, comments) if match]
    return (ages or [math.nan])[0], (sexes or [SEX["unknown"]])[0]


def _age(text: str) -> float:
    """Return years; ``>89`` is 90 or older, ``<1`` is nobody's exact age."""
    number = text.lstrip("<>= ")
    if text.startswith("<") or not re.fullmatch(r"\d{1,3}(?:\.\d*)?", number, re.ASCII):
        return math.nan
    years = float(number)
    if text.startswith(">"):
        return OLDEST_AGE_YEARS if years >= OLDEST_AGE_YEARS - 1 else math.nan
    if years > 130 and years != 300:
        return math.nan  # 999 and its like are marks of a missing age, but 300 is PTB-XL's mark of an age above 89
    return min(years, OLDEST_AGE_YEARS)


def _fields(comments: Sequence[str]) -> list[tuple[str, str]]:
    """Return name, in lower case and single spaces, and value of every comment of the form ``name: value``."""
    parts = [comment.partition(":") for comment in comments]
    return [(_plain_name(name), value.strip()) for name, colon, value in parts if colon]


def _values(fields: list[tuple[str, str]], name: str) -> list[str]:
    return [value for found, value in fields if found == name]


@lru_cache(maxsize=1024)
def _plain_name(name: str) -> str:
    """Return ``_plain`` of a field's name, which the headers of an archive share."""
    return _plain(name)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def read_labels(path: str | Path, names: Container[str] = ()) -> dict[str, tuple[str, int]]:
    """Read a label table: CSV in UTF-8 with the columns record, patient_id and label, or PTB-XL's ``ptbxl_database.csv``.

    Parameters
    ----------
    path
        ``label`` is ``mi``, ``control``, ``other`` or empty (unknown); ``patient_id`` may be empty (not known here). PTB-XL's
        table is known by its columns and read by ``PTBXL_RULE``. Other columns are ignored.
    names
        Records of the archive. PTB-XL's table names two files a row (100 and 500 Hz): those in the archive get the label.

    Returns
    -------
    dict
        Record name to patient identifier and label (a value of ``terms.LABEL``).

    Raises
    ------
    ValueError
        Naming file and line: the file cannot be read, a column is missing or there twice, a row has more or fewer fields than
        the header (its columns would be mistaken for others), a record is empty or is labelled twice differently, a label is
        none of the four, or ``scp_codes`` are no codes.

    """
    path = Path(path)
    labels: dict[str, tuple[str, int]] = {}
    line_of: dict[str, int] = {}
    for line, record, entry in _label_rows(path, names):
        if not record:
            raise ValueError(f"{path.name}, line {line}: expected a record name, found an empty field; fill it or drop the line")
        if labels.setdefault(record, entry) != entry:
            raise ValueError(
                f"{path.name}, line {line}: record {record[:80]!r} was already on line {line_of[record]} with another patient "
                "or label; expected one line for each record"
            )
        line_of.setdefault(record, line)
    return labels


class UnmatchedLabels(ValueError):
    """A label table none of whose records the archive has: that of another archive, or with names of another form."""


class Labels(NamedTuple):
    """A label table that was read for an archive."""

    name: str
    """Of its file."""
    entries: dict[str, tuple[str, int]]
    """As ``read_labels`` gives them."""
    rule: str
    """As ``label_rule`` gives it."""


def label_table(path: str | Path, names: Container[str] = ()) -> Labels:
    """Return a label table read once, for all that ask it; parameters and errors as ``read_labels``."""
    return Labels(Path(path).name, read_labels(path, names), label_rule(path))


def count_matched(labels: Labels, names: Sequence[str]) -> dict[str, int]:
    """Return how many records of an archive a label table has (``matched``), and how many others it names (``unmatched``).

    Raises
    ------
    UnmatchedLabels
        If it names none of them; with names of both, to compare.

    """
    known, table = frozenset(names), labels.entries
    n_matched = len(table.keys() & known)
    if known and not n_matched:
        raise UnmatchedLabels(
            f"{labels.name}: none of its {len(table)} records is in the archive; it names {next(iter(table), 'nothing')!r}, "
            f"the archive has {names[0]!r}; expected record names as `ecgbatch inspect` and scores.csv have them"
        )
    return {"matched": n_matched, "unmatched": len(table) - n_matched}


def label_rule(path: str | Path) -> str:
    """Return the name of the rule by which ``read_labels`` reads a table: ``PTBXL_RULE``, or ``labels:`` and the file's name."""
    path = Path(path)
    _, header = next(iter(_rows(path)))
    return PTBXL_RULE if _is_ptbxl(header) else f"labels:{path.name}"


def _label_rows(path: Path, names: Container[str]) -> Iterator[tuple[int, str, tuple[str, int]]]:
    """Yield line, record, and patient and label of every row that is not blank."""
    rows = _rows(path)
    _, header = next(rows)
    for line, fields in rows:
        row = dict(zip(header, fields, strict=True))
        if not _is_ptbxl(header):
            word = row["label"]
            if row["record"] and word.casefold() not in _LABEL_OF_WORD:
                raise ValueError(f"{path.name}, line {line}: expected label mi, control, other or nothing, found {word[:80]!r}")
            yield line, row["record"], (row["patient_id"], _LABEL_OF_WORD.get(word.casefold(), LABEL["unknown"]))
            continue
        entry = (row["patient_id"].removesuffix(".0"), _label_of_scp(path, line, row["scp_codes"]))
        files = [row["filename_lr"], row["filename_hr"]]
        for record in [file for file in files if file in names] or files[:1]:
            yield line, record, entry


def _label_of_scp(path: Path, line: int, text: str) -> int:
    if not _SCP_CODES.fullmatch(text):
        raise ValueError(f"{path.name}, line {line}: expected scp_codes such as {{'NORM': 100.0}}, found {text[:80]!r}")
    likelihood = {code: float(percent) for code, percent in _SCP_CODE.findall(text)}
    if any(likelihood.get(code, -1.0) >= LEAST_LIKELIHOOD for code in _INFARCTIONS):
        return LABEL["mi"]
    if likelihood.keys() & (_INFARCTIONS | _INJURIES):
        return LABEL["unknown"]
    return LABEL["control"] if "NORM" in likelihood and likelihood.keys() <= _NORMAL else LABEL["other"]


def _is_ptbxl(header: Sequence[str]) -> bool:
    return set(_PTBXL_COLUMNS) <= set(header) and not set(_COLUMNS) <= set(header)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line and fields of the header, its names in lower case, then of every row that is not blank."""
    reader = csv.reader(_text_lines(path), strict=True)
    header: list[str] | None = None
    try:
        for line in reader:
            fields = [field.strip() for field in line]
            if not any(fields):
                continue
            if header is None:
                header = fields = [field.casefold() for field in fields]
                _check_columns(path, reader.line_num, header)
            elif len(fields) != len(header):
                raise ValueError(
                    f"{path.name}, line {reader.line_num}: expected {len(header)} fields as in the header, found {len(fields)}"
                )
            yield reader.line_num, fields
    except csv.Error as error:
        raise ValueError(f"{path.name}, line {reader.line_num}: expected CSV, found {error}") from error
    if header is None:
        raise ValueError(f"{path.name}, line 1: expected the columns {', '.join(_COLUMNS)}, found an empty file")


def _text_lines(path: Path) -> Iterable[str]:
    try:
        return StringIO(path.read_bytes().decode("utf-8-sig"), newline="")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path.name}, line {line}: expected text in UTF-8, found other bytes; save the table as UTF-8"
        ) from error
    except OSError as error:
        raise ValueError(f"{path.name}: expected a label table (CSV: {', '.join(_COLUMNS)}), found {error.strerror}") from error


def _check_columns(path: Path, line: int, header: list[str]) -> None:
    columns = _PTBXL_COLUMNS if _is_ptbxl(header) else _COLUMNS
    wrong = [column for column in columns if header.count(column) != 1]
    if wrong:
        found = ", ".join(header)[:200]
        raise ValueError(
            f"{path.name}, line {line}: expected the columns {', '.join(columns)} once each, separated by commas; "
            f"found {found!r}: check {', '.join(wrong)}"
        )
