"""Does evaluation count every image once, whatever the batches, and measure what the names say?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from pipeline.metrics.bound import evaluate_images, headline, image_sets, latent_metrics, tight_bound
from pipeline.metrics.intervals import Estimate
from pipeline.params import load_params
from pipeline.vae.images import to_float
from pipeline.vae.networks import VAE
from pipeline.vae.objective import active_units, bits_per_dim
from pipeline.vae.sampling import decode, posterior_means
from tests.fixtures import ROOT


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("prior_components", [0, 3])
def test_metrics_do_not_depend_on_the_batch_size(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, model: str, batch_size: int, prior_components: int
) -> None:
    vae = tiny_vae(model, prior_components=prior_components)
    whole, parts = evaluate_images(vae, shapes, 50, seed=0), evaluate_images(vae, shapes, batch_size, seed=0)
    for name, values in whole.per_image.items():
        assert parts.per_image[name].mean().item() == pytest.approx(values.mean().item(), rel=1e-6, abs=1e-6)
    assert active_units(parts.posteriors.mean) == active_units(whole.posteriors.mean)
    torch.testing.assert_close(parts.dimension_rates, whole.dimension_rates, rtol=1e-6, atol=1e-7)


def test_terms_add_up_and_under_a_standard_prior_the_rate_is_the_sum_over_dimensions(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor
) -> None:
    evaluation = evaluate_images(tiny_vae(), shapes, 50, seed=0)
    metrics = {name: values.mean().item() for name, values in evaluation.per_image.items()}
    assert metrics["elbo"] == pytest.approx(-(metrics["rate"] + metrics["distortion"]), rel=1e-12)
    assert metrics["rate"] == pytest.approx(evaluation.dimension_rates.sum().item(), rel=1e-6)


def test_each_likelihood_has_its_own_headline() -> None:
    elbo = Estimate(-3072 * math.log(2), 1.0, -2200.0, -2100.0, 50, "bootstrap")
    name, bits = headline(elbo, "gaussian")
    assert name == "bits_per_dim"
    assert bits.value == pytest.approx(1.0)
    assert (bits.low, bits.high) == (bits_per_dim(-2100.0), bits_per_dim(-2200.0))
    loss = replace(elbo, value=3072 * math.log(2), low=2100.0, high=2200.0)
    assert headline(elbo, "bernoulli") == ("assignment_loss", loss)


def test_image_metrics_of_8_bit_reconstructions(tiny_vae: Callable[..., VAE], shapes: torch.Tensor) -> None:
    vae = tiny_vae()
    shown = to_float(decode(vae, posterior_means(vae, shapes)))
    mse = (shown - to_float(shapes)).square().flatten(1).mean(1).double()
    per_image = evaluate_images(vae, shapes, 50, seed=0).per_image
    torch.testing.assert_close(per_image["mse"], mse, rtol=1e-5, atol=0)
    torch.testing.assert_close(per_image["psnr"], -10 * mse.log10(), rtol=1e-4, atol=0)
    assert bool((per_image["ssim"] < 1).all())


def test_active_units_are_dimensions_whose_posterior_mean_varies() -> None:
    means = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.5, 0.0]], dtype=torch.float64).repeat(10, 1)
    assert active_units(means) == 1  # variances about 0.0026, 0.066 and 0


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_tight_bound_is_above_the_elbo_whatever_the_batches(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, likelihood: str, batch_size: int
) -> None:
    vae = tiny_vae("fc", likelihood)
    bounds = tight_bound(vae, shapes, 20, batch_size, seed=0)
    torch.testing.assert_close(bounds, tight_bound(vae, shapes, 20, 50, seed=0), rtol=1e-6, atol=0)
    assert bounds.mean() > evaluate_images(vae, shapes, 50, seed=0).per_image["elbo"].mean()


@pytest.mark.parametrize("prior_components", [0, 3])
def test_the_parts_of_the_rate_add_up_to_it(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, prior_components: int
) -> None:
    evaluation = evaluate_images(tiny_vae(prior_components=prior_components), shapes, 50, seed=0)
    parts = latent_metrics(evaluation, seed=0)
    assert parts["mutual_information"] <= math.log(len(shapes))
    total = parts["mutual_information"] + parts["aggregate_divergence"]
    assert total == pytest.approx(evaluation.per_image["rate"].mean().item(), rel=1e-6)


def test_the_four_columns_have_as_many_images_as_asked_for(tiny_vae: Callable[..., VAE], shapes: torch.Tensor) -> None:
    vae = tiny_vae()
    means = posterior_means(vae, shapes)
    settings = load_params(ROOT / "params.yaml").evaluate.model_copy(update={"draws": 2})
    sets = list(image_sets(vae, means, 40, settings, seed=0))
    names = [name for name, _ in sets]
    assert names == ["reconstructions", *2 * ["samples", "drawn"], *2 * ["mixture"], *2 * ["interpolations"]]
    assert all(images.shape == (40, *shapes.shape[1:]) and images.dtype == torch.uint8 for _, images in sets)
    for name in set(names) - {"reconstructions"}:
        first, second = (images for other, images in sets if other == name)
        assert not torch.equal(first, second), name
    again = list(image_sets(vae, means, 40, settings, seed=0))
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(sets, again, strict=True))
