"""Which distributions does a VAE need? A diagonal Gaussian over latents, and two likelihoods over images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

LOG_2_PI = math.log(2 * math.pi)
HALF_LEVEL = 0.5 / 255  # half the distance between two grey levels, in pixel values from 0 to 1


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
        # Mirror negative differences: both interval ends then lie on the side where erfc keeps its relative precision.
        difference = images - self.center  # [B, 3, 32, 32]
        distance = difference.abs()
        positive = difference >= 0
        black, white = images <= 0, images >= 1
        to_sqrt2 = torch.exp(-self.log_std) * math.sqrt(0.5)
        near = (distance - HALF_LEVEL) * to_sqrt2
        far = (distance + HALF_LEVEL) * to_sqrt2
        near_tail = torch.erfc(near).masked_fill((black & positive) | (white & ~positive), 2.0)
        far_tail = torch.erfc(far).masked_fill((black & ~positive) | (white & positive), 0.0)
        mass = 0.5 * (near_tail - far_tail)
        # Beyond about 12 std float32 masses vanish; there, density at the level's middle times its width.
        tiny = 1e-30
        density = -((distance * to_sqrt2) ** 2) - self.log_std + math.log(2 * HALF_LEVEL / math.sqrt(2 * math.pi))
        return torch.where(mass > tiny, mass.clamp_min(tiny).log(), density).flatten(1).sum(1)


Likelihood = Bernoulli | DiscretizedGaussian
