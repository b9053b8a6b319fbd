"""Are all estimators unbiased, and does the one through the draw vary least?"""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch

from pipeline.params import Estimator, Gradients, load_params
from pipeline.sources.shapes import draw_shapes
from pipeline.study.gradients import (
    expected_log_likelihood,
    linear_gaussian,
    log_density,
    posterior_gradients,
    relative_variance,
    trained,
)
from pipeline.vae.distributions import DiagonalGaussian
from pipeline.vae.images import generator, to_float
from pipeline.vae.networks import Architecture, build_vae
from pipeline.vae.training import EpochMetrics
from tests.fixtures import ROOT
from tests.unit.vae.test_training import SETTINGS

ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)
DRAWS, ESTIMATES, LATENTS = 2, 40_000, 3


@pytest.fixture
def rng() -> torch.Generator:
    return generator(0, "gradients")


def test_the_closed_form_is_the_gradient_of_the_expectation(rng: torch.Generator) -> None:
    """E_q[log p(x|z)] of a linear Gaussian model is -(|x - W m|^2 + sum_i s_i^2 |W_i|^2) / 2 and a constant."""
    model = linear_gaussian(6, LATENTS, rng)
    mean, log_std = (torch.randn(LATENTS, generator=rng).double().requires_grad_() for _ in range(2))
    squares = (model.image - model.weight @ mean).square().sum()
    expectation = -0.5 * (squares + ((2 * log_std).exp() * model.weight.square().sum(0)).sum())
    exact = torch.cat(torch.autograd.grad(expectation, (mean, log_std)))
    torch.testing.assert_close(model.gradient(mean.detach(), log_std.detach()), exact)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_estimator_is_unbiased(estimator: Estimator, rng: torch.Generator) -> None:
    model = linear_gaussian(6, LATENTS, rng)
    mean, log_std = torch.tensor([0.5, -1.0, 0.0]).double(), torch.tensor([-0.3, 0.2, -1.0]).double()
    noise = torch.randn(DRAWS, ESTIMATES, LATENTS, generator=rng).double()
    posterior = DiagonalGaussian(mean.expand(ESTIMATES, -1), log_std.expand(ESTIMATES, -1))
    estimates = posterior_gradients(estimator, posterior, model.log_likelihood, noise)
    standard_errors = estimates.std(0) / ESTIMATES**0.5
    assert ((estimates.mean(0) - model.gradient(mean, log_std)).abs() < 5 * standard_errors).all()


def test_the_baseline_helps_and_going_through_the_draw_helps_more(rng: torch.Generator) -> None:
    model = linear_gaussian(32, 16, rng)
    posterior = DiagonalGaussian(*torch.zeros(2, 1000, 16).double())
    noise = torch.randn(DRAWS, 1000, 16, generator=rng).double()
    exact = model.gradient(posterior.mean[0], posterior.log_std[0])
    variances = [
        relative_variance(posterior_gradients(estimator, posterior, model.log_likelihood, noise), exact)
        for estimator in ("reparameterized", "leave_one_out", "score_function")
    ]
    assert variances[0] < variances[1] < variances[2]


def test_log_density_is_that_of_the_gaussian(rng: torch.Generator) -> None:
    mean, log_std, latents = torch.randn(3, 4, 5, generator=rng)
    expected = torch.distributions.Normal(mean, log_std.exp()).log_prob(latents).sum(1)
    torch.testing.assert_close(log_density(DiagonalGaussian(mean, log_std), latents), expected)


def test_all_estimators_give_the_same_value(rng: torch.Generator) -> None:
    model = linear_gaussian(6, LATENTS, rng)
    posterior = DiagonalGaussian(*torch.randn(2, 5, LATENTS, generator=rng).double())
    noise = torch.randn(DRAWS, 5, LATENTS, generator=rng).double()
    values = [expected_log_likelihood(name, posterior, model.log_likelihood, noise) for name in ESTIMATORS]
    torch.testing.assert_close(values[0], values[1])
    torch.testing.assert_close(values[0], values[2])


def test_relative_variance_is_zero_for_the_truth_and_one_for_nothing() -> None:
    gradient = torch.tensor([3.0, 4.0])
    assert relative_variance(gradient.expand(7, 2), gradient) == 0
    assert relative_variance(torch.zeros(7, 2), gradient) == 1


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_vae_trains_with_each_estimator_and_ends_before_numbers_break(estimator: Estimator) -> None:
    images = draw_shapes(64, generator(0, "shapes")).images
    vae = build_vae(Architecture("fc", (16,), 4, "gaussian", 0), seed=0)
    noise = torch.randn(DRAWS, 4, 4, generator=generator(0, "noise"))
    shown = to_float(images[:4])
    gradients = posterior_gradients(estimator, vae.encode(shown), lambda z: vae.decode(z).log_prob(shown), noise)
    assert gradients.shape == (4, 8)
    settings = Gradients(
        estimator=estimator, draws=DRAWS, pixels=8, largest_latent_dim=2, estimates=2, variance_images=4,
        variance_estimates=1, reference_estimates=2,
    )  # fmt: skip
    params = load_params(ROOT / "params.yaml").model_copy(update={"train": SETTINGS, "gradients": settings})
    steps = SETTINGS.epochs * 64 // SETTINGS.batch_size
    history: list[EpochMetrics] = []
    assert len(trained(vae, images, images, params, history)["elbo"]) == steps
    assert len(history) == SETTINGS.epochs
    broken = SETTINGS.model_copy(update={"learning_rate": 1e30, "warmup_epochs": 0.0})
    found = trained(vae, images, images, params.model_copy(update={"train": broken}), history := [])
    assert history == []
    assert len(found["elbo"]) == 1
    assert math.isfinite(found["elbo"][0])
