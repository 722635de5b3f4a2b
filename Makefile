# Slicewise. `make demo` and `make test` are all a fresh machine needs (Python 3.11+, Go 1.26+, make).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
DEMO_ARGS ?=
TEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install binaries demo test bench lint fmt lock clean

help: ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "slicewise needs Python 3.11 or newer, got " + sys.version.split()[0] + "; set PYTHON=/path/to/python3.11")'
	@echo "install: virtual environment in $(VENV) with the pinned packages of requirements.lock"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

install: $(STAMP) ## .venv with everything that demo, tests and benchmarks need

binaries: $(STAMP) ## find or build the control plane's binaries in the user's cache
	@$(BIN)/python -m deploy.local binaries

demo: $(STAMP) binaries ## the same arrivals with and without Slicewise on a real control plane
	@$(BIN)/python -m deploy.demo $(DEMO_ARGS)

test: $(STAMP) binaries ## every test, the real control plane included
	@$(BIN)/python -m pytest $(TEST_ARGS)

bench: $(STAMP) binaries ## measured ratios against named baselines, into build/bench/
	@$(BIN)/python -m benchmarks.extender
	@$(BIN)/python -m benchmarks.planned_road
	@$(BIN)/python -m benchmarks.sync
	@$(BIN)/python -m benchmarks.arrivals
	@$(BIN)/python -m benchmarks.decision
	@$(BIN)/python -m benchmarks.planner
	@$(BIN)/python -m benchmarks.gangs
	@$(BIN)/python -m benchmarks.mig
	@$(BIN)/python -m benchmarks.mig_on_cluster
	@$(BIN)/python -m benchmarks.dra_oracle
	@$(BIN)/python -m benchmarks.dra
	@$(BIN)/python -m benchmarks.order_writes
	@$(BIN)/python -m benchmarks.packing
	@$(BIN)/python -m benchmarks.autoscaling
	@$(BIN)/python -m benchmarks.held_out
	@$(BIN)/python -m benchmarks.placeholders
	@$(BIN)/python -m benchmarks.model_servers
	@$(BIN)/python -m benchmarks.batch
	@$(BIN)/python -m benchmarks.control_round
	@$(BIN)/python -m benchmarks.plots
	@$(BIN)/python -m benchmarks.report

lint: $(STAMP) ## ruff, mypy strict, import layers
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy .
	@$(BIN)/lint-imports

fmt: $(STAMP) ## format and fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

lock: $(STAMP) ## resolve requirements.lock anew within pyproject's floors and ceilings
	@$(BIN)/python -m pip install --quiet pip-tools
	@$(BIN)/python -m piptools compile --quiet --strip-extras --generate-hashes --allow-unsafe --no-emit-index-url --no-emit-trusted-host --no-emit-find-links --extra dev --extra tune --output-file requirements.lock pyproject.toml

clean: ## what was built here (the binaries' cache stays)
	@rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache *.egg-info
