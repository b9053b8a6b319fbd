"""Is the autoencoder a VAE's network without the noise, trained on its distortion alone?"""

from __future__ import annotations

import torch

from pipeline.sources.shapes import draw_shapes
from pipeline.study.points import as_autoencoder
from pipeline.vae.images import generator, to_float
from pipeline.vae.networks import VAE, Architecture, build_vae
from pipeline.vae.training import Training
from tests.unit.vae.test_training import SETTINGS


def network() -> VAE:
    return build_vae(Architecture("conv", (4, 8), 4, "gaussian", 0), seed=0)


def test_its_code_is_the_posterior_mean_whatever_the_noise() -> None:
    vae, images = network(), to_float(draw_shapes(5, generator(0, "shapes")).images)
    posterior = as_autoencoder(vae).encode(images)
    torch.testing.assert_close(posterior.mean, vae.encode(images).mean, rtol=0, atol=0)
    assert torch.equal(posterior.sample(100 * torch.ones(5, 4)), posterior.mean)


def test_training_leaves_alone_what_only_noise_needs() -> None:
    images = draw_shapes(64, generator(0, "shapes")).images
    autoencoder = as_autoencoder(network())
    before = {name: value.clone() for name, value in autoencoder.state_dict().items()}
    (first, *_) = Training(autoencoder, images, images, SETTINGS, kl_weight=0.0, seed=0).epochs()
    after = autoencoder.state_dict()
    assert torch.equal(after["encoder.5.bias"][4:], before["encoder.5.bias"][4:])
    assert not torch.equal(after["encoder.5.bias"][:4], before["encoder.5.bias"][:4])
    assert first["train/distortion"] > 0
