# Everything a person or CI runs here. `make` alone prints the list.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:

BIN := .venv/bin
STAMP := .venv/.ready
export PYTHON

DEMO_ARGS ?=
BENCH_ARGS ?=
TEST_ARGS ?=
# Two workers: one takes the tests that train models, one after the other; the other one takes the rest.
WORKERS ?= 2

.PHONY: help
help: ## This list
	@echo 'Trunkline: what is on trunk is what runs.'
	@echo
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)$$/  make \1|\2/p' Makefile | column -t -s '|' 2>/dev/null || \
	    sed -nE 's/^([a-z0-9-]+):.*## (.*)$$/  make \1	\2/p' Makefile
	@echo
	@echo 'Variables: PYTHON=python3.11  DEMO_ARGS=--short  TEST_ARGS="-k plan"  WORKERS=0 (tests in one process)'

.PHONY: demo
demo: $(STAMP) ## The whole product on real data, on this machine alone
	@"$(BIN)/python" examples/01-digits/demo.py $(DEMO_ARGS)

.PHONY: test
test: $(STAMP) ## All tests, those that train models included
	"$(BIN)/python" -m pytest -n $(WORKERS) --dist loadgroup $(TEST_ARGS)

.PHONY: check
# Tests tell the second story.
check: DEMO_ARGS = --short --no-sequel
check: lint types contracts demo test ## What CI runs: lint, types, contracts, a short demo, tests

.PHONY: lint
lint: $(STAMP) ## ruff
	"$(BIN)/python" -m ruff check .

.PHONY: types
types: $(STAMP) ## mypy, strict
	"$(BIN)/python" -m mypy

.PHONY: contracts
contracts: $(STAMP) ## import-linter: who may import what
	"$(BIN)/lint-imports" --cache-dir .cache/import_linter

.PHONY: e2e
e2e: $(STAMP) ## The whole story in a cluster: real API server, Jobs, Deployments, kills and faults
	"$(BIN)/python" -m pytest tests/e2e -v $(TEST_ARGS)

.PHONY: bench
bench: $(STAMP) ## The numbers: plan(), server, training, swap under load, signals
	"$(BIN)/python" -m benchmarks $(BENCH_ARGS)

.PHONY: bench-operator
bench-operator: $(STAMP) ## The operator with 10,000 models against one that does nothing (half an hour)
	"$(BIN)/python" -m benchmarks.operator $(BENCH_ARGS)

.PHONY: bench-provenance
bench-provenance: $(STAMP) ## Where 10,000 models come from, in a repository with 10,000 commits (a minute)
	"$(BIN)/python" -m benchmarks.provenance $(BENCH_ARGS)

.PHONY: bench-data
bench-data: $(STAMP) ## Importing 20,000 small files through DVC, against DVC's own commands (ten minutes)
	"$(BIN)/python" -m benchmarks.data $(BENCH_ARGS)

.PHONY: bench-fleet
bench-fleet: $(STAMP) ## A thousand devices against one repository and one store: what they ask (some minutes)
	"$(BIN)/python" -m benchmarks.fleet $(BENCH_ARGS)

.PHONY: setup
setup: $(STAMP) ## The virtual environment in .venv, from requirements/all.lock

# The stamp is made last, so a set-up that was cut off starts again; a second `make` finds it and goes on at once.
$(STAMP): requirements/all.lock requirements/install.sh pyproject.toml
	@bash requirements/install.sh .venv requirements/all.lock
	@touch $(STAMP)

.PHONY: lock
lock: ## New requirements/*.lock after a change of dependencies (UPGRADE=1: newest of everything)
	@bash requirements/lock.sh

.PHONY: clean
clean: ## Away with .venv, caches and what the demo left
	rm -rf .venv .cache .demo .demo-dvc .demo-tuning .demo-shelf .demo-factory .bench .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
