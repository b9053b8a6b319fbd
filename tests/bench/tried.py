"""What makes better pictures? Settings tried one by one, for a few epochs each, judged on validation pictures alone.

What helped, together and trained for longer, is README's setting for better pictures.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from tqdm import tqdm

from pipeline import lineage, readme, storage
from pipeline.command import plain_command
from pipeline.features import YARDSTICK, load_yardstick
from pipeline.hardware import prepare
from pipeline.params import PARAMS_FILE, Model, Params, changed, load_params, load_yaml
from pipeline.records import Record
from pipeline.train import architecture
from pipeline.vae.classifier import features_of
from pipeline.vae.distances import frechet_distance
from pipeline.vae.evaluation import picture_sets
from pipeline.vae.fitting import fit
from pipeline.vae.generation import posterior_means
from pipeline.vae.networks import build_vae, multiply_adds

MODEL: Model = "conv"
COMMON: Mapping[str, Any] = {"train.epochs": 6, "evaluate.draws": 1}
SETTINGS: Mapping[str, Mapping[str, Any]] = {  # by what the table calls them: what differs from params.yaml
    "params.yaml as it is": {},
    "another seed": {"seed": 1},
    "more weight on the rate": {"kl_weight": 4.0},
    "less": {"kl_weight": 0.25},
    "fewer latents": {"latent_dim": 64},
    "more latents": {"latent_dim": 256},
    "far more latents": {"latent_dim": 512},
    "wider layers": {"networks.conv.channels": [64, 128, 256]},
    "one layer more": {"networks.conv.channels": [32, 64, 128, 256]},
    "a finer mixture": {"evaluate.mixture_components": 20, "evaluate.mixture_images": 45_000},
    "a finer mixture, more latents": {
        "latent_dim": 256,
        "evaluate.mixture_components": 20,
        "evaluate.mixture_images": 45_000,
    },
}


def main() -> None:
    load_params()
    content = load_yaml(PARAMS_FILE)
    device = prepare(content["run"]["threads"])
    arrays, data = storage.load_tensors(storage.IMAGES, ("train_images", "validation_images"))
    train, validation = (torch.from_numpy(array).to(device) for array in arrays.values())
    record = Record("tried", COMMON, data["name"], lineage.md5(storage.IMAGES))
    yardstick = load_yardstick(device)
    reference = features_of(yardstick, validation)
    rows: dict[str, dict[str, Any]] = {}
    for name, changes in tqdm(SETTINGS.items(), unit=" settings", disable=None):
        params = Params.model_validate(changed(content, {**COMMON, **changes}))
        vae = build_vae(architecture(params, MODEL), params.seed).to(device)
        *_, last = fit(vae, train, validation, params.train, params.kl_weight, params.seed)
        train_means, means = (posterior_means(vae, images) for images in (train, validation))
        distances = {
            made: frechet_distance(features_of(yardstick, pictures), reference)
            for made, pictures in picture_sets(vae, train_means, means, params.evaluate, params.seed)
        }
        rows[name] = {"changes": changes, "elbo": last["validation/elbo"], "multiply_adds": multiply_adds(vae)}
        rows[name]["frechet"] = distances
        tqdm.write(f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in distances.items()))
    numbers = readme.COMPARISONS / "tried.json"
    storage.save_json(numbers, {"data_md5": record.data_md5, "common": COMMON, "settings": rows})
    record.save([storage.IMAGES, YARDSTICK], [numbers])
    readme.main()


if __name__ == "__main__":
    plain_command(main)
