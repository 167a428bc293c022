# Needs Python 3.11-3.13 and make; everything else is installed into .venv from the locked lists in requirements/.

VENV ?= .venv
BENCH ?= .venv-bench
CREWAI ?= .venv-crewai
BIN := $(VENV)/bin
PACKAGES := -e . -e plugins/flowcraft-anthropic -e plugins/flowcraft-openai
SOURCES := flowcraft plugins tests benchmarks scripts workflows
PROJECTS := pyproject.toml plugins/flowcraft-anthropic/pyproject.toml plugins/flowcraft-openai/pyproject.toml
WORKERS ?= auto
PAGES ?= --cov-report=html --cov-report=xml
PARALLEL := -n $(WORKERS) --dist worksteal

# The first interpreter that has the right version and can make a virtual environment.
PYTHON ?= $(shell for candidate in python3.13 python3.12 python3.11 python3 python; do \
	$$candidate -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 \
	&& echo $$candidate && break; done)

# Wheels only: building a source package would download build tools that no list holds. Bytecode is made by compileall on
# all cores, which is faster than pip's own and works where PYTHONDONTWRITEBYTECODE is set.
INSTALL := PIP_DISABLE_PIP_VERSION_CHECK=1 $(BIN)/python -m pip install --quiet --no-input
COMPILE := $(BIN)/python -m compileall -q -j 0 $(VENV)/lib flowcraft plugins || true

.PHONY: help demo test checks lint format types floors test-unit test-integration test-crewai collected coverage bench docs generated check-generated lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Digest this project's own documents: the first thing to try
	@$(BIN)/flowcraft run workflows/digest.yaml

test: ## Everything that must hold before a change is merged
	@$(MAKE) --jobs 4 checks collected $(CREWAI)/.crewai
	@$(MAKE) coverage test-crewai PAGES=

checks: lint types floors check-generated docs

lint: $(VENV)/.dev ## Check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.dev ## Mend style and formatting where that is safe
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

types: $(VENV)/.dev ## Check types
	$(BIN)/mypy

floors: $(VENV)/.dev ## Check that imports run downward
	$(BIN)/lint-imports --no-cache --no-logo

test-unit: $(VENV)/.dev ## Run the tests that need no process, socket or database
	$(BIN)/pytest -m "unit or api" $(PARALLEL)

test-integration: $(VENV)/.dev ## Run the tests with real files, servers, processes and databases
	$(BIN)/pytest -m "integration or system" $(PARALLEL)

test-crewai: $(CREWAI)/.crewai ## Run the tests of CrewAI's agents, in an environment that has CrewAI
	$(CREWAI)/bin/pytest tests/crewai $(PARALLEL)

# Pytest rewrites the asserts of each module: done once, beside the checks, it is not done by every worker.
collected: $(VENV)/.dev
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --collect-only --quiet >/dev/null || true

coverage: $(VENV)/.dev ## Run all tests and report coverage (terminal, htmlcov/, coverage.xml)
	$(BIN)/pytest $(PARALLEL) --cov --cov-report=term $(PAGES)

bench: $(BENCH)/.bench ## Measure speed, side by side with others
	$(BENCH)/bin/python -m benchmarks

docs: $(VENV)/.dev ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

generated: $(VENV)/.dev ## Write the files that are made from the code
	$(BIN)/python scripts/generated.py

check-generated: $(VENV)/.dev
	$(BIN)/python scripts/generated.py --check

lock: $(BIN)/python ## Renew requirements/*.txt (needs the package index)
	$(INSTALL) uv
	BIN=$(BIN) sh scripts/lock.sh

clean: ## Remove all that was made here, .venv included
	rm -rf $(VENV) $(BENCH) $(CREWAI) site htmlcov coverage.xml .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find flowcraft plugins tests benchmarks scripts workflows -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "FlowCraft needs Python 3.11, 3.12 or 3.13 with venv (Debian: apt install python3-venv);" \
		"none was found. Name one: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 2; }
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
		|| { echo "$(PYTHON) is not Python 3.11-3.13 with venv: $$($(PYTHON) --version 2>&1 | head -n 1)" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: requirements/demo.txt $(PROJECTS) | $(BIN)/python
	$(INSTALL) --no-compile --only-binary :all: --require-hashes -r requirements/demo.txt
	$(INSTALL) --no-build-isolation --no-deps $(PACKAGES)
	@$(COMPILE)
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.demo
	$(INSTALL) --no-compile --only-binary :all: --require-hashes -r requirements/dev.txt
	@$(COMPILE)
	@touch $@

$(BENCH)/.bench: requirements/bench.txt $(PROJECTS) | $(BIN)/python
	$(BIN)/python -m venv $(BENCH)
	$(INSTALL:$(BIN)/%=$(BENCH)/bin/%) --no-compile --only-binary :all: --require-hashes -r requirements/bench.txt
	$(INSTALL:$(BIN)/%=$(BENCH)/bin/%) --no-build-isolation --no-deps $(PACKAGES)
	@$(BENCH)/bin/python -m compileall -q -j 0 $(BENCH)/lib flowcraft plugins || true
	@touch $@

$(CREWAI)/.crewai: requirements/crewai.txt $(PROJECTS) | $(BIN)/python
	$(BIN)/python -m venv $(CREWAI)
	$(INSTALL:$(BIN)/%=$(CREWAI)/bin/%) --no-compile --only-binary :all: --require-hashes -r requirements/crewai.txt
	$(INSTALL:$(BIN)/%=$(CREWAI)/bin/%) --no-build-isolation --no-deps $(PACKAGES)
	@$(CREWAI)/bin/python -m compileall -qq -j 0 $(CREWAI)/lib flowcraft plugins || true
	@touch $@
