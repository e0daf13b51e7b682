# `make run` and `make test` need make and Python 3.11 or newer; they do all the set-up themselves, once.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TRAIN := .venv-train
export ORT_DISABLE_TELEMETRY := 1

HOST ?= 127.0.0.1
PORT ?= 8000
TESTS ?= tests
LINTED := inference tests benchmarks examples

.PHONY: help setup run test test-all bench lint models lock clean

help:            ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 14

setup: $(STAMP)  ## the environment in .venv, from hash-locked files

# The stamp is written last, so an interrupted installation is taken up again.
$(STAMP): requirements/dev.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found. Install it, or name it: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { echo "$(PYTHON) is too old or lacks the venv module (Debian: apt install python3-venv)."; exit 1; }
	@echo "Setting up $(VENV) (once, a minute or two) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

run: $(STAMP)    ## start the server with both bundled models (HOST=, PORT=)
	@exec $(BIN)/glassai serve --models models --required lstm_defect_predictor --required vit_defect_detector --host $(HOST) --port $(PORT)

test: $(STAMP)   ## the tests (TESTS=path for some)
	$(BIN)/python -m pytest $(TESTS) -n 2 -m "not slow"

test-all: $(STAMP)  ## the tests, the slow ones too
	$(BIN)/python -m pytest $(TESTS) -n 2

lint: $(STAMP)   ## ruff and strict types
	$(BIN)/ruff check $(LINTED)
	$(BIN)/ruff format --check $(LINTED)
	$(BIN)/pyrefly check

bench: $(STAMP)  ## measure and write docs/benchmarks.md (ROW=name for one row; QUICK=1 only tries)
	$(BIN)/python -m benchmarks $(foreach row,$(ROW),--row $(row)) $(if $(QUICK),--quick,)

models: $(TRAIN)/.installed  ## simulate the plant, train both models, export them to models/
	$(TRAIN)/bin/python -m examples.glass_plant.make_models --out models

$(TRAIN)/.installed: requirements/train.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found."; exit 1; }
	$(PYTHON) -m venv $(TRAIN)
	$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/train.txt
	$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@touch $@

lock:            ## refresh the hash-locked files (needs uv)
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" pyproject.toml -o requirements.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --extra batch --extra postgres --extra dev pyproject.toml -o requirements/dev.txt
	uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" requirements/train.in -o requirements/train.txt

clean:           ## remove the environments and caches
	rm -rf $(VENV) $(TRAIN) .bench .ruff_cache .hypothesis build dist
