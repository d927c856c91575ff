# KNN-Diffusion as a compendium. `make help` explains every target.

PRESET ?= cpu
PROMPT ?= a red apple
PUBLISHED := cpu
UV_VERSION := 0.13.9
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

REPORT := reports/$(PRESET)/index.html
PICTURE := reports/$(PRESET)/$(subst $() ,-,$(PROMPT)).png

# Only this environment, nothing sent anywhere, no model fetched behind your back (HF_HUB_OFFLINE=0 allows it).
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export PYTHONNOUSERSITE := 1
export UV_SYSTEM_CERTS ?= 1
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export HF_HUB_OFFLINE ?= 1
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: help environment data reproduce scratch stages test bench lab site lock clean
.DEFAULT_GOAL := help

help: ## this list
	@echo "usage: make TARGET [PRESET=cpu]"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1 \2/p' Makefile | awk '{t=$$1; $$1=""; printf "  %-12s%s\n", t, $$0}'

environment: .venv/.kdlib ## make .venv with the locked packages and kdlib (any other target does it too)

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
	kd generate "$(PROMPT)" --preset $(PRESET) --out "$(PICTURE)"
	test -f $(REPORT) || dvc repro --single-item report@$(PRESET)
	@echo "picture: $(PICTURE)"
	@echo "report:  $(REPORT) (open it in a browser)"

scratch: environment data ## run every stage of PRESET from nothing, whatever is published (cpu: hours)
	dvc repro --force report@$(PRESET)

stages: environment ## write dvc.yaml, README's list and the notebooks' links anew from what the notebooks declare
	python -m kdlib.compendium.stages

test: environment data ## all tests, the whole pipeline at preset quick among them
	OMP_NUM_THREADS=1 pytest -n 2 -m "not pipeline"
	pytest -m pipeline

bench: environment ## time ours beside a plain restatement, and beside VQ-Diffusion itself with REFERENCE=checkout
	python -m benchmarks.discrete $(if $(REFERENCE),--reference "$(REFERENCE)") $(if $(OUT),--out "$(OUT)")

lab: environment data ## JupyterLab on this machine's loopback; open the address that it prints
	jupyter lab --ip=127.0.0.1 --no-browser $(if $(filter 0,$(shell id -u)),--allow-root) --LabApp.news_url=None \
		--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate notebooks/00_tour.ipynb

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
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

.venv/.packages: requirements.lock .venv/bin/uv
	uv pip install --python .venv/bin/python --require-hashes -r requirements.lock
	@touch $@

.venv/.kdlib: pyproject.toml .venv/.packages
	uv pip install --quiet --python .venv/bin/python --no-deps --no-build-isolation --editable .
	@touch $@

data/stickers.parquet: data.dvc | environment
	dvc pull data.dvc
	@touch $@
