"""What of ``test_state_machine`` takes long."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.upkeep import test_state_machine

pytestmark = pytest.mark.slow

make = test_state_machine.make
"""Fixture of both."""


def test_any_order_of_changes_crashes_and_second_writers_ends_as_the_model_says(make):
    quiet = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck), "report_multiple_bugs": False}
    examples = int(os.environ.get("ECGBATCH_TEST_EXAMPLES", "60"))
    run_state_machine_as_test(make[0], settings=settings(max_examples=examples, stateful_step_count=30, **quiet))
    print(dict(make[1]))
    assert min(make[1]["died"], make[1]["frozen"]) >= examples // 4, make[1]
