"""How does this pipeline compare: with the assignment's recipe, and one likelihood with the other?

Both comparisons train as long as the assignment did: 10 epochs fully connected, 5 convolutional. The results go to
reports/comparisons.json, README's tables are made from there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from pipeline import lineage, readme, storage
from pipeline.errors import InputError
from pipeline.experiments import forget_experiment, run_experiment
from pipeline.params import MODELS, Model
from tests.bench.assignment import EPOCHS, ConvolutionalVAE, FullyConnectedVAE, train_and_test

# What differs from params.yaml: for each likelihood the best of the few recipes tried with batches of 128. Under the
# gaussian one, a peak learning rate of 0.004 made the fully connected network diverge.
RECIPES: dict[str, list[str]] = {
    "gaussian": ["likelihood=gaussian"],
    "bernoulli": [
        "likelihood=bernoulli",
        "train.learning_rate=0.004",
        "train.warmup_epochs=0.5",
        "train.kl_warmup_epochs=0",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare", description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="parameters that choose the data")
    overrides: list[str] = parser.parse_args().overrides
    ours = {likelihood: {model: measure(likelihood, model, overrides) for model in MODELS} for likelihood in RECIPES}
    data_md5, losses = assignment_losses(overrides)
    recipe = dict(zip(MODELS, losses, strict=True))
    assignment = {
        model: {
            "epochs": EPOCHS[model],
            "assignment": recipe[model],
            "ours": ours["bernoulli"][model]["assignment_loss"],
            "ours_standard_error": ours["bernoulli"][model]["assignment_loss_standard_error"],
        }
        for model in MODELS
    }
    content = {"data_md5": data_md5, "recipes": RECIPES, "likelihoods": ours, "assignment": assignment}
    storage.save_json(readme.COMPARISONS, content)
    readme.main()


def measure(likelihood: str, model: Model, overrides: list[str]) -> dict[str, float]:
    """Test metrics of one model, trained as a DVC experiment that stays out of the workspace."""
    name = f"compare-{likelihood}-{model}"
    settings = [*overrides, *RECIPES[likelihood], f"train.epochs={EPOCHS[model]}"]
    revision = run_experiment(name, settings, [f"evaluate@{model}"])
    metrics: dict[str, float] = _load(revision, f"reports/metrics/{model}.json")
    (record,) = _load(revision, f"reports/runs/evaluate@{model}.json")
    errors = {f"{key.removeprefix('test/')}_standard_error": value for key, value in record["standard_errors"].items()}
    forget_experiment(name)
    return metrics | errors


def assignment_losses(overrides: list[str]) -> tuple[str, list[float]]:
    """md5 of the prepared pictures, and on them the test loss of the assignment's networks: FC, convolutional."""
    revision = run_experiment("compare-data", overrides, ["download"])
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images.safetensors")
        get = ["dvc", "get", "--quiet", ".", str(storage.IMAGES), "--rev", revision, "--out", str(images)]
        subprocess.run(get, check=True)
        arrays, _ = storage.load_tensors(images)
        data_md5 = lineage.md5(images)
    forget_experiment("compare-data")
    train, validation, test = (
        torch.from_numpy(arrays[f"{split}_images"]).float() / 255 for split in ("train", "validation", "test")
    )
    train = torch.cat([train, validation])  # the assignment held none out
    losses = []
    for model, network in (("fc", FullyConnectedVAE), ("conv", ConvolutionalVAE)):
        torch.manual_seed(0)
        losses.append(train_and_test(network(), EPOCHS[model], train, test))
    return data_md5, losses


def _load(revision: str, path: str) -> Any:
    shown = subprocess.run(["git", "show", f"{revision}:{path}"], check=True, capture_output=True, text=True)
    return json.loads(shown.stdout)


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
