# Freshet. `make` lists the verbs; every other target first sets up .venv.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
SETUP := .venv/.ready
LOAD := .freshet/bin/load
export OPENBLAS_NUM_THREADS := 1

.PHONY: help demo test check bench lint up lock

help:
	@echo "make demo    the whole system on real data: import, replay, measure (about 3 min)"
	@echo "make test    the fast suite (under 5 min)"
	@echo "make check   the slow suite: contract, faults, whole systems"
	@echo "make bench   the figures, as a table and .freshet/bench/loop.json"
	@echo "make lint    formatting, types, import contracts"
	@echo "make up      a system of your own: broker, Redis, flows, serving"

$(SETUP): pyproject.toml infra/lock/dev.txt
	@test -n "$(PYTHON)" || { echo "Freshet needs Python 3.11 or 3.12: none was found (set PYTHON=...)" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "setting up .venv with $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r infra/lock/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(LOAD): tests/bench/load.c
	@mkdir -p $(@D)
	$(CC) -O2 -Wall -Wextra -Werror -o $@ $< -lm

demo: $(SETUP)
	@$(BIN)/freshet demo

test: $(SETUP)
	$(BIN)/python -m pytest -q -m "not check"

check: $(SETUP) lint
	$(BIN)/python -m pytest -q -m check

bench: $(SETUP) $(LOAD)
	@$(BIN)/freshet bench

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

up: $(SETUP)
	@$(BIN)/freshet up

# the locks carry hashes and no registry's address
lock: $(SETUP)
	$(BIN)/python -m pip install --quiet uv
	for group in run dev; do \
	  $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
	    --no-header $$([ $$group = dev ] && echo --extra dev) pyproject.toml -o infra/lock/$$group.txt; done
