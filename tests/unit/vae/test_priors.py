"""Are the priors the distributions that they say, and do draws come from them?"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.vae.distributions import DiagonalGaussian
from pipeline.vae.priors import GaussianMixture, StandardNormal, build_prior

DRAWS = 40_000


def random_mixture(components: int = 4, latent_dim: int = 3) -> GaussianMixture:
    prior = GaussianMixture(components, latent_dim).double()
    rng = torch.Generator().manual_seed(0)
    for values in prior.buffers():
        values.copy_(0.7 * torch.randn(values.shape, generator=rng, dtype=torch.float64))
    prior.log_weights.copy_(prior.log_weights.log_softmax(0))
    prior.factors.copy_(prior.factors.tril(-1) + torch.diag_embed(prior.factors.diagonal(dim1=1, dim2=2).exp()))
    return prior


def the_same(prior: GaussianMixture) -> MixtureSameFamily:
    """The mixture as torch.distributions has it."""
    gaussians = MultivariateNormal(prior.means, precision_matrix=prior.factors.mT @ prior.factors)
    return MixtureSameFamily(Categorical(logits=prior.log_weights), gaussians)


def uniform_and_normal(latent_dim: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    noise = torch.randn(DRAWS, latent_dim, generator=rng, dtype=torch.float64)
    return noise, torch.rand(DRAWS, generator=rng, dtype=torch.float64)


def test_no_components_are_the_standard_normal() -> None:
    prior = build_prior(0, 3)
    latents, shares = uniform_and_normal()
    assert isinstance(prior, StandardNormal)
    assert not list(prior.parameters())
    assert not prior.state_dict()
    torch.testing.assert_close(prior.log_prob(latents), Normal(0.0, 1.0).log_prob(latents).sum(1))
    assert prior.sample(latents, shares) is latents


def test_a_mixtures_density_equals_torch_distributions() -> None:
    prior, (latents, _) = random_mixture(), uniform_and_normal()
    torch.testing.assert_close(prior.log_prob(latents), the_same(prior).log_prob(latents), rtol=1e-10, atol=1e-10)


def components_of(prior: GaussianMixture) -> Iterator[GaussianMixture]:
    """Each as a mixture of its own."""
    for number in range(len(prior.means)):
        one = GaussianMixture(1, prior.means.shape[1]).double()
        one.load_state_dict({name: value[number : number + 1] for name, value in prior.state_dict().items()})
        one.log_weights.zero_()
        yield one


def random_posterior() -> DiagonalGaussian:
    return DiagonalGaussian(*torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64))


def test_the_divergence_from_one_component_is_exact() -> None:
    prior, posterior = random_mixture(components=1), random_posterior()
    (factor,) = prior.factors
    expected = kl_divergence(
        MultivariateNormal(posterior.mean, torch.diag_embed((2 * posterior.log_std).exp())),
        MultivariateNormal(prior.means, precision_matrix=factor.mT @ factor),
    )
    torch.testing.assert_close(prior.divergence(posterior), expected, rtol=1e-10, atol=1e-10)


def test_the_divergence_from_a_mixture_is_an_upper_bound_below_that_from_the_nearest_component() -> None:
    prior, posterior = random_mixture(components=4), random_posterior()
    noise = torch.randn(20_000, 6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimates = torch.stack([posterior.log_prob_of(eps) - prior.log_prob(posterior.sample(eps)) for eps in noise])
    bound = prior.divergence(posterior)
    errors = estimates.std(0) / math.sqrt(len(estimates))
    nearest = torch.stack([one.divergence(posterior) for one in components_of(prior)]) - prior.log_weights[:, None]
    assert bool((bound > estimates.mean(0) - 4 * errors).all())
    assert bool((bound <= nearest.amin(0)).all())


def test_components_that_are_alike_are_one() -> None:
    prior, posterior = random_mixture(components=1), random_posterior()
    copies = GaussianMixture(3, 3).double()
    copies.load_state_dict(
        {name: value.repeat(3, *[1] * (value.ndim - 1)) for name, value in prior.state_dict().items()}
    )
    copies.log_weights -= math.log(3)
    torch.testing.assert_close(copies.divergence(posterior), prior.divergence(posterior), rtol=1e-10, atol=1e-10)


def test_a_mixtures_draws_have_its_mean_deviation_and_entropy() -> None:
    prior = random_mixture()
    latents = prior.sample(*uniform_and_normal())
    marginals, surprise = prior.marginals(), -prior.log_prob(latents)
    std = marginals.log_std.exp()
    torch.testing.assert_close(marginals.mean, the_same(prior).mean, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(std, the_same(prior).stddev, rtol=1e-10, atol=1e-10)
    assert bool(((latents.mean(0) - marginals.mean).abs() < 4 * std / math.sqrt(DRAWS)).all())
    torch.testing.assert_close(latents.std(0), std, rtol=0.05, atol=0)
    torch.manual_seed(0)
    theirs = the_same(prior)
    others = -theirs.log_prob(theirs.sample(torch.Size([DRAWS])))
    error = math.sqrt((surprise.var().item() + others.var().item()) / DRAWS)
    assert surprise.mean().item() == pytest.approx(others.mean().item(), abs=4 * error)


def test_components_are_chosen_as_often_as_they_weigh() -> None:
    prior = random_mixture(3)
    prior.means.copy_(torch.tensor([-100.0, 0.0, 100.0]).unsqueeze(1).expand(3, 3))
    prior.factors.copy_(torch.eye(3).expand(3, 3, 3))
    latents = prior.sample(*uniform_and_normal())
    found = torch.stack([(latents[:, 0].round(decimals=-2) == center).double().mean() for center in (-100, 0, 100)])
    weights = prior.log_weights.exp()
    assert bool(((found - weights).abs() < 4 * (weights * (1 - weights) / DRAWS).sqrt()).all())


def test_a_new_mixture_is_nearly_the_standard_normal() -> None:
    prior, posterior = GaussianMixture(20, 64), DiagonalGaussian(*0.5 * torch.randn(2, 100, 64))
    torch.testing.assert_close(
        prior.divergence(posterior), StandardNormal(64).divergence(posterior), rtol=0.05, atol=0.5
    )


def test_refitting_never_raises_the_mean_divergence_and_keeps_every_component_in_use() -> None:
    torch.manual_seed(0)
    prior = GaussianMixture(4, 5).double()
    posterior = DiagonalGaussian(*torch.randn(2, 400, 5, dtype=torch.float64))
    divergences = []
    for _ in range(30):
        divergences.append(prior.divergence(posterior).mean().item())
        prior.refit([posterior])
    assert divergences == sorted(divergences, reverse=True)
    assert divergences[-1] < divergences[0] - 0.1
    assert prior.log_weights.exp().sum().item() == pytest.approx(1, rel=1e-10)
    assert prior.log_weights.exp().min().item() > 0.05


@pytest.mark.parametrize("batch_size", [1, 7, 400])
def test_one_component_takes_the_posteriors_mean_and_covariance_in_any_batches(batch_size: int) -> None:
    prior = GaussianMixture(1, 3).double()
    mean, log_std = torch.randn(2, 400, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    prior.refit(map(DiagonalGaussian, mean.split(batch_size), log_std.split(batch_size)))
    covariance = torch.linalg.inv(prior.factors[0].T @ prior.factors[0])
    expected = torch.cov(mean.T, correction=0) + torch.diag((2 * log_std).exp().mean(0))
    torch.testing.assert_close(prior.means[0], mean.mean(0), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(covariance, expected, rtol=1e-10, atol=1e-10)


def test_refitting_finds_a_mixture_again() -> None:
    truth = random_mixture(3)
    truth.means.copy_(5 * torch.eye(3))
    latents = truth.sample(*uniform_and_normal())
    found = GaussianMixture(3, 3).double()
    found.means.copy_(4 * torch.eye(3))
    for _ in range(50):
        found.refit([DiagonalGaussian(latents, torch.full_like(latents, -10))])
    torch.testing.assert_close(found.log_weights.exp(), truth.log_weights.exp(), rtol=0.05, atol=0)
    torch.testing.assert_close(found.log_prob(latents).mean(), truth.log_prob(latents).mean(), rtol=0.001, atol=0)


class Doubles(TorchDispatchMode):
    """Notes on which devices there are tensors of float64."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.devices: set[str] = set()

    def __torch_dispatch__(self, call: Any, _: Any, arguments: Any = (), options: Any = None) -> Any:
        result = call(*arguments, **(options or {}))
        for part in result if isinstance(result, tuple | list) else (result,):
            if isinstance(part, Tensor) and part.dtype == torch.float64:
                self.devices.add(part.device.type)
        return result


def test_a_gpu_of_apple_is_asked_for_no_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors that have a device and no values, since there is no such GPU here."""
    monkeypatch.setattr(Tensor, "copy_", Tensor.add_)  # copying alone needs the GPU's own code
    with FakeTensorMode():
        with torch.device("mps"):
            prior = GaussianMixture(3, 4)
        posterior = DiagonalGaussian(*torch.zeros(2, 10, 4, device="mps"))
        with Doubles() as doubles:
            prior.refit([posterior])
            prior.divergence(posterior)
            prior.marginals()
    assert doubles.devices == {"cpu"}
    assert {prior.means.device.type, prior.factors.device.type, prior.log_weights.device.type} == {"mps"}


def test_a_component_without_a_cholesky_factor_stays() -> None:
    prior, posterior = random_mixture(2), random_posterior()
    before = prior.factors.clone()
    posterior.mean[:, 0] = float("nan")
    prior.refit([posterior])
    assert torch.equal(prior.factors, before)


def test_a_component_far_from_all_posteriors_stays_and_weighs_nothing() -> None:
    prior, posterior = random_mixture(3), random_posterior()
    prior.means[1] = 1e4
    before = [values[1].clone() for values in (prior.means, prior.factors)]
    prior.refit([posterior])
    assert all(map(torch.equal, before, (prior.means[1], prior.factors[1])))
    assert prior.log_weights[1].exp() == 0
    assert bool(prior.divergence(posterior).isfinite().all())
    assert bool(prior.sample(*uniform_and_normal()).isfinite().all())
