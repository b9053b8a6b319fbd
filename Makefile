# Everything runs in .venv, which the first use of a target sets up with its own uv.
PYTHON ?= python3
PUBLISH ?= data.source=folder data.path=data/raw/cifar10-jpeg.tar.xz data.name=cifar10-jpeg
UV := uv==0.13.9
READY := .venv/.ready

SYSTEM := PATH="$(PATH)"
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: demo repro publish ui test test-all lint bench clean python history

demo: history $(READY)  ## the whole pipeline on built-in shapes, figures in demo/
	python -m pipeline.demo

repro: history $(READY)  ## what dvc repro does, after setting up
	dvc repro

publish: history $(READY)  ## the results in git: run on the best data at hand, then commit reports/, dvc.lock and README's numbers
	python -m pipeline.publish $(PUBLISH)

ui: $(READY)  ## MLflow, opened at the comparison
	python -m pipeline.ui

test: $(READY)
	python -m pytest -m "not slow"

test-all: $(READY)
	python -m pytest

lint: $(READY)
	ruff check . && ruff format --check . && mypy

bench: history $(READY)  ## the numbers of README's comparisons, measured again
	python -m tests.bench.compare $(PUBLISH)

clean:  ## what a run leaves behind, but neither data nor the MLflow store
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache demo
	find pipeline tests -name __pycache__ -type d -prune -exec rm -rf {} +

python:
	@$(SYSTEM) $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: found Python %s, expected 3.11 or newer; type make PYTHON=python3.12 $(MAKECMDGOALS)" % sys.version.split()[0])'

history: python
	@$(SYSTEM) $(PYTHON) -m pipeline.experiments

$(READY): requirements.txt pyproject.toml | python
	@echo "Setting up .venv, once; it downloads packages"
	$(SYSTEM) $(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	.venv/bin/uv pip install --quiet --compile-bytecode --python .venv --requirements pyproject.toml --group dev --constraints requirements.txt
	@touch $@
