# Each target sets up all it needs; Python 3.11 or newer, make and a network are enough.
# pip's settings (environment and pip.conf) are honoured; no package index is named here.

# Bytecode is kept wherever Python would not: without it every process compiles all that it imports, which takes seconds.
export PYTHONDONTWRITEBYTECODE :=

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Compiled for all platforms, with hashes and without any address.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --no-annotate

# uv does not read pip's settings: hand it those that say where packages come from.
UV_ENV := eval "$$($(BIN)/pip config list | sed -n \
	-e 's/^[^.]*\.index-url=/export UV_DEFAULT_INDEX=/p' \
	-e 's/^[^.]*\.extra-index-url=/export UV_INDEX=/p' \
	-e 's/^[^.]*\.find-links=/export UV_FIND_LINKS=/p' \
	-e 's/^[^.]*\.no-index=/export UV_NO_INDEX=/p' \
	-e 's/^[^.]*\.cert=/export SSL_CERT_FILE=/p')"

.PHONY: help demo test test-fast doctor simulation fuzz bench lint format lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: $(READY) ## run the demo on a broker of its own (KEEP=1 leaves it running)
	$(BIN)/streams demo $(if $(KEEP),--keep)

test: test-fast ## lint, tests, tests on a real broker: run it before every change
	$(BIN)/pytest -m 'kafka or servers' -n 2 --dist loadfile # most of them wait most of the time

test-fast: lint ## lint and the tests that need no broker
	$(BIN)/pytest -n auto --dist worksteal

doctor: $(READY) ## every scenario of `streams doctor` in its short form (SEED=7 repeats a run)
	$(BIN)/streams doctor $(if $(SEED),--seed $(SEED))

SEEDS ?= 10000
simulation: $(READY) ## simulate the engine in 10,000 worlds (SEEDS=500: so many)
	STREAMS_SIMULATION_SEEDS=$(SEEDS) $(BIN)/pytest -n auto --dist worksteal tests/simulation

EXAMPLES ?= 5000
fuzz: $(READY) ## arbitrary bytes for every decoder and API (EXAMPLES=5000; with coverage: python -m tests.fuzz)
	STREAMS_FUZZ_EXAMPLES=$(EXAMPLES) $(BIN)/pytest -n auto --dist worksteal -k "fuzz or whatever" tests/fuzz tests/gateway

bench: $(VENV)/.bench ## measure Streams beside others (QUICK=1: roughly; OPTIONS="--workloads W1 ...")
	$(BIN)/python -m benchmarks $(if $(QUICK),--quick) $(OPTIONS)

lint: $(READY) ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY) ## rewrite the sources in house style
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

lock: $(VENV)/.uv ## refresh requirements.lock after a change of dependencies (delete it first to upgrade all)
	@$(UV_ENV); $(COMPILE) --extra aws --extra dev --extra local --extra postgresql pyproject.toml -o requirements.lock && \
		$(COMPILE) --extra benchmarks --constraint requirements.lock pyproject.toml -o requirements-benchmarks.lock

clean: ## remove the environment and all caches of this checkout
	rm -rf $(VENV) dist build .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): $(VENV)/.uv requirements.lock pyproject.toml
	@echo 'Installing what Streams needs into $(VENV) (100 MB at the first time)'
	@$(UV_ENV); export VIRTUAL_ENV=$(VENV); \
	if $(BIN)/uv pip sync --quiet --require-hashes requirements.lock && \
		$(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .; then exit 0; fi; \
	echo 'uv did not manage; pip takes over.' >&2; \
	$(BIN)/pip install --require-hashes -r requirements.lock && \
		$(BIN)/pip install --no-deps --no-build-isolation --editable .
	@touch $@

# What is measured beside Streams lives in the same environment: all of it accepts our pins.
$(VENV)/.bench: $(READY) requirements-benchmarks.lock
	@echo 'Installing what the benchmarks compare'
	@$(UV_ENV); export VIRTUAL_ENV=$(VENV); \
	$(BIN)/uv pip install --quiet --require-hashes -r requirements-benchmarks.lock || \
		$(BIN)/pip install --require-hashes -r requirements-benchmarks.lock
	@touch $@

# Without uv (no wheel for this platform, say) pip does the same work, only slower.
$(VENV)/.uv: requirements-bootstrap.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'Streams needs Python 3.11 or newer. Name one: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo 'This Python has no venv module; on Debian: apt install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	-@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bootstrap.lock
	@touch $@
