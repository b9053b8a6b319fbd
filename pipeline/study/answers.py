"""What did the experiments on theory find? Their numbers over seeds, figures, and strips of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from pipeline import storage
from pipeline.figures import plots
from pipeline.figures.grids import rows_of_images
from pipeline.metrics.intervals import over_draws
from pipeline.metrics.latents import encoded, mixture_latents
from pipeline.params import PARAMS_FILE, Theory, load_params, load_yaml, used_parameters
from pipeline.storage.weights import Trained, load_weights
from pipeline.study.gradients import ESTIMATORS
from pipeline.study.points import as_autoencoder
from pipeline.tracking import lineage
from pipeline.tracking.records import CELLS, Record
from pipeline.vae.device import prepare
from pipeline.vae.images import generator
from pipeline.vae.sampling import decode, posterior_means, prior_latents

ANSWERS = storage.REPORTS / "theory.json"
KL_WEIGHTS, STRIPS, ESTIMATES, CODES, SMOOTHNESS = (
    storage.FIGURES / f"{name}.png"
    for name in ("kl_weights", "kl_weights_pictures", "estimators", "autoencoder", "smoothness")
)
COLUMNS = 8  # images of each kind in a strip

Numbers = dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What the cells measured: a row for each training, and the files that it stands in."""

    sweep: list[Numbers]
    autoencoders: list[Numbers]
    gradients: list[Numbers]
    paths: list[Path]


def main() -> None:
    params = load_params()
    device = prepare(params.run.threads)
    study = load_yaml(CELLS.with_name(PARAMS_FILE.name))
    found = load_found(study)
    sweep = {name: weights_path(name) for name in study["sweep"]}
    weights = sweep | {name: weights_path(name) for name, cell in study["autoencoders"].items() if first_seed(cell)}
    cells = study["sweep"] | study["autoencoders"]
    trained = {name: load_weights(path, device) for name, path in weights.items() if first_seed(cells[name])}
    arrays, data = storage.load_tensors(storage.IMAGES, ("train_images", "test_images"))
    train, test = (torch.from_numpy(array) for array in arrays.values())
    data_md5 = storage.md5(storage.IMAGES)
    settings, used = params.theory, used_parameters(params, "theory")
    record = Record("answers", used, data["name"], data_md5)
    record.weights_md5 = {name: storage.md5(path) for name, path in weights.items()}

    epochs = next(iter(trained.values())).parameters["train.epochs"]
    where = f"{data['name']}, conv, {epochs} epochs"
    estimated = next(iter(study["gradients"].values()))["set"]
    drawn = charts(found, where, f"{data['name']}, conv, epochs: {estimated['train.epochs']}", settings.steps)
    drawn[STRIPS] = rows_of_images(f"Pictures by kl_weight: {where}", weight_strips(trained, test))
    strips = code_strips(trained, train, test, settings)
    drawn[CODES] = rows_of_images(f"An autoencoder, and the VAE with kl_weight 1: {where}", strips)
    pair = [name for name, model in trained.items() if is_autoencoder(model) or model.parameters["kl_weight"] == 1]
    shown = {
        KL_WEIGHTS: list(sweep),
        SMOOTHNESS: list(sweep),
        STRIPS: [name for name in trained if name in sweep],
        CODES: pair,
        ESTIMATES: [],  # its trainings keep no weights
    }
    code = lineage.code_hash("answers")
    for path, figure in drawn.items():
        md5s = {name: record.weights_md5[name] for name in shown[path]}
        storage.save_figure(path, figure, lineage.figure_text(data_md5, md5s, used, code))
    content = {"data": {"name": data["name"], "md5": data_md5}, "where": where, "settings": settings.model_dump()}
    content["learning_rate"] = estimated["train.learning_rate"]
    storage.save_json(ANSWERS, content | numbers(found))
    record.save([storage.IMAGES, *found.paths, *weights.values()], [ANSWERS, *drawn])


def load_found(study: Mapping[str, Any]) -> Found:
    paths = {name: metrics_path(name, "theory") for group in ("sweep", "autoencoders") for name in study[group]}
    paths |= {name: metrics_path(name, "gradients") for name in study["gradients"]}
    rows = {name: storage.load_json(path) for name, path in paths.items()}
    sweep = [rows[name] | {"kl_weight": cell["set"]["kl_weight"]} for name, cell in study["sweep"].items()]
    codes, gradients = ([rows[name] for name in study[group]] for group in ("autoencoders", "gradients"))
    return Found(sweep, codes, gradients, list(paths.values()))


def charts(found: Found, where: str, estimated: str, steps: int) -> dict[Path, Figure]:
    elbos: dict[str, list[list[float]]] = {
        name: [seed["vae"][name]["elbo"] for seed in found.gradients] for name in ESTIMATORS
    }
    known = [seed["known_model"] for seed in found.gradients]
    return {
        KL_WEIGHTS: plots.kl_weights(f"The weight of the KL term: {where}", found.sweep),
        ESTIMATES: plots.estimators(f"Estimators of gradients: {estimated}", known, elbos),
        SMOOTHNESS: plots.smoothness(f"Smoothness by kl_weight: {where}", found.sweep, 1 / (steps - 1)),
    }


def numbers(found: Found) -> Numbers:
    """Means over seeds with their intervals."""
    weights = sorted({row["kl_weight"] for row in found.sweep})
    sweep = [over_seeds([row for row in found.sweep if row["kl_weight"] == weight]) for weight in weights]
    known = zip(*(seed["known_model"] for seed in found.gradients), strict=True)
    return {
        "sweep": sweep,
        "autoencoder": over_seeds(found.autoencoders),
        "known_model": [over_seeds(rows) for rows in known],
        "estimators": {
            name: over_seeds([summary(seed["vae"][name]) for seed in found.gradients]) for name in ESTIMATORS
        },
    }


def weights_path(cell: str) -> Path:
    return CELLS / cell / storage.weights_path("conv")


def first_seed(cell: Mapping[str, Any]) -> bool:
    """Whether it is the training of its kind that images show."""
    return bool(cell["set"]["seed"] == 0)


def metrics_path(cell: str, stage: str) -> Path:
    return CELLS / cell / storage.METRICS / f"conv_{stage}.json"


def summary(training: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a training with an estimator, its steps counted."""
    return {key: value for key, value in training.items() if key != "elbo"} | {"steps": len(training["elbo"])}


def over_seeds(rows: Sequence[Mapping[str, float]]) -> Numbers:
    """Mean of each number over trainings that differ in seed, with its interval where there are several."""
    result: Numbers = {"trainings": len(rows)}
    for key in rows[0]:
        values = [row[key] for row in rows]
        if key in ("latent_dim", "kl_weight"):
            result[key] = values[0]
        elif len(values) == 1:
            result[key] = {"value": values[0], "interval": None}
        else:
            estimate = over_draws(values)
            result[key] = {"value": estimate.value, "interval": [estimate.low, estimate.high]}
    return result


def weight_strips(trained: Mapping[str, Trained], test: Tensor) -> dict[str, list[tuple[str, Tensor]]]:
    """For each kl_weight images of the same test images and of the same draws from the prior."""
    sweep = sorted(
        (model for model in trained.values() if not is_autoencoder(model)),
        key=lambda model: float(model.parameters["kl_weight"]),
    )
    images = test[:COLUMNS]
    reconstructions = [("test", images)] + [
        (_weight(model), decode(model.vae, posterior_means(model.vae, images))) for model in sweep
    ]
    samples = [("", torch.full_like(images, 255))] + [
        (_weight(model), decode(model.vae, prior_latents(model.vae, COLUMNS, seed=0))) for model in sweep
    ]
    return {"reconstructions": reconstructions, "prior samples": samples}


def code_strips(
    trained: Mapping[str, Trained], train: Tensor, test: Tensor, settings: Theory
) -> dict[str, list[tuple[str, Tensor]]]:
    """Reconstructions and samples of an autoencoder and of the VAE with kl_weight 1."""
    panels = {}
    for model in trained.values():
        plain = is_autoencoder(model)
        if not plain and model.parameters["kl_weight"] != 1:
            continue
        vae = as_autoencoder(model.vae) if plain else model.vae
        codes = encoded(vae, train, generator(0, "encoded training pictures"))
        count = settings.pictures
        latents = {
            "reconstructions": posterior_means(vae, test[:COLUMNS]),
            "from N(0, I)": prior_latents(vae, COLUMNS, seed=0),
            "from a Gaussian": mixture_latents(codes, 1, COLUMNS, seed=0),
            "from a mixture": mixture_latents(codes[:count], settings.components, COLUMNS, seed=0),
        }
        panels["autoencoder" if plain else "VAE"] = [
            ("test", test[:COLUMNS]),
            *((label, decode(vae, points)) for label, points in latents.items()),
        ]
    return panels


def is_autoencoder(trained: Trained) -> bool:
    return trained.parameters.get("recipe") == "autoencoder"


def _weight(model: Trained) -> str:
    return f"{model.parameters['kl_weight']:g}"
