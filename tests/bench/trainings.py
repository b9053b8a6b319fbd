"""How does a benchmark train a model? As a DVC experiment that stays out of the workspace and leaves its records."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from pipeline import comparisons, storage, tracking
from pipeline.experiments import committed, forget_experiment, run_experiment
from pipeline.params import Model
from pipeline.records import Record, record_path
from pipeline.weights import Trained, load_weights


@dataclass(frozen=True)
class Outcome:
    trained: Trained
    metrics: dict[str, float]  # of the test pictures, with their standard errors


def train(name: str, model: Model, settings: Sequence[str], folder: Path) -> Outcome:
    """Train and evaluate a model; its records go to `folder`/comparisons/<name>/runs."""
    revision = run_experiment(name, [*settings], [f"evaluate@{model}"])
    runs = folder / comparisons.COMPARISONS.name / name / storage.RUNS.name
    runs.mkdir(parents=True)
    for stage in ("train", "evaluate"):
        path = record_path(f"{stage}@{model}")
        (runs / path.name).write_bytes(committed(revision, path.as_posix()))
    tracking.sync(runs)
    metrics: dict[str, float] = json.loads(committed(revision, f"{storage.METRICS.as_posix()}/{model}.json"))
    standard_errors = Record.load(runs / f"evaluate@{model}.json").standard_errors
    errors = {f"{key.removeprefix('test/')}_standard_error": value for key, value in standard_errors.items()}
    weights = folder / f"{name}.safetensors"
    _get(storage.weights_path(model), revision, weights)
    forget_experiment(name)
    return Outcome(load_weights(weights, torch.device("cpu")), metrics | errors)


def prepared_pictures(overrides: Sequence[str], folder: Path) -> tuple[Path, Tensor]:
    """The file of all prepared pictures, and the test pictures, uint8 [N, 3, 32, 32]."""
    revision = run_experiment("bench-data", [*overrides], ["download"])
    path = folder / storage.IMAGES.name
    _get(storage.IMAGES, revision, path)
    forget_experiment("bench-data")
    arrays, _ = storage.load_tensors(path, ("test_images",))
    return path, torch.from_numpy(arrays["test_images"])


def _get(path: Path, revision: str, target: Path) -> None:
    """A file that DVC keeps, as it was at `revision`."""
    get = ["dvc", "get", "--quiet", ".", str(path), "--rev", revision, "--out", str(target)]
    subprocess.run(get, check=True)
