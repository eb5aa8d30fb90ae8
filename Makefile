# What people do daily. Uses .venv where `make venv` has made it, else the python of the active environment.

PYTHON ?= $(if $(wildcard .venv/bin/python),.venv/bin/python,python3)

.DEFAULT_GOAL := help
.PHONY: help venv test faults slurm-up slurm-down lint format types bench example clean

help:  ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */  make \1\t/' | expand -t 18

venv:  ## .venv with this checkout, the mpich wheel, the example's packages and the tools
	python3 -m venv .venv
	.venv/bin/python -m pip install -q -e ".[mpich,examples,dev]"

test:  ## all tests, with ruff, mypy and the floors among them
	$(PYTHON) -m pytest

faults:  ## 200 scenarios of the kill matrix, and a table of how the runs got over them
	MPIBATCH_FAULTS=$${MPIBATCH_FAULTS:-200} $(PYTHON) -m pytest -q tests/faults/test_kills.py

slurm-up:  ## a real Slurm of four nodes on this machine, as root; says what to put into the environment
	@$(PYTHON) tests/slurm/by_hand.py up

slurm-down:  ## ends it, and all its jobs
	@$(PYTHON) tests/slurm/by_hand.py down

lint:  ## ruff: rules and format, nothing is changed
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check

format:  ## ruff: mend what can be mended
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

types:  ## mypy --strict over package and tests
	$(PYTHON) -m mypy

bench:  ## every benchmark against its peer, one after the other; stops at the first missed target
	for file in tests/benchmarks/*.py; do echo "== $$file"; $(PYTHON) "$$file" || exit; done

example:  ## the digits, as in the README
	$(PYTHON) -m mpibatch run examples/digits/digits.yaml

clean:  ## removes caches, builds and what the examples made; not .venv
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis runs
	rm -rf examples/*/data examples/*/model examples/*/runs
	find mpibatch tests examples -name __pycache__ -type d -prune -exec rm -rf {} +
