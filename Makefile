PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Real records for the tests that want them; those skip with a reason where the folder is absent.
ECGBATCH_TEST_DATA ?= $(if $(wildcard ../shared/data),$(abspath ../shared/data),)
export ECGBATCH_TEST_DATA
export DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false

.PHONY: install demo test test-all lint types bench bench-full reliability model lock sbom release clean

install: $(VENV)/.installed

# editable_mode: the packages stand on sys.path itself. A Dask worker puts its own folder, which has a "storage" in it, first there, and
# would take that for ours if a finder at the end of the line had to answer.
# torch stands alone: its wheel's local tag and hash differ between machines, so the hashed lock cannot name it.
$(VENV)/.installed: pyproject.toml requirements/lock.txt requirements/torch.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes --no-deps -r requirements/lock.txt
	$(BIN)/pip install --quiet -r requirements/torch.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	$(BIN)/pip check
	$(BIN)/ecgbatch warm
	touch $@

demo: install
	$(BIN)/ecgbatch demo demo-output

test: install
	$(BIN)/pytest -n 2 --dist loadfile

test-all: install
	$(BIN)/pytest -n 2 --dist loadfile -m 'not gpu'

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo

types: install
	$(BIN)/mypy

# Writes docs/PERFORMANCE.md; for figures worth keeping, on a machine that does nothing else.
bench: install
	$(BIN)/python -m benchmarks --write

bench-full: install
	$(BIN)/python -m benchmarks --full --write

# Kills, injected errors and full disks, hours in full; `--only F1 --count 10` and so on by hand.
reliability: install
	$(BIN)/python -m benchmarks.reliability

# Trains the models that ship with the package, from the real records beside it.
model: install
	$(BIN)/python -m benchmarks.accuracy.shipped_model --data $(ECGBATCH_TEST_DATA) --check

# For developers: writes the lock anew from pyproject.toml (needs uv: pip install uv). uv takes torch from where pip finds the CPU wheel
# if UV_FIND_LINKS names that place; from elsewhere torch brings CUDA's packages into the lock, which do not belong there.
lock:
	uv pip compile pyproject.toml --extra dev --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--no-emit-index-url --no-emit-find-links --no-emit-package torch --quiet --output-file requirements/lock.txt \
		requirements/build.in

# A wheel and what is in it: CycloneDX from the lock, by a tool in an environment of its own (it wants other versions of what we use).
release: install sbom
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

sbom:
	test -x .venv-sbom/bin/cyclonedx-py || ($(PYTHON) -m venv .venv-sbom && .venv-sbom/bin/pip install --quiet "cyclonedx-bom>=7.5,<8")
	mkdir -p dist
	.venv-sbom/bin/cyclonedx-py requirements requirements/lock.txt --pyproject pyproject.toml --output-reproducible --of JSON \
		-o dist/ecgbatch.cdx.json

clean:
	rm -rf demo-output .pytest_cache .mypy_cache .ruff_cache build *.egg-info
