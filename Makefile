# The commands of this project. `make help` lists them.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
BIN := .venv/bin
UV := $(shell command -v uv || echo $(BIN)/uv)

.PHONY: $(shell sed -nE 's/^([a-z-]+):.*/\1/p' $(MAKEFILE_LIST))

help: ## list the targets
	@sed -nE 's/^##@ (.*)/\n\1/p; s/^([a-z-]+):.*## (.*)/  \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

##@ Analyse

env: .venv/.complete ## create the environment of requirements.lock in .venv

.venv/.complete: requirements.lock .python-version
	if [ ! -x $(BIN)/python ]; then \
	    if command -v uv > /dev/null; then uv venv --quiet --python 3.12 .venv; \
	    else $$(command -v python3.12 || command -v python3) -m venv .venv; fi; \
	fi
	$(BIN)/python -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 12) else f"Python 3.12 is needed, this is {v}: install it, or uv, and remove .venv")'
	[ -x "$(UV)" ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	touch $@

run: env ## run everything on the embedded demo cohort
	$(BIN)/snakemake --profile profiles/local

init: env ## look at COHORT=my.h5ad, propose what its columns are, write my.yaml (ARGS="--donor patient --yes")
	@$(BIN)/python ops/init.py $(ARGS)

sweep: ARGS ?= --configfile config/sweep.yaml
sweep: env ## run the variants of a config and compare their answers, ARGS="--configfile config/sweep.yaml"
	$(BIN)/python ops/sweep.py $(ARGS)

MODEL ?= results/ridge/models
SUMS ?= results/pseudobulk/sums.h5ad
OUT ?= predictions.tsv

predict: env ## apply MODEL=results/ridge/models to another cohort's SUMS=.../sums.h5ad, write OUT
	$(BIN)/python ops/predict.py --model $(MODEL) --sums $(SUMS) --out $(OUT) $(ARGS)

##@ Test

test: test-unit ## the whole test suite, but for test-slurm and test-browser; two files at a time
	command -v rsync > /dev/null || { apt-get update && apt-get install -y --no-install-recommends rsync; } # staging
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/unit --ignore tests/slurm --ignore tests/browser

test-unit: env ## its fast part, two tests at a time
	$(BIN)/python -m pytest -n 2 --dist worksteal tests/unit

test-slurm: env ## the small demo, retries and staging on a real SLURM (Debian, root; started and stopped here)
	$(BIN)/python -m pytest -s --durations 5 tests/slurm

test-browser: env ## the report in Chromium (Debian, root installs it); screenshots in tests/browser/screenshots
	command -v chromium > /dev/null || { apt-get update && apt-get install -y --no-install-recommends chromium; }
	$(BIN)/python -m pytest -s --durations 5 tests/browser

##@ Operate

profiles-audit: env ## profiles as JSON: shared, differing and single keys; fails unless all plan the same jobs
	$(BIN)/python gates/profiles.py audit

cost: env ## where the last run's time went, per rule; which requests are far from use
	$(BIN)/python ops/cost.py $(ARGS)

export COHORT CONFIG PROFILE SCRATCH TARGET SYMPTOM # the scripts read them: no shell sees what is in them

doctor: env ## is everything there? CONFIG=my.yaml PROFILE=profiles/slurm SCRATCH=/scratch
	$(BIN)/python ops/doctor.py

incident: env ## collect the evidence, read only: TARGET=all SYMPTOM="what was seen"
	$(BIN)/python ops/incident.py

##@ Publish and hold to it

verify: DIR ?= results/publish/v1
verify: env ## is a release whole? every digest, schema and fact across files; DIR=results/publish/v1
	$(BIN)/python scripts/publish/verify.py "$(DIR)" $(ARGS)

compare: NEW ?= results/publish/v1
compare: env ## do two releases hold the same numbers? file by file; OLD=results/before NEW=results/publish/v1
	$(BIN)/python gates/compare_releases.py "$(or $(OLD),$(error OLD is not set; name a release: OLD=results/before))" "$(NEW)"

rollback: env ## let results/publish/v1 lead to the release before it; ARGS="--to ID", PUBLISH=results/publish
	$(BIN)/python ops/rollback.py "$(or $(PUBLISH),results/publish)" $(ARGS)

contract: env ## write workflow/CONTRACT.md from workflow/schemas/publish.yaml
	$(BIN)/python gates/describe_contract.py > workflow/CONTRACT.md

contract-guard: env ## a changed contract needs another workflow/VERSION than that of BASE=main
	$(BIN)/python gates/contract_guard.py $(or $(BASE),main)

drift: env ## what changed since the results were made, as JSON: code, params, input; fails when anything has
	$(BIN)/python ops/drift.py

summary: env ## the state of the results, a line per rule
	$(BIN)/python ops/summary.py

unit-tests: env ## run each rule alone on what the last run gave it; fails on other outputs and hidden inputs
	$(BIN)/python gates/unit_tests.py $(ARGS)

tour: env ## a bundle in tour/ for a reviewer who runs nothing
	$(BIN)/python gates/tour.py $(ARGS)

confirm: ## a clean room: fresh clone, fresh environment from the lock, run, verify; ARGS="--release ID"
	python3 $(dir $(lastword $(MAKEFILE_LIST)))gates/confirm.py $(ARGS)

##@ Develop

# for the scripts and styles of the report; MIT or Apache-2.0, not part of this repository
BIOME := npx --yes @biomejs/biome@2.6.8
PAGE := scripts/report/page
NODE := command -v npx > /dev/null || { echo "npx is not on the path: install Node.js 20 or later, which brings it" >&2; exit 1; }
# in one file, as in the page: whether a name is declared and used
JOINED := correctness/noUndeclaredVariables correctness/noUnusedVariables suspicious/noRedeclare style/useConst

lint: env ## formatting and static checks, as CI runs them
	@$(NODE)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/snakefmt --check workflow rules
	$(BIN)/snakemake --lint
	$(BIOME) check --error-on-warnings $(PAGE)
	mkdir -p .biome
	cat $(PAGE)/*.js > .biome/page.js
	$(BIOME) lint --error-on-warnings $(JOINED:%=--only=%) .biome/page.js

format: env ## format Python and Snakemake files, and the report's scripts and styles
	@$(NODE)
	$(BIN)/ruff check --fix --select I .
	$(BIN)/ruff format .
	$(BIN)/snakefmt workflow rules
	$(BIOME) format --write $(PAGE)

lock: ## compile requirements.lock from pyproject.toml
	$(UV) pip compile --quiet --universal --generate-hashes --no-header --no-emit-index-url --python-version 3.12 pyproject.toml -o requirements.lock

warnings-page: env ## write docs/warnings.md from the codes in scripts/job
	$(BIN)/python gates/describe_warnings.py > docs/warnings.md

config-readme: env ## write config/README.md and the comments of config/config.yaml from the schema
	$(BIN)/python gates/describe_config.py --comments > config/config.yaml.new
	mv config/config.yaml.new config/config.yaml
	$(BIN)/python gates/describe_config.py > config/README.md

##@ Compare and measure

ORACLE := r-bioc-deseq2 r-bioc-edger r-bioc-limma r-cran-statmod

oracle: env ## make the reference tables of tests/oracle with R (Debian, root) and compare
	dpkg -s $(ORACLE) > /dev/null 2>&1 || { apt-get update && apt-get install -y --no-install-recommends $(ORACLE); }
	$(BIN)/python tests/oracle/make.py
	$(BIN)/python -m pytest -s tests/unit/donors/test_oracle.py

CELLS ?= 100000

bench: env ## cost of each rule on a cohort of CELLS=100000 cells (bench/README.md)
	$(BIN)/python bench/run.py --cells $(CELLS) $(ARGS)

bench-growth: env ## how cost grows with cells, and what 1.25 million would cost
	$(BIN)/python bench/growth.py $(ARGS)

bench-resources: env ## fit workflow/resources.yaml from the runs of bench-growth
	$(BIN)/python bench/resources.py $(ARGS)

bench-peer: env ## side by side with a plain scanpy script, on CELLS=100000 cells
	$(BIN)/python bench/compare.py --cells $(CELLS) $(ARGS)
