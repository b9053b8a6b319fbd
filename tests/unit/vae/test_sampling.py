"""Do latents come from where their names say?"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from pipeline.vae.networks import VAE
from pipeline.vae.sampling import along, decode, draw, interpolate, midpoints, principal_directions, prior_latents


def test_interpolation_begins_and_ends_at_its_ends() -> None:
    start, end = torch.zeros(2, 3), torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    lines = interpolate(start, end, 5)
    assert lines.shape == (2, 5, 3)
    assert torch.equal(lines[:, 0], start)
    assert torch.equal(lines[:, -1], end)
    torch.testing.assert_close(lines[:, 2], end / 2)


def test_principal_directions_are_those_of_most_variance() -> None:
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(5000, 3, generator=rng) * torch.tensor([0.1, 3.0, 1.0]) + 7
    directions, shares = principal_directions(means, 2)
    torch.testing.assert_close(directions[0], torch.tensor([0.0, 1.0, 0.0]), atol=0.02, rtol=0)
    assert shares[0].item() == pytest.approx(9 / 10.01, abs=0.02)


def test_a_walk_along_a_direction_goes_through_the_centre() -> None:
    means = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.1, 3.0, 1.0]) + 7
    walk = along(means, torch.tensor([0.0, 1.0, 0.0]), 7)
    assert walk.shape == (7, 3)
    torch.testing.assert_close(walk[3], means.mean(0))
    torch.testing.assert_close(walk[-1] - means.mean(0), torch.tensor([0.0, 9.0, 0.0]), atol=0.3, rtol=0.05)


def test_first_prior_draws_do_not_depend_on_how_many_follow(tiny_vae: Callable[..., VAE]) -> None:
    assert torch.equal(prior_latents(tiny_vae(), 10, 0)[:3], prior_latents(tiny_vae(), 3, 0))
    vae = tiny_vae(prior_components=3)
    torch.testing.assert_close(prior_latents(vae, 10, 0)[:3], prior_latents(vae, 3, 0), rtol=1e-5, atol=1e-6)


def test_midpoints_lie_between_two_images_and_use_each_twice() -> None:
    means = torch.eye(6)
    middles = midpoints(means, 0, seed=0)
    assert torch.equal(middles.sum(0), torch.ones(6))
    assert sorted(middles.flatten().tolist()) == [0.0] * 24 + [0.5] * 12
    assert not torch.equal(middles, midpoints(means, 1, seed=0))


def test_drawn_images_spread_around_the_expected_one_by_the_deviation(tiny_vae: Callable[..., VAE]) -> None:
    vae = tiny_vae()
    torch.nn.init.constant_(vae.likelihood_log_std, math.log(10 / 255))
    latents = prior_latents(vae, 1, 0).expand(400, -1)
    expected = decode(vae, latents).float()
    inside = (expected > 60) & (expected < 195)  # where nothing is cut
    noise = (draw(vae, latents, torch.Generator().manual_seed(0)).float() - expected)[inside]
    rounding = 1 / 12  # variance of what rounding adds, in levels squared
    assert noise.mean().item() == pytest.approx(0, abs=0.1)
    assert noise.var().item() == pytest.approx(100 + 2 * rounding, rel=0.02)


def test_a_cross_entropy_draws_no_images(tiny_vae: Callable[..., VAE]) -> None:
    vae = tiny_vae("fc", "bernoulli")
    with pytest.raises(AssertionError, match="no 8-bit images"):
        draw(vae, prior_latents(vae, 1, 0), torch.Generator())
