"""How does this pipeline compare: one likelihood with the other, and with the assignment's recipe?

Ours train as long as the assignment did: 10 epochs fully connected, 5 convolutional. The results go to
reports/comparisons/ with their records, README's tables are made from there; the assignment's recipe is the study's.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from pipeline import comparisons, lineage, readme, storage
from pipeline.command import run_command
from pipeline.params import MODELS
from pipeline.records import Record
from pipeline.vae import figures
from pipeline.vae.assignment import EPOCHS
from pipeline.vae.generation import decode, posterior_means, prior_latents
from tests.bench.trainings import Outcome, prepared_pictures, train

COLUMNS = 10  # pictures in a row
STANDARD_PRIOR = "prior_components=0"  # N(0, I), the assignment's
# What differs from params.yaml: for each likelihood the best of the few recipes tried with batches of 128. Under the
# gaussian one, a peak learning rate of 0.004 made the fully connected network diverge.
RECIPES: dict[str, list[str]] = {
    "gaussian": ["likelihood=gaussian", STANDARD_PRIOR],
    "bernoulli": [
        "likelihood=bernoulli",
        STANDARD_PRIOR,
        "train.learning_rate=0.004",
        "train.warmup_epochs=0.5",
        "train.kl_warmup_epochs=0",
    ],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.compare", description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="parameters that choose the data")
    overrides: list[str] = parser.parse_args().overrides
    record = Record("compare", {"recipes": RECIPES, "overrides": overrides}, data_name="")
    with tempfile.TemporaryDirectory() as folder:
        ours: dict[str, dict[str, Outcome]] = {}
        for likelihood, recipe in RECIPES.items():
            ours[likelihood] = {
                model: train(
                    f"{likelihood}-{model}", model, [*overrides, *recipe, f"train.epochs={EPOCHS[model]}"], Path(folder)
                )
                for model in MODELS
            }
        _, images = prepared_pictures(overrides, Path(folder))
        shutil.copytree(Path(folder, comparisons.COMPARISONS.name), comparisons.COMPARISONS, dirs_exist_ok=True)
    trained = [comparison.trained for models in ours.values() for comparison in models.values()]
    record.data_name, record.data_md5 = trained[0].data_name, trained[0].data_md5
    record.weights_md5 = {
        f"{likelihood}-{m}": c.trained.md5 for likelihood, models in ours.items() for m, c in models.items()
    }

    numbers, picture = comparisons.COMPARISONS / "numbers.json", comparisons.COMPARISONS / "likelihoods.png"
    content = {
        "data_md5": record.data_md5,
        "recipes": RECIPES,
        "likelihoods": {likelihood: {m: c.metrics for m, c in models.items()} for likelihood, models in ours.items()},
    }
    storage.save_json(numbers, content)
    code = lineage.code_hash([Path(__file__), Path(figures.__file__)])
    text = lineage.figure_text(record.data_md5, record.weights_md5, {"recipes": RECIPES}, code)
    storage.save_figure(picture, drawn(ours, images), text)
    record.save([], [numbers, picture])
    readme.main()


def drawn(ours: Mapping[str, Mapping[str, Outcome]], test: Tensor) -> Figure:
    """Test pictures, their reconstructions and prior samples, one likelihood beside the other."""
    shown = test[:COLUMNS]
    panels = {}
    for likelihood, models in ours.items():
        rows = [("test pictures", shown)]
        for model, comparison in models.items():
            vae = comparison.trained.vae
            rows.append((f"{model}, decoded", decode(vae, posterior_means(vae, shown))))
        for model, comparison in models.items():
            vae = comparison.trained.vae
            samples = decode(vae, prior_latents(vae, 2 * COLUMNS, seed=0))
            rows += [(f"{model}, prior", samples[:COLUMNS]), (f"{model}, prior", samples[COLUMNS:])]
        panels[likelihood] = rows
    epochs = ", ".join(f"{model} {EPOCHS[model]} epochs" for model in MODELS)
    data = next(iter(ours["gaussian"].values())).trained.data_name
    title = f"Reconstructions and prior samples under two likelihoods: {data}, kl_weight 1, {epochs}"
    return figures.rows_of_pictures(title, panels)


if __name__ == "__main__":
    run_command(main)
