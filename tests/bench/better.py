"""What makes better pictures? Settings tried one by one on validation pictures, and the one that README names, on test.

Each of SETTINGS trains for a few epochs; BETTER has what helps, trained as long as the defaults. Distances are
Fréchet's, in the yardstick's features. Written to reports/comparisons/, from where README's tables are made.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from pipeline import comparisons, lineage, readme, storage
from pipeline.command import run_command
from pipeline.features import YARDSTICK, load_yardstick
from pipeline.hardware import prepare
from pipeline.params import PARAMS_FILE, Model, Params, changed, load_params, load_yaml
from pipeline.records import Record
from pipeline.results import SETS
from pipeline.train import architecture
from pipeline.vae import figures
from pipeline.vae.classifier import features_of
from pipeline.vae.distances import distances
from pipeline.vae.evaluation import picture_sets
from pipeline.vae.fitting import Training, validate
from pipeline.vae.generation import decode, posterior_means, prior_latents
from pipeline.vae.images import generator
from pipeline.vae.networks import VAE, build_vae, multiply_adds
from tests.bench.trainings import Outcome, prepared_pictures, train
from tests.bench.variants import Variant, averaging, with_batch_norm, with_relu, with_residual_blocks

MODEL: Model = "conv"
COLUMNS = 10  # pictures in a row
BETTER: Mapping[str, Any] = {"latent_dim": 256}  # as many epochs as params.yaml says
COMMON: Mapping[str, Any] = {"train.epochs": 4, "evaluate.draws": 1}
SETTINGS: Mapping[str, Variant] = {  # by what the table calls them
    "params.yaml as it is": Variant(),
    "the assignment's prior": Variant({"prior_components": 0}),
    "more components": Variant({"prior_components": 60}),
    "more latents": Variant({"latent_dim": 256}),
    "half the weight of the KL term": Variant({"kl_weight": 0.5}),
    "a longer KL warm-up": Variant({"train.kl_warmup_epochs": 3}),
    "averaged weights": Variant(averaged=True),
    "ReLU for GELU": Variant(rebuild=with_relu),
    "batch normalisation": Variant(rebuild=with_batch_norm),
    "residual blocks": Variant(rebuild=with_residual_blocks),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.better", description=__doc__)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="parameters that choose the data")
    overrides: list[str] = parser.parse_args().overrides
    tested = {"setting": BETTER, "settings": {name: SETTINGS[name].changes for name in SETTINGS}, "common": COMMON}
    record = Record("better", {**tested, "overrides": overrides}, data_name="")
    with tempfile.TemporaryDirectory() as folder:
        path, test = prepared_pictures(overrides, Path(folder))
        settings = [f"{key}={value}" for key, value in BETTER.items()]
        best = train("better", MODEL, [*overrides, *settings], Path(folder))
        shutil.copytree(Path(folder, comparisons.COMPARISONS.name), comparisons.COMPARISONS, dirs_exist_ok=True)
        rows, samples = tried(path)
        shown = drawn(best, path, test)
    record.data_name, record.data_md5 = best.trained.data_name, best.trained.data_md5
    record.weights_md5 = {"better": best.trained.md5}

    numbers, picture = comparisons.COMPARISONS / "better.json", comparisons.COMPARISONS / "better.png"
    picture_of_tried = comparisons.COMPARISONS / "tried.png"
    content = {"data_md5": record.data_md5, "setting": BETTER, "metrics": best.metrics, "common": COMMON, "tried": rows}
    storage.save_json(numbers, content)
    code = lineage.code_hash([Path(__file__), Path(figures.__file__)])
    text = lineage.figure_text(record.data_md5, record.weights_md5, {"setting": dict(BETTER)}, code)
    storage.save_figure(picture, shown, text)
    title = f"Prior samples, conv, {COMMON['train.epochs']} epochs: {record.data_name}"
    text = lineage.figure_text(record.data_md5, {}, {key: tested[key] for key in ("settings", "common")}, code)
    storage.save_figure(picture_of_tried, figures.rows_of_pictures(title, {"": list(samples.items())}), text)
    record.save([YARDSTICK], [numbers, picture, picture_of_tried])
    readme.main()


def tried(prepared: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """For each setting what differs and what validation pictures say, and some of its prior samples."""
    load_params()
    content = load_yaml(PARAMS_FILE)
    device = prepare(content["run"]["threads"])
    arrays, _ = storage.load_tensors(prepared, ("train_images", "validation_images"))
    training, validation = (torch.from_numpy(array).to(device) for array in arrays.values())
    yardstick = load_yardstick(device)
    reference = features_of(yardstick, validation)
    rows: dict[str, dict[str, Any]] = {}
    samples: dict[str, Tensor] = {}
    for name, variant in tqdm(SETTINGS.items(), unit=" settings", disable=None):
        params = Params.model_validate(changed(content, {**COMMON, **variant.changes}))
        vae, elbo = trained(variant, params, training, validation)
        train_means, means = (posterior_means(vae, images) for images in (training, validation))
        found = {
            made: distances(features_of(yardstick, pictures), reference, params.evaluate.pairwise_images)
            for made, pictures in picture_sets(vae, train_means, means, params.evaluate, params.seed)
        }
        rows[name] = {"changes": variant.changes, "elbo": elbo, "multiply_adds": multiply_adds(vae)}
        rows[name]["distances"] = found
        samples[name] = decode(vae, prior_latents(vae, COLUMNS, params.seed))
        tqdm.write(f"{name}: " + ", ".join(f"{made} {found[made]['frechet']:.2f}" for made in found))
    return rows, samples


def trained(variant: Variant, params: Params, training: Tensor, validation: Tensor) -> tuple[VAE, float]:
    """The network, and its elbo of validation pictures, nats per image."""
    vae = build_vae(architecture(params, MODEL), params.seed).to(training.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        variant.rebuild(vae)
    average = averaging(vae)
    fitting = Training(vae, training, validation, params.train, params.kl_weight, params.seed)
    *_, last = fitting.epochs(lambda _: average.update_parameters(vae) if variant.averaged else None)
    if not variant.averaged:
        return vae, last["validation/elbo"]
    vae.load_state_dict({**average.module.state_dict(), **vae.prior.state_dict(prefix="prior.")})
    noise = generator(params.seed, "validation noise")
    return vae, validate(vae, validation, params.train.batch_size, noise)["validation/elbo"]


def drawn(best: Outcome, prepared: Path, test: Tensor) -> Figure:
    """What the named setting makes, a row or two of each kind."""
    vae = best.trained.vae
    settings = Params.model_validate(changed(load_yaml(PARAMS_FILE), {**BETTER, "evaluate.draws": 1})).evaluate
    arrays, _ = storage.load_tensors(prepared, ("train_images",))
    train_means = posterior_means(vae, torch.from_numpy(arrays["train_images"]))
    rows = [("test pictures", test[:COLUMNS])]
    for made, pictures in picture_sets(vae, train_means, posterior_means(vae, test[: 2 * COLUMNS]), settings, seed=0):
        if made in SETS and made != "interpolations":
            rows += [(SETS[made], part) for part in pictures.split(COLUMNS)][: 1 if made == "reconstructions" else 2]
    parameters = best.trained.parameters
    title = (
        f"{best.trained.data_name}, {MODEL}, latent_dim {parameters['latent_dim']}, {parameters['train.epochs']} epochs"
    )
    return figures.rows_of_pictures(f"The setting for better pictures: {title}", {"": rows})


if __name__ == "__main__":
    run_command(main)
