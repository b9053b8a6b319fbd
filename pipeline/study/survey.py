"""What lies where in a model's latent space? Numbers for claims about centre, luminance and interpolation."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from pipeline import storage
from pipeline.errors import InputError
from pipeline.metrics.distances import measure_distances
from pipeline.metrics.features import Classifier, features_of, logits_of, restore_classifier
from pipeline.metrics.intervals import Estimate, over_images
from pipeline.metrics.paths import (
    crossfade,
    largest_steps,
    luminance,
    luminance_direction,
    on_sphere,
    rank_correlation,
    spherical,
)
from pipeline.params import Model, Survey, load_params, used_parameters
from pipeline.storage.weights import YARDSTICK, load_trained, load_yardstick
from pipeline.tracking import sync
from pipeline.tracking.records import Record
from pipeline.vae.device import prepare
from pipeline.vae.images import CHANNELS, SIDE, generator
from pipeline.vae.networks import VAE
from pipeline.vae.sampling import along, decode, interpolate, posterior_means


def main(model: Model) -> None:
    params = load_params()
    device = prepare(params.run.threads)
    yardstick = restore_classifier(*load_yardstick(), device)
    arrays, data = storage.load_tensors(storage.IMAGES, ("train_images", "test_images"))
    train, test = (torch.from_numpy(array).to(device) for array in arrays.values())
    trained = load_trained(model, device)
    if components := trained.vae.architecture.prior_components:
        raise InputError(
            f"{storage.weights_path(model)}: found a prior of {components} components, expected N(0, I), about whose "
            "centre and directions the survey asks; train with prior_components 0"
        )
    record = Record(
        f"survey@{model}", used_parameters(params, "survey"), data["name"], storage.md5(storage.IMAGES),
        weights_md5={model: trained.md5}, trained_with=trained.parameters,
    )  # fmt: skip

    vae, settings, seed = trained.vae, params.survey, params.seed
    test_means = posterior_means(vae, test)
    findings = {
        "radius": by_radius(vae, yardstick, test, settings, seed),
        "luminance": along_luminance(vae, posterior_means(vae, train), train.cpu(), settings, seed),
        "interpolation": between_images(vae, yardstick, test_means, settings),
    }
    survey = storage.METRICS / f"{model}_survey.json"
    storage.save_json(survey, findings)
    record.save([storage.IMAGES, storage.weights_path(model), YARDSTICK], [survey])
    sync.update_store()


def by_radius(vae: VAE, yardstick: Classifier, test: Tensor, settings: Survey, seed: int) -> list[dict[str, float]]:
    """Quality of images at some distance from the centre, 0 to twice the typical shell, in the same directions."""
    reference = features_of(yardstick, test)
    latent_dim = vae.architecture.latent_dim
    rows = []
    for radius in torch.linspace(0, 2 * math.sqrt(latent_dim), settings.radii).tolist():
        features = features_of(yardstick, decode(vae, on_sphere(radius, settings.directions, latent_dim, seed)))
        confidence = logits_of(yardstick, features).softmax(1).amax(1).mean().item()
        rows.append(
            {"radius": radius, "confidence": confidence, **measure_distances(features, reference, settings.directions)}
        )
    return rows


def along_luminance(vae: VAE, means: Tensor, images: Tensor, settings: Survey, seed: int) -> dict[str, Any]:
    """Rank correlation of the step A with luminance: along the assignment's z = A·1, along other diagonals z = A·s of
    random signs s, and along the direction of posterior means [N, latent_dim] that explains luminance best.
    """
    steps = torch.linspace(0, 1, settings.steps)
    signs = torch.randint(2, (settings.diagonals, means.shape[1]), generator=generator(seed, "signs")) * 2.0 - 1
    ones = luminance(decode(vae, steps.unsqueeze(1) * torch.ones(1, means.shape[1])))
    diagonals = [
        rank_correlation(steps, luminance(decode(vae, steps.unsqueeze(1) * sign.unsqueeze(0)))) for sign in signs
    ]
    direction = luminance_direction(means, images)
    walk = luminance(decode(vae, along(means, direction, settings.steps)))
    return {
        "ones": rank_correlation(steps, ones),
        "ones_luminance": ones.tolist(),
        "diagonals": diagonals,
        "direction": rank_correlation(steps, walk),
        "direction_luminance": walk.tolist(),
        "direction_correlation": torch.corrcoef(torch.stack([means @ direction, luminance(images)]))[0, 1].item(),
    }


def between_images(vae: VAE, yardstick: Classifier, means: Tensor, settings: Survey) -> dict[str, dict[str, float]]:
    """Largest step between decoded images, in feature space and units of the whole way, on straight lines and arcs
    between posterior means of test images [N, latent_dim], and when the decoded ends are faded into one another.
    """
    count = min(settings.pairs, len(means) // 2)
    start, end = means[:count], means[count : 2 * count]
    apart = (_features(vae, yardstick, start) - _features(vae, yardstick, end)).norm(dim=1) > 0
    if apart.sum() < 2:
        raise InputError("test pictures decode to equal pictures, expected some that differ: the posterior collapsed")
    start, end = start[apart], end[apart]
    shape = (len(start), settings.steps)

    def decoded(latents: Tensor) -> Tensor:
        return decode(vae, latents.flatten(0, 1)).view(*shape, CHANNELS, SIDE, SIDE)

    def featurize(images: Tensor) -> Tensor:
        return features_of(yardstick, images)

    paths = {
        "linear": decoded(interpolate(start, end, settings.steps)),
        "spherical": decoded(spherical(start, end, settings.steps)),
        "pixels": crossfade(decode(vae, start), decode(vae, end), settings.steps),
    }
    steps = {name: largest_steps(images, featurize) for name, images in paths.items()}
    found = {name: over_images(values, seed=0) for name, values in steps.items()}
    for name in ("linear", "spherical"):
        found[f"{name}_over_pixels"] = over_images(steps[name] / steps["pixels"], seed=0)
    return {name: _with_interval(estimate) for name, estimate in found.items()}


def _features(vae: VAE, yardstick: Classifier, latents: Tensor) -> Tensor:
    return features_of(yardstick, decode(vae, latents))


def _with_interval(estimate: Estimate) -> dict[str, float]:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}
