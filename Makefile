# KNN-Diffusion as a compendium. `make help` explains every target.

PRESET ?= cpu
PROMPT ?= a red apple
PORT ?= 7860
PUBLISHED := cpu
UV_VERSION := 0.13.9
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# Taken as typed, and given to recipes as an environment variable: neither make nor the shell reads what is in it.
override PROMPT := $(value PROMPT)
export PROMPT
override PRESET := $(value PRESET)
PRESETS := $(shell sed -n 's/^presets: \[\(.*\)\].*/\1/p' params.yaml | tr -d ,)
ifneq ($(filter $(PRESETS),$(PRESET)) 1,$(PRESET) $(words $(PRESET)))
$(error there is no preset "$(PRESET)"; choose one of params.yaml: $(PRESETS))
endif
REPORT := reports/$(PRESET)/index.html

# Only this environment and its settings, nothing sent anywhere, no model fetched behind your back (HF_HUB_OFFLINE=0
# allows it). Package indexes and mirrors of the user's stay.
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONNOUSERSITE := 1
export PYTHONUTF8 := 1
export PIP_USER := 0
export UV_SYSTEM_CERTS ?= 1
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export HF_HUB_OFFLINE ?= 1
export OMP_WAIT_POLICY ?= passive
unexport PYTHONPATH PYTHONHOME PYTHONOPTIMIZE VIRTUAL_ENV MPLBACKEND PIP_TARGET PIP_PREFIX UV_SYSTEM_PYTHON UV_PYTHON

# An environment names its place in its scripts: copied or renamed with its folder, it would run another checkout's code.
PLACE := $(shell sed -n 's/^command = .* -m venv //p' .venv/pyvenv.cfg 2>/dev/null)
ifneq ($(PLACE),$(CURDIR)/.venv)
.PHONY: .venv/bin/uv
endif

.PHONY: help environment data reproduce scratch stages exercises test bench inputs lab demo site lock clean
.DEFAULT_GOAL := help

help: ## this list
	@echo "usage: make TARGET [PRESET=cpu]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1 \2/p' Makefile | awk '{t=$$1; $$1=""; printf "  %-12s%s\n", t, $$0}'

environment: checkout .venv/.kdlib ## make .venv with the locked packages and kdlib (any other target does it too)

.PHONY: checkout
checkout:
	@git rev-parse --git-dir >/dev/null 2>&1 || { echo "This folder is no git repository, which DVC needs:" \
		"clone the project instead of downloading it, or run \`git init\` here." >&2; exit 1; }

data: data/stickers.parquet ## fetch the stickers from the bundled remote

reproduce: environment ## fetch published results of PRESET, run what differs, make a picture of PROMPT, name the report
ifneq ($(filter $(PRESET),$(PUBLISHED)),)
	@echo "Fetching data and results. Files that a stage can make again quickly are not published; DVC names them:"
	dvc pull --with-deps --allow-missing report@$(PRESET)
	dvc repro --dry --allow-missing report@$(PRESET) 2>/dev/null | grep "up to date" || \
		{ dvc repro index@$(PRESET) && dvc repro --allow-missing report@$(PRESET); }
else
	dvc pull data.dvc
	dvc repro report@$(PRESET)
endif
	test -f $(REPORT) || dvc repro --single-item report@$(PRESET)
	@picture="reports/$(PRESET)/$$($(NAME)).png" && \
		kd generate --preset $(PRESET) --out "$$picture" -- "$$PROMPT" && echo "picture: $$picture"
	@echo "report:  $(REPORT) (open it in a browser)"

# A file's name for any prompt: 60 characters, and a part of its hash where they don't tell the whole prompt.
NAME = short=$$(printf %s "$$PROMPT" | tr -c A-Za-z0-9 - | cut -c -60); \
	test "$$short" = "$$(printf %s "$$PROMPT" | tr -- ' -' '-_')" || short=$$short-$$(printf %s "$$PROMPT" | sha256sum | cut -c -8); \
	printf %s "$$short"

scratch: environment data ## run every stage of PRESET from nothing, whatever is published (cpu: hours)
	dvc repro --force report@$(PRESET)

stages: environment ## write dvc.yaml, README's list and the notebooks' links anew from what the notebooks declare
	python -m kdlib.compendium.stages

exercises: environment ## write the notebooks with exercises as students get them, to OUT (scratch/exercises)
	python -m kdlib.exercises notebooks --out "$(or $(OUT),scratch/exercises)"

test: environment data ## all tests, the whole pipeline at preset quick among them
	OMP_NUM_THREADS=1 pytest -n 2 --dist worksteal -m "not pipeline"
	pytest -m pipeline

bench: environment ## time ours beside a plain restatement, and beside VQ-Diffusion itself with REFERENCE=checkout
	python -m benchmarks.discrete $(if $(REFERENCE),--reference "$(REFERENCE)") $(if $(OUT),--out "$(OUT)")

inputs: environment data ## make what notebooks read and is not published (minutes, once; TRAINING=1: what trainings read, too)
	python -m kdlib.compendium.inputs $(PRESET) $(if $(TRAINING),--training)

lab: environment data ## JupyterLab on this machine's loopback; open the address that it prints
	jupyter lab --ip=127.0.0.1 --no-browser $(if $(filter 0,$(shell id -u)),--allow-root) --LabApp.news_url=None \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate notebooks/00_tour.ipynb

demo: environment data ## a page on this machine's loopback: type a text, watch it being drawn (PORT=7860)
	kd demo --preset $(PRESET) --port $(PORT)

site: environment ## build the report of PRESET anew from the results that are here
	dvc repro --single-item report@$(PRESET)
	@echo "report: $(REPORT)"

lock: environment ## choose package versions anew and write requirements.lock
	uv pip compile pyproject.toml --extra cpu --extra dev --generate-hashes --universal --python-version 3.11 \
		--no-annotate -o requirements.lock

clean: ## remove the environment and caches; results stay
	rm -rf .venv kdlib.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# --- files -----------------------------------------------------------------------------------------------------

.venv/bin/uv:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@test ! -d .venv || echo "The environment in .venv is unfinished or was made for another folder; it is made anew."
	rm -rf .venv
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.packages: requirements.lock .venv/bin/uv
	uv pip install --compile-bytecode --python .venv/bin/python --require-hashes -r requirements.lock
	@touch $@

.venv/.kdlib: pyproject.toml .venv/.packages
	uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

data/stickers.parquet: data.dvc | environment
	dvc pull data.dvc
	@touch $@
