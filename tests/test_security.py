"""Names that try to leave their folder, a run that may do nothing but its work, and what answers on the network meanwhile."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.terms import STATUS
from tests.formats.wfdb_files import simple

ROOT = Path(__file__).parents[1]

WAYS_OUT = (
    "../outside/r",
    "{outside}/r",
    "./../outside/r",
    "ok/../../outside/r",
    "..\\outside\\r",
    "file://{outside}/r",
    "http://127.0.0.1:9/r",
    "s3://bucket/r",
    "simplecache::file://{outside}/r",
    "~/r",
    "$HOME/r",
    "$(touch {outside}/touched)",
    "`touch {outside}/touched`",
    "| touch {outside}/touched",
    "; touch {outside}/touched",
    "linked/r",
    "linked",
    "ok\x00/../../outside/r",
    "%2e%2e/outside/r",
    "..%2foutside%2fr",
    "\u2025/outside/r",
    "..\u2215outside\u2215r",
    "con",
    "nul.hea",
    "aux/r",
    "-rf",
    "--help",
    "*",
    "[a-z]",
    "r" * 300,
    "a/" * 200 + "r",
    ".",
    "..",
    "/",
    "//",
    "r\u202egnp",
    "r\x1b[2J",
    "<img src=x>",
    "=cmd|' /C calc'!A0",
    " r ",
)
"""As a name in a list, and, where a disk allows it, as the name of a file."""


def hostile_names(outside: Path) -> list[str]:
    """1,000 names: each way out, alone and with something before and behind it."""
    ways = [way.format(outside=outside) for way in WAYS_OUT]
    around = [
        ("", ""),
        ("ok/", ""),
        ("", ".hea"),
        ("./", ""),
        ("", "/r"),
        ("../", ""),
        ("../../", ""),
        ("/", ""),
        ("patient001/", ""),
    ]
    names = [before + way + behind for before, behind in around for way in ways]
    names += [f"{'../' * depth}{way}" for depth in range(3, 30) for way in ways]
    return list(dict.fromkeys(names))[:1000]


def test_thousand_names_neither_read_nor_write_outside_their_folders(tmp_path):
    archive, outside, work = tmp_path / "archive", tmp_path / "outside", tmp_path / "work"
    simple().write(outside)
    simple().write(archive / "ok")
    (archive / "linked").symlink_to(outside)
    names = hostile_names(outside)
    assert len(names) == 1000
    (archive / "RECORDS").write_text("\n".join(["ok/r", *(name for name in names if "\n" not in name)]), encoding="utf-8")
    for name in names:
        try:
            shutil.copy(outside / "r.hea", archive / "ok" / f"{name.replace('/', '_')}.hea")
        except (OSError, ValueError):
            continue  # this disk has no such name
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    opened: list[tuple[str, str]] = []
    watching = [True]

    def hook(event: str, arguments: tuple) -> None:
        if watching and event == "open" and isinstance(arguments[0], str):
            opened.append((os.path.realpath(arguments[0]), str(arguments[1] or "")))
        if watching and event in {"os.system", "subprocess.Popen", "socket.connect"}:
            opened.append((event, ""))

    sys.addaudithook(hook)  # there is no way to take it away again: it ends by what it is told
    try:
        done = convert_archive(str(archive), str(work))
    finally:
        watching.clear()
    assert not [path for path, _ in opened if path.startswith(str(outside)) or path in {"os.system", "subprocess.Popen"}]
    assert "socket.connect" not in dict(opened)
    compiled = f"{ROOT}/ecgbatch/__pycache__"
    written = [path for path, mode in opened if set(mode) & set("wxa+") and not path.startswith(compiled)]
    assert all(Path(path).is_relative_to(work) for path in written), written
    after = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if not path.is_relative_to(work))
    assert after == before
    records = current_records(str(work))
    good = records["record_name"].values[records["status"].values != STATUS["set_aside"]].tolist()
    assert len(good) > 100
    assert all(Path(os.path.realpath(f"{archive}/{name}.hea")).parent == archive / "ok" for name in good)
    assert done.n_records == records.sizes["record"] == len(good) + sum(done.set_aside.values())
