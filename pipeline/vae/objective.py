"""What does a VAE maximise? The bound and its terms, each per image and in nats.

elbo = -(rate + distortion) <= log p(x) (Kingma & Welling 2014); rate and distortion after Alemi et al. 2018.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.vae.distributions import DiagonalGaussian, Likelihood
from pipeline.vae.images import DIMENSIONS
from pipeline.vae.networks import VAE
from pipeline.vae.priors import Prior

ACTIVE_VARIANCE = 0.01  # of a dimension's posterior mean over images: Burda et al. 2016, section 5.2


def rate_per_dimension(posterior: DiagonalGaussian, prior: Prior) -> Tensor:
    """KL of q(z_i|x) from the prior's marginal as a Gaussian, nats, [B, latent_dim]; Kingma & Welling 2014, appendix B.

    Under N(0, I) they add up to the rate; a mixture's dimensions depend on each other.
    """
    return posterior.divergences(prior.marginals())


def rate(posterior: DiagonalGaussian, prior: Prior) -> Tensor:
    """KL(q(z|x) || p(z)), nats per image, [B], >= 0; under a mixture an upper bound, so that elbo stays a lower one."""
    return prior.divergence(posterior)


def distortion(likelihood: Likelihood, images: Tensor) -> Tensor:
    """-log p(x|z) at the latents that `likelihood` was decoded from, constants included, nats per image, [B]."""
    return -likelihood.log_prob(images)


@dataclass(frozen=True)
class Terms:
    """The terms of the bound for one batch, nats per image, each [B], from one posterior draw per image."""

    rate: Tensor
    distortion: Tensor

    @property
    def elbo(self) -> Tensor:
        """-(rate + distortion), the bound on log p(x): higher is better; never contains kl_weight."""
        return -(self.rate + self.distortion)

    def loss(self, kl_weight: float | Tensor) -> Tensor:
        """What training minimises, a scalar, nats per image; kl_weight = 1 gives the mean of -elbo."""
        return (self.distortion + kl_weight * self.rate).mean()

    def sums(self) -> tuple[Tensor, Tensor]:
        """Of rate and distortion over the batch, for sums over batches of any size."""
        return self.rate.detach().sum(), self.distortion.detach().sum()


def bound_terms(vae: VAE, images: Tensor, noise: Tensor) -> Terms:
    """Terms of images [B, 3, 32, 32] in 0..1, with latents drawn by noise [B, latent_dim] from N(0, I)."""
    posterior = vae.encode(images)
    likelihood = vae.decode(posterior.sample(noise))
    return Terms(rate(posterior, vae.prior), distortion(likelihood, images))


def importance_weighted_elbo(vae: VAE, images: Tensor, noise: Tensor) -> Tensor:
    """The K-sample bound log mean_k p(x, z_k) / q(z_k|x), nats per image, [B]; Burda et al. 2016, eq. 8.

    noise [K, B, latent_dim] from N(0, I). K = 1 is a draw whose mean is the elbo under N(0, I) and no
    less under a mixture, whose rate is a bound; the K-sample bound tightens as K grows.
    """
    posterior = vae.encode(images)
    log_weights = []
    for eps in noise:
        latents = posterior.sample(eps)
        log_prior_over_posterior = vae.prior.log_prob(latents) - posterior.log_prob_of(eps)
        log_weights.append(vae.decode(latents).log_prob(images) + log_prior_over_posterior)
    return torch.logsumexp(torch.stack(log_weights), dim=0) - math.log(len(noise))


def active_units(means: Tensor) -> int:
    """How many latent dimensions tell images apart, by their posterior means [N, latent_dim]."""
    return int((means.var(0) > ACTIVE_VARIANCE).sum())


def bits_per_dim(elbo: float) -> float:
    """Bits per colour value of an image whose elbo is in nats per image: -elbo / (3072 ln 2).

    >>> round(bits_per_dim(-3072 * math.log(256)), 6)  # 256 equally likely levels
    8.0
    """
    return -elbo / (DIMENSIONS * math.log(2))
