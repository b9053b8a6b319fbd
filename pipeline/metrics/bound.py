"""How good is a trained VAE? Its bound and its reconstructions of each image, its latents of all of them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import neg

import torch
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from pipeline.metrics.intervals import Estimate
from pipeline.metrics.latents import mixture_latents, mutual_information
from pipeline.params import Evaluate
from pipeline.vae import objective
from pipeline.vae.distributions import DiagonalGaussian
from pipeline.vae.images import batches, generator, to_float, to_uint8
from pipeline.vae.networks import VAE
from pipeline.vae.sampling import decode, draw, midpoints, prior_latents

MOST_PSNR = 20 * math.log10(10 * 255)  # dB, a tenth of a level off: of equal images it would be infinite


@dataclass(frozen=True)
class Evaluation:
    """Per-image results of a split, all float64 on the CPU."""

    per_image: dict[str, Tensor]  # elbo, rate, distortion (nats), mse (0..1 squared), psnr (dB), ssim; each [N]
    dimension_rates: Tensor  # mean rate of each latent dimension, nats, [latent_dim]
    posteriors: DiagonalGaussian  # of the N images


@torch.no_grad()
def evaluate_images(vae: VAE, images: Tensor, batch_size: int, seed: int) -> Evaluation:
    """Each of the uint8 images [N, 3, 32, 32] once: one posterior draw for the bound, the posterior mean for the rest.

    Image metrics compare 8-bit images: reconstructions are rounded first. The result does not depend on batch_size.
    """
    vae.eval()
    rows: dict[str, list[Tensor]] = {}
    noise = torch.randn(len(images), vae.architecture.latent_dim, generator=generator(seed, "evaluation noise"))
    for batch, eps in zip(batches(images, batch_size), noise.split(batch_size), strict=True):
        posterior = vae.encode(batch)
        reconstruction = to_float(to_uint8(vae.decode(posterior.mean).mean))
        psnr = peak_signal_noise_ratio(reconstruction, batch, data_range=1.0, reduction="none", dim=(1, 2, 3))
        ssim = structural_similarity_index_measure(reconstruction, batch, data_range=1.0, reduction="none")
        assert isinstance(ssim, Tensor)  # a pair only where the gradient's map is asked for
        results = {
            "rate": objective.rate(posterior, vae.prior),
            "distortion": objective.distortion(vae.decode(posterior.sample(eps.to(batch.device))), batch),
            "mse": (reconstruction - batch).square().flatten(1).mean(1),
            "psnr": psnr.clamp_max(MOST_PSNR),
            "ssim": ssim.reshape(-1),
            "dimension_rates": objective.rate_per_dimension(posterior, vae.prior),
            "posterior_means": posterior.mean,
            "posterior_log_stds": posterior.log_std,
        }
        for name, values in results.items():
            rows.setdefault(name, []).append(values.cpu().double())
    columns = {name: torch.cat(values) for name, values in rows.items()}
    assert all(len(column) == len(images) for column in columns.values()), "every image counts once"
    dimension_rates = columns.pop("dimension_rates").mean(0)
    posteriors = DiagonalGaussian(columns.pop("posterior_means"), columns.pop("posterior_log_stds"))
    return Evaluation({"elbo": -(columns["rate"] + columns["distortion"]), **columns}, dimension_rates, posteriors)


@torch.no_grad()
def tight_bound(vae: VAE, images: Tensor, num_importance_samples: int, batch_size: int, seed: int) -> Tensor:
    """Importance-weighted elbo of uint8 images [N, 3, 32, 32], nats, float64 [N] on the CPU."""
    vae.eval()
    shape = (num_importance_samples, len(images), vae.architecture.latent_dim)
    noise = torch.randn(shape, generator=generator(seed, "importance samples"))
    bounds = [
        objective.importance_weighted_elbo(vae, batch, eps.to(batch.device)).cpu().double()
        for batch, eps in zip(batches(images, batch_size), noise.split(batch_size, dim=1), strict=True)
    ]
    return torch.cat(bounds)


def latent_metrics(evaluation: Evaluation, seed: int) -> dict[str, float]:
    """Active units, and the two parts of the mean rate, nats per image, that add up to it (Hoffman & Johnson 2016).

    The aggregate divergence is KL(q(z) || p(z)): how far the encoded images as a whole are from the prior.
    """
    means = evaluation.posteriors.mean
    noise = torch.randn(means.shape, generator=generator(seed, "aggregate posterior"))
    information = mutual_information(evaluation.posteriors, noise)
    return {
        "mutual_information": information,
        "aggregate_divergence": evaluation.per_image["rate"].mean().item() - information,
        "active_units": objective.active_units(means),
    }


def image_sets(vae: VAE, means: Tensor, count: int, settings: Evaluate, seed: int) -> Iterator[tuple[str, Tensor]]:
    """The four columns of Ghosh et al. 2020, table 1: name and `count` uint8 images.

    Decoded are posterior `means` [N, latent_dim] of training images once, and `settings.draws` times anew: the prior, a
    mixture fitted to these means, and the middles between two of them. Beside them "drawn": images not expected but
    drawn from the likelihood at the prior's latents, where it is one of 8-bit images.
    """
    few, draws = means[:count], settings.draws
    yield "reconstructions", decode(vae, few)
    rng = generator(seed, "images drawn")  # the name is part of the seed
    for latents in prior_latents(vae, draws * count, seed).split(count):
        yield "samples", decode(vae, latents)
        if vae.architecture.likelihood == "gaussian":
            yield "drawn", draw(vae, latents, rng)
    fitted = means[: settings.mixture_images]
    for latents in mixture_latents(fitted, settings.mixture_components, draws * count, seed).split(count):
        yield "mixture", decode(vae, latents)
    for number in range(draws):
        yield "interpolations", decode(vae, midpoints(few, number, seed))


def headline(elbo: Estimate, likelihood: str) -> tuple[str, Estimate]:
    """What only one likelihood has, and its name.

    gaussian: bits_per_dim. bernoulli: assignment_loss, binary cross-entropy + KL in nats per image, which the
    assignment printed and which is -elbo by another name.
    """
    name, lower = ("bits_per_dim", objective.bits_per_dim) if likelihood == "gaussian" else ("assignment_loss", neg)
    # Both are a negative factor times the elbo: low and high change places.
    value, error, low, high = (float(lower(n)) for n in (elbo.value, elbo.standard_error, elbo.high, elbo.low))
    return name, replace(elbo, value=value, standard_error=abs(error), low=low, high=high)
