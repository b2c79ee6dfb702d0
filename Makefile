# Phasegate's commands; `make help` lists them. Needs Python >= 3.11, make and git.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

COMPILE := $(BIN)/pip-compile --config ../pyproject.toml

# Stamps carry what they were made from: a changed lock, Python or checkout path makes a fresh
# environment, and so does an interrupted set-up, which left no stamp.
key = $(shell { cat $(1) && pwd && $(PYTHON) -V; } 2>&1 | cksum | cut -d ' ' -f 1)
LOCKED := $(VENV)/.locked-$(call key,requirements/dev.txt)
INSTALLED := $(VENV)/.installed-$(call key,pyproject.toml requirements/operator.in)

##@ See it
demo: ready ## both stories, from nothing: a good revision goes out, a bad one is taken back (KEEP=1 leaves the lab up)
	@$(BIN)/python -m lab.demo $(if $(KEEP),--keep)

bench: ready ## measure what design and README promise (JSON=FILE writes the numbers too)
	@$(BIN)/python -m bench $(if $(JSON),--json $(JSON))

bench-judgement: venv ## measure what docs/judgement.md says, from seeds (QUICK=1 for minutes, JSON=FILE)
	@$(BIN)/python -m bench.judgement $(if $(QUICK),--quick) $(if $(JSON),--json $(JSON)) $(ARGS)

bench-fleet: ready ## a thousand rollouts, ten thousand agents at rest, hundreds of rollbacks at once (QUICK=1 for minutes, JSON=FILE)
	@$(BIN)/python -m bench.fleet $(if $(QUICK),--quick) $(if $(JSON),--json $(JSON)) $(ARGS)

bench-peers: ready ## the same beside Argo Rollouts and Flagger, hours (QUICK=1 for minutes, RUNS=n, JSON=FILE, ARGS)
	@$(BIN)/python -m bench.peers $(if $(QUICK),--quick) $(if $(RUNS),--runs $(RUNS)) $(if $(JSON),--json $(JSON)) $(ARGS)

##@ Work on it
test: ready test-unit test-lab ## all tests, from nothing

test-unit: venv ## the tests that need no cluster, in seconds (ARGS="-k word")
	@$(BIN)/pytest -m "not lab and not soak" -n 2 $(ARGS)

test-lab: ready ## the tests on the embedded cluster (ARGS="-k word")
	@$(BIN)/pytest -m "lab and not soak" -n 2 --dist loadfile $(ARGS) || { echo "once more, by itself: what failed beside everything else"; \
	  $(BIN)/pytest -m "lab and not soak" --last-failed --last-failed-no-failures none $(ARGS); }

soak: ready ## the long stories on the embedded cluster, which CI has no time for (ARGS="-k word")
	@$(BIN)/pytest -m soak $(ARGS)

check: check-format check-lint check-types check-imports check-crds audit ## format, lint, types, import contracts, drift, audit

check-format: venv
	@$(BIN)/ruff format --check .

check-lint: venv
	@$(BIN)/ruff check .

check-types: venv
	@$(BIN)/mypy

check-imports: venv
	@$(BIN)/lint-imports

check-crds: venv
	@$(BIN)/phasegate crds --check

audit: venv ## what works offline: pins and hashes, versions, licences, certificates (known CVEs need a network)
	@$(BIN)/python -m pip --disable-pip-version-check check
	@$(BIN)/pytest -q tests/lab_unit/test_dependencies.py

format: venv ## format and fix what can be fixed by itself
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

crds: venv ## write crds/ again from the models
	@$(BIN)/phasegate crds --out crds

##@ Set it up
ready: ## the Python environment and the lab's parts, side by side
	@$(MAKE) -j2 venv parts

venv: $(INSTALLED) ## the Python environment in .venv, from hash-pinned locks

parts: ## the lab's Go parts, once, in a cache outside the checkout
	@$(PYTHON) -m lab.parts

lock: venv ## resolve requirements/*.in again (ARGS=--upgrade for newer versions)
	@cd requirements && ../$(COMPILE) $(ARGS) operator.in lab.in dev.in --output-file dev.txt
	@cd requirements && ../$(COMPILE) operator.in lab.in --constraint dev.txt --output-file lab.txt
	@cd requirements && ../$(COMPILE) operator.in --constraint dev.txt --output-file operator.txt
	@! grep -nE '://|^-| @ ' requirements/*.txt || { echo "a lock must not say where packages come from"; exit 1; }

clean: ## remove the environment and the tools' caches (not the parts: they are outside)
	rm -rf $(VENV) build .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache *.egg-info

help:
	@awk 'BEGIN { FS = ":.*## " } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(MAKEFILE_LIST))

$(LOCKED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Phasegate needs Python 3.11 or newer: make PYTHON=/path/to/python3"; exit 1; }
	@echo "venv: installing the locked requirements into $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --require-hashes -r requirements/dev.txt
	@touch $@

$(INSTALLED): $(LOCKED)
	@$(PIP) --quiet install --no-deps --no-build-isolation -e .
	@touch $@
	@echo "venv: ready"
