# make quickstart and make test are self-contained: each creates a virtual environment, installs, and runs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup quickstart reproduce test test-all reference lint docs bench clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: .venv/installed ## install everything into .venv; PYTHON=python3.12 chooses another Python

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: setup ## train 40 small models, replay a spike or two and write the report, four minutes on two cores
	$(BIN)/s3bench sweep experiment=quickstart && $(BIN)/s3bench replay results/quickstart --run 'source_ngram-adamw-x1-s[01]-*'; ended=$$?; \
	    $(BIN)/s3bench report results/quickstart && exit $$ended

SCALE ?= laptop
BUDGET ?= 60m

reproduce: setup ## put the paper's claims to the test in an hour and write the report; run it again to resume
	$(BIN)/s3bench decide --scale $(SCALE) --budget $(BUDGET) --results results/$(SCALE) $(ARGS); ended=$$?; \
	    test $$ended -le 1 || exit $$ended; $(BIN)/s3bench report results/$(SCALE) && exit $$ended

test: setup ## run all tests but the slow ones
	$(BIN)/pytest -n auto --dist worksteal

test-all: setup ## run all tests
	$(BIN)/pytest -n auto --dist worksteal -m 'slow or not slow'

EXPERIMENT ?= quickstart

reference: ## copy the tables, verdicts and smaller pictures of results/$(EXPERIMENT) to results/reference
	rm -rf results/reference/$(EXPERIMENT)
	mkdir -p results/reference/$(EXPERIMENT)/figures
	cp -r results/$(EXPERIMENT)/report/tables results/reference/$(EXPERIMENT)/
	find results/$(EXPERIMENT)/report/figures -name '*.png' -size -500k -exec cp {} results/reference/$(EXPERIMENT)/figures/ ';'
	! test -e results/$(EXPERIMENT)/decisions.jsonl || cp results/$(EXPERIMENT)/decisions.jsonl \
	    results/$(EXPERIMENT)/report/claims.json results/$(EXPERIMENT)/report/claims.md results/reference/$(EXPERIMENT)/

lint: setup ## check style, format, types, and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: setup ## build docs/ into docs/_build/html; a broken link is an error
	$(BIN)/python -m sphinx -E -W --keep-going -q docs docs/_build/html
	@echo docs/_build/html/index.html

bench: setup ## measure speed: optimizers, harness and small GPT as ratios; a sweep and a report in seconds
	KINETO_LOG_LEVEL=5 $(BIN)/python scripts/bench_optimizers.py
	$(BIN)/python scripts/bench_overhead.py
	$(BIN)/python scripts/bench_tracking.py
	$(BIN)/python scripts/bench_gpt.py
	$(BIN)/python scripts/bench_loading.py
	$(BIN)/python scripts/bench_reading.py
	$(BIN)/python scripts/bench_spikes.py
	$(BIN)/python scripts/bench_callbacks.py
	$(BIN)/python scripts/bench_report.py --runs 80 --steps 300 # twice as many as in the quickstart
	$(BIN)/python scripts/bench_report.py --runs 500 --steps 2000
	$(BIN)/python scripts/bench_sweep.py --runs 10000
	$(BIN)/python scripts/bench_scale.py --runs 2000 --steps 1000000 --optimizers 100 # without options takes longer
	$(BIN)/python scripts/bench_local.py

clean: ## remove all that make made, but keep results
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis docs/_build
