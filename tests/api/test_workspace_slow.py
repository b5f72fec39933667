"""What a program reads after a compaction, and of a record that has changed since it was scored."""

from __future__ import annotations

import numpy as np
import pytest

import ecgbatch
from ecgbatch.upkeep.compact import compact
from storage import StoreError, list_stores
from tests.api.conftest import rewrite
from tests.api.test_workspace import same

pytestmark = pytest.mark.slow


def test_compacted_nights_read_the_same(nights, copied):
    compact(copied.work)
    workspace, opened = (ecgbatch.open_workspace(one.work) for one in (nights, copied))
    assert len(list_stores(copied.work, "signals")) < len(set(workspace.records["signals_store"]))
    same(workspace, opened, workspace.records.index.tolist())


def test_a_record_that_has_changed_since_has_its_new_samples_and_no_score(copied):
    before = ecgbatch.open_workspace(copied.work).signals(copied.changed).values
    rewrite((copied.archive / copied.changed).with_suffix(".hea"), lambda signal: np.negative(signal, out=signal))
    ecgbatch.convert(copied.archive, copied.work, rehash=True)
    opened = ecgbatch.open_workspace(copied.work)
    np.testing.assert_allclose(opened.signals(copied.changed).values[:12], -before[:12], atol=1e-6)
    assert set(opened.records.index) - set(opened.scores.index) == {copied.changed}
    with pytest.raises(StoreError, match="run `ecgbatch beats"):
        opened.beats()
    ecgbatch.find_beats(copied.work)
    assert opened.beats(copied.changed).sizes["beat"] > 0
