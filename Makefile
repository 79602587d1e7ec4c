# make demo | make test | make lint: each does all its own set-up in .venv on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKERS ?= 2

.PHONY: demo test lint clean

$(VENV)/demo.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Eosin needs Python 3.11 or later; give another one with PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (about 5 GB with PyTorch; a few minutes the first time)"
	@$(PIP) install -q -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Eosin needs Python 3.11 or later; give another one with PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing (about 5 GB with PyTorch; a few minutes the first time)"
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
	@touch $(VENV)/demo.stamp $@

demo: $(VENV)/demo.stamp
	@$(BIN)/eosin demo --out runs/demo

test: $(VENV)/dev.stamp
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

lint: $(VENV)/dev.stamp
	@$(BIN)/ruff check src tests
	@$(BIN)/ruff format --check src tests
	@$(BIN)/mypy

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
