"""How do encoded images fill latent space? What they tell of their image and its class, what lies between them."""

import math
import warnings

import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pipeline.vae.distributions import DiagonalGaussian
from pipeline.vae.images import batches, generator
from pipeline.vae.networks import VAE


def mutual_information(posteriors: DiagonalGaussian, noise: Tensor, block: int = 500) -> float:
    """Between N images and their latents, nats: at most log N, however much the encoder tells.

    The mean of log q(z|x) - log q(z) at one draw from each posterior [N, latent_dim], by noise [N, latent_dim] from
    N(0, I); the two terms vary together. q(z) is the mixture of the N posteriors.
    """
    mean, log_std, eps = posteriors.mean.double(), posteriors.log_std.double(), noise.double()
    precision = (-2 * log_std).exp()
    # log q(z|x) of every draw under every posterior, less a constant that both terms share
    constant = -0.5 * (mean**2 * precision).sum(1) - log_std.sum(1)  # [N]
    log_aggregate = torch.cat(
        [
            (-0.5 * part**2 @ precision.T + part @ (mean * precision).T + constant).logsumexp(1) - math.log(len(mean))
            for part in (mean + log_std.exp() * eps).split(block)  # [block, N] at a time
        ]
    )
    log_own = -0.5 * (eps**2).sum(1) - log_std.sum(1)
    return (log_own - log_aggregate).mean().item()


def mixture_latents(means: Tensor, components: int, count: int, seed: int) -> Tensor:
    """`count` draws, [count, latent_dim], from a full-covariance Gaussian mixture of posterior means [N, latent_dim].

    Ex-post density estimation (Ghosh et al. 2020, section 4): it draws where encoded images are, which need not be
    where the prior does. Of fewer means than components each is a component.
    """
    # Not k-means itself, which adds up in the order in which threads end.
    components = min(components, len(means))
    mixture = GaussianMixture(components, init_params="k-means++", random_state=seed, reg_covar=1e-5)
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):  # a hundred steps of EM are enough
        latents, _ = mixture.fit(means.double().numpy()).sample(count)
    shuffled = torch.randperm(count, generator=generator(seed, "mixture"))  # they come sorted by component
    return torch.from_numpy(latents).float()[shuffled]


def linear_probe(means: Tensor, labels: Tensor, test_means: Tensor, test_labels: Tensor) -> Tensor:
    """Which test images a linear classifier on posterior means [N, latent_dim] gets right: bool [number of them]."""
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200))
    with warnings.catch_warnings(action="ignore", category=ConvergenceWarning):
        probe.fit(means.numpy(), labels.numpy())
    return torch.from_numpy(probe.predict(test_means.numpy())) == test_labels


@torch.no_grad()
def encoded(vae: VAE, images: Tensor, rng: torch.Generator, batch_size: int = 500) -> Tensor:
    """A draw from the posterior of each uint8 image [N, 3, 32, 32], float32 [N, latent_dim] on the CPU."""
    vae.eval()
    noise = torch.randn(len(images), vae.architecture.latent_dim, generator=rng).split(batch_size)
    draws = [
        vae.encode(batch).sample(eps.to(vae.device)).cpu()
        for batch, eps in zip(batches(images, batch_size, device=vae.device), noise, strict=True)
    ]
    return torch.cat(draws)


def share_outside(latents: Tensor, codes: Tensor, held_out: Tensor, tolerance: float) -> float:
    """Share of latents [N, D] further from the nearest of `codes` [M, D] than all but `tolerance` of held_out codes."""
    limit = nearest(held_out, codes).quantile(1 - tolerance)
    return (nearest(latents, codes) > limit).double().mean().item()


def nearest(points: Tensor, codes: Tensor, block: int = 500) -> Tensor:
    """Distance of each point [N, D] to the nearest of `codes` [M, D], [N]."""
    return torch.cat([torch.cdist(part, codes).amin(1) for part in points.split(block)])
