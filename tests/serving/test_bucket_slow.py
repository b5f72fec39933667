"""A workspace in a bucket is served, reviewed and exported as one on a disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from ecgbatch.upkeep.labels_of_reviews import export_labels
from ecgbatch.workspace.reviews import read_reviews
from storage import folder_at
from tests.serving.served import Served, names_on, send
from tests.storage.test_bucket import s3, s3_port  # noqa: F401 - fixtures

pytestmark = pytest.mark.slow


def test_a_bucket_is_served_as_a_disk_is(s3, ran, tmp_path):  # noqa: F811
    work, local = "s3://ecg/work", Path(ran.work)
    bucket = folder_at(work)
    for path in local.rglob("*"):
        if path.is_file() and "latest" not in path.parts and ".build" not in path.parts:
            bucket.put(path.relative_to(local).as_posix(), path.read_bytes())
    bucket.point("reports/latest", ran.run)
    reader, beside = Served(work).reader(), Served(local).reader()
    before = sorted(key for key, _ in bucket.files())
    for page in (f"/run/{ran.run}?sort=-age_years", f"/record/{ran.run}-0", f"/run/{ran.run}/cohort.html"):
        there, here = reader.get(page), beside.get(page)
        assert there.status_code == 200
        forms = [text.split('name="form_key"')[0] for text in (there.text, here.text)]
        assert forms[0] == forms[1]
    assert sorted(key for key, _ in bucket.files()) == before
    assert send(reader, f"{ran.run}-0", opinion="disagree", label="other").status_code == 303
    (review,) = read_reviews(work)
    assert names_on(reader.get(f"/run/{ran.run}?reviewed=mine").text) == [review.record_name]
    assert export_labels(work, tmp_path / "labels.csv")["n_labels"] == 1
