"""What is left of a VAE without its noise? The same network as a deterministic autoencoder, a code for each image."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.vae.distributions import DiagonalGaussian
from pipeline.vae.networks import VAE

POINT = -30.0  # log of a deviation too small to move a code: a Gaussian that is a point to float32


class Autoencoder(VAE):
    """Of the encoder's outputs it uses the means alone; trained with kl_weight 0 its loss is the distortion."""

    def encode(self, images: Tensor) -> DiagonalGaussian:
        """The code of each of the images [B, 3, 32, 32] in 0..1, as a posterior that is a point."""
        mean = super().encode(images).mean
        return DiagonalGaussian(mean, torch.full_like(mean, POINT))


def as_autoencoder(vae: VAE) -> Autoencoder:
    """An autoencoder with the weights of `vae`, on the CPU."""
    autoencoder = Autoencoder(vae.architecture).to(memory_format=torch.channels_last)
    autoencoder.load_state_dict(vae.state_dict())
    return autoencoder
