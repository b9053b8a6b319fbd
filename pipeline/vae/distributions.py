"""Which distributions does a VAE need? A diagonal Gaussian over latents, and two likelihoods over images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2_PI = math.log(2 * math.pi)
HALF_LEVEL = 0.5 / 255  # half the distance between two grey levels, in pixel values from 0 to 1
TINY = 1e-30  # masses up to this one have vanished
INFINITE = 1e18  # its square is finite


@dataclass(frozen=True)
class DiagonalGaussian:
    """N(mean, exp(log_std)^2) over latents; both [B, latent_dim]."""

    mean: Tensor
    log_std: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The reparameterized draw mean + std * noise, [B, latent_dim], for noise drawn from N(0, I)."""
        return self.mean + self.log_std.exp() * noise

    def divergences(self, other: DiagonalGaussian) -> Tensor:
        """KL of each dimension's Gaussian from that of another, nats, [B, latent_dim]; >= 0."""
        squares = (self.mean - other.mean) ** 2 + (2 * self.log_std).exp()
        return 0.5 * (squares * (-2 * other.log_std).exp() - 1) + other.log_std - self.log_std

    def log_prob_of(self, noise: Tensor) -> Tensor:
        """Log density of the draw that `noise` [B, latent_dim] makes, nats, [B], however small log_std is."""
        return -(0.5 * (noise**2 + LOG_2_PI) + self.log_std).sum(1)


@dataclass(frozen=True)
class Bernoulli:
    """Independent Bernoulli pixels, the assignment's likelihood; logits [B, 3, 32, 32].

    On grey values between 0 and 1 its log "probability" is a binary cross-entropy, not a density of 8-bit images.
    """

    logits: Tensor

    @property
    def mean(self) -> Tensor:
        """Expected image, [B, 3, 32, 32], in 0..1."""
        return self.logits.sigmoid()

    def log_prob(self, images: Tensor) -> Tensor:
        """Negative binary cross-entropy of images in 0..1, nats per image, [B]."""
        return -F.binary_cross_entropy_with_logits(self.logits, images, reduction="none").flatten(1).sum(1)


@dataclass(frozen=True)
class DiscretizedGaussian:
    """A Gaussian whose mass is shared out among the 256 grey levels; the outer levels take the tails.

    `center` [B, 3, 32, 32] in pixel values, `log_std` [], which all pixels share ("sigma-VAE", Rybkin et al. 2021; Dai
    & Wipf 2019). A true probability of 8-bit images, so bounds on it convert to bits per dimension.
    """

    center: Tensor
    log_std: Tensor

    @property
    def mean(self) -> Tensor:
        """Centre of the Gaussian, cut to 0..1, [B, 3, 32, 32]."""
        return self.center.clamp(0, 1)

    def log_prob(self, images: Tensor) -> Tensor:
        """Log probability of images whose values are multiples of 1/255 in 0..1, nats per image, [B]."""
        log_std = self.log_std if torch.is_grad_enabled() else self.log_std.detach()
        log_masses: Tensor = _LogMass.apply(self.center, log_std, images)  # [B, 3, 32, 32]
        return log_masses.flatten(1).sum(1)


class _LogMass(torch.autograd.Function):
    """Log of the mass of each pixel's grey level, with its gradient in closed form: automatic, it takes twice as long.

    By a distance d from the centre, in units of sqrt(2) std: mass = (erfc(d - half) - erfc(d + half)) / 2.
    """

    @staticmethod
    def forward(ctx: Any, center: Tensor, log_std: Tensor, images: Tensor) -> Tensor:
        difference = images - center
        # Mirror negative differences: both interval ends then lie on the side where erfc keeps its relative precision.
        sign = torch.copysign(torch.ones_like(log_std), difference)
        distance = difference.abs_()
        scale = torch.exp(-log_std) * math.sqrt(0.5)
        levels = 510 * images - 255  # black is -255, white 255; comparisons would take eight times as long as these
        edges = (levels.clamp_min(254) - 254).add_(levels.clamp_max(-254) + 254)  # white 1, black -1, else 0
        outwards = edges.mul_(sign)  # 1 where the farther end is infinite, -1 where the nearer one is
        near = (distance - HALF_LEVEL).mul_(scale).add_(outwards.clamp_max(0), alpha=INFINITE)
        far = (distance + HALF_LEVEL).mul_(scale).add_(outwards.clamp_min(0), alpha=INFINITE)
        distance.mul_(scale)
        mass = torch.erfc(near).sub_(torch.erfc(far)).mul_(0.5)
        # Beyond about 12 std float32 masses vanish; there, density at the level's middle times its width.
        on_gpu = mass.device.type != "cpu"  # which would have to be waited for
        vanished = mass <= TINY if on_gpu or mass.amin() <= TINY else None
        log_mass = mass.clamp_min_(TINY).log()
        if vanished is not None:
            density = -(distance**2) - log_std + math.log(2 * HALF_LEVEL / math.sqrt(2 * math.pi))
            log_mass = torch.where(vanished, density, log_mass)
        if any(ctx.needs_input_grad):
            by_mass = mass.mul_(math.sqrt(math.pi)).reciprocal_()
            at_near, at_far = near.square().neg_().exp_(), far.square().neg_().exp_()
            by_log_std = near.mul_(at_near).sub_(far.mul_(at_far)).mul_(by_mass)
            by_distance = at_far.sub_(at_near).mul_(by_mass)
            if vanished is not None:
                by_log_std = torch.where(vanished, 2 * distance**2 - 1, by_log_std)
                by_distance = torch.where(vanished, -2 * distance, by_distance)
            ctx.save_for_backward(by_distance.mul_(scale).mul_(sign.neg_()), by_log_std)
        return log_mass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, None]:
        (gradient,) = gradients
        by_center, by_log_std = ctx.saved_tensors
        return gradient * by_center, (gradient * by_log_std).sum(), None


Likelihood = Bernoulli | DiscretizedGaussian
