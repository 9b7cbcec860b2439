# One virtual environment, made on first use; nothing is needed but Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DIR ?=

.DEFAULT_GOAL := help
.PHONY: help demo up test check lint types imports wheel docs ticks rabbitmq calls machine placement bench fuzz clean

help: ## Say what there is
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

demo: $(VENV)/.installed ## Start a fleet, have it checksum and compress DIR (default: Python's standard library), stop it
	$(BIN)/celeriac demo $(if $(DIR),"$(DIR)")

up: $(VENV)/.installed ## Start a fleet of three hosts here, until Ctrl-C
	$(BIN)/celeriac up --hosts 3

test: $(VENV)/.test ## Run the tests; servers that don't run here are skipped, in CI they must run
	$(BIN)/python -m pytest -q -n 2 --no-loadscope-reorder

check: test lint types imports docs wheel ## Everything that must be green before a change is done

lint: $(VENV)/.check ## Style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.check ## Types, by two checkers
	$(BIN)/mypy
	$(BIN)/pyright

imports: $(VENV)/.check ## Imports point one way: workers, scheduler, managers
	$(BIN)/lint-imports

docs: $(VENV)/.check ## Every link of the docs leads somewhere
	$(BIN)/python docs/check_links.py

wheel: $(VENV)/.check ## Build the wheel, install it in an empty place, and start a fleet from there
	.ci/wheel $(BIN)/python

ticks: $(VENV)/.test ## The long proof of the ticks: six hosts, 60 s, every pool, both brokers
	CELERIAC_TEST_TICK_SECONDS=60 CELERIAC_TEST_TICK_HOSTS=6 \
		$(BIN)/python -m pytest -v tests/fleet/test_ticks.py -k once_per_period

rabbitmq: $(VENV)/.test ## Every fleet test on RabbitMQ, those too that the suite runs on Redis alone
	CELERIAC_TEST_BROKER=rabbitmq $(BIN)/python -m pytest -v tests/fleet/test_hosts.py tests/fleet/test_pools.py \
		tests/fleet/test_ticks.py -k 'not redis'

calls: $(VENV)/.test ## Remote methods under every pool on both brokers, and 1,000 fanouts while hosts freeze and die
	CELERIAC_TEST_CALLS=all CELERIAC_TEST_FANOUTS=1000 $(BIN)/python -m pytest -v tests/fleet/test_calls.py \
		tests/fleet/test_fanouts.py
	for pool in threads gevent; do CELERIAC_TEST_POOL=$$pool $(BIN)/python -m pytest -v tests/fleet/test_periodic.py \
		|| exit 1; done
	CELERIAC_TEST_BROKER=rabbitmq $(BIN)/python -m pytest -v tests/fleet/test_periodic.py

placement: $(VENV)/.test ## 5,000 mixed tasks and 1,000 parked ones on eight hosts, then every fault, on both brokers
	for broker in redis rabbitmq; do CELERIAC_TEST_BROKER=$$broker CELERIAC_TEST_PLACEMENT_LOAD=5000 \
		CELERIAC_TEST_PLACEMENT_PARKED=1000 $(BIN)/python -m pytest -v -s tests/fleet/test_placement.py || exit 1; done
	CELERIAC_TEST_PLACEMENT_BROKERS='redis rabbitmq' CELERIAC_TEST_PLACEMENT_OUTAGE=10 \
		$(BIN)/python -m pytest -v tests/fleet/test_placement_faults.py

machine: $(VENV)/.test ## Hundreds of random lives of a fleet, two schedulers placing: nothing is given twice, lost or run twice
	CELERIAC_TEST_MACHINE=long $(BIN)/python -m pytest -v -o timeout=3600 tests/scheduler/test_placement_machine.py

bench: $(VENV)/.test ## Measure: reports and calls beside plain tasks, and what a host costs the table
	$(BIN)/python benchmarks/reports.py
	$(BIN)/python benchmarks/calls.py

fuzz: $(VENV)/.test ## A million random and hostile requirements: each is read or refused, none is slow
	$(BIN)/python tests/scheduler/fuzz_requirements.py --count 1000000

clean: ## Remove what was made here
	rm -rf $(VENV) dist .celeriac .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Celeriac needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable . --group test
	@touch $@

$(VENV)/.check: $(VENV)/.test
	$(BIN)/python -m pip install --quiet --editable . --group check
	@touch $@
