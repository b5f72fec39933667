PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Real records for the tests that want them; those skip with a reason where the folder is absent.
ECGBATCH_TEST_DATA ?= $(if $(wildcard ../shared/data),$(abspath ../shared/data),)
export ECGBATCH_TEST_DATA
export DO_NOT_TRACK := 1
# Hundreds of processes that tests start would else compile the same modules again, each a second of its two or three.
unexport PYTHONDONTWRITEBYTECODE
export PREFECT_SERVER_ANALYTICS_ENABLED := false

# One lock a version of Python; an environment that is there already says which it has.
PYTHON_VERSIONS := 3.11 3.12 3.13
PYTHON_VERSION := $(shell $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
LOCK := requirements/lock-$(PYTHON_VERSION).txt
UNSUITABLE = "ecgbatch installs with Python $(PYTHON_VERSIONS), and $(if $(wildcard $(BIN)/python),$(VENV),$(PYTHON)) is" \
	"$(or $(PYTHON_VERSION),not there). Name another (and remove $(VENV)): make install PYTHON=python3.12"

.PHONY: install demo test test-all test-wheel image-test docs lint types bench bench-full reliability model lock sbom release clean

install: $(VENV)/.installed

# editable_mode: the packages stand on sys.path itself. A Dask worker puts its own folder, which has a "storage" in it, first there, and
# would take that for ours if a finder at the end of the line had to answer.
# torch stands alone: its wheel's local tag and hash differ between machines, so the hashed lock cannot name it.
$(VENV)/.installed: pyproject.toml $(wildcard requirements/*.txt)
	@$(if $(filter $(PYTHON_VERSION),$(PYTHON_VERSIONS)),,echo $(UNSUITABLE); exit 1)
	@df -Pk . | awk 'NR == 2 { printf "installing into $(VENV) with Python $(PYTHON_VERSION): some minutes; 2 GB with a CPU build of PyTorch," \
		" 7 GB with CUDA; %.0f GB are free here\n", $$4 / 1048576 }'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@date +%s > $(VENV)/.began
	$(BIN)/pip install --quiet --require-hashes --no-deps -r $(LOCK)
	@$(BIN)/pip install --quiet -r requirements/torch.txt || { echo "pip finds no PyTorch for Python $(PYTHON_VERSION) here: \
	$$(tail -n 1 requirements/torch.txt) is wanted. README.md says how to give it one"; exit 1; }
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --config-settings editable_mode=compat --editable .
	$(BIN)/pip check
	$(BIN)/ecgbatch warm
	@echo "installed in $$(( $$(date +%s) - $$(cat $(VENV)/.began) )) s: $$(du -sh $(VENV) | cut -f 1) in $(VENV)"
	touch $@

demo: install
	$(BIN)/ecgbatch demo demo-output

test: install
	$(BIN)/pytest -n 2 --dist worksteal

test-all: install
	$(BIN)/pytest -n 2 --dist worksteal -m 'not gpu'

# A wheel as a user gets it: by plain pip, without the lock, in an environment of its own; downloads what that takes.
test-wheel: export ECGBATCH_TEST_INSTALL := 1
test-wheel: install
	$(BIN)/pytest -m slow tests/test_wheel_slow.py

# The image, built on BASE by ENGINE (docker, podman) and run as nobody without network; deploy/image_test.sh has the options.
image-test:
	sh deploy/image_test.sh

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

# The documentation as a site for a browser: build/site/index.html.
docs: install
	$(BIN)/python docs/make_site.py

# Trains the models that ship with the package, from the real records beside it.
model: install
	$(BIN)/python -m benchmarks.accuracy.shipped_model --data $(ECGBATCH_TEST_DATA) --check

# For developers: writes the locks anew from pyproject.toml (needs uv: pip install uv), keeping what still fits; with
# UPGRADE=--upgrade everything as new as it may be. image.txt: of lock-3.11.txt what an image needs, no developer's tools. What torch wants of CUDA is no part of them (pyproject.toml, tool.uv).
lock: export UV_PYTHON_DOWNLOADS := never
lock: export COMPILE = uv pip compile pyproject.toml requirements/build.in --generate-hashes --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links --no-emit-package torch --quiet
lock:
	$(foreach version,$(PYTHON_VERSIONS),$$COMPILE --extra dev --python-version $(version) $(UPGRADE) \
		--output-file requirements/lock-$(version).txt &&) true
	$$COMPILE --extra dicom --extra pdf --extra fhir --python-version 3.11 --constraint requirements/lock-3.11.txt \
		--output-file requirements/image.txt

# A wheel and what is in it: CycloneDX from the lock and torch, by a tool in an environment of its own (it wants other versions of what we use).
release: install sbom
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

sbom:
	test -x .venv-sbom/bin/cyclonedx-py || ($(PYTHON) -m venv .venv-sbom && .venv-sbom/bin/pip install --quiet "cyclonedx-bom>=7.5,<8")
	mkdir -p dist
	cat $(LOCK) requirements/torch.txt | .venv-sbom/bin/cyclonedx-py requirements - --pyproject pyproject.toml --output-reproducible \
		--of JSON -o dist/ecgbatch.cdx.json

clean:
	rm -rf demo-output .pytest_cache .mypy_cache .ruff_cache build *.egg-info
