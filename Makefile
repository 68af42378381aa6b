# Thin commands over .venv; tools/setup/install.sh makes it and knows what is done already.
PYTHON ?=
ARGS ?=
WORKERS ?= 2
export PYTHON

python := .venv/bin/python
demo_config := configs/v2m-mini_digits.py
demo_dir := work_dirs/v2m-mini_digits

.DEFAULT_GOAL := help
.PHONY: help install demo test check docs clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

install:  ## set up .venv with the tested set of packages (PYTHON=... names the Python, 3.11 to 3.13)
	@bash tools/setup/install.sh

# On maps this small a second thread gains nothing, and loses much where another process needs it.
demo:  ## train a small V2M on handwritten digits (CPU, minutes), test it, draw its results; compiles nothing
	@bash tools/setup/install.sh demo
	OMP_NUM_THREADS=1 $(python) tools/train.py $(demo_config)
	OMP_NUM_THREADS=1 $(python) tools/test.py $(demo_config) "$$(cat $(demo_dir)/last_checkpoint)"
	@echo 'The loss and accuracy curve and the sheet of predictions:'
	@find $(demo_dir) -name '*.png' | sort

test: install  ## run the tests (ARGS='-k name' narrows them, WORKERS=8 spreads them over 8 processes)
	OMP_NUM_THREADS=1 $(python) -m pytest -q -n $(WORKERS) --dist loadfile $(ARGS)

check: install  ## style, formatting and types: what a commit has to pass
	$(python) -m pre_commit run --all-files

docs:  ## build the docs site into site/, in an environment of its own (.venv-docs)
	@test -x .venv-docs/bin/python || $(or $(PYTHON),python3) -m venv .venv-docs
	@.venv-docs/bin/python -m pip install -q --no-deps --disable-pip-version-check -r requirements/docs.txt
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@echo 'The docs are in site/index.html.'

clean:  ## remove what builds and checks leave behind; .venv, .venv-docs and work_dirs stay
	rm -rf build dist site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find mmv2m ops tools tests configs -name __pycache__ -type d -prune -exec rm -rf {} +
