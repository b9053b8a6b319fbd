"""What lies where in a model's latent space? Numbers for the study's claims, and for its answers about theory."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline import storage
from pipeline.errors import InputError
from pipeline.metrics import paths
from pipeline.metrics.bound import evaluate_images
from pipeline.metrics.distances import frechet_distance, kernel_distance, measure_distances, neighbourhoods
from pipeline.metrics.features import EfficientNetLite0, Featurize
from pipeline.metrics.intervals import over_images
from pipeline.metrics.latents import encoded, mixture_latents, share_outside
from pipeline.params import Measure, Model, Survey, load_params, used_parameters
from pipeline.storage.weights import load_feature_network, load_images, load_trained
from pipeline.tracking import sync
from pipeline.tracking.records import Record
from pipeline.vae.device import prepare
from pipeline.vae.images import CHANNELS, SIDE, generator
from pipeline.vae.networks import VAE
from pipeline.vae.objective import active_units
from pipeline.vae.sampling import along, decode, interpolate, posterior_means, prior_latents


def main(model: Model) -> None:
    """Survey one model: the measures that `survey.measures` names."""
    params = load_params()
    device = prepare(params.run.threads)
    featurize = EfficientNetLite0(load_feature_network()).to(device).featurize
    (train, validation, test), data = load_images("train_images", "validation_images", "test_images")
    trained = load_trained(model, device)
    if components := trained.vae.architecture.prior_components:
        raise InputError(
            f"{storage.weights_path(model)}: found a prior of {components} components, expected N(0, I), about whose "
            "centre and directions the survey asks; train with prior_components 0"
        )
    used = used_parameters(params, "survey")
    record = Record(f"survey@{model}", used, data.name, data.md5, data.test_md5, {model: trained.md5})

    space = Space(trained.vae, featurize, train, featurize(validation), test, params.survey, params.seed)
    found = {name: MEASURES[name](space) for name in params.survey.measures}
    survey = storage.METRICS / f"{model}_survey.json"
    storage.save_json(survey, found)
    record.metrics = {
        f"test/{measure}/{name}": value
        for measure, values in found.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if isinstance(value, float)
    }
    record.save([*storage.IMAGES, storage.weights_path(model)], [survey])
    sync.update_store()


@dataclass(frozen=True)
class Space:
    """A trained model and what its latent space is measured with; images are uint8 [N, 3, 32, 32]."""

    vae: VAE
    features: Featurize
    train: Tensor
    real: Tensor  # features of the validation images, [M, D]
    test: Tensor
    settings: Survey
    seed: int

    @property
    def few(self) -> Tensor:
        """The first `settings.images` test images."""
        return self.test[: self.settings.images]

    def decoded(self, latents: Tensor) -> Tensor:
        """Features of what latents [N, latent_dim] decode to, [N, D]."""
        return self.features(decode(self.vae, latents))

    def images_along(self, latents: Tensor) -> Tensor:
        """Images of paths of latents [R, steps, latent_dim], uint8 [R, steps, 3, 32, 32]."""
        return decode(self.vae, latents.flatten(0, 1)).view(*latents.shape[:2], CHANNELS, SIDE, SIDE)

    def pairs(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means of up to `settings.pairs` pairs of images, both [R, latent_dim]."""
        means = posterior_means(self.vae, images)
        count = min(self.settings.pairs, len(means) // 2)
        return means[:count], means[count : 2 * count]


def by_radius(space: Space) -> list[dict[str, float]]:
    """Quality of images at some distance from the centre, 0 to twice the typical shell, in the same directions."""
    settings, latent_dim = space.settings, space.vae.architecture.latent_dim
    rows = []
    for radius in torch.linspace(0, 2 * math.sqrt(latent_dim), settings.radii).tolist():
        features = space.decoded(paths.on_sphere(radius, settings.directions, latent_dim, space.seed))
        rows.append({"radius": radius, **measure_distances(features, space.real, settings.pairwise_images)})
    return rows


def along_luminance(space: Space) -> dict[str, Any]:
    """Rank correlation of the step A with luminance: along the assignment's z = A·1, along other diagonals z = A·s of
    random signs s, and along the direction in which posterior means move as images get brighter.
    """
    means, count = posterior_means(space.vae, space.train), space.settings.diagonals
    steps = torch.linspace(0, 1, space.settings.steps)
    signs = torch.randint(2, (count, means.shape[1]), generator=generator(space.seed, "signs")) * 2.0 - 1

    def diagonal(sign: Tensor) -> Tensor:
        return paths.luminance(decode(space.vae, steps.unsqueeze(1) * sign))

    ones = diagonal(torch.ones(1, means.shape[1]))
    direction = paths.luminance_direction(means, space.train)
    walk = paths.luminance(decode(space.vae, along(means, direction, space.settings.steps)))
    explained = torch.corrcoef(torch.stack([means @ direction, paths.luminance(space.train)]))[0, 1]
    return {
        "ones": paths.rank_correlation(steps, ones),
        "ones_luminance": ones.tolist(),
        "diagonals": [paths.rank_correlation(steps, diagonal(sign)) for sign in signs.split(1)],
        "direction": paths.rank_correlation(steps, walk),
        "direction_luminance": walk.tolist(),
        "direction_correlation": explained.item(),
    }


def between_images(space: Space) -> dict[str, dict[str, float]]:
    """Largest step between decoded images, in feature space and units of the whole way, on straight lines and arcs
    between posterior means of test images, and when the decoded ends are faded into one another.
    """
    start, end = space.pairs(space.test)
    apart = (space.decoded(start) - space.decoded(end)).norm(dim=1) > 0
    if apart.sum() < 2:
        raise InputError("test images decode to equal images, expected some that differ: the posterior collapsed")
    start, end, count = start[apart], end[apart], space.settings.steps
    walked = {
        "linear": space.images_along(interpolate(start, end, count)),
        "spherical": space.images_along(paths.spherical(start, end, count)),
        "pixels": paths.crossfade(decode(space.vae, start), decode(space.vae, end), count),
    }
    steps = {name: paths.largest_steps(images, space.features) for name, images in walked.items()}
    steps |= {f"{name}_over_pixels": steps[name] / steps["pixels"] for name in ("linear", "spherical")}
    estimates = {name: over_images(values, seed=0) for name, values in steps.items()}
    return {name: {"value": e.value, "low": e.low, "high": e.high} for name, e in estimates.items()}


def of_bound(space: Space) -> dict[str, float]:
    """Means over test images: rate, distortion and elbo in nats per image, mse of reconstructions; active units."""
    evaluation = evaluate_images(space.vae, space.few, 500, space.seed)
    point = space.vae.architecture.posterior == "point"  # the KL divergence of a point mass is infinite
    names = ["distortion", "mse"] if point else ["rate", "distortion", "elbo", "mse"]
    means = {name: evaluation.per_image[name].mean().item() for name in names}
    return means | {"active_units": float(active_units(evaluation.posteriors.mean))}


def of_samples(space: Space) -> dict[str, float]:
    """Distances from validation images: of reconstructions of training images, and of latents from N(0, I), from a
    Gaussian and from a mixture fitted to encoded training images; and the share of N(0, I) that is away from all of
    these.
    """
    vae, settings, seed = space.vae, space.settings, space.seed
    count = len(space.real)
    codes = encoded(vae, space.train, generator(seed, "encoded training images"))
    prior = prior_latents(vae, count, seed)
    sets = {
        "reconstructions": posterior_means(vae, space.train[:count]),
        "prior": prior,
        "gaussian": mixture_latents(codes, 1, count, seed),
        "mixture": mixture_latents(codes[:count], settings.components, count, seed),
    }
    found = {}
    for name, latents in sets.items():
        features, few = space.decoded(latents), settings.pairwise_images
        found[f"{name}_frechet"] = frechet_distance(features, space.real)
        found[f"{name}_kernel"] = kernel_distance(features[:few], space.real[:few])
    held_out = encoded(vae, space.few, generator(seed, "encoded test images"))
    return found | {
        "prior_outside": share_outside(prior, codes, held_out, settings.outside),
        "code_deviation": codes.std(0).square().mean().sqrt().item(),
    }


def of_smoothness(space: Space) -> dict[str, float]:
    """Steps in feature space and density among real images.

    The largest step on lines between posterior means, in units of the whole way; a step of length 1 in a random
    direction, in units of the mean distance between decoded test images; the density (Naeem et al. 2020) of images
    between two ends, and of these ends.
    """
    start, end = space.pairs(space.few)
    walked = space.images_along(interpolate(start, end, space.settings.steps))
    at_start, at_end = space.features(walked[:, 0]), space.features(walked[:, -1])
    stepped = space.decoded(start + paths.on_sphere(1.0, len(start), start.shape[1], space.seed))
    between, ends = space.features(walked[:, 1:-1].flatten(0, 1)), torch.cat([at_start, at_end])
    apart = (at_start - at_end).norm(dim=1)
    return {
        "unit_step": ((stepped - at_start).norm(dim=1).mean() / apart.mean()).item(),
        "density_between": neighbourhoods(between, space.real)["density"],
        "density_ends": neighbourhoods(ends, space.real)["density"],
        "largest_step": paths.largest_steps(walked[apart > 0], space.features).mean().item(),
    }


MEASURES: Mapping[Measure, Callable[[Space], Any]] = {
    "radius": by_radius,
    "luminance": along_luminance,
    "interpolation": between_images,
    "bound": of_bound,
    "sampling": of_samples,
    "smoothness": of_smoothness,
}
