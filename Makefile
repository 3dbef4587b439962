# The front door. Each target is one command that a person could type; ARGS passes options through.
.DEFAULT_GOAL := help
.PHONY: help setup curate triplets train sample evaluate calibrate weights test test-all check bench bench-train
PYTHON ?= python3
BIN := .venv/bin
UV := VIRTUAL_ENV="$(CURDIR)/.venv" PATH="$(CURDIR)/$(BIN):$$PATH" uv
quote = '$(subst ','\'',$(1))'

help:      ## Show this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed 's/:.* ## /\t/' | expand -t 12

setup: .venv/.ready  ## Create .venv from requirements.lock, or bring it up to date

# A fresh clone may hold no uv; then one is put into the environment first.
.venv/.ready: pyproject.toml requirements.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(UV) --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(UV) pip install --quiet -r requirements.lock
	@$(UV) pip install --quiet --no-deps -e .
	@touch $@

curate: .venv/.ready  ## Cartoons to shards: make curate ARCHIVE=films OUT=out/films ARGS="gates=strict"
	@$(BIN)/python -m pipeline curate $(if $(ARCHIVE),$(call quote,archive=$(ARCHIVE))) $(if $(OUT),$(call quote,out=$(OUT))) $(ARGS)

triplets: .venv/.ready  ## A curation to ATD-12K triplets: make triplets CURATION=out/films OUT=out/triplets
	@$(BIN)/python -m pipeline triplets $(if $(CURATION),$(call quote,shards=$(CURATION))) $(if $(OUT),$(call quote,out=$(OUT))) $(ARGS)

# JOB=rectification|decoder|sketch is a first look on tiny models; PRESET=paper_rectify and the like are the real ones.
JOB ?= rectification
DATA ?= out/sample
PRESET ?= tiny_$(patsubst rectification,rectify,$(JOB))
train: .venv/.ready  ## Shards to weights: make train JOB=decoder DATA=out/films, or PRESET=paper_decoder
	@$(BIN)/python -m pipeline train $(call quote,experiment=$(PRESET)) $(call quote,shards=$(DATA)) $(if $(OUT),$(call quote,out=$(OUT))) $(ARGS)

sample: .venv/.ready  ## The frames between two drawings: make sample FIRST=a.png LAST=b.png ARGS="prompt='a girl waves'"
	@$(BIN)/python -m pipeline sample $(if $(FIRST),$(call quote,first=$(FIRST))) $(if $(LAST),$(call quote,last=$(LAST))) $(if $(OUT),$(call quote,out=$(OUT))) $(ARGS)

evaluate: .venv/.ready  ## Systems on held-out clips: make evaluate DATA=out/films ARGS="table=table1"
	@$(BIN)/python -m pipeline evaluate $(call quote,shards=$(DATA)) $(if $(OUT),$(call quote,out=$(OUT))) $(ARGS)

weights: .venv/.ready  ## Public weights: make weights PROFILE=paper|training|evaluation, or FILES=vgg16
	@$(BIN)/python -m pipeline weights $(if $(PROFILE),$(call quote,profile=$(PROFILE))) $(if $(FILES),$(call quote,files=$(FILES))) $(ARGS)

calibrate: .venv/.ready  ## Decisions against your labels: make calibrate ARCHIVE=films TRUTH=labels OUT=out/films
	@$(BIN)/python -m pipeline calibrate $(if $(ARCHIVE),$(call quote,archive=$(ARCHIVE))) $(if $(TRUTH),$(call quote,truth=$(TRUTH))) $(if $(OUT),$(call quote,out=$(OUT))) $(ARGS)

# One process a core: threads within them would only wait for each other.
test: export OMP_NUM_THREADS = 1
test: .venv/.ready  ## Tests that take seconds
	@$(BIN)/python -m pytest -n auto --dist loadfile -m "not slow and not gpu and not multinode" $(ARGS)

test-all: .venv/.ready  ## All tests that this machine can run
	@$(BIN)/python -m pytest $(ARGS)

check: .venv/.ready  ## Style and types
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: .venv/.ready  ## Speed of every stage on drawn films
	@$(BIN)/python -m benchmarks $(ARGS)

bench-train: .venv/.ready  ## Where the time of a training step goes: make bench-train DATA=out/sample PRESET=tiny_rectify
	@$(BIN)/python -m benchmarks.training $(call quote,experiment=$(PRESET)) $(call quote,shards=$(DATA)) $(ARGS)
