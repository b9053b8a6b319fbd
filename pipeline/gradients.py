"""How much do estimators of gradients vary, and what becomes of a training? In a known model, and in a VAE."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pipeline import lineage, storage
from pipeline.hardware import place, prepare
from pipeline.params import Gradients, Model, Params, load_params, used_parameters
from pipeline.records import Record
from pipeline.vae.fitting import validate
from pipeline.vae.gradients import (
    ESTIMATORS,
    Estimator,
    gradient_estimates,
    linear_gaussian,
    posterior_gradients,
    relative_variance,
    train_with,
)
from pipeline.vae.images import generator, to_float
from pipeline.vae.networks import VAE
from pipeline.vae.plain import plain_vae


def main(model: Model) -> None:
    params = load_params()
    device = prepare(params.run.threads)
    arrays, data = storage.load_tensors(storage.IMAGES, ("train_images", "validation_images"))
    train, validation = (place(torch.from_numpy(array), device) for array in arrays.values())
    used = used_parameters(params, "gradients", model)
    record = Record(f"gradients@{model}", used, data["name"], lineage.md5(storage.IMAGES))

    metrics = storage.METRICS / f"{model}_gradients.json"
    known = in_a_known_model(params.gradients, params.seed)
    trainings = {estimator: trained(estimator, params, model, train, validation, device) for estimator in ESTIMATORS}
    storage.save_json(metrics, {"known_model": known, "vae": trainings})
    record.save([storage.IMAGES], [metrics])


def in_a_known_model(settings: Gradients, seed: int) -> list[dict[str, float]]:
    """Relative variance of each estimator in a linear Gaussian model, by latent size."""
    rows = []
    for latent_dim in (2**power for power in range(int(math.log2(settings.largest_latent_dim)) + 1)):
        rng = generator(seed, f"linear Gaussian model of {latent_dim}")
        model = linear_gaussian(settings.pixels, latent_dim, rng)
        mean, log_std = torch.zeros(2, latent_dim, dtype=torch.float64)
        noise = torch.randn(settings.draws, settings.estimates, latent_dim, generator=rng).double()
        exact = model.gradient(mean, log_std)
        found = {name: gradient_estimates(name, model, mean, log_std, noise) for name in ESTIMATORS}
        variances = {name: relative_variance(estimates, exact) for name, estimates in found.items()}
        rows.append({"latent_dim": latent_dim} | variances)
    return rows


def trained(
    estimator: Estimator, params: Params, model: Model, train: Tensor, validation: Tensor, device: torch.device
) -> dict[str, Any]:
    """A training with an estimator: elbo of its steps, relative variance before and after, validation at its end."""
    vae = plain_vae(params, model).to(device)
    images = to_float(validation[: params.gradients.variance_images].to(device))
    before = variance_in(vae, estimator, images, params.gradients, params.seed)
    elbos = train_with(estimator, vae, train, params.train, params.kl_weight, params.gradients.draws, params.seed)
    after = variance_in(vae, estimator, images, params.gradients, params.seed)
    held_out = validate(vae, validation, params.train.batch_size, generator(params.seed, "validation noise"))
    return {"variance_before": before, "variance_after": after, "elbo": elbos} | held_out


def variance_in(vae: VAE, estimator: Estimator, images: Tensor, settings: Gradients, seed: int) -> float:
    """Relative variance of a VAE's gradients; the mean over many reparameterized draws stands for the exact ones."""
    rng = generator(seed, "gradient noise")
    shape = (settings.draws, len(images), vae.architecture.latent_dim)
    vae.eval()

    def estimates(name: Estimator, count: int) -> list[Tensor]:
        noises = (torch.randn(shape, generator=rng).to(vae.device) for _ in range(count))
        return [posterior_gradients(name, vae, images, noise) for noise in noises]

    exact = torch.stack(estimates("reparameterized", settings.reference_estimates)).mean(0)
    found = estimates(estimator, settings.variance_estimates)
    return sum(relative_variance(estimate, exact) for estimate in found) / len(found)
