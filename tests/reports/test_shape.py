"""The shape of a page: another one where its code or template changes, and none that stands for code which is gone."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import ecgbatch
from ecgbatch.reports import shape

PACKAGE = Path(ecgbatch.__file__).parent


def test_every_template_of_a_records_page_and_every_room_that_it_imports_is_in_the_digest():
    reports = PACKAGE / "reports"
    templates = {f"reports/templates/{path.name}" for path in (reports / "templates").glob("record*.html")}
    rooms = {
        f"reports/{name}.py"
        for room in ("record.py", "record_page.py")
        for name in re.findall(r"^from ecgbatch\.reports\.(\w+) import", (reports / room).read_text(), re.M)
    }
    assert templates | rooms - {"reports/shape.py"} <= set(shape.SHAPING)


def test_each_file_that_shapes_a_page_is_in_its_digest(tmp_path):
    for name in shape.SHAPING:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACKAGE / name, tmp_path / name)
    found = {shape.digest_of_files(tmp_path)}
    for name in shape.SHAPING:
        (tmp_path / name).write_text("another")
        found.add(shape.digest_of_files(tmp_path))
    assert len(found) == 1 + len(shape.SHAPING)
