"""How good is a trained VAE? Metrics per image over a whole split, and the pictures that show them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from pipeline.vae.distributions import DiagonalGaussian
from pipeline.vae.images import batches, generator, to_float, to_uint8
from pipeline.vae.latents import rate_parts
from pipeline.vae.networks import VAE
from pipeline.vae.objective import bits_per_dim, distortion, importance_weighted_elbo, rate_per_dimension

ACTIVE_VARIANCE = 0.01  # Burda et al. 2016, section 5.2

PROJECTIONS = 256  # of the sliced Wasserstein distance

Metrics = dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """Per-image results of a split, all float64 on the CPU."""

    per_image: dict[str, Tensor]  # elbo, rate, distortion (nats), mse (0..1 squared), psnr (dB), ssim; each [N]
    dimension_rates: Tensor  # mean rate of each latent dimension, nats, [latent_dim]
    posteriors: DiagonalGaussian  # of the N images

    @property
    def dimension_variances(self) -> Tensor:
        """Variance of the posterior mean of each latent dimension over the split, [latent_dim]."""
        return self.posteriors.mean.var(0)

    def metrics(self) -> Metrics:
        """Means over the images, and the number of active units."""
        means = {name: values.mean().item() for name, values in self.per_image.items()}
        return means | {"active_units": int((self.dimension_variances > ACTIVE_VARIANCE).sum())}

    def standard_errors(self) -> Metrics:
        """Standard error of each mean over the images."""
        return {name: mean_and_error(values)[1] for name, values in self.per_image.items()}


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Mean of independent values [N] and its standard error, sample deviation / sqrt(N)."""
    return values.mean().item(), values.std().item() / math.sqrt(len(values))


@torch.no_grad()
def evaluate(vae: VAE, images: Tensor, batch_size: int, seed: int) -> Evaluation:
    """Each of the uint8 images [N, 3, 32, 32] once: one posterior draw for the bound, the posterior mean for the rest.

    Image metrics compare 8-bit pictures: reconstructions are rounded first. The result does not depend on batch_size.
    """
    vae.eval()
    rows: dict[str, list[Tensor]] = {}
    noise = torch.randn(len(images), vae.architecture.latent_dim, generator=generator(seed, "evaluation noise"))
    start = 0
    for batch in batches(images, batch_size):
        eps = noise[start : start + len(batch)].to(batch.device)
        start += len(batch)
        posterior = vae.encode(batch)
        dimension_rates = rate_per_dimension(posterior)
        nats = distortion(vae.decode(posterior.sample(eps)), batch)
        reconstruction = to_float(to_uint8(vae.decode(posterior.mean).mean))
        results = {
            "rate": dimension_rates.sum(1),
            "distortion": nats,
            "mse": (reconstruction - batch).square().flatten(1).mean(1),
            "psnr": _psnr(reconstruction, batch),
            "ssim": _ssim(reconstruction, batch),
            "dimension_rates": dimension_rates,
            "posterior_means": posterior.mean,
            "posterior_log_stds": posterior.log_std,
        }
        for name, values in results.items():
            rows.setdefault(name, []).append(values.cpu().double())
    columns = {name: torch.cat(values) for name, values in rows.items()}
    assert all(len(column) == len(images) for column in columns.values()), "every image counts once"
    dimension_rates = columns.pop("dimension_rates")
    posteriors = DiagonalGaussian(columns.pop("posterior_means"), columns.pop("posterior_log_stds"))
    return Evaluation(
        per_image={"elbo": -(columns["rate"] + columns["distortion"]), **columns},
        dimension_rates=dimension_rates.mean(0),
        posteriors=posteriors,
    )


@torch.no_grad()
def tight_bound(vae: VAE, images: Tensor, num_importance_samples: int, batch_size: int, seed: int) -> Tensor:
    """Importance-weighted elbo of uint8 images [N, 3, 32, 32], nats, float64 [N] on the CPU."""
    vae.eval()
    shape = (num_importance_samples, len(images), vae.architecture.latent_dim)
    noise = torch.randn(shape, generator=generator(seed, "importance samples"))
    bounds = [
        importance_weighted_elbo(vae, batch, eps.to(batch.device)).cpu().double()
        for batch, eps in zip(batches(images, batch_size), noise.split(batch_size, dim=1), strict=True)
    ]
    return torch.cat(bounds)


def latent_metrics(evaluation: Evaluation, seed: int) -> Metrics:
    """The mean rate's two parts over the split, nats per image: mutual_information is at most the log of its size."""
    means = evaluation.posteriors.mean
    noise = torch.randn(means.shape, generator=generator(seed, "aggregate posterior"))
    parts = rate_parts(evaluation.posteriors, noise)
    return {"mutual_information": parts.mutual_information, "aggregate_divergence": parts.aggregate_divergence}


def headline(evaluation: Evaluation, likelihood: str) -> tuple[Metrics, Metrics]:
    """All metrics and their standard errors, with what only one likelihood has.

    gaussian: bits_per_dim. bernoulli: assignment_loss, binary cross-entropy + KL in nats per image, which the
    assignment printed and which is -elbo by another name.
    """
    means, errors = evaluation.metrics(), evaluation.standard_errors()
    if likelihood == "gaussian":
        means["bits_per_dim"] = bits_per_dim(means["elbo"])
        errors["bits_per_dim"] = bits_per_dim(-errors["elbo"])
    else:
        means["assignment_loss"], errors["assignment_loss"] = -means["elbo"], errors["elbo"]
    return means, errors


def _psnr(images: Tensor, targets: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image, dB, [B]; 68 dB (a tenth of a level off) where images are equal."""
    psnr = peak_signal_noise_ratio(images, targets, data_range=1.0, reduction="none", dim=(1, 2, 3))
    return psnr.clamp_max(20 * math.log10(10 * 255))


def _ssim(images: Tensor, targets: Tensor) -> Tensor:
    """Structural similarity of each image, [B], 1 for equal ones (Wang et al. 2004)."""
    ssim = structural_similarity_index_measure(images, targets, data_range=1.0, reduction="none")
    assert isinstance(ssim, Tensor)
    return ssim.reshape(-1)


@torch.no_grad()
def decode(vae: VAE, latents: Tensor, batch_size: int = 500) -> Tensor:
    """Expected pictures of latents [N, latent_dim], uint8 [N, 3, 32, 32] on the CPU."""
    vae.eval()
    device = next(vae.parameters()).device
    return torch.cat([to_uint8(vae.decode(part.to(device)).mean).cpu() for part in latents.split(batch_size)])


@torch.no_grad()
def posterior_means(vae: VAE, images: Tensor, batch_size: int = 500) -> Tensor:
    """Posterior means of uint8 images [N, 3, 32, 32], float32 [N, latent_dim] on the CPU."""
    vae.eval()
    return torch.cat([vae.encode(batch).mean.cpu() for batch in batches(images, batch_size)])


def prior_noise(vae: VAE, count: int, seed: int) -> Tensor:
    """`count` draws from the prior N(0, I), [count, latent_dim]; the first ones are the same for every count."""
    rng = generator(seed, "prior samples")
    return torch.stack([torch.randn(vae.architecture.latent_dim, generator=rng) for _ in range(count)])


def interpolate(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Latents on straight lines from start to end, both [R, latent_dim], ends included: [R, steps, latent_dim]."""
    share = torch.linspace(0, 1, steps).view(1, -1, 1)
    return start.unsqueeze(1) * (1 - share) + end.unsqueeze(1) * share


@dataclass(frozen=True)
class Traversal:
    """Walks through the mean of the posterior means along their principal directions."""

    latents: Tensor  # [directions, steps, latent_dim]
    variance_shares: Tensor  # share of the posterior means' variance along each direction, [directions]


def principal_traversal(means: Tensor, directions: int, steps: int, deviations: float = 3.0) -> Traversal:
    """From -deviations to +deviations along the directions in which posterior means [N, latent_dim] vary most."""
    center = means.mean(0)
    _, singular, axes = torch.linalg.svd(means - center, full_matrices=False)  # axes [latent_dim, latent_dim]
    # The sign of a singular vector is arbitrary: the largest component is made positive.
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    std = singular / math.sqrt(len(means) - 1)
    along = torch.linspace(-deviations, deviations, steps).view(1, -1, 1) * std[:directions].view(-1, 1, 1)
    return Traversal(center + along * axes[:directions].unsqueeze(1), (std**2 / (std**2).sum())[:directions])


def sliced_wasserstein(images: Tensor, targets: Tensor, seed: int, per_image: int = 16) -> float:
    """Distance of local structure between two sets of uint8 images [N, 3, 32, 32], lower is better.

    Karras et al. 2018, section 5: 7x7 patches of the levels of a Laplacian pyramid (here 32 and 16 pixels), mean
    absolute difference of sorted random projections, averaged over the levels, times 1000. Unlike there, both sides
    are normalised by the channel statistics of `targets`, so that missing contrast counts. The first min(N) images of
    each are compared.
    """
    count = min(len(images), len(targets))
    rng = generator(seed, "sliced wasserstein")
    levels = []
    for ours, theirs in zip(_pyramid(to_float(images[:count])), _pyramid(to_float(targets[:count])), strict=True):
        places = torch.randint(ours.shape[-1] - 6, (2, count, per_image), generator=rng)
        directions = F.normalize(torch.randn(3 * 49, PROJECTIONS, generator=rng), dim=0)
        patches, reference = _patches(ours, places), _patches(theirs, places)  # each [N * per_image, 3, 7, 7]
        mean, std = reference.mean((0, 2, 3), keepdim=True), reference.std((0, 2, 3), keepdim=True)
        sorted_projections = [
            (((side - mean) / std).flatten(1) @ directions).sort(0).values for side in (patches, reference)
        ]
        levels.append((sorted_projections[0] - sorted_projections[1]).abs().mean().item())
    return 1000 * sum(levels) / len(levels)


def _pyramid(images: Tensor) -> Iterator[Tensor]:
    coarse = F.avg_pool2d(images, 2)
    yield images - F.interpolate(coarse, scale_factor=2, mode="bilinear")
    yield coarse


def _patches(level: Tensor, places: Tensor) -> Tensor:
    """7x7 patches of level [N, 3, S, S] whose corners are places [2, N, P]: [N * P, 3, 7, 7]."""
    windows = level.unfold(2, 7, 1).unfold(3, 7, 1)  # [N, 3, S-6, S-6, 7, 7]
    return windows[torch.arange(len(level)).unsqueeze(1), :, places[0], places[1]].flatten(0, 1)
