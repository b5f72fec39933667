"""Which records a folder holds, found in one walk, and what was left out of the search: nothing is missing without a word."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ecgbatch.archive.untaken import find_untaken, may_be_ecg, summarise_untaken
from ecgbatch.formats.devices import DEVICE_SUFFIXES, is_device_file
from ecgbatch.formats.dicom import HEAD_BYTES as DICOM_HEAD_BYTES
from ecgbatch.formats.dicom import is_waveform_file
from ecgbatch.formats.files import check_record_name, first_bytes, read_small_file
from ecgbatch.formats.header import UnreadableRecord
from ecgbatch.formats.inspection import SUFFIXES
from ecgbatch.formats.wfdb_header import MAX_HEADER_BYTES, is_layout

RECORDS_FILE = "RECORDS"
MAX_RECORDS_BYTES = 1 << 28
"""256 MiB: five million names."""
MOST_SHOWN = 20
"""Of what was left out, in a summary."""
_MAX_DEPTH = 8
"""Lists inside lists that are followed; PhysioNet's deepest archives have three."""
_SYSTEM_FOLDERS = frozenset(
    {"lost+found", "$recycle.bin", "system volume information", "@eadir", "#recycle", "#snapshot", "~snapshot", "__macosx"}
)
"""In lower case: of file systems, Windows, Synology, NetApp, archives of macOS. What begins with a dot is hidden anywhere."""
HIDDEN_FOLDER = "hidden or system folder"
HIDDEN_FILE = "hidden file"
LINK_OUT = "linked folder outside the archive: copy it, or name the folder where all lie"
LINK_TWICE = "linked folder that is in the archive under its own name"
LINK_BROKEN = "link that leads nowhere"


class LeftOut(NamedTuple):
    """A folder, link or hidden file below an archive in which no record was looked for."""

    path: str
    reason: str


@dataclass
class Found:
    """What a search of an archive gives."""

    names: list[str]
    """Of the records, as ``find_records`` says."""
    beside: list[tuple[str, str]] = field(default_factory=list)
    """Path below the archive, and place, of files that are no record's by their names and may yet be ECGs, in order."""
    one_file: list[tuple[str, str]] = field(default_factory=list)
    """The same of files that are records by themselves and that no list names: of all of them where there is no list."""
    left_out: list[LeftOut] = field(default_factory=list)


def find_records(archive: str | Path) -> list[str]:
    """Return the names of an archive's records: those that ``RECORDS`` lists, else all ``*.hea`` and files of other formats.

    Parameters
    ----------
    archive
        Folder of WFDB records. A listed folder (its name ends with ``/``, or it has a ``RECORDS`` of its own) stands for its
        records. A multi-segment record's segments are records of their own where headers are searched for: list the master
        record in ``RECORDS`` to leave them out. A layout (``x_layout.hea`` that names no file of samples) is none.

    Returns
    -------
    list of str
        Paths below the archive: of headers without ``.hea``, of files that are records by themselves (``SUFFIXES``, or DICOM
        waveforms without a suffix) with their suffix; in the list's order, or sorted; each once. A listed name is kept even if
        it is missing or leaves the archive: ``inspect_record`` says what is wrong with it.

    Raises
    ------
    ValueError
        If ``archive`` is no folder, cannot be read, or holds no record.

    """
    return search(archive, with_beside=False).names


def search(archive: str | Path, *, with_beside: bool = True) -> Found:
    """Find an archive's records, as ``find_records``, what lies beside them, and what was left out.

    Hidden folders and those of systems (``.snapshot``, ``lost+found``) are left out. A linked folder inside the archive is
    searched where it is not under another name; one outside is left out, for no file outside is ever read.

    Parameters
    ----------
    with_beside
        Whether the folder is walked too where ``RECORDS`` says which records there are.

    """
    root = os.path.realpath(archive)
    if not Path(root).is_dir():
        raise ValueError(f"{archive}: expected a folder of WFDB records, found no folder of that name")
    if os.path.lexists(f"{root}/{RECORDS_FILE}"):
        names, where = _listed(root, ""), f"a {RECORDS_FILE} file that lists none"
        found = Found(names)
        if with_beside or not names:
            walked, taken = _walked(root, ""), set(names)
            beside, unlisted = ([one for one in files if one[0] not in taken] for files in (walked.beside, walked.one_file))
            found = Found(names, beside, unlisted, walked.left_out)
    else:
        walked, where = _walked(root, ""), f"neither {RECORDS_FILE} nor any *.hea below it"
        found = Found(walked.names, walked.beside, [], walked.left_out)
    if not found.names:
        raise ValueError(
            f"{archive}: expected WFDB records, listed in {RECORDS_FILE} or as *.hea files; {_instead(found, where)}"
        )
    return found


def _instead(found: Found, where: str) -> str:
    """Return, for people, what was found in an archive without a record."""
    told = summarise_untaken(find_untaken(found.beside, found.one_file))
    looks = [f"{n} file(s) that look like {kind}" for kind, n in told["n_not_taken"].items()]
    first = [f"{one['file']!r}: {one['reason']}" for one in told["not_taken"][:1]]
    also = f"; there are {', '.join(looks)} ({first[0]})" if looks else ""
    aside = summarise_left_out(found.left_out)["left_out"][:1]
    also += "".join(f"; not searched: {one['path']!r}, {one['reason']}" for one in aside)
    return f"found {where}{also}"


def summarise_left_out(left_out: Iterable[LeftOut]) -> dict[str, Any]:
    """Return ``n_left_out`` {reason: n} and ``left_out``, the first ``MOST_SHOWN`` of {path, reason}, links first."""
    every = sorted(left_out, key=lambda one: (one.reason in {HIDDEN_FOLDER, HIDDEN_FILE}, one.path))
    shown = [one._asdict() for one in every[:MOST_SHOWN]]
    return {"n_left_out": dict(Counter(one.reason for one in every).most_common()), "left_out": shown}


def _listed(root: str, folder: str) -> list[str]:
    """Return the names of the list in ``folder``, its folders replaced by their records."""
    try:
        return list(dict.fromkeys(_expanded(root, folder, {}, 0)))
    except UnreadableRecord as error:
        raise ValueError(f"{RECORDS_FILE}: expected a list of record names, one a line; {error.detail}") from error


def _expanded(root: str, folder: str, followed: dict[str, str], depth: int) -> Iterator[str]:
    """Yield the names listed in ``folder`` (empty or ending with ``/``).

    ``followed`` has every folder whose list was followed, by its real place: no list is followed under a second name, or a few
    lists that name each other would have more records than a disk has bytes.
    """
    followed[os.path.realpath(f"{root}/{folder}")] = folder
    content = read_small_file(root, f"{folder}{RECORDS_FILE}", MAX_RECORDS_BYTES, "HEADER_TOO_BIG")
    for line in re.split(r"[\r\n]+", storable(content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "backslashreplace"))):
        name = folder + line.strip()
        if name == folder:
            continue
        # Nearly every name is a record's: one question to the disk says that there is no folder of that name.
        is_folder = os.path.isdir(f"{root}/{name}")  # noqa: PTH112 - false, not OSError, for a name too long to be one
        inner = _folder_records(root, name, followed, depth) if is_folder else None
        if inner is None or (not name.endswith("/") and os.path.lexists(f"{root}/{name}.hea")):
            yield name
        yield from inner or ()


def _folder_records(root: str, name: str, followed: dict[str, str], depth: int) -> Iterable[str] | None:
    """Return the records of the folder that ``name`` stands for; None where it is no such folder of the archive."""
    folder = name.rstrip("/")
    try:
        check_record_name(folder)
        place = os.path.realpath(f"{root}/{folder}")
        if place in followed:
            return () if followed[place] == f"{folder}/" else None  # listed twice, or one place under another name
        if not _is_below(place, root) or depth > _MAX_DEPTH:
            return None
        if os.path.isfile(f"{place}/{RECORDS_FILE}"):  # noqa: PTH113 - false, not OSError, for a name too long to be one
            return list(_expanded(root, f"{folder}/", followed, depth + 1)) or None
    except UnreadableRecord:
        return None
    if not name.endswith("/"):
        return None
    followed[place] = f"{folder}/"
    return _walked(root, f"{folder}/").names or None


def _walked(root: str, folder: str) -> Found:
    """Return what lies below ``folder`` (empty or ending with ``/``); names sorted."""
    found, links, seen = Found([]), list[str](), set[str]()
    top = f"{root}/{folder}".rstrip("/") or "/"
    _walk_into(top, folder, found, links, seen)
    while links:  # after all folders under their own names: what is inside them is not taken twice
        path = links.pop(0)
        place = os.path.realpath(f"{root}/{path}")
        if not os.path.isdir(place):  # noqa: PTH112 - links to files are not here
            found.left_out.append(LeftOut(storable(path), LINK_BROKEN))
        elif not _is_below(place, root) and place != root:
            found.left_out.append(LeftOut(storable(path), LINK_OUT))
        elif place in seen or place == root:
            found.left_out.append(LeftOut(storable(path), LINK_TWICE))
        else:
            _walk_into(place, f"{path}/", found, links, seen)
    return Found(sorted(found.names), sorted(found.beside), sorted(found.one_file), found.left_out)


def _is_below(place: str, root: str) -> bool:
    return place.startswith(root.rstrip("/") + "/")


def _walk_into(top: str, folder: str, found: Found, links: list[str], seen: set[str]) -> None:
    """Add what lies below ``top``, whose path below the archive is ``folder``; its linked folders to ``links``."""
    for place, folders, files in os.walk(top, onerror=_refuse_folder):
        below = folder + place[len(top) :].lstrip("/")
        prefix = f"{below.rstrip('/')}/" if below else ""
        seen.add(place)
        own = []
        for name in sorted(folders):
            if _is_hidden_folder(name):
                found.left_out.append(LeftOut(storable(prefix + name), HIDDEN_FOLDER))
            elif os.path.islink(f"{place}/{name}"):  # noqa: PTH114
                links.append(prefix + name)
            elif f"{place}/{name}" not in seen:
                own.append(name)
        folders[:] = own
        _sort_files(place, prefix, files, found)


def _sort_files(place: str, prefix: str, files: list[str], found: Found) -> None:
    """Add the files of one folder to what they are."""
    headers = {name[:-4] for name in files if name.lower().endswith(".hea")}
    for name in files:
        path = storable(prefix + name)
        is_header, is_one_file = name.lower().endswith(".hea"), name.lower().endswith(SUFFIXES)
        if name.startswith("."):
            if is_header or is_one_file:
                found.left_out.append(LeftOut(path, HIDDEN_FILE))
        elif is_header:
            if not (name.lower().endswith("_layout.hea") and _is_layout(f"{place}/{name}")):
                found.names.append(path[:-4])
        elif is_one_file and (not name.lower().endswith(DEVICE_SUFFIXES) or is_device_file(f"{place}/{name}")):
            found.names.append(path)
            found.one_file.append((path, f"{place}/{name}"))
        elif not may_be_ecg(name):
            continue
        elif _is_without_suffix(name) and name not in headers and _is_dicom(f"{place}/{name}"):
            found.names.append(path)
            found.one_file.append((path, f"{place}/{name}"))
        else:
            found.beside.append((path, f"{place}/{name}"))


def _is_hidden_folder(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


def _is_without_suffix(name: str) -> bool:
    """Whether a name has no suffix: none of letters at least, for DICOM files are named by numbers with points between."""
    return name.rpartition(".")[2].isdigit() or "." not in name


def _is_dicom(path: str) -> bool:
    try:
        return is_waveform_file(first_bytes(path, DICOM_HEAD_BYTES))
    except UnreadableRecord:
        return False


def _is_layout(path: str) -> bool:
    try:
        return is_layout(first_bytes(path, MAX_HEADER_BYTES))
    except UnreadableRecord:
        return False


def _refuse_folder(error: OSError) -> NoReturn:
    raise ValueError(
        f"{error.filename}: expected a folder that can be searched for records, found: {error.strerror}. Let this user "
        "read it, or move it out of the archive"
    ) from error


def storable(text: str) -> str:
    """Spell bytes that are no text with backslashes: no such record is read, so it gets a row that says so."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
