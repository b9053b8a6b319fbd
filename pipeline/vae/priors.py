"""Where do latents come from? The textbook's N(0, I), or a mixture of Gaussians that is learned with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pipeline.vae.distributions import LOG_2_PI, DiagonalGaussian


class StandardNormal(nn.Module):
    """N(0, I) over latents: the prior of Kingma & Welling 2014, with nothing to learn."""

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_dim), persistent=False)
        self.zeros: Tensor

    def log_prob(self, latents: Tensor) -> Tensor:
        """Log p(z) of latents [B, latent_dim], nats, [B]."""
        return -0.5 * (latents**2 + LOG_2_PI).sum(1)

    def divergence(self, posterior: DiagonalGaussian) -> Tensor:
        """KL(q(z|x) || p(z)), nats, [B]."""
        return posterior.divergences(self.marginals()).sum(1)

    def sample(self, noise: Tensor, shares: Tensor) -> Tensor:
        """Latents [N, latent_dim] of noise [N, latent_dim] from N(0, I): the noise itself."""
        return noise

    def marginals(self) -> DiagonalGaussian:
        """Mean and deviation of each dimension; both [latent_dim]."""
        return DiagonalGaussian(self.zeros, self.zeros)


class GaussianMixture(nn.Module):
    """Gaussians with full covariances, trained with encoder and decoder as one more part of the bound.

    A component's latents are mean + factor^-1 noise. Its factor, that of the precision, is lower triangular, so that a
    density needs a product and no system of equations; only draws, which are rare, solve one.
    """

    def __init__(self, components: int, latent_dim: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(0.05 * torch.randn(components, latent_dim))
        # Deviations from 1.35 down to 0.74: components that begin alike would stay alike.
        spread = torch.linspace(-0.3, 0.3, components) if components > 1 else torch.zeros(1)
        self.log_diagonal = nn.Parameter(spread.unsqueeze(1).repeat(1, latent_dim))
        self.below_diagonal = nn.Parameter(torch.zeros(components, latent_dim * (latent_dim - 1) // 2))

    def factors(self) -> Tensor:
        """Lower triangular factors A of the precisions A^T A, [components, latent_dim, latent_dim]."""
        latent_dim = self.means.shape[1]
        rows, columns = torch.tril_indices(latent_dim, latent_dim, -1, device=self.means.device)
        factors = torch.diag_embed(self.log_diagonal.exp())
        factors[:, rows, columns] = self.below_diagonal
        return factors

    def log_prob(self, latents: Tensor) -> Tensor:
        """Log p(z) of latents [B, latent_dim], nats, [B]."""
        noise = (latents - self.means.unsqueeze(1)) @ self.factors().mT  # [components, B, latent_dim]
        log_densities = self.log_diagonal.sum(1, keepdim=True) - 0.5 * (noise**2 + LOG_2_PI).sum(2)
        return torch.logsumexp(self.logits.log_softmax(0).unsqueeze(1) + log_densities, dim=0)

    def divergence(self, posterior: DiagonalGaussian) -> Tensor:
        """An upper bound of KL(q(z|x) || p(z)), nats, [B], exact for one component.

        The KL from a mixture has no closed form, that from each component does; -log sum_k weight_k exp(-KL_k) is never
        below the KL (Hershey & Olsen 2007, their variational approximation) and needs no draw.
        """
        factors = self.factors()
        offsets = (posterior.mean - self.means.unsqueeze(1)) @ factors.mT  # [components, B, latent_dim]
        variances = (2 * posterior.log_std).exp() @ factors.square().sum(1).mT  # [B, components], in prior's units
        log_ratios = self.log_diagonal.sum(1, keepdim=True) + posterior.log_std.sum(1)  # [components, B]
        divergences = 0.5 * (offsets.square().sum(2) + variances.mT - factors.shape[1]) - log_ratios
        return -torch.logsumexp(self.logits.log_softmax(0).unsqueeze(1) - divergences, dim=0)

    def sample(self, noise: Tensor, shares: Tensor) -> Tensor:
        """Latents [N, latent_dim] of noise [N, latent_dim] from N(0, I); shares [N] from 0..1 choose components."""
        chosen = torch.searchsorted(self.logits.softmax(0).cumsum(0)[:-1], shares, right=True)
        latents = torch.empty_like(noise)
        for component, factor in enumerate(self.factors()):
            drawn = torch.linalg.solve_triangular(factor, noise[chosen == component].mT, upper=False).mT
            latents[chosen == component] = self.means[component] + drawn
        return latents

    def marginals(self) -> DiagonalGaussian:
        """Mean and deviation of each dimension over the whole mixture; both [latent_dim]."""
        weights = self.logits.softmax(0).unsqueeze(1)
        factors = self.factors()
        identity = torch.eye(factors.shape[1], dtype=factors.dtype, device=factors.device).expand_as(factors)
        variances = torch.linalg.solve_triangular(factors, identity, upper=False).square().sum(2)  # [components, dim]
        mean = (weights * self.means).sum(0)
        variance = (weights * (variances + (self.means - mean) ** 2)).sum(0)
        return DiagonalGaussian(mean, 0.5 * variance.log())


Prior = StandardNormal | GaussianMixture


def build_prior(components: int, latent_dim: int) -> Prior:
    """N(0, I) for no components, else a mixture of as many Gaussians."""
    return GaussianMixture(components, latent_dim) if components else StandardNormal(latent_dim)
