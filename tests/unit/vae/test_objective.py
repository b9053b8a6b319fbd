"""Are the terms of the bound what the textbook says, with their signs and units?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from pipeline.vae.distributions import DiagonalGaussian
from pipeline.vae.images import to_float
from pipeline.vae.networks import VAE
from pipeline.vae.objective import Terms, bits_per_dim, bound_terms, importance_weighted_elbo, rate, rate_per_dimension
from pipeline.vae.priors import GaussianMixture, StandardNormal


def random_posterior(dtype: torch.dtype = torch.float64) -> DiagonalGaussian:
    generator = torch.Generator().manual_seed(0)
    return DiagonalGaussian(*torch.randn(2, 6, 3, generator=generator, dtype=dtype))


def test_rate_of_the_prior_is_zero() -> None:
    posterior = DiagonalGaussian(torch.zeros(2, 5), torch.zeros(2, 5))
    assert rate(posterior, StandardNormal(5)).tolist() == [0, 0]


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_rate_equals_torch_distributions(dtype: torch.dtype, rtol: float) -> None:
    posterior = random_posterior(dtype)
    expected = kl_divergence(Normal(posterior.mean, posterior.log_std.exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(
        rate_per_dimension(posterior, StandardNormal(3)), expected.to(dtype), rtol=rtol, atol=rtol
    )


def test_rate_agrees_with_monte_carlo_within_four_standard_errors() -> None:
    posterior = random_posterior()
    normal = Normal(posterior.mean, posterior.log_std.exp())
    torch.manual_seed(0)
    draws = normal.sample(torch.Size([20_000]))
    estimates = (normal.log_prob(draws) - Normal(0.0, 1.0).log_prob(draws)).sum(-1)
    errors = estimates.std(0) / math.sqrt(len(estimates))
    assert bool(((estimates.mean(0) - rate(posterior, StandardNormal(3))).abs() < 4 * errors).all())


def test_rates_of_dimensions_are_against_the_priors_marginals() -> None:
    posterior, prior = random_posterior(), GaussianMixture(1, 3).double()
    prior.means.fill_(0.7)
    prior.factors.mul_(2)  # those of the precision: deviations of 1/2
    marginal = Normal(*torch.tensor([0.7, 0.5], dtype=torch.float64))
    expected = kl_divergence(Normal(posterior.mean, posterior.log_std.exp()), marginal)
    torch.testing.assert_close(rate_per_dimension(posterior, prior), expected, rtol=1e-10, atol=1e-10)


def test_kl_weight_is_in_the_loss_and_never_in_the_elbo() -> None:
    terms = Terms(rate=torch.tensor([2.0, 4.0]), distortion=torch.tensor([10.0, 20.0]))
    assert terms.elbo.tolist() == [-12, -24]
    assert terms.loss(kl_weight=1).item() == 18 == -terms.elbo.mean().item()
    assert terms.loss(kl_weight=4).item() == 15 + 4 * 3


def test_importance_weighted_elbo_with_one_sample_has_the_elbo_as_mean_and_grows_with_samples(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, likelihood: str
) -> None:
    vae, images = tiny_vae("fc", likelihood), to_float(shapes[:4])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(500, 4, 4, generator=generator)
    with torch.no_grad():
        elbo = torch.stack([bound_terms(vae, images, eps).elbo for eps in noise])
        one = torch.stack([importance_weighted_elbo(vae, images, eps.unsqueeze(0)) for eps in noise])
        many = torch.stack([importance_weighted_elbo(vae, images, part) for part in noise.split(20)])
    errors = ((elbo.std(0) ** 2 + one.std(0) ** 2) / len(noise)).sqrt()
    assert bool(((elbo.mean(0) - one.mean(0)).abs() < 4 * errors).all())
    assert bool((many.mean(0) > one.mean(0)).all())


@dataclass(frozen=True)
class GaussianLikelihood:
    """A density, not of 8-bit images: here everything is known in closed form."""

    normal: Normal

    def log_prob(self, images: Tensor) -> Tensor:
        nats: Tensor = self.normal.log_prob(images).sum(1)
        return nats


class LinearGaussian:
    """x = slope z + std noise in each of D dimensions; the encoder is the true posterior, its mean off by `error`."""

    def __init__(self, slope: float, std: float, error: float) -> None:
        self.slope, self.std, self.error = slope, std, error
        self.posterior_variance = std**2 / (slope**2 + std**2)
        self.prior = StandardNormal(3)

    def encode(self, images: Tensor) -> DiagonalGaussian:
        mean = images * self.slope / (self.slope**2 + self.std**2) + self.error
        return DiagonalGaussian(mean, torch.full_like(mean, 0.5 * math.log(self.posterior_variance)))

    def decode(self, latents: Tensor) -> GaussianLikelihood:
        return GaussianLikelihood(Normal(self.slope * latents, self.std))

    def log_evidence(self, images: Tensor) -> Tensor:
        std = torch.tensor(math.hypot(self.slope, self.std), dtype=images.dtype)
        nats: Tensor = Normal(torch.zeros_like(std), std).log_prob(images).sum(1)
        return nats


def linear_gaussian(error: float) -> tuple[LinearGaussian, Tensor, torch.Generator]:
    rng = torch.Generator().manual_seed(0)
    return LinearGaussian(1.5, 0.5, error), torch.randn(6, 3, generator=rng, dtype=torch.float64), rng


def test_with_the_true_posterior_every_bound_is_the_evidence() -> None:
    model, images, rng = linear_gaussian(error=0.0)
    noise = torch.randn(5, 6, 3, generator=rng, dtype=torch.float64)
    bound = importance_weighted_elbo(model, images, noise)  # type: ignore[arg-type]
    torch.testing.assert_close(bound, model.log_evidence(images), rtol=1e-10, atol=1e-10)


def test_with_another_posterior_the_elbo_misses_its_divergence_and_importance_weights_make_up_for_it() -> None:
    model, images, rng = linear_gaussian(error=0.15)
    evidence = model.log_evidence(images)
    noise = torch.randn(4000, 6, 3, generator=rng, dtype=torch.float64)
    elbos = torch.stack([bound_terms(model, images, eps).elbo for eps in noise])  # type: ignore[arg-type]
    gap = 3 * 0.5 * 0.15**2 / model.posterior_variance  # KL(q || posterior) of three dimensions
    errors = elbos.std(0) / math.sqrt(len(elbos))
    assert bool(((elbos.mean(0) - (evidence - gap)).abs() < 4 * errors).all())
    bound = importance_weighted_elbo(model, images, noise)  # type: ignore[arg-type]
    torch.testing.assert_close(bound, evidence, rtol=0, atol=0.05)


def test_uniform_levels_take_eight_bits() -> None:
    assert bits_per_dim(-3072 * math.log(256)) == pytest.approx(8.0)
