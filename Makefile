# Two commands: `make demo` simulates the built-in example, `make test` checks everything. Needs Python 3.11+ and git.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := out/quickstart

.PHONY: demo test test-all lint bench docs clean

$(VENV)/.run: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Fleetcast needs Python 3.11 or newer; run: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing Fleetcast into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[report]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "Installing what the tests need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.run
	@echo "Simulating an hour of traffic on four fleets; the first run also compiles the engine, which takes a while ..."
	@$(BIN)/fleetcast run quickstart -o $(DEMO) --overwrite
	@echo "Next: $(BIN)/fleetcast --help. What matters, and a page to open and to send:"
	@$(BIN)/fleetcast report $(DEMO) -o $(DEMO)/report.html

test: lint
	@$(BIN)/python -m pytest -q -n auto --dist loadfile

test-all: lint
	@$(BIN)/python -m pytest -q -n auto --dist loadfile -m "slow or not slow"

lint: $(VENV)/.dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo --config pyproject.toml > $(VENV)/imports.txt || { cat $(VENV)/imports.txt; exit 1; }

bench: $(VENV)/.dev
	@$(BIN)/python benchmarks/run.py

docs: $(VENV)/.dev
	@$(BIN)/python docs/generate.py

clean:
	rm -rf $(VENV) out benchmarks/latest.json
