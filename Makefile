# Every target works on a fresh checkout: set-up comes first by itself.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
RUN = $(VENV)/bin/python
PIP = $(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: help setup setup-dev demo ablation bench test test-slow test-gpu lint type docs clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(PIP) '.[dev]'
	@touch $@

setup: $(VENV)/.ready  ## a virtual environment with everything pinned in constraints.txt

setup-dev: $(VENV)/.ready-dev  ## the same with the tools of tests and checks

demo: setup  ## ten minutes on two cores: what control is, over all seven settings, without instructions, after SL and after RL
	$(PIP) '.[joblib]'
	$(RUN) -m ctrlrec -m experiment=demo variant=v1_soft,v2_soft hydra/launcher=joblib hydra.launcher.n_jobs=2 trainer.threads=1
	$(RUN) -m ctrlrec -m experiment=demo variant=full_soft constraint=none,fresh trainer.threads=2

ablation: setup  ## an hour or two a row on two cores: the ablation rows v1, v2, v3, full; resumes when run again
	$(RUN) -m ctrlrec -m variant=v1,v2,v3,full budget=small

.venv-peers/.ready: experiments/performance/peers.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@touch $@

bench: setup .venv-peers/.ready  ## hours on two quiet cores: each part of the work against its peer; resumes when run again
	$(RUN) experiments/performance/bench.py

test: setup-dev  ## the fast tests
	CUDA_VISIBLE_DEVICES= $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup-dev  ## every test, the slow ones included
	CUDA_VISIBLE_DEVICES= $(RUN) -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m ''

test-gpu: setup-dev  ## what a GPU must do as a CPU does; without one it rehearses on the CPU
	$(RUN) -m pytest -n 0 -m gpu tests/gpu

lint: setup-dev  ## style and formatting
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

type: setup-dev  ## static types
	$(RUN) -m mypy

.venv-docs/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check 'mkdocs-material>=9.5' 'mkdocstrings[python]>=0.27' 'nbconvert>=7.16'
	@touch $@

docs: .venv-docs/.ready  ## the site, in build/site
	.venv-docs/bin/python -m nbconvert --log-level WARN --to markdown --output-dir docs/notebooks notebooks/*.ipynb
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/python -m mkdocs build --strict --quiet

clean:  ## remove the environment and caches; results under runs/ stay
	rm -rf $(VENV) .venv-docs .pytest_cache .mypy_cache .ruff_cache build dist
