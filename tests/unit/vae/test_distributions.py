"""Do the distributions have the probabilities that their names promise?"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal

from pipeline.vae.distributions import HALF_LEVEL, Bernoulli, DiagonalGaussian, DiscretizedGaussian


def one_pixel(values: torch.Tensor) -> torch.Tensor:
    return values.view(-1, 1, 1, 1)


@pytest.mark.parametrize("std", [0.3, 0.1, 0.02, 0.003])
@pytest.mark.parametrize("center", [-0.2, 0.0, 0.37, 1.0, 1.3])
def test_the_256_level_probabilities_add_up_to_one(std: float, center: float) -> None:
    levels = one_pixel(torch.arange(256, dtype=torch.float64) / 255)
    log_std = torch.tensor(std, dtype=torch.float64).log()
    log_probs = DiscretizedGaussian(torch.full_like(levels, center), log_std).log_prob(levels)
    torch.testing.assert_close(log_probs.exp().sum(), torch.tensor(1.0, dtype=torch.float64), rtol=1e-10, atol=0)


def test_discretized_gaussian_equals_differences_of_the_cumulative_distribution() -> None:
    levels = one_pixel(torch.arange(1, 255, dtype=torch.float64) / 255)
    log_std = torch.tensor(0.2, dtype=torch.float64).log()
    normal = Normal(torch.tensor(0.4, dtype=torch.float64), log_std.exp())
    expected = (normal.cdf(levels + HALF_LEVEL) - normal.cdf(levels - HALF_LEVEL)).log().flatten()
    found = DiscretizedGaussian(torch.full_like(levels, 0.4), log_std).log_prob(levels)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_discretized_gaussian_stays_finite_with_a_gradient_in_the_far_tail() -> None:
    center = torch.full((1, 3, 32, 32), 5.0, requires_grad=True)  # 400 deviations away
    log_std = torch.tensor(0.01).log().requires_grad_()
    log_prob = DiscretizedGaussian(center, log_std).log_prob(torch.rand(1, 3, 32, 32).mul(254).round() / 255).sum()
    log_prob.backward()
    assert center.grad is not None
    assert log_std.grad is not None
    assert log_prob.isfinite()
    assert center.grad.isfinite().all()
    assert (center.grad < 0).all()  # towards the pixels
    assert log_std.grad > 0


def test_bernoulli_is_the_negative_binary_cross_entropy_per_image() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, images = torch.randn(5, 3, 32, 32, generator=generator), torch.rand(5, 3, 32, 32, generator=generator)
    expected = -F.binary_cross_entropy(logits.sigmoid(), images, reduction="none").sum((1, 2, 3))
    torch.testing.assert_close(Bernoulli(logits).log_prob(images), expected, rtol=1e-5, atol=0)


def test_a_posterior_draw_is_mean_plus_deviation_times_noise() -> None:
    posterior = DiagonalGaussian(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 4.0]]).log())
    torch.testing.assert_close(posterior.sample(torch.tensor([[1.0, -1.0]])), torch.tensor([[2.0, -2.0]]))


@pytest.mark.parametrize("std", [0.02, 0.2])
def test_the_gradient_of_a_discretized_gaussian_is_that_of_its_value(std: float) -> None:
    """In float64, at grey levels of all kinds, whose masses at the smaller deviation vanish here and there."""
    levels = torch.tensor([0.0, 1.0, 10 / 255, 128 / 255]).double()
    images = levels.view(4, 1, 1, 1).expand(4, 3, 1, 1)
    center = (images + torch.tensor([-0.4, 0.01, 0.7]).double().view(1, 3, 1, 1)).requires_grad_()
    log_std = torch.tensor(std).double().log().requires_grad_()
    assert torch.autograd.gradcheck(lambda *of: DiscretizedGaussian(*of).log_prob(images), (center, log_std))
    with torch.no_grad():
        fixed = DiscretizedGaussian(center, log_std).log_prob(images)
    assert torch.equal(fixed, DiscretizedGaussian(center, log_std).log_prob(images))
