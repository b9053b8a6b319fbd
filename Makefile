# Everything runs in .venv, which brings its own uv; the first use of any target sets it up.
PYTHON ?= python3
UV_VERSION := 0.13.9
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: demo repro publish ui test test-all lint bench clean
.DEFAULT_GOAL := demo
