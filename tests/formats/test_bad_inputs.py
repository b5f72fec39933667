"""Bad inputs: a catalogue of what archives hold, each case with its verdict; and mutants of good records with truth known."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ecgbatch.archive.listing import list_archive
from ecgbatch.formats.header import REASONS, WARNINGS, UnreadableRecord
from ecgbatch.formats.inspection import inspect_record
from ecgbatch.formats.records import read_record
from ecgbatch.formats.wfdb_header import parse_header
from ecgbatch.terms import STATUS
from tests.formats.mutants import judge_mutants
from tests.formats.wfdb_files import Lead, Record, wave

N = 300
LEADS = [Lead(name, wave(N, 16, i, step=90), gain="2000") for i, name in enumerate(("I", "II", "V1", "V2"))]
LEADS.append(Lead("Vx", wave(N, 16, 9, step=90), "r.xyz", gain="2000"))
GOOD = Record(LEADS, comments=["age: 81", "sex: female", "Reason for admission: Myocardial infarction"])
HEADER = GOOD.header()
FIRST, SECOND = LEADS[0].line(), LEADS[1].line()
NAME, FORMAT, GAIN, RESOLUTION, ZERO, INITIAL, CHECKSUM, BLOCK, LEAD = range(9)

Edit = Callable[[Path], object]


def with_header(text: str | bytes) -> Edit:
    return lambda folder: (folder / "r.hea").write_bytes(text.encode() if isinstance(text, str) else text)


def record_line(line: str) -> Edit:
    return with_header(HEADER.replace(f"r 5 250 {N}", line, 1))


def first_line(line: str) -> Edit:
    return with_header(HEADER.replace(FIRST, line, 1))


def field(number: int, text: str) -> Edit:
    """Put ``text`` in place of a field of the first signal line."""
    fields = FIRST.split(" ")
    return first_line(" ".join([*fields[:number], text, *fields[number + 1 :]]))


def every_line(old: str, new: str) -> Edit:
    return with_header(HEADER.replace(old, new))


def data(change: Callable[[bytes], bytes], name: str = "r.dat") -> Edit:
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


def files(**content: str) -> Edit:
    """Write headers: the record ``r`` and segments beside the good record, which is called ``s`` here."""

    def write(folder: Path) -> None:
        for path in folder.glob("r.*"):
            path.rename(folder / f"s{path.suffix}")
        text = (folder / "s.hea").read_text()
        (folder / "s.hea").write_text(text.replace("r 5", "s 5", 1).replace("r.dat", "s.dat").replace("r.xyz", "s.xyz"))
        for name, lines in content.items():
            (folder / f"{name}.hea").write_text(lines)

    return write


def gone(name: str, then: Edit = lambda _: None) -> Edit:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        then(folder)

    return change


def renamed(old: str, new: str) -> Edit:
    return lambda folder: (folder / old).rename(folder / new)


def linked(name: str, target: str) -> Edit:
    return gone(name, lambda folder: (folder / name).symlink_to(target))


def sparse(name: str, n_bytes: int) -> Edit:
    return lambda folder: os.truncate(folder / name, n_bytes)


NO_NAMES = "\n".join(" ".join(line.split(" ")[:-1]) if line.startswith("r.") else line for line in HEADER.split("\n"))
NO_SUMS = "".join(f"r.dat 16 2000 16 0 0 0 0 {lead.name}\n" for lead in LEADS[:4]) + "r.xyz 16 2000 16 0 0 0 0 Vx\n"
FEWER = "r.dat 16 2000 16 0 0 0 0 V2\n"
SIX = HEADER.replace("r 5", "r 6", 1)
MASTER = f"r/2 5 250 {2 * N}\n"
S = f"s {N}\n"
LAYOUT = "lay 5 250\n" + "".join(f"~ 0 2000 16 0 0 0 0 {lead.name}\n" for lead in LEADS)

RECORD_LINES: dict[str, str] = {
    "r 5": "FS_INVALID",
    "r 5 0 300": "FS_INVALID",
    "r 5 -1000 300": "FS_INVALID",
    "r 5 +250 300": "FS_INVALID",
    "r 5 nan 300": "FS_INVALID",
    "r 5 inf 300": "FS_INVALID",
    "r 5 1e3 300": "FS_INVALID",
    "r 5 250,5 300": "FS_INVALID",
    "r 5 250Hz 300": "FS_INVALID",
    "r 5 . 300": "FS_INVALID",
    "r 5 0x10 300": "FS_INVALID",
    "r 5 2_50 300": "FS_INVALID",
    "r 5 250/ 300": "FS_INVALID",
    "r 5 250/1( 300": "FS_INVALID",
    "r 5 9.99 300": "FS_INVALID",
    "r 5 20001 300": "FS_INVALID",
    "r 5 38400": "FS_INVALID",
    "r 5 300": "FS_INVALID",
    f"r 5 {'9' * 400} 300": "FS_INVALID",
    "r 5 ٢٥٠ 300": "FS_INVALID",
    "r 5 250 0": "LENGTH_INVALID",
    "r 5 250 -300": "LENGTH_INVALID",
    "r 5 250 300.0": "LENGTH_INVALID",
    "r 5 250 3e2": "LENGTH_INVALID",
    "r 5 250 n/a": "LENGTH_INVALID",
    f"r 5 250 {'3' * 19}": "LENGTH_INVALID",
    "r 5 250 301": "DAT_TRUNCATED",
    "r 5 250 1000000000": "DAT_TRUNCATED",
    f"r 5 250 {10**15}": "DAT_TRUNCATED",
    f"r 5 250 {10**18 - 1}": "DAT_TRUNCATED",
    "r 5 250 299": "CHECKSUM_MISMATCH",
    "r 5 250 1": "CHECKSUM_MISMATCH",
    "r 0 250 300": "NSIG_ZERO",
    "r 4 250 300": "SIGNALS_IGNORED",
    "r 6 250 300": "NSIG_MISMATCH",
    "r 256 250 300": "NSIG_MISMATCH",
    "r 257 250 300": "HEADER_LIMIT",
    "r 1000000000 250 300": "HEADER_LIMIT",
    "r -5 250 300": "HEADER_SYNTAX",
    "r 5.0 250 300": "HEADER_SYNTAX",
    "r five 250 300": "HEADER_SYNTAX",
    "r": "HEADER_SYNTAX",
    "r\x005 250 300": "HEADER_SYNTAX",
    "r 5\x0b250 300": "HEADER_SYNTAX",
    "r 5 250 300 10:00:00 01/01/1990 more": "HEADER_SYNTAX",
    "r r 5 250 300": "HEADER_SYNTAX",
    "r.1 5 250 300": "BAD_RECORD_NAME",
    "../../x 5 250 300": "BAD_RECORD_NAME",
    "/r 5 250 300": "BAD_RECORD_NAME",
    "größe 5 250 300": "BAD_RECORD_NAME",
    "r/0 5 250 300": "SEGMENT_LIMIT",
    "r/-1 5 250 300": "BAD_RECORD_NAME",
    "r/5 5 250 300": "HEADER_SYNTAX",
    "r/10001 5 250 300": "SEGMENT_LIMIT",
    "r/1000000000 5 250 300": "BAD_RECORD_NAME",
    "other 5 250 300": "RECORD_NAME_MISMATCH",
    "r 5 250 300 25:61:61": "DATE_UNPARSED",
    "r 5 250 300 24:00:00": "DATE_UNPARSED",
    "r 5 250 300 10:00:00 31/02/1990": "DATE_UNPARSED",
    "r 5 250 300 10:00:00 1990-02-01": "DATE_UNPARSED",
    "r 5 250 300 10:00:00 12/31/1990": "DATE_UNPARSED",
    "r 5 250 300 10:00:00 1/1/90": "DATE_UNPARSED",
    "r 5 250 300 noon": "DATE_UNPARSED",
    "r 5 250 300 10:00:00 28/02/1990": "",
    "r 5 250 300 10:00": "",
    "r 5 250 300 0:0:0.5 1/1/2000": "",
    "r 5 250/250(0) 300": "",
    "r 5 250.0 300": "",
    " r  5\t250   300 ": "",
    "r 5 250": "LENGTH_INFERRED",
}
"""Record line in place of ``r 5 250 300``."""

FIELDS: list[tuple[int, str, str]] = [
    *[(NAME, name, "BAD_FILE_NAME") for name in ("../r.dat", "/etc/passwd", "http://x/r.dat", "file:///r.dat", "..\\r.dat")],
    *[
        (NAME, name, "BAD_FILE_NAME")
        for name in ("a/r.dat", "simplecache::r.dat", ".", "..", "-", "~r.dat", "C:r.dat", "x" * 300)
    ],
    *[(NAME, name, "HEADER_SYNTAX") for name in ("a\x00b.dat", "a\x1bb.dat")],
    *[(NAME, name, "DAT_MISSING") for name in ("none.dat", "größe.dat", "$(id)", "*", "r.da")],
    (NAME, "r.hea", "DAT_TRUNCATED"),
    (NAME, "~", "FMT_UNSUPPORTED"),
    *[(FORMAT, fmt, "FMT_UNSUPPORTED") for fmt in ("99", "0", "016", "999", "5", "1", "-16", "16.0", "x", "16x", "16+", "16:")],
    *[(FORMAT, fmt, "FMT_UNSUPPORTED") for fmt in ("16:1x2", "16+1x2", "16x-1", "16:-1", "16+-1", "٦١", "1_6", "0x10")],
    *[(FORMAT, fmt, "HEADER_LIMIT") for fmt in ("16x0", "16x4097", "16x1000000000", "16:300", f"16:{10**17}")],
    *[(FORMAT, fmt, "FMT_MIXED") for fmt in ("8", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "524")],
    *[(FORMAT, fmt, "FMT_MIXED") for fmt in ("16+2", f"16+{10**17}")],
    (FORMAT, "16x2", "DAT_TRUNCATED"),
    *[(GAIN, gain, "GAIN_INVALID") for gain in ("-1e-9", "nan", "inf", "abc", "2000,5", "1e300", "1e-300", "1e99999", "2000(")],
    *[
        (GAIN, gain, "GAIN_INVALID")
        for gain in ("2000()", "2000(1.5)", "2000/", "(0)/mV", "2000(0)/", "0x10", "2000(0", "2000)0(")
    ],
    *[(GAIN, gain, "GAIN_INVALID") for gain in ("1e9", "0.009", "2000000/nV", "2_000", "--5", "2000mV", "٢٠٠٠")],
    *[(GAIN, gain, "BASELINE_INVALID") for gain in ("2000(99999999999)", "2000(-2147483649)", "2000(2147483648)/mV")],
    *[(GAIN, gain, "GAIN_DEFAULTED") for gain in ("0", "0.0", "0/mV")],
    *[(GAIN, gain, "UNITS_UNKNOWN") for gain in ("2000/NU", "2000/mmHg", "2000/<b>", "2000/m\u2126")],
    *[(GAIN, gain, "") for gain in ("2000/mV", "2/uV", "2000000/V", "2e3", "2000(5)/MV", "+2000")],
    *[(GAIN, gain, "NON_ASCII") for gain in ("2/µV", "2/μV")],
    *[(RESOLUTION, text, "HEADER_SYNTAX") for text in ("x", "-1", "1e1", "16.0", "9999")],
    *[(ZERO, text, "HEADER_SYNTAX") for text in ("x", "0.5", "1e3", "99999999999", "")],
    *[(INITIAL, text, "HEADER_SYNTAX") for text in ("x", "--1", "0.5", "99999999999")],
    (INITIAL, "12345", "INIT_DIFFERS"),
    *[(CHECKSUM, text, "HEADER_SYNTAX") for text in ("x", "1e3", "123456", "0.5")],
    *[(CHECKSUM, text, "CHECKSUM_MISMATCH") for text in ("1", "-1", "32767", "99999", "0")],
    *[(BLOCK, text, "HEADER_SYNTAX") for text in ("x", "-1", "0.5")],
    *[(LEAD, name, "LEADS_DUPLICATE") for name in ("II", "ii", "Lead II", "ECG lead II", "v1", "vX", "  II  ")],
    *[(LEAD, name, "LEADS_UNNAMED") for name in ("", " ", "\t ")],
    *[(LEAD, name, "") for name in ("i", "Lead I", "III", "<script>", "=cmd()", "a b c", "../../x", "x" * 900)],
    *[(LEAD, name, "NON_ASCII") for name in ("Größe", "導聯", "\U0001f600", "V１", "І")],
    *[(LEAD, name, "HEADER_CONTROL_CHARS") for name in ("I\x00", "I\x1b[31m", "I\x7f", "\u200bI", "aVR\u200d", "\u202eIII")],
    *[(LEAD, name, "LEADS_DUPLICATE") for name in ("\u200bII", "I\u00adI", "\ufeffV1")],
    (LEAD, "x" * 5000, "LINE_TOO_LONG"),
]
"""Field of the first signal line, its new text, and the verdict."""

HEADERS: dict[str, tuple[str | bytes, str]] = {
    "nothing": ("", "HEADER_EMPTY"),
    "blank lines": ("\n\n  \n\t\n", "HEADER_EMPTY"),
    "comments only": ("# a\n# b\n", "HEADER_EMPTY"),
    "zeros": (b"\0" * 4096, "HEADER_ENCODING"),
    "UTF-16": (HEADER.encode("utf-16"), "HEADER_ENCODING"),
    "UTF-16 without mark": (HEADER.encode("utf-16-le"), "HEADER_ENCODING"),
    "UTF-32": (HEADER.encode("utf-32"), "HEADER_ENCODING"),
    "random bytes": (np.random.default_rng(0).bytes(3000).replace(b"\0", b"x").replace(b"#", b"x"), "HEADER_SYNTAX"),
    "ELF": (b"\x7fELF" + b"\0" * 100, "HEADER_ENCODING"),
    "gzip": (gzip.compress(HEADER.encode(), mtime=0), "HEADER_ENCODING"),
    "a web page": ("<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n", "BAD_RECORD_NAME"),
    "JSON": ('{"name": "r"}\n', "BAD_RECORD_NAME"),
    "password file": ("root:x:0:0:root:/root:/bin/bash\n", "BAD_RECORD_NAME"),
    "cut in record line": ("r 5 25", "HEADER_TRUNCATED"),
    "cut after record line": ("r 5 250 300", "HEADER_TRUNCATED"),
    "cut in a signal line": (HEADER[: HEADER.index("V1")], "HEADER_TRUNCATED"),
    "cut after a signal line": (HEADER[: HEADER.index("r.xyz")], "NSIG_MISMATCH"),
    "cut in the last signal line": (HEADER[: HEADER.index(" Vx")], "LEADS_UNNAMED"),
    "cut in comments": (HEADER[:-10], "HEADER_NO_FINAL_NEWLINE"),
    "no comments": (HEADER[: HEADER.index("#")], ""),
    "byte order mark": (b"\xef\xbb\xbf" + HEADER.encode(), "HEADER_BOM"),
    "CRLF": (HEADER.replace("\n", "\r\n"), ""),
    "CR": (HEADER.replace("\n", "\r"), ""),
    "blank lines between": (HEADER.replace("\n", "\n\n"), ""),
    "comments first": ("# first\n" + HEADER, ""),
    "umlaut in UTF-8": (HEADER + "# Müller-Größe\n", "NON_ASCII"),
    "umlaut in Latin-1": ((HEADER + "# Müller-Größe\n").encode("latin-1"), "NON_ASCII"),
    "NUL in a comment": (HEADER + "# Myocardial\0 infarction\n", "HEADER_CONTROL_CHARS"),
    "line separators in a comment": (HEADER + "# a\u2028r.dat 16\x0bb\x1cc\x85d\n", "HEADER_CONTROL_CHARS"),
    "signal line without hash": (HEADER + "Reason for admission: n/a\n", "NSIG_MISMATCH"),
    "signal line twice": (HEADER.replace(FIRST, f"{FIRST}\n{FIRST}"), "LEADS_DUPLICATE"),
    "signal line twice and counted": (SIX.replace(FIRST, f"{FIRST}\n{FIRST}"), "LEADS_DUPLICATE"),
    "one signal line gone": (HEADER.replace(f"{FIRST}\n", ""), "NSIG_MISMATCH"),
    "one signal gone and counted": (HEADER.replace(f"{FIRST}\n", "").replace("r 5", "r 4", 1), "CHECKSUM_MISMATCH"),
    "signal lines swapped": (
        HEADER.replace(FIRST, "@").replace(LEADS[1].line(), FIRST).replace("@", LEADS[1].line()),
        "CHECKSUM_MISMATCH",
    ),
    "files interleaved": (
        HEADER.replace(SECOND, "@").replace(LEADS[4].line(), SECOND).replace("@", LEADS[4].line()),
        "FILES_INTERLEAVED",
    ),
    "one file under two names": (HEADER.replace("r.xyz", "R.DAT"), "FILES_INTERLEAVED"),
    "no lead names": (NO_NAMES, "LEADS_UNNAMED"),
    "record line twice": (f"r 5 250 {N}\n{HEADER}", "FMT_UNSUPPORTED"),
    "spaces in the units": (HEADER.replace("2000 ", "2000 / mV ", 1), "HEADER_SYNTAX"),
    "no gain": (HEADER.replace(" 2000 ", " ", 1), "HEADER_SYNTAX"),
    "format only": (HEADER.replace(FIRST, "r.dat 16"), "LEADS_UNNAMED"),
    "name only": (HEADER.replace(FIRST, "r.dat"), "HEADER_SYNTAX"),
    "old header without sums": (f"r 5 250 {N}\n{NO_SUMS}", "CHECKSUM_UNVERIFIED"),
    "old header with a signal too few": (f"r 4 250 {N}\n{NO_SUMS}".replace(FEWER, ""), "DAT_TOO_LONG"),
    "old header without length": (f"r 5 250\n{NO_SUMS}", "LENGTH_UNVERIFIABLE"),
    "a line of 5000": (HEADER + "# " + "x" * 5000 + "\n", "LINE_TOO_LONG"),
    "a megabyte of comments": (HEADER + "# x\n" * 300_000, "HEADER_TOO_BIG"),
    "many lines": (HEADER + "#\n" * 30_000, "HEADER_LIMIT"),
    "format 61": (HEADER.replace(" 16 2000", " 61 2000"), "CHECKSUM_MISMATCH"),
    "format 160": (HEADER.replace(" 16 2000", " 160 2000"), "INIT_MISMATCH"),
    "format 80": (HEADER.replace(" 16 2000", " 80 2000"), "CHECKSUM_MISMATCH"),
    "format 8": (HEADER.replace(" 16 2000", " 8 2000"), "CHECKSUM_MISMATCH"),
    "format 212": (HEADER.replace(" 16 2000", " 212 2000"), "CHECKSUM_MISMATCH"),
    "format 310": (HEADER.replace(" 16 2000", " 310 2000"), "CHECKSUM_MISMATCH"),
    "format 311": (HEADER.replace(" 16 2000", " 311 2000"), "CHECKSUM_MISMATCH"),
    "format 24": (HEADER.replace(" 16 2000", " 24 2000"), "DAT_TRUNCATED"),
    "format 32": (HEADER.replace(" 16 2000", " 32 2000"), "DAT_TRUNCATED"),
    "format 516": (HEADER.replace(" 16 2000", " 516 2000"), "DECODER_FAILED"),
    "offset": (HEADER.replace(" 16 2000", " 16+8 2000"), "DAT_TRUNCATED"),
    "offset beyond": (HEADER.replace(" 16 2000", f" 16+{10**15} 2000"), "DAT_TRUNCATED"),
    "offset of twenty digits": (HEADER.replace(" 16 2000", f" 16+{10**20} 2000"), "FMT_UNSUPPORTED"),
}
"""What is in ``r.hea``."""

FILES: dict[str, tuple[Edit, str]] = {
    "header missing": (gone("r.hea"), "LISTED_MISSING"),
    "header packed": (renamed("r.hea", "r.hea.gz"), "COMPRESSED_UNSUPPORTED"),
    "header in capitals": (renamed("r.hea", "R.HEA"), "CASE_MISMATCH"),
    "header is a folder": (gone("r.hea", lambda folder: (folder / "r.hea").mkdir()), "NOT_REGULAR_FILE"),
    "header is a pipe": (gone("r.hea", lambda folder: os.mkfifo(folder / "r.hea")), "NOT_REGULAR_FILE"),
    "header is zeros without end": (linked("r.hea", "/dev/zero"), "SYMLINK_ESCAPE"),
    "header is outside": (linked("r.hea", "/etc/passwd"), "SYMLINK_ESCAPE"),
    "header is outside by steps": (linked("r.hea", "../../../../../../etc/passwd"), "SYMLINK_ESCAPE"),
    "header links to itself": (linked("r.hea", "r.hea"), "SYMLINK_ESCAPE"),
    "header links to nothing": (linked("r.hea", "none"), "LISTED_MISSING"),
    "header of a gigabyte": (sparse("r.hea", 1 << 30), "HEADER_TOO_BIG"),
    "data missing": (gone("r.dat"), "DAT_MISSING"),
    "second file missing": (gone("r.xyz"), "LEADS_MISSING"),
    "data packed": (renamed("r.dat", "r.dat.gz"), "COMPRESSED_UNSUPPORTED"),
    "data in capitals": (renamed("r.dat", "R.DAT"), "CASE_MISMATCH"),
    "data empty": (data(lambda _: b""), "DAT_EMPTY"),
    "second file empty": (data(lambda _: b"", "r.xyz"), "DAT_EMPTY"),
    "data one byte": (data(lambda _: b"x"), "DAT_TRUNCATED"),
    "data without the last byte": (data(lambda content: content[:-1]), "DAT_TRUNCATED"),
    "data without the last sample": (data(lambda content: content[:-2]), "DAT_TRUNCATED"),
    "data without the last frame": (data(lambda content: content[:-8]), "DAT_TRUNCATED"),
    "data half": (data(lambda content: content[: len(content) // 2]), "DAT_TRUNCATED"),
    "second file cut": (data(lambda content: content[:-2], "r.xyz"), "DAT_TRUNCATED"),
    "data and more": (data(lambda content: content + b"\0\0"), "DAT_TRAILING_BYTES"),
    "data twice": (data(lambda content: content * 2), "DAT_TRAILING_BYTES"),
    "data and a terabyte": (sparse("r.dat", 1 << 40), "DAT_TOO_LONG"),
    "data packed inside": (data(lambda content: gzip.compress(content, mtime=0)), "GZIP_CONTENT"),
    "data of zeros": (data(lambda content: b"\0" * len(content)), "CHECKSUM_MISMATCH"),
    "data of marks": (data(lambda content: b"\0\x80" * (len(content) // 2)), "CHECKSUM_MISMATCH"),
    "data shifted by a byte": (data(lambda content: b"\0" + content[:-1]), "CHECKSUM_MISMATCH"),
    "data shifted by a sample": (data(lambda content: b"\0\0" + content[:-2]), "CHECKSUM_MISMATCH"),
    "data rotated by a sample": (data(lambda content: content[2:] + content[:2]), "CHECKSUM_MISMATCH"),
    "data rotated by a frame": (data(lambda content: content[8:] + content[:8]), "INIT_MISMATCH"),
    "data backwards": (data(lambda content: content[::-1]), "CHECKSUM_MISMATCH"),
    "bytes swapped": (data(lambda content: np.frombuffer(content, "<i2").astype(">i2").tobytes()), "CHECKSUM_MISMATCH"),
    "line ends translated": (data(lambda content: content.replace(b"\n", b"\r\n") + b"\r\n"), "CHECKSUM_MISMATCH"),
    "one bit": (data(lambda content: content[:700] + bytes([content[700] ^ 64]) + content[701:]), "CHECKSUM_MISMATCH"),
    "one bit of the second file": (data(lambda c: c[:70] + bytes([c[70] ^ 1]) + c[71:], "r.xyz"), "CHECKSUM_MISMATCH"),
    "data of another record": (data(lambda content: np.random.default_rng(1).bytes(len(content))), "CHECKSUM_MISMATCH"),
    "data is text": (data(lambda content: (b"0.1,0.2\n" * len(content))[: len(content)]), "CHECKSUM_MISMATCH"),
    "data is a folder": (gone("r.dat", lambda folder: (folder / "r.dat").mkdir()), "NOT_REGULAR_FILE"),
    "data is a pipe": (gone("r.dat", lambda folder: os.mkfifo(folder / "r.dat")), "NOT_REGULAR_FILE"),
    "data is zeros without end": (linked("r.dat", "/dev/zero"), "SYMLINK_ESCAPE"),
    "data is outside": (linked("r.dat", "/etc/services"), "SYMLINK_ESCAPE"),
    "data links to itself": (linked("r.dat", "r.dat"), "SYMLINK_ESCAPE"),
    "data links to nothing": (linked("r.dat", "none"), "DAT_MISSING"),
    "data is this process's memory": (linked("r.dat", "/proc/self/mem"), "SYMLINK_ESCAPE"),
    "data is the header": (linked("r.xyz", "r.hea"), "DAT_TRUNCATED"),
    "data is the other file": (linked("r.xyz", "r.dat"), "FILES_INTERLEAVED"),
}
"""What is the matter with the record's files."""

SEGMENTS: dict[str, tuple[Edit, str]] = {
    "itself": (files(r=f"{MASTER}{S}r {N}\n"), "SEGMENT_CYCLE"),
    "missing": (files(r=f"{MASTER}{S}none {N}\n"), "SEGMENT_MISSING"),
    "of segments": (files(r=f"{MASTER}{S}t {N}\n", t=f"t/1 5 250 {N}\n{S}"), "SEGMENT_LIMIT"),
    "two that name each other": (files(r=f"r/1 5 250 {N}\nt {N}\n", t=f"t/1 5 250 {N}\nr {N}\n"), "SEGMENT_LIMIT"),
    "more stated": (files(r=f"r/3 5 250 {2 * N}\n{S}{S}"), "SEGMENT_MISMATCH"),
    "fewer stated": (files(r=f"r/1 5 250 {2 * N}\n{S}{S}"), "SEGMENT_MISMATCH"),
    "cut": (files(r=f"r/2 5 250 {2 * N}\n{S[:-1]}"), "HEADER_TRUNCATED"),
    "another length together": (files(r=f"r/2 5 250 {2 * N + 1}\n{S}{S}"), "SEGMENT_MISMATCH"),
    "shorter than the segment": (files(r=f"r/1 5 250 {N - 1}\ns {N - 1}\n"), "SEGMENT_MISMATCH"),
    "longer than the segment": (files(r=f"r/1 5 250 {N + 1}\ns {N + 1}\n"), "SEGMENT_MISMATCH"),
    "another rate": (files(r=f"r/1 5 500 {N}\n{S}"), "SEGMENT_MISMATCH"),
    "of no samples": (files(r=f"r/2 5 250 {N}\n{S}~ 0\n"), "SEGMENT_MISMATCH"),
    "gaps only": (files(r="r/1 5 250 100\n~ 100\n"), "SEGMENT_MISMATCH"),
    "a gap without end": (files(r=f"r/2 5 250 {10**10 + N}\n{S}~ {10**10}\n"), "TOO_LONG"),
    "negative": (files(r=f"r/1 5 250 {N}\ns -{N}\n"), "HEADER_SYNTAX"),
    "without length": (files(r=f"r/1 5 250 {N}\ns\n"), "HEADER_SYNTAX"),
    "outside": (files(r=f"r/1 5 250 {N}\n../s {N}\n"), "HEADER_SYNTAX"),
    "address": (files(r=f"r/1 5 250 {N}\nhttp://s {N}\n"), "HEADER_SYNTAX"),
    "bad segment": (files(r=f"{MASTER}{S}t {N}\n", t=f"t 5 0 {N}\n"), "SEGMENT_MISSING"),
    "other leads than stated": (files(r=f"r/2 7 250 {2 * N}\n{S}{S}"), "SEGMENT_MISMATCH"),
    "leads in another order": (
        files(
            r=f"{MASTER}{S}t {N}\n",
            t="\n".join([f"t 5 250 {N}", *(lead.line() for lead in LEADS[1::-1] + LEADS[2:]), ""]).replace("r.", "s."),
        ),
        "SEGMENT_MISMATCH",
    ),
    "other leads than the layout": (
        files(r=f"r/2 5 250 {N}\nlay 0\n{S}", lay=LAYOUT.replace(" V2", " V3")),
        "SEGMENT_MISMATCH",
    ),
    "layout of another number": (files(r=f"r/2 6 250 {N}\nlay 0\n{S}", lay=LAYOUT), "SEGMENT_MISMATCH"),
    "layout of no length": (files(r=f"r/2 5 250 {N}\nlay 0\n{S}", lay=LAYOUT.replace("5 250", "5 250 0")), ""),
    "layout second": (files(r=f"r/2 5 250 {N}\n{S}lay 0\n", lay=LAYOUT), "SEGMENT_MISMATCH"),
    "samples in the layout": (files(r=f"r/2 5 250 {N}\ns 0\n{S}"), "SEGMENT_MISMATCH"),
    "a gap of nothing first": (files(r=f"r/2 5 250 {N}\n~ 0\n{S}"), "SEGMENT_MISMATCH"),
    "a gap before": (files(r=f"r/2 5 250 {N + 10}\n~ 10\n{S}"), "a gap"),
    "a missing second file": (
        lambda folder: (files(r=f"{MASTER}{S}{S}")(folder), (folder / "s.xyz").unlink()),
        "SEGMENT_MISSING",
    ),
    "more on the line": (files(r=f"r/1 5 250 {N}\ns {N} x\n"), "HEADER_SYNTAX"),
    "no signals": (files(r=f"r/1 0 250 {N}\n{S}"), "NSIG_ZERO"),
    "joined": (files(r=f"{MASTER}{S}{S}"), "twice"),
    "joined without a length": (files(r=f"r/2 5 250\n{S}{S}"), "twice"),
    "layout and one": (files(r=f"r/2 5 250 {N}\nlay 0\n{S}", lay=LAYOUT), ""),
    "layout alone": (files(r="r/1 5 250 300\nlay 300\n", lay=LAYOUT), "SEGMENT_MISMATCH"),
}
"""Multi-segment records made of the good one, which is called ``s`` there."""

NAMES: dict[str, str] = {
    "": "BAD_RECORD_NAME",
    "../x": "PATH_ESCAPE",
    "a/../../x": "PATH_ESCAPE",
    "/etc/passwd": "PATH_ESCAPE",
    "..": "PATH_ESCAPE",
    "a\\b": "PATH_ESCAPE",
    "s3://evil/x": "REMOTE_NAME",
    "http://169.254.169.254/r": "REMOTE_NAME",
    "simplecache::http://x": "REMOTE_NAME",
    "file:///etc/passwd": "REMOTE_NAME",
    "a::b": "BAD_RECORD_NAME",
    "a//b": "BAD_RECORD_NAME",
    "./r": "BAD_RECORD_NAME",
    "r/": "BAD_RECORD_NAME",
    "r\x00": "BAD_RECORD_NAME",
    "r\n": "BAD_RECORD_NAME",
    "\x1b[2J": "BAD_RECORD_NAME",
    "\udcff": "BAD_RECORD_NAME",
    "x" * 2000: "BAD_RECORD_NAME",
    "x" * 300: "UNREADABLE_FILE",
    "none": "LISTED_MISSING",
    "none/none": "LISTED_MISSING",
    "r.hea/x": "LISTED_MISSING",
    "r ": "LISTED_MISSING",
    "-rf": "LISTED_MISSING",
    "$(id)": "LISTED_MISSING",
    "R": "CASE_MISMATCH RECORD_NAME_MISMATCH",
}
"""Record names beside the good record ``r``."""

CASES: dict[str, tuple[Edit, str]] = {
    **{f"record line {line!r}"[:60]: (record_line(line), code) for line, code in RECORD_LINES.items()},
    **{f"field {number} {text!r}"[:60]: (field(number, text), code) for number, text, code in FIELDS},
    **{f"header: {name}": (with_header(content), code) for name, (content, code) in HEADERS.items()},
    **{f"files: {name}": case for name, case in FILES.items()},
    **{f"segment: {name}": case for name, case in SEGMENTS.items()},
}


def test_catalogue_has_hundreds_of_cases_and_knows_most_codes() -> None:
    assert len(CASES) + len(NAMES) >= 300
    met = {code for _, code in CASES.values()} | set(NAMES.values())
    elsewhere = {"CHANGED_WHILE_READING", "RANGE", "DECODER_LIMIT"}  # tests/formats/test_records.py
    elsewhere |= {"EXTRA_MISSING", "LEADS_CONTRADICT"}  # tests/formats/test_dicom.py
    elsewhere |= {"XML_UNSAFE"}  # tests/formats/test_devices.py
    elsewhere |= {"ERASED"}  # tests/upkeep/test_erase.py
    elsewhere |= {"STEP_FAILED"}  # tests/scores/test_failing_content.py
    assert REASONS.keys() - met <= elsewhere


@pytest.mark.parametrize("case", CASES)
def test_each_case_has_its_verdict_and_what_is_stored_is_true(tmp_path: Path, case: str) -> None:
    edit, code = CASES[case]
    GOOD.write(tmp_path)
    edit(tmp_path)
    check(tmp_path, "r", code)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:40])
def test_each_name_has_its_verdict(tmp_path: Path, name: str) -> None:
    GOOD.write(tmp_path)
    check(tmp_path, name, NAMES[name])


def check(folder: Path, name: str, code: str) -> None:
    """A verdict is reached without an exception, by inspection where it can; samples that are read are the written ones."""
    verdict = inspect_record(folder, name)
    if code in REASONS and code != "LEADS_MISSING":
        with pytest.raises(UnreadableRecord) as caught:
            read_record(folder, name)
        assert (caught.value.code, caught.value.record_name) == (code, name), caught.value.detail
        assert verdict.status != STATUS["set_aside"] or verdict.reason == code
        return
    record = read_record(folder, name)
    assert verdict.status != STATUS["set_aside"]
    told = {record.attrs["reason"], *record.attrs["warnings"]} - {""}
    if code == "a gap":
        assert told == {"GAPS"}
        truth = {np.append(np.full(10, -32768), lead.samples[:, 0]).tobytes() for lead in LEADS}
    elif code == "twice":
        truth = {np.tile(lead.samples[:, 0], 2).tobytes() for lead in LEADS}
    else:
        assert told == set(code.split()) | (told & {"NON_ASCII", "LEADS_UNKNOWN"}), told
        assert told <= REASONS.keys() | WARNINGS.keys()
        truth = {lead.samples[:, 0].tobytes() for lead in LEADS}
    found = {row.astype(np.int64).tobytes() for row in record["signal"].values}
    assert found <= truth
    assert len(found) == (4 if code in {"LEADS_MISSING", "SIGNALS_IGNORED"} else 5)


@pytest.mark.parametrize("case", FIELDS, ids=lambda case: repr(case)[:40])
def test_lines_that_are_looked_up_are_read_as_those_that_are_parsed(case: tuple[int, str, str]) -> None:
    number, text, _ = case
    fields = FIRST.split(" ")
    line = " ".join([*fields[:number], text, *fields[number + 1 :]])
    read = []
    for blank in (" ", "", ""):  # a line that begins with a blank is none that is looked up; what is kept is asked twice
        content = f"r 1 500 5000\n{blank}{line}\n# a remark\n".encode()
        try:
            read.append(parse_header(content, "r"))
        except UnreadableRecord as error:
            read.append((error.code, error.detail))
    assert read[0] == read[1] == read[2]


def test_catalogue_in_one_archive_gives_every_case_a_row(tmp_path: Path) -> None:
    for number, (edit, _) in enumerate(CASES.values()):
        edit(GOOD.write(tmp_path / f"c{number:03d}"))
    names = [f"c{number:03d}/r" for number in range(len(CASES))]
    (tmp_path / "RECORDS").write_text("\n".join(names))
    listing = list_archive(tmp_path, read_data=True)
    assert listing["record_name"].values.tolist() == names
    codes = [code for _, code in CASES.values()]
    expected = [code if code in REASONS else "" for code in codes]
    assert listing["reason"].values.tolist() == expected


FORMATS = (16, 212, 80, 24, 32, 61, 160, 8, 310, 311)


@pytest.mark.parametrize("fmt", FORMATS)
def test_mutants_never_raise_and_store_no_wrong_sample(tmp_path: Path, fmt: int) -> None:
    told = judge_mutants(tmp_path, fmt, seed=1, n=30)
    assert told["exceptions"] == told["wrong"] == told["disagree"] == 0, told
    assert told["longest_ms"] < 5000
