"""Is a latent counted as outside exactly where no encoded image is near?"""

from __future__ import annotations

import pytest
import torch

from pipeline.metrics.latents import encoded, nearest, share_outside
from pipeline.sources.shapes import draw_shapes
from pipeline.vae.images import generator
from pipeline.vae.networks import Architecture, build_vae


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
