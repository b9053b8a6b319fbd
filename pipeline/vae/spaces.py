"""Which part of latent space do encoded pictures fill?"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.vae.images import batches
from pipeline.vae.networks import VAE


@torch.no_grad()
def encoded(vae: VAE, images: Tensor, rng: torch.Generator, batch_size: int = 500) -> Tensor:
    """A draw from the posterior of each uint8 image [N, 3, 32, 32], float32 [N, latent_dim] on the CPU."""
    vae.eval()
    noise = torch.randn(len(images), vae.architecture.latent_dim, generator=rng).split(batch_size)
    draws = [
        vae.encode(batch).sample(eps.to(vae.device)).cpu()
        for batch, eps in zip(batches(images, batch_size, device=vae.device), noise, strict=True)
    ]
    return torch.cat(draws)


def share_outside(latents: Tensor, codes: Tensor, held_out: Tensor, tolerance: float) -> float:
    """Share of latents [N, D] further from the nearest of `codes` [M, D] than all but `tolerance` of held_out codes."""
    limit = nearest(held_out, codes).quantile(1 - tolerance)
    return (nearest(latents, codes) > limit).double().mean().item()


def nearest(points: Tensor, codes: Tensor, block: int = 500) -> Tensor:
    """Distance of each point [N, D] to the nearest of `codes` [M, D], [N]."""
    return torch.cat([torch.cdist(part, codes).amin(1) for part in points.split(block)])
