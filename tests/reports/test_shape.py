"""The shape of a page: another one where its code or template changes, and none that stands for code which is gone."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import ecgbatch
from ecgbatch.reports import shape

PACKAGE = Path(ecgbatch.__file__).parent


def test_an_entry_for_moved_code_is_of_the_code_that_is_here():
    """If this fails, pages are made by other code than when it moved: delete the entry."""
    now = hashlib.sha256(b"".join((PACKAGE / name).read_bytes() for name in shape.SHAPING)).hexdigest()
    assert shape.ONLY_MOVED.keys() <= {now}


def test_each_file_that_shapes_a_page_is_in_its_digest(tmp_path, monkeypatch):
    for name in shape.SHAPING:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / name, tmp_path / name)
    monkeypatch.setattr(shape, "__file__", str(tmp_path / "reports" / "shape.py"))
    found = {shape.shape_digest.__wrapped__()}
    for name in shape.SHAPING:
        (tmp_path / name).write_text("another")
        found.add(shape.shape_digest.__wrapped__())
    assert len(found) == 1 + len(shape.SHAPING)
