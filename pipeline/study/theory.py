"""What do the KL term and the noise make of latent space? Numbers for a VAE or an autoencoder of the study."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline import storage
from pipeline.metrics.bound import evaluate_images
from pipeline.metrics.distances import frechet_distance
from pipeline.metrics.features import Classifier, features_of, logits_of, restore_classifier
from pipeline.metrics.latents import encoded, mixture_latents, share_outside
from pipeline.metrics.paths import largest_steps, on_sphere
from pipeline.params import Model, Theory, load_params, used_parameters
from pipeline.storage.weights import YARDSTICK, load_trained, load_yardstick
from pipeline.study.points import as_autoencoder
from pipeline.tracking import sync
from pipeline.tracking.records import Record
from pipeline.vae.device import prepare
from pipeline.vae.images import CHANNELS, SIDE, generator
from pipeline.vae.networks import VAE
from pipeline.vae.objective import active_units
from pipeline.vae.sampling import decode, interpolate, posterior_means, prior_latents


def main(model: Model) -> None:
    params = load_params()
    device = prepare(params.run.threads)
    yardstick = restore_classifier(*load_yardstick(), device)
    arrays, data = storage.load_tensors(storage.IMAGES, ("train_images", "test_images"))
    train, test = (torch.from_numpy(array) for array in arrays.values())
    trained = load_trained(model, device)
    record = Record(
        f"theory@{model}", used_parameters(params, "theory"), data["name"], storage.md5(storage.IMAGES),
        weights_md5={model: trained.md5}, trained_with=trained.parameters,
    )  # fmt: skip

    is_autoencoder = trained.parameters.get("recipe") == "autoencoder"
    vae = as_autoencoder(trained.vae).to(device) if is_autoencoder else trained.vae
    settings, seed = params.theory, params.seed
    test = test[: settings.pictures].to(device)
    found = bound_metrics(vae, test, seed)
    if is_autoencoder:
        del found["rate"], found["elbo"]  # of points they are infinite
    found |= sampling_metrics(vae, yardstick, train, test, settings, seed)
    found |= smoothness(vae, yardstick, test, settings, seed)
    metrics = storage.METRICS / f"{model}_theory.json"
    storage.save_json(metrics, found)
    record.metrics = {f"test/theory/{name}": value for name, value in found.items()}
    record.save([storage.IMAGES, storage.weights_path(model), YARDSTICK], [metrics])
    sync.update_store()


def bound_metrics(vae: VAE, test: Tensor, seed: int) -> dict[str, float]:
    """Means over uint8 images [N, 3, 32, 32]: rate, distortion and elbo in nats per image, mse of reconstructions."""
    evaluation = evaluate_images(vae, test, 500, seed)
    means = {name: evaluation.per_image[name].mean().item() for name in ("rate", "distortion", "elbo", "mse")}
    return means | {"active_units": float(active_units(evaluation.posteriors.mean))}


def sampling_metrics(
    vae: VAE, yardstick: Classifier, train: Tensor, test: Tensor, settings: Theory, seed: int
) -> dict[str, float]:
    """Fréchet distances from test images: of reconstructions, and of latents from N(0, I), from a Gaussian and from a
    mixture fitted to encoded training images; and the share of N(0, I) that is away from all of these.
    """
    count = len(test)
    codes = encoded(vae, train, generator(seed, "encoded training pictures"))
    prior = prior_latents(vae, count, seed)
    sets = {
        "reconstructions": posterior_means(vae, test),
        "prior": prior,
        "gaussian": mixture_latents(codes, 1, count, seed),
        "mixture": mixture_latents(codes[:count], settings.components, count, seed),
    }
    reference = features_of(yardstick, test)
    found = {
        f"{name}_frechet": frechet_distance(features_of(yardstick, decode(vae, latents)), reference)
        for name, latents in sets.items()
    }
    held_out = encoded(vae, test, generator(seed, "encoded test pictures"))
    return found | {
        "prior_outside": share_outside(prior, codes, held_out, settings.outside),
        "code_deviation": codes.std(0).square().mean().sqrt().item(),
    }


def smoothness(vae: VAE, yardstick: Classifier, test: Tensor, settings: Theory, seed: int) -> dict[str, float]:
    """Steps in feature space and plausibility, of uint8 images [N, 3, 32, 32].

    The largest step on lines between posterior means, in units of the whole way; a step of length 1 in a random
    direction, in units of the mean distance between decoded test images; the share of the images between two ends
    of which the classifier is at least as sure as of all but `settings.plausible` of the real ones.
    """
    means = posterior_means(vae, test)
    pairs = min(settings.pairs, len(means) // 2)
    start, end = means[:pairs], means[pairs : 2 * pairs]
    lines = interpolate(start, end, settings.steps)
    paths = decode(vae, lines.flatten(0, 1)).view(pairs, settings.steps, CHANNELS, SIDE, SIDE)

    def featurize(images: Tensor) -> Tensor:
        return features_of(yardstick, images)

    def confidence(features: Tensor) -> Tensor:
        return logits_of(yardstick, features).softmax(1).amax(1)

    at_start, at_end = featurize(paths[:, 0]), featurize(paths[:, -1])
    stepped = featurize(decode(vae, start + on_sphere(1.0, pairs, start.shape[1], seed)))
    least = confidence(featurize(test)).quantile(settings.plausible)
    between = confidence(featurize(paths[:, 1:-1].flatten(0, 1)))
    apart = (at_start - at_end).norm(dim=1)
    found = {
        "unit_step": ((stepped - at_start).norm(dim=1).mean() / apart.mean()).item(),
        "plausible_between": (between >= least).double().mean().item(),
        "plausible_ends": (confidence(torch.cat([at_start, at_end])) >= least).double().mean().item(),
    }
    return found | {"largest_step": largest_steps(paths[apart > 0], featurize).mean().item()}
