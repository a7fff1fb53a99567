# make quickstart and make test each do everything on a fresh machine: virtual environment, install, run.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup quickstart reproduce test test-all reference lint bench clean

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt torch
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

quickstart: setup ## 80 runs and their report, about six minutes on two cores
	$(BIN)/s3bench sweep experiment=quickstart; ended=$$?; $(BIN)/s3bench report results/quickstart && exit $$ended

SCALE ?= laptop
EXPERIMENTS := tuned lr_sensitivity half_steps ten_times same_beta update_size ablation rate shock

reproduce: setup ## the experiments behind the paper's claims, the shocks, and the verdicts; again: only what is missing
	failed=0; for one in $(EXPERIMENTS); do \
	    $(BIN)/s3bench sweep experiment=$$one scale=$(SCALE) results_dir=results/$(SCALE) $(ARGS); ended=$$?; \
	    test $$ended -le 1 || exit $$ended; test $$ended -eq 0 || failed=1; \
	done; \
	$(BIN)/s3bench report results/$(SCALE) && exit $$failed

test: setup ## all tests but the slow ones
	$(BIN)/pytest -n auto

test-all: setup ## all tests
	$(BIN)/pytest -n auto -m 'slow or not slow'

EXPERIMENT ?= quickstart

reference: ## keep the last tables, verdicts and smaller pictures of results/$(EXPERIMENT): README and docs show them
	rm -rf results/reference/$(EXPERIMENT)
	mkdir -p results/reference/$(EXPERIMENT)/figures
	cp -r results/$(EXPERIMENT)/report/tables results/reference/$(EXPERIMENT)/
	find results/$(EXPERIMENT)/report/figures -name '*.png' -size -500k -exec cp {} results/reference/$(EXPERIMENT)/figures/ ';'
	cp results/$(EXPERIMENT)/report/claims.json results/$(EXPERIMENT)/report/claims.md results/reference/$(EXPERIMENT)/

lint: setup ## style, format, types, and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## speed: of the harness, the optimizers and the small GPT as ratios within one run, of a sweep, of a report in seconds
	KINETO_LOG_LEVEL=5 $(BIN)/python scripts/bench_optimizers.py
	$(BIN)/python scripts/bench_overhead.py
	$(BIN)/python scripts/bench_tracking.py
	$(BIN)/python scripts/bench_gpt.py
	$(BIN)/python scripts/bench_loading.py
	$(BIN)/python scripts/bench_spikes.py
	$(BIN)/python scripts/bench_report.py --runs 200
	$(BIN)/python scripts/bench_sweep.py --runs 10000
	$(BIN)/python scripts/bench_local.py

clean: ## all that make made, but no results
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
