"""Which images does a VAE make? Latents from the prior, between and along, and what is decoded of them."""

import torch
from torch import Tensor

from pipeline.vae.distributions import DiscretizedGaussian
from pipeline.vae.images import batches, generator, to_uint8
from pipeline.vae.networks import VAE


@torch.no_grad()
def decode(vae: VAE, latents: Tensor, batch_size: int = 500) -> Tensor:
    """Expected images of latents [N, latent_dim], uint8 [N, 3, 32, 32] on the CPU."""
    vae.eval()
    return torch.cat([to_uint8(vae.decode(part.to(vae.device)).mean).cpu() for part in latents.split(batch_size)])


@torch.no_grad()
def draw(vae: VAE, latents: Tensor, rng: torch.Generator, batch_size: int = 500) -> Tensor:
    """Images drawn from the discretised Gaussian of latents [N, latent_dim], uint8 [N, 3, 32, 32] on the CPU.

    Rounding a Gaussian's draw to the nearest level, cut to 0..255, is a draw of the discretised one.
    """
    vae.eval()
    images = []
    for part in latents.split(batch_size):
        likelihood = vae.decode(part.to(vae.device))
        assert isinstance(likelihood, DiscretizedGaussian), "a cross-entropy has no 8-bit images to draw"
        noise = torch.randn(likelihood.center.shape, generator=rng).to(vae.device)
        images.append(to_uint8(likelihood.center + likelihood.log_std.exp() * noise).cpu())
    return torch.cat(images)


@torch.no_grad()
def posterior_means(vae: VAE, images: Tensor, batch_size: int = 500) -> Tensor:
    """Posterior means of uint8 images [N, 3, 32, 32], float32 [N, latent_dim] on the CPU."""
    vae.eval()
    return torch.cat([vae.encode(batch).mean.cpu() for batch in batches(images, batch_size, device=vae.device)])


@torch.no_grad()
def prior_latents(vae: VAE, count: int, seed: int) -> Tensor:
    """`count` draws from the prior, [count, latent_dim] on the CPU; the first ones are the same for every count."""
    rng = generator(seed, "prior samples")
    noise = torch.stack([torch.randn(vae.architecture.latent_dim, generator=rng) for _ in range(count)])
    shares = torch.rand(count, generator=generator(seed, "prior components"))
    return vae.prior.sample(noise.to(vae.device), shares.to(vae.device)).cpu()


def interpolate(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Latents on straight lines from start to end, both [R, latent_dim], ends included: [R, steps, latent_dim]."""
    share = torch.linspace(0, 1, steps).view(1, -1, 1)
    return start.unsqueeze(1) * (1 - share) + end.unsqueeze(1) * share


def along(means: Tensor, direction: Tensor, steps: int, deviations: float = 3.0) -> Tensor:
    """From -deviations to +deviations of posterior means [N, latent_dim] through their mean: [steps, latent_dim].

    `direction` is a unit vector, [latent_dim].
    """
    center = means.mean(0)
    offsets = torch.linspace(-deviations, deviations, steps) * ((means - center) @ direction).std()
    return center + offsets.unsqueeze(1) * direction


def principal_directions(means: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Unit directions [count, latent_dim] in which posterior means [N, latent_dim] vary most; shares of variance."""
    _, singular, axes = torch.linalg.svd(means - means.mean(0), full_matrices=False)  # axes [latent_dim, latent_dim]
    # The sign of a singular vector is arbitrary: the largest component is made positive.
    axes = axes * axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return axes[:count], (singular**2 / (singular**2).sum())[:count]


def midpoints(means: Tensor, draw: int, seed: int) -> Tensor:
    """Halfway between each of the posterior means [N, latent_dim] and another one; other pairs in each draw."""
    order = torch.randperm(len(means), generator=generator(seed, f"interpolation pairs {draw}"))
    return (means[order] + means[order.roll(1)]) / 2
