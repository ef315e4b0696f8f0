# Freshet. `make` lists the verbs; every other target first sets up .venv.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' 2>/dev/null && { echo $$p; break; }; done)
BIN := .venv/bin
SETUP := .venv/.ready
# some at a time, a file each, the longest first (tests/support/order.py; JOBS=0: in this process)
PYTEST = $(BIN)/python -m pytest -q --dist loadfile --no-loadscope-reorder -n
export OPENBLAS_NUM_THREADS := 1
# hundreds of processes are started: each would compile what it imports, and pytest each file of tests
unexport PYTHONDONTWRITEBYTECODE
# 1: demo and chaos at their whole size, not a third of it, the bench, and laws on 200 examples, not 40
ALL ?=
export ALL

.PHONY: help demo test check slow bench lint up kafka chaos lock licences bom advisories pin

help:
	@echo "make demo    the whole system on real data: import, train, replay, measure (about 3 min)"
	@echo "make test    the fast suite (about 3 min on two cores)"
	@echo "make check   the slow suite: contract, faults, chaos, whole systems, a cluster (about 7 min;"
	@echo "             ALL=1: demo and chaos at their whole size, the bench, laws on 200 examples)"
	@echo "make bench   the figures, as a table and .freshet/bench/loop.json"
	@echo "             (ITEMS=10000: of one read of so many items, .freshet/bench/read.json)"
	@echo "make lint    formatting, types, import contracts"
	@echo "make chaos   RUNS=1 seeded runs of a system under faults, into .freshet/chaos/report.json"
	@echo "             (SECONDS=45 of traffic at RATE=2000 events/s, SEED= of the first, BROKER=kafka or kafka3)"
	@echo "make up      run broker, Redis, flows and serving here, until Ctrl-C"
	@echo "make bom     dist/freshet.cdx.json: what the wheel runs with, as a bill of materials (CycloneDX)"
	@echo "make advisories   known vulnerabilities of the locked packages (asks osv.dev)"
	@echo "make pin     pins the images of the containers by digest (asks their registry, through Docker)"
	@echo "make kafka   Apache Kafka in the foreground, on KAFKA_PORT=9092 (Java 17 and Maven)"

$(SETUP): pyproject.toml infra/lock/dev.txt $(wildcard setup.py models/*.[ch] models/*/*.[ch] serving/*/*.[ch] models/kernels/build.py)
	@test -n "$(PYTHON)" || { echo "Freshet needs Python 3.11 or 3.12: none was found (set PYTHON=...)" >&2; exit 1; }
	@$(PYTHON) infra/lock/set_up.py

demo: $(SETUP)
	@$(BIN)/freshet demo

test: $(SETUP)
	$(PYTEST) $(or $(JOBS),3) -m "not check"

# the types take one core for a minute: beside the tests
check: $(SETUP)
	@$(MAKE) --no-print-directory -j 2 lint slow

slow: $(SETUP)
	$(PYTEST) $(or $(JOBS),2) -m check tests

bench: $(SETUP)
	@$(BIN)/freshet bench $(if $(ITEMS),--only read --items $(ITEMS))

lint: $(SETUP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

up: $(SETUP)
	@$(BIN)/freshet up

chaos: $(SETUP)
	@$(BIN)/python -m tests.chaos --runs $(or $(RUNS),1) --seconds $(or $(SECONDS),45) \
	  --rate $(or $(RATE),2000) --broker $(or $(BROKER),embedded) $(if $(SEED),--seed $(SEED))

kafka: $(SETUP)
	@$(BIN)/python -m infra.local.apache_kafka --data .freshet/kafka --port $(or $(KAFKA_PORT),9092)

# the locks carry hashes and no registry's address; what runs, what trains and what serves alone are cut out of
# what is tested: the same versions
UV_LOCK = $(BIN)/python infra/lock/uv_like_pip.py pip compile --quiet --universal --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-annotate --no-header
lock: $(SETUP)
	$(UV_LOCK) pyproject.toml --extra dev --group compare -o infra/lock/dev.txt
	$(UV_LOCK) pyproject.toml -c infra/lock/dev.txt -o infra/lock/run.txt
	$(UV_LOCK) pyproject.toml --extra train -c infra/lock/dev.txt -o infra/lock/train.txt
	$(UV_LOCK) --group serve -c infra/lock/dev.txt -o infra/lock/serve.txt
	@$(MAKE) --no-print-directory licences

licences: $(SETUP)
	@$(BIN)/python -m infra.supply_chain.licences

bom: $(SETUP)
	@mkdir -p dist
	@$(BIN)/python -m infra.supply_chain.bom > dist/freshet.cdx.json

# 0: none, 1: some, 2: the database does not answer, so nothing is said
advisories: $(SETUP)
	@$(BIN)/python -m infra.supply_chain.advisories

pin: $(SETUP)
	@$(BIN)/python -m infra.supply_chain.images --pin
