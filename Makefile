# Every target works on a fresh checkout: set-up comes first by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
RUN = $(VENV)/bin/python
READY = $(VENV)/.ready

.PHONY: help setup demo ablation test test-slow lint type clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(READY)  ## a virtual environment with everything pinned in constraints.txt

demo: setup  ## minutes on two cores: before, after SL and after RL, side by side over all seven settings
	$(RUN) -m ctrlrec -m variant=zero_shot,v2,full budget=demo

ablation: setup  ## about an hour a row on two cores: the ablation rows v1, v2, v3, full; resumes when run again
	$(RUN) -m ctrlrec -m variant=v1,v2,v3,full budget=small

test: setup  ## the fast tests
	$(RUN) -m pytest -n 2 --dist loadgroup

test-slow: setup  ## every test, the slow ones included
	$(RUN) -m pytest -n 2 --dist loadgroup -m 'slow or not slow'

lint: setup  ## style and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

type: setup  ## static types
	$(RUN) -m mypy

clean:  ## remove the environment and caches; results under runs/ stay
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build dist
