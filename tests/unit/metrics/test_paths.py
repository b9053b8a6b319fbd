"""Are paths through latent space where they should be, and is what is measured along them what it is called?"""

from __future__ import annotations

import math

import pytest
import torch

from pipeline.metrics.paths import (
    crossfade,
    largest_steps,
    luminance,
    luminance_direction,
    on_sphere,
    rank_correlation,
    spherical,
)
from pipeline.vae.sampling import interpolate


def test_latents_on_a_sphere_have_its_radius_and_the_same_directions() -> None:
    small, large = on_sphere(1.0, 50, 16, seed=0), on_sphere(8.0, 50, 16, seed=0)
    torch.testing.assert_close(large.norm(dim=1), torch.full((50,), 8.0))
    torch.testing.assert_close(large, 8 * small)
    assert torch.equal(on_sphere(0.0, 3, 16, seed=0), torch.zeros(3, 16))


def test_luminance_of_black_white_and_green() -> None:
    images = torch.zeros(3, 3, 32, 32, dtype=torch.uint8)
    images[1] = 255
    images[2, 1] = 255
    torch.testing.assert_close(luminance(images), torch.tensor([0.0, 1.0, 0.587]))


def test_the_direction_of_luminance_is_found_among_others_that_vary_more() -> None:
    rng = torch.Generator().manual_seed(0)
    truth = torch.nn.functional.normalize(torch.tensor([0.0, 1.0, -2.0, 0.5, 0.0]), dim=0)
    brightness = torch.randn(20000, generator=rng)
    others = torch.randn(20000, 5, generator=rng) @ torch.randn(5, 5, generator=rng)
    level = (brightness * 40 + 128).round().clamp(0, 255).to(torch.uint8)
    images = level.view(-1, 1, 1, 1).expand(-1, 3, 32, 32)
    torch.testing.assert_close(
        luminance_direction(brightness.outer(truth) + others + 3, images), truth, atol=0.03, rtol=0
    )


def test_rank_correlation() -> None:
    rising = torch.tensor([1.0, 2.0, 5.0, 90.0])
    assert rank_correlation(torch.arange(4), rising) == pytest.approx(1)
    assert rank_correlation(torch.arange(4), -rising) == pytest.approx(-1)
    assert rank_correlation(torch.arange(4), torch.ones(4)) == 0


def test_arcs_keep_their_length_and_turn_evenly() -> None:
    start, end = torch.tensor([[2.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 2.0], [0.0, 3.0]])
    arcs = spherical(start, end, 3)
    torch.testing.assert_close(arcs[:, 0], start)
    torch.testing.assert_close(arcs[:, -1], end, atol=1e-6, rtol=0)
    torch.testing.assert_close(arcs[0, 1], torch.full((2,), math.sqrt(2)))
    torch.testing.assert_close(arcs[1, 1], torch.full((2,), math.sqrt(2)))  # length 2, halfway from 1 to 3


def test_fading_pixels_begins_and_ends_at_the_images() -> None:
    images = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    faded = crossfade(images[0], images[1], 5)
    assert faded.shape == (3, 5, 3, 32, 32)
    assert torch.equal(faded[:, 0], images[0])
    assert torch.equal(faded[:, -1], images[1])
    middle = (images[0].float() + images[1].float()) / 2
    assert (faded[:, 2].float() - middle).abs().max() <= 0.5


def test_the_largest_step_of_even_and_of_jumping_paths() -> None:
    """Images of one grey level each, the features the level: four even steps; one jump."""
    even = interpolate(torch.tensor([[0.0]]), torch.tensor([[200.0]]), 5)
    jump = torch.tensor([[[0.0], [0.0], [200.0], [200.0], [200.0]]])
    paths = torch.cat([even, jump]).to(torch.uint8).view(2, 5, 1, 1, 1).expand(-1, -1, 3, 32, 32)
    steps = largest_steps(paths, lambda images: images[:, :1, 0, 0].float())
    torch.testing.assert_close(steps, torch.tensor([0.25, 1.0]))
