"""Where can latent space be touched? On a page that a server of this machine alone shows, until Ctrl-C."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipeline import storage
from pipeline.errors import InputError
from pipeline.metrics.paths import luminance_direction, spherical
from pipeline.params import MODELS, Model
from pipeline.storage.weights import Trained, load_weights
from pipeline.tools.ui import sync_everything
from pipeline.tracking import store
from pipeline.tracking.store import StoredRun
from pipeline.vae.sampling import along, interpolate, principal_directions

SETTINGS = {
    "server.address": "127.0.0.1",
    "server.headless": "true",
    "server.fileWatcherType": "none",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorLinks": "false",  # to search engines and the like
}
WALKS = ("all ones", "principal direction", "luminance")
STEPS = 101  # of a path, from 0 to 1
WALKED = 2000  # images whose encodings tell directions


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline explore", description=__doc__)
    parser.add_argument("--port", type=int, default=8501)
    port = parser.parse_args(arguments).port
    sync_everything()
    runs_with_models()  # fails here where it would fail in the browser
    print(f"Explore: http://127.0.0.1:{port}\nStop with Ctrl-C.", flush=True)
    page = Path(__file__).with_name("explorer.py")
    settings = [f"--{key}={value}" for key, value in (SETTINGS | {"server.port": port}).items()]
    os.execv(sys.executable, [sys.executable, "-m", "streamlit", "run", str(page), *settings])


def runs_with_models() -> dict[str, dict[Model, list[StoredRun]]]:
    """Runs whose model is in the store, newest first, by data name and model; only data that both models have."""
    found: dict[str, dict[Model, list[StoredRun]]] = {}
    for run in reversed(store.stored_runs()):
        name, model = run.tags.get("data.name", ""), run.params.get("model")
        if "model_id" in run.tags and model in MODELS:
            found.setdefault(name, {}).setdefault(model, []).append(run)
    both = {name: runs for name, runs in found.items() if len(runs) == len(MODELS)}
    if not both:
        raise InputError("the MLflow store has no trained models of both kinds yet; type make demo or make repro first")
    return both


def load_model(run: StoredRun) -> Trained:
    """The network of a run, from its MLflow model."""
    return load_weights(store.model_file(run, "artifacts/weights.safetensors"), torch.device("cpu"))


def load_images(md5: str) -> Tensor:
    """Test images of the data with that md5, uint8 [N, 3, 32, 32]: prepared here, or in DVC's cache."""
    path = storage.main_checkout() / storage.IMAGES
    if not path.exists() or storage.md5(path) != md5:
        path = cache() / md5[:2] / md5[2:]
    if not path.exists():
        raise InputError(f"found no images with md5 {md5[:8]} in {storage.IMAGES} or DVC's cache; run dvc repro")
    arrays, _ = storage.load_tensors(path, ("test_images",))
    return torch.from_numpy(arrays["test_images"])


def cache() -> Path:
    """The folder of DVC's cache that has files by their md5."""
    root = storage.main_checkout()
    asked = [sys.executable, "-m", "dvc", "cache", "dir"]
    found = subprocess.run(asked, cwd=root, capture_output=True, text=True, check=False)
    return root / (found.stdout.strip() or ".dvc/cache") / "files/md5"


def between(ends: Tensor, on_arc: bool) -> Tensor:
    """Latents from one end to the other, both of [2, latent_dim]: [STEPS, latent_dim]."""
    path = spherical if on_arc else interpolate
    return path(ends[:1], ends[1:], STEPS)[0]


def walk(kind: str, means: Tensor, images: Tensor) -> Tensor:
    """Latents of A from 0 to 1, [STEPS, latent_dim]: z = A·1, or 6 deviations along a direction of posterior means.

    `means` [N, latent_dim] are those of images [N, 3, 32, 32].
    """
    if kind == WALKS[0]:
        return torch.linspace(0, 1, STEPS).unsqueeze(1) * torch.ones(1, means.shape[1])
    direction = principal_directions(means, 1)[0][0] if kind == WALKS[1] else luminance_direction(means, images)
    return along(means, direction, STEPS)


def label(run: StoredRun) -> str:
    """How a run is called where one is chosen."""
    return f"{run.name}, {run.started[:16].replace('T', ' ')} UTC"


def newest(runs: Sequence[StoredRun]) -> StoredRun:
    """The newest run that is not of the study, if there is one."""
    return next((run for run in runs if not run.tags.get("study.cell")), runs[0])
