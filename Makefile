# Everything runs in .venv, which the first use of a target sets up with its own uv.
PYTHON ?= python3
PUBLISH ?= data.source=folder data.path=data/raw/cifar10-official.tar.xz data.name=cifar10
PORT ?= 5050
UV := uv==0.13.9
READY := .venv/.ready
PARALLEL := --numprocesses auto --dist worksteal
PEERS := .venv/bin/uv pip install --quiet --python .venv --group peers --constraints requirements.txt
RAY := .venv/bin/uv pip install --quiet --python .venv --group cluster --constraints requirements.txt

# Setting up must not use the python that it replaces.
SYSTEM := PATH="$(PATH)"
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: demo repro study publish ui explore test test-all lint bench bench-gpu peers clean history

demo: history $(READY)  ## the whole pipeline on built-in shapes, figures in demo/
	.venv/bin/python -m pipeline demo

repro: history $(READY)  ## what dvc repro does, after setting up
	.venv/bin/dvc repro

study: history $(READY)  ## the assignment's claims and questions, measured: reports/README.md, index.html; about three hours
	$(if $(CLUSTER),$(RAY))
	$(if $(CLUSTER),.venv/bin/python -m pipeline spread --cluster $(CLUSTER))
	.venv/bin/dvc repro study/dvc.yaml

publish: history $(READY)  ## the results in git: run on the best data at hand, commit reports/, dvc.lock, README's tables
	.venv/bin/python -m pipeline publish $(PUBLISH)

ui: $(READY)  ## MLflow, and the address of the comparison
	.venv/bin/python -m pipeline ui --port $(PORT)

explore: $(READY)  ## explore.html, one page with the newest FC and conv in it, to touch
	.venv/bin/python -m pipeline explore

test: $(READY)  ## all but the tests that run dvc and git, in minutes
	.venv/bin/python -m pytest $(PARALLEL) -m "not slow"

test-all: $(READY)
	.venv/bin/python -m pytest $(PARALLEL)

lint: $(READY)  ## style, types, and who may import whom
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/lint-imports
	.venv/bin/mypy

bench: history $(READY)  ## how fast it is, beside the assignment's way and pythae; an otherwise idle machine, an hour
	$(PEERS)
	.venv/bin/python -m bench.speed $(PUBLISH)

bench-gpu: $(READY)  ## how fast a GPU trains, beside the notebook's way on it; five minutes
	.venv/bin/python -m bench.gpu

peers: $(READY)  ## against pythae on the images in data/, in equal time; three trainings
	$(PEERS)
	.venv/bin/python -m bench.peers

clean:  ## what a run leaves behind, but neither data nor the MLflow store
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .coverage demo
	find pipeline tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

history:
	@$(SYSTEM) $(PYTHON) -m pipeline.tracking.experiments

$(READY): requirements.txt pyproject.toml
	@$(SYSTEM) $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: found Python %s, expected 3.11 or newer; type make PYTHON=python3.12 $(MAKECMDGOALS)" % sys.version.split()[0])'
	@echo "Setting up .venv, once; it downloads packages"
	$(SYSTEM) $(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check $(UV)
	.venv/bin/uv pip install --quiet --compile-bytecode --python .venv --requirements pyproject.toml --group dev --constraints requirements.txt
	@touch $@
