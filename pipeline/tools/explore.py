"""Where can latent space be touched? On a page that a server of this machine alone shows, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import InputError
from pipeline.params import MODELS, Model
from pipeline.tools.ui import bring_own_runs
from pipeline.tracking.lineage import StoredRun

SETTINGS = {
    "server.address": "127.0.0.1",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorLinks": "false",  # to search engines and the like
}


def main(arguments: Sequence[str]) -> None:
    """Bring the checkout's own runs over, print the page's address, and become its server."""
    parser = argparse.ArgumentParser(prog="python -m pipeline explore", description=__doc__)
    parser.add_argument("--port", type=int, default=8501)
    port = parser.parse_args(arguments).port
    bring_own_runs()
    runs_with_models()  # fails here where it would fail in the browser
    print(f"Explore: http://127.0.0.1:{port}\nStop with Ctrl-C.", flush=True)
    page = Path(__file__).with_name("explorer.py")
    settings = [f"--{key}={value}" for key, value in (SETTINGS | {"server.port": port}).items()]
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", str(page), *settings])


def runs_with_models() -> dict[str, dict[Model, list[StoredRun]]]:
    """Runs whose model is in the store, newest first, by data name and model; only data that both models have."""
    from pipeline.tracking import store

    found: dict[str, dict[Model, list[StoredRun]]] = {}
    for run in reversed(store.stored_runs()):
        name, model = run.tags.get("data.name", ""), run.params.get("model")
        if "model_id" in run.tags and model in MODELS:
            found.setdefault(name, {}).setdefault(model, []).append(run)
    both = {name: runs for name, runs in found.items() if len(runs) == len(MODELS)}
    if not both:
        raise InputError("the MLflow store has no trained models of both kinds yet; type make demo or make repro first")
    return both
