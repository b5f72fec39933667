"""An archive's own list of digests is asked when its records are converted."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ecgbatch.archive.sums import archive_sums
from ecgbatch.signals.lookup import current_records
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive


def archive_with_sums(top: Path) -> tuple[Path, list[str]]:
    archive = top / "archive"
    write_archive(archive, ArchiveShape(n_records=4, duration_s=4.0), seed=2)
    files = sorted(path for path in archive.rglob("*") if path.is_file())
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.relative_to(archive)}" for path in files]
    (archive / "SHA256SUMS.txt").write_text("\n".join([*lines, "not a line of it", ""]))
    return archive, (archive / "RECORDS").read_text().split()


def warnings_of(work: Path) -> dict[str, str]:
    records = current_records(str(work), ["record_name", "warnings"])
    return dict(zip(records["record_name"].values.tolist(), records["warnings"].values.tolist(), strict=True))


def test_files_that_are_those_of_the_list_are_said_nothing_of(tmp_path):
    archive, names = archive_with_sums(tmp_path)
    assert len(archive_sums(str(archive))) > 2 * len(names)
    convert_archive(str(archive), str(tmp_path / "work"))
    assert not any("SUM_DIFFERS" in warnings for warnings in warnings_of(tmp_path / "work").values())


def test_a_record_with_another_file_than_the_listed_one_is_used_and_carries_a_warning(tmp_path):
    archive, names = archive_with_sums(tmp_path)
    header = archive / f"{names[1]}.hea"
    header.write_text(header.read_text() + "# corrected by hand\n")
    (archive / f"{names[2]}.hea").unlink()
    done = convert_archive(str(archive), str(tmp_path / "work"))
    assert [name for name, warnings in warnings_of(tmp_path / "work").items() if "SUM_DIFFERS" in warnings] == [names[1]]
    assert done.set_aside == {"LISTED_MISSING": 1}
    assert convert_archive(str(archive), str(tmp_path / "work")).n_new == 0


def test_an_archive_without_a_list_of_digests_has_none(tmp_path):
    assert archive_sums(str(tmp_path)) == {}
