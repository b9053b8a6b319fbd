"""Is what latents tell of their images what it is in models where everything is known in closed form?"""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.metrics.latents import encoded, linear_probe, mixture_latents, mutual_information, nearest, share_outside
from pipeline.sources.shapes import draw_shapes
from pipeline.vae.distributions import DiagonalGaussian
from pipeline.vae.images import generator
from pipeline.vae.networks import Architecture, build_vae
from pipeline.vae.objective import rate
from pipeline.vae.priors import StandardNormal


def linear_encoder(count: int, gain: torch.Tensor, std: torch.Tensor) -> tuple[DiagonalGaussian, torch.Tensor]:
    """q(z|x) = N(gain x, std^2) for x from N(0, I), and noise; the aggregate is N(0, gain^2 + std^2)."""
    rng = torch.Generator().manual_seed(0)
    data, noise = torch.randn(2, count, len(gain), generator=rng, dtype=torch.float64)
    return DiagonalGaussian(data * gain, std.log().expand(count, -1)), noise


def mean_rate(posteriors: DiagonalGaussian) -> float:
    """Under N(0, I), in closed form."""
    return rate(posteriors, StandardNormal(posteriors.mean.shape[1])).mean().item()


@pytest.mark.parametrize(("gain", "std"), [((0.8, 0.5), (0.6, 0.9)), ((1.5, 0.0), (0.5, 1.0))])
def test_the_parts_are_those_of_a_linear_gaussian_model(gain: tuple[float, ...], std: tuple[float, ...]) -> None:
    gains, stds = torch.tensor(gain).double(), torch.tensor(std).double()
    count = 4000
    posteriors, noise = linear_encoder(count, gains, stds)
    variance = gains**2 + stds**2
    found = mutual_information(posteriors, noise)
    information = 0.5 * (variance / stds**2).log().sum().item()
    divergence = 0.5 * (variance - 1 - variance.log()).sum().item()
    tolerance = 4 / math.sqrt(count)  # the deviation of log q(z|x) - log q(z) in two dimensions is about 1
    assert found == pytest.approx(information, abs=tolerance)
    assert mean_rate(posteriors) - found == pytest.approx(divergence, abs=tolerance)


def test_an_encoder_that_tells_everything_is_bounded_by_the_number_of_images() -> None:
    rng = torch.Generator().manual_seed(2)
    mean, noise = 100 * torch.randn(2, 300, 8, generator=rng, dtype=torch.float64)
    posteriors = DiagonalGaussian(mean, torch.full_like(mean, -3.0))
    assert mutual_information(posteriors, noise / 100) == pytest.approx(math.log(300), abs=0.5)


def test_an_encoder_that_ignores_its_images_tells_nothing() -> None:
    noise = torch.randn(200, 3, generator=torch.Generator().manual_seed(3))
    posteriors = DiagonalGaussian(torch.zeros(200, 3), torch.zeros(200, 3))
    assert mutual_information(posteriors, noise) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("block", [1, 7, 1000])
def test_the_block_size_changes_nothing(block: int) -> None:
    posteriors, noise = linear_encoder(50, torch.ones(2).double(), torch.ones(2).double())
    assert mutual_information(posteriors, noise, block) == pytest.approx(
        mutual_information(posteriors, noise), rel=1e-10
    )


def test_a_mixture_is_found_and_drawn_from() -> None:
    """Two clouds in five dimensions: draws come from both, in no order, and never from between."""
    rng = torch.Generator().manual_seed(0)
    clouds = torch.randn(2000, 5, generator=rng) * 0.1 + 3 * torch.tensor([1.0, -1.0]).repeat(1000).unsqueeze(1)
    drawn = mixture_latents(clouds, 10, 1000, seed=0)
    assert drawn.shape == (1000, 5)
    assert drawn.dtype == torch.float32
    above = (drawn[:, 0] > 0).double()
    assert above.mean().item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(1000))
    assert above[:500].mean().item() == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(500))
    assert (drawn.abs() - 3).abs().max() < 1
    assert torch.equal(drawn, mixture_latents(clouds, 10, 1000, seed=0))
    assert not torch.equal(drawn, mixture_latents(clouds, 10, 1000, seed=1))


def test_a_linear_probe_reads_what_is_linear_and_nothing_else() -> None:
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(3000, 6, generator=rng)
    labels = (means[:, 0] + means[:, 1] > 0).long()
    assert linear_probe(means[:2000], labels[:2000], means[2000:], labels[2000:]).double().mean() > 0.97
    noise = torch.randint(2, (3000,), generator=rng)
    chance = linear_probe(means[:2000], noise[:2000], means[2000:], noise[2000:]).double().mean().item()
    assert chance == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(1000))


def test_distance_to_the_nearest_code_in_any_blocks() -> None:
    codes = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    points = torch.tensor([[3.0, 4.0], [10.0, 1.0], [0.0, 0.0]])
    assert nearest(points, codes, block=2).tolist() == pytest.approx([5, 1, 0])


def test_as_many_of_the_same_are_outside_as_are_tolerated_and_all_from_elsewhere() -> None:
    rng = generator(0, "codes")
    codes, held_out, others = torch.randn(3, 2000, 2, generator=rng)
    assert share_outside(others, codes, held_out, 0.05) == pytest.approx(0.05, abs=0.02)
    assert share_outside(others + 50, codes, held_out, 0.05) == 1


def test_images_are_encoded_by_draws_that_any_batch_size_repeats() -> None:
    vae = build_vae(Architecture("fc", (16,), 4, "gaussian", 0), seed=0)
    images = draw_shapes(10, generator(0, "shapes")).images
    draws = encoded(vae, images, generator(1, "noise"))
    torch.testing.assert_close(encoded(vae, images, generator(1, "noise"), batch_size=3), draws)
    assert not torch.equal(encoded(vae, images, generator(2, "noise")), draws)
