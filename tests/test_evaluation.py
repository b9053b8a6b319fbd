"""Does evaluation count every picture once, whatever the batches, and measure what the names say?"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from pipeline.vae.distributions import DiagonalGaussian
from pipeline.vae.evaluation import (
    Evaluation,
    decode,
    evaluate,
    headline,
    interpolate,
    latent_metrics,
    posterior_means,
    principal_traversal,
    prior_noise,
    sliced_wasserstein,
    tight_bound,
)
from pipeline.vae.images import to_float
from pipeline.vae.networks import VAE
from pipeline.vae.objective import bits_per_dim


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_metrics_do_not_depend_on_the_batch_size(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, model: str, batch_size: int
) -> None:
    vae = tiny_vae(model)
    whole, parts = evaluate(vae, shapes, 50, seed=0), evaluate(vae, shapes, batch_size, seed=0)
    assert parts.metrics() == pytest.approx(whole.metrics(), rel=1e-6, abs=1e-6)
    torch.testing.assert_close(parts.dimension_rates, whole.dimension_rates, rtol=1e-6, atol=1e-7)


def test_terms_add_up_and_the_rate_is_the_sum_over_dimensions(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor
) -> None:
    evaluation = evaluate(tiny_vae(), shapes, 50, seed=0)
    metrics = evaluation.metrics()
    assert metrics["elbo"] == pytest.approx(-(metrics["rate"] + metrics["distortion"]), rel=1e-12)
    assert metrics["rate"] == pytest.approx(evaluation.dimension_rates.sum().item(), rel=1e-6)


def test_standard_error_is_the_deviation_of_the_mean_over_pictures() -> None:
    values = torch.tensor([1.0, 2.0, 3.0, 6.0], dtype=torch.float64)
    evaluation = Evaluation({"elbo": values}, torch.zeros(1), DiagonalGaussian(torch.zeros(4, 1), torch.zeros(4, 1)))
    assert evaluation.standard_errors()["elbo"] == pytest.approx(math.sqrt(14 / 3) / 2)


def test_each_likelihood_has_its_own_headline(tiny_vae: Callable[..., VAE], shapes: torch.Tensor) -> None:
    gaussian, _ = headline(evaluate(tiny_vae(likelihood="gaussian"), shapes, 50, seed=0), "gaussian")
    assert gaussian["bits_per_dim"] == bits_per_dim(gaussian["elbo"])
    assert "assignment_loss" not in gaussian
    bernoulli, errors = headline(evaluate(tiny_vae(likelihood="bernoulli"), shapes, 50, seed=0), "bernoulli")
    assert bernoulli["assignment_loss"] == -bernoulli["elbo"]
    assert errors["assignment_loss"] == errors["elbo"]
    assert "bits_per_dim" not in bernoulli


def test_picture_metrics_of_8_bit_reconstructions(tiny_vae: Callable[..., VAE], shapes: torch.Tensor) -> None:
    vae = tiny_vae()
    shown = to_float(decode(vae, posterior_means(vae, shapes)))
    mse = (shown - to_float(shapes)).square().flatten(1).mean(1).double()
    per_image = evaluate(vae, shapes, 50, seed=0).per_image
    torch.testing.assert_close(per_image["mse"], mse, rtol=1e-5, atol=0)
    torch.testing.assert_close(per_image["psnr"], -10 * mse.log10(), rtol=1e-4, atol=0)
    assert bool((per_image["ssim"] < 1).all())


def test_active_units_are_dimensions_whose_posterior_mean_varies() -> None:
    means = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.5, 0.0]], dtype=torch.float64).repeat(10, 1)
    evaluation = Evaluation(
        {}, torch.zeros(3), DiagonalGaussian(means, torch.zeros_like(means))
    )  # variances about 0.0026, 0.066 and 0
    assert evaluation.metrics()["active_units"] == 1


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_tight_bound_is_above_the_elbo_whatever_the_batches(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, likelihood: str, batch_size: int
) -> None:
    vae = tiny_vae("fc", likelihood)
    bounds = tight_bound(vae, shapes, 20, batch_size, seed=0)
    torch.testing.assert_close(bounds, tight_bound(vae, shapes, 20, 50, seed=0), rtol=1e-6, atol=0)
    assert bounds.mean() > evaluate(vae, shapes, 50, seed=0).per_image["elbo"].mean()


def test_the_parts_of_the_rate_add_up_to_it(tiny_vae: Callable[..., VAE], shapes: torch.Tensor) -> None:
    evaluation = evaluate(tiny_vae(), shapes, 50, seed=0)
    parts = latent_metrics(evaluation, seed=0)
    assert parts["mutual_information"] <= math.log(len(shapes))
    assert sum(parts.values()) == pytest.approx(evaluation.metrics()["rate"], rel=1e-6)


def test_interpolation_begins_and_ends_at_its_ends() -> None:
    start, end = torch.zeros(2, 3), torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    lines = interpolate(start, end, 5)
    assert lines.shape == (2, 5, 3)
    assert torch.equal(lines[:, 0], start)
    assert torch.equal(lines[:, -1], end)
    torch.testing.assert_close(lines[:, 2], end / 2)


def test_principal_traversal_finds_the_direction_of_most_variance() -> None:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(5000, 3, generator=generator) * torch.tensor([0.1, 3.0, 1.0]) + 7
    walk = principal_traversal(means, directions=2, steps=7)
    assert walk.latents.shape == (2, 7, 3)
    torch.testing.assert_close(walk.latents[:, 3], means.mean(0).expand(2, 3))  # through the centre
    torch.testing.assert_close(walk.latents[0, -1] - means.mean(0), torch.tensor([0.0, 9.0, 0.0]), atol=0.3, rtol=0.05)
    assert walk.variance_shares[0].item() == pytest.approx(9 / 10.01, abs=0.02)


def test_first_prior_draws_do_not_depend_on_how_many_follow(tiny_vae: Callable[..., VAE]) -> None:
    assert torch.equal(prior_noise(tiny_vae(), 10, 0)[:3], prior_noise(tiny_vae(), 3, 0))


def test_sliced_wasserstein_is_zero_for_equal_pictures_and_grows_with_blur() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (400, 3, 32, 32), generator=generator, dtype=torch.uint8)
    floor = sliced_wasserstein(images[:200], images[200:], seed=0)
    blurred = torch.nn.functional.avg_pool2d(images.float(), 3, 1, 1).to(torch.uint8)
    assert sliced_wasserstein(images[:200], images[:200], seed=0) == 0
    assert sliced_wasserstein(blurred[:200], images[200:], seed=0) > 5 * floor
