"""Are both networks built from their sizes alone, and from a seed?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from pipeline.vae.images import to_float
from pipeline.vae.networks import GELU, VAE, Architecture, build_vae, multiply_adds, parameter_count


def test_shapes_of_posterior_and_likelihood(
    tiny_vae: Callable[..., VAE], shapes: torch.Tensor, model: str, likelihood: str
) -> None:
    vae = tiny_vae(model, likelihood)
    posterior = vae.encode(to_float(shapes))
    assert posterior.mean.shape == posterior.log_std.shape == (50, 4)
    decoded = vae.decode(posterior.mean)
    assert decoded.mean.shape == (50, 3, 32, 32)
    assert decoded.mean.min() >= 0
    assert decoded.mean.max() <= 1
    assert decoded.log_prob(to_float(shapes)).shape == (50,)


def test_the_seed_alone_decides_the_weights_and_global_randomness_is_left_alone(
    tiny_vae: Callable[..., VAE], model: str
) -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = tiny_vae(model).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    again, other = tiny_vae(model).state_dict(), tiny_vae(model, seed=1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize("channels", [(2,), (2, 3, 4, 5, 6)])
def test_convolutions_from_one_layer_to_five(channels: tuple[int, ...], shapes: torch.Tensor) -> None:
    vae = build_vae(Architecture("conv", channels, 4, "gaussian", 0), seed=0)
    assert vae.decode(vae.encode(to_float(shapes)).mean).mean.shape == (50, 3, 32, 32)


def test_multiply_adds_of_the_fully_connected_network_are_its_weights() -> None:
    vae = build_vae(Architecture("fc", (768,), 128, "bernoulli", 0), seed=0)
    weights = 3072 * 768 + 768 * 256 + 128 * 768 + 768 * 3072
    assert multiply_adds(vae) == weights
    assert parameter_count(vae) == weights + 768 + 256 + 768 + 3072


def test_a_point_is_the_posterior_mean_whatever_the_noise(tiny_vae: Callable[..., VAE], shapes: torch.Tensor) -> None:
    vae = tiny_vae("conv")
    autoencoder = build_vae(replace(vae.architecture, posterior="point"), seed=0)
    posterior = autoencoder.encode(to_float(shapes))
    assert torch.equal(posterior.mean, vae.encode(to_float(shapes)).mean)
    assert torch.equal(posterior.sample(100 * torch.ones(50, 4)), posterior.mean)


def test_headers_state_a_point_and_leave_a_gaussian_out() -> None:
    architecture = Architecture("fc", (16,), 4, "gaussian", 0)
    assert "posterior" not in architecture.as_dict()
    assert replace(architecture, posterior="point").as_dict()["posterior"] == "point"


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 4, 4)])
def test_gelu_is_that_of_pytorch_and_keeps_the_order_in_memory(shape: tuple[int, ...]) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    if len(shape) == 4:
        features = features.to(memory_format=torch.channels_last)
    found = GELU()(features)
    torch.testing.assert_close(found, F.gelu(features), atol=1e-6, rtol=1e-6)
    assert found.stride() == features.stride()
