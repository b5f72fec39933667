"""Kernels: none can be stale, a warm-up makes them all, and only a first use says that it compiles."""

from __future__ import annotations

import ast
import builtins
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ecgbatch import terms
from ecgbatch.beats import candidates, detection, filtering, likeness, premature, record, resampling, sequence, warm, windows
from ecgbatch.formats import sample_kernels
from ecgbatch.kernels import is_on_disk
from ecgbatch.machine_code import BesideTheCode
from ecgbatch.signals import quality, quality_kernels
from ecgbatch.signals.stage import convert_archive
from ecgbatch.synthetic.archive import ArchiveShape, write_archive

ROOM = Path(__file__).parents[1] / "ecgbatch"
WITH_KERNELS = sorted(path for path in ROOM.rglob("*.py") if "@kernel" in path.read_text())
ALLOWED = {"np", "math", "Any", "Array", *dir(builtins)}


def is_kernel(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and any(isinstance(d, ast.Name) and d.id == "kernel" for d in node.decorator_list)


def names_from_elsewhere(source: str) -> set[str]:
    """Return what kernels of a module use that is neither a builtin, numpy, nor defined in it or in one of its ``EMITTED_BY``."""
    tree = ast.parse(source)
    own = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    named = re.search(r"^EMITTED_BY = \((.*)\)$", source, re.MULTILINE)
    emitting = re.findall(r"(\w+)\.__file__", named[1]) if named else []
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").rpartition(".")[2] in emitting:
            own |= {name.name for name in node.names}
        if isinstance(node, ast.Assign):
            own |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    used = set()
    for function in filter(is_kernel, tree.body):
        names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
        local = {node.id for node in names if isinstance(node.ctx, ast.Store)} | {
            node.arg for node in ast.walk(function) if isinstance(node, ast.arg)
        }
        used |= {node.id for node in names} - local - {"kernel"}
    return used - own - ALLOWED


@pytest.mark.parametrize("path", WITH_KERNELS, ids=lambda path: path.name)
def test_kernels_use_only_names_of_their_own_file(path: Path) -> None:
    """numba's cache sees a change of a kernel's own file only: what lies in another would stay compiled as it was."""
    assert names_from_elsewhere(path.read_text()) == set()


def test_the_rule_above_notices_a_kernel_from_another_file() -> None:
    source = "from ecgbatch.beats.windows import fill_gaps\n\n@kernel\ndef f(x: Array) -> Array:\n    return fill_gaps(x)\n"
    assert names_from_elsewhere(source) == {"fill_gaps"}
    emitted = "from ecgbatch.model.vectors import convolve\nEMITTED_BY = (vectors.__file__,)\n"
    assert names_from_elsewhere(emitted + source.replace("(x)\n", "(convolve(x))\n")) == {"fill_gaps"}


def test_code_is_made_anew_when_what_emits_it_changes(tmp_path: Path) -> None:
    emits, module = tmp_path / "emits.py", tmp_path / "module.py"
    emits.write_text("1")
    module.write_text("EMITTED_BY = (emits,)\ndef kernel(): ...\n")
    names: dict[str, Any] = {"emits": str(emits)}
    exec(compile(module.read_text(), str(module), "exec"), names)
    before = BesideTheCode(names["kernel"], str(module)).get_source_stamp()
    assert BesideTheCode(names["kernel"], str(module)).get_source_stamp() == before
    emits.write_text("2")
    os.utime(emits, ns=(1, 1))
    after = BesideTheCode(names["kernel"], str(module)).get_source_stamp()
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_constants_that_files_hold_for_their_kernels_agree() -> None:
    assert windows.TAP_ONE == filtering.TAP_ONE == resampling.TAP_ONE
    assert windows.MISSING == likeness.MISSING == filtering.MISSING == quality_kernels.MISSING == terms.MISSING_SAMPLE
    assert candidates.RATE_HZ == sequence.RATE_HZ == resampling.RATE_HZ == record.WORKING_RATE_HZ
    assert candidates.REACH == sequence.REACH
    assert len(candidates.FIGURES) == candidates.N_FIGURES


def kernels_of(module: Any) -> list[Any]:
    return [value for value in vars(module).values() if hasattr(value, "nopython_signatures")]


def test_a_warm_up_leaves_nothing_to_compile() -> None:
    warm.warm_up()
    every = [
        one for module in (windows, likeness, premature, filtering, sequence, candidates, detection) for one in kernels_of(module)
    ]
    before = {one.py_func.__name__: len(one.nopython_signatures) for one in every}
    random = np.random.default_rng(0)
    signal = random.integers(-2000, 2000, (3, 9000)).astype(np.int16)
    signal[1, 4000:4100] = -32768
    facts: dict[str, Any] = {"adc_gain": np.full(3, 500.0), "sampling_frequency_hz": 360.0}
    found = record.detect_r_peaks(signal, baseline=np.zeros(3, np.int32), usable=np.array([True, True, False]), **facts)
    record.beat_windows(signal, found, present=np.ones(3, bool), **facts)
    assert {one.py_func.__name__: len(one.nopython_signatures) for one in every} == before
    assert all(is_on_disk(one) for one in (filtering.listen, sequence.choose_each, candidates.evidence_each, windows.write_each))


def test_a_warm_up_of_conversion_leaves_nothing_to_compile(tmp_path: Path) -> None:
    write_archive(tmp_path, ArchiveShape(n_records=2, duration_s=4.0))
    quality.warm_up()
    every = [one for module in (quality_kernels, sample_kernels) for one in kernels_of(module)]
    before = {one.py_func.__name__: len(one.nopython_signatures) for one in every}
    assert {before[name] for name in ("extremes", "mark", "measure", "excess", "unexplained", "deal")} == {1}
    convert_archive(str(tmp_path), str(tmp_path / "work"))
    assert {one.py_func.__name__: len(one.nopython_signatures) for one in every} == before


def test_a_warm_up_is_silent_where_code_is_on_disk() -> None:
    warm.warm_up()
    seen: list[tuple[int, int]] = []
    warm.warm_up(lambda done, total: seen.append((done, total)))
    assert seen == []


def test_sorting_columns_equals_numpy() -> None:
    rows = np.random.default_rng(1).integers(-32768, 32768, (31, 88)).astype(np.int16)
    expected = np.sort(rows, axis=0)
    likeness.sort_columns(rows)
    np.testing.assert_array_equal(rows, expected)
