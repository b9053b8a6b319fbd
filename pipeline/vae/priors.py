"""Where do latents come from? The textbook's N(0, I), or a mixture of Gaussians fitted to encoded images."""

import math
from collections.abc import Iterable

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
        """Mean and log standard deviation of each dimension; both [latent_dim]."""
        return DiagonalGaussian(self.zeros, self.zeros)


class GaussianMixture(nn.Module):
    """Gaussians with full covariances: N(0, I) until `refit` fits them to posteriors. No gradient reaches them.

    A component's latents are mean + factor^-1 noise. Its factor A, that of the precision A^T A, is lower triangular, so
    that a density needs a product and no system of equations; only draws, which are rare, solve one.
    """

    def __init__(self, components: int, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("log_weights", torch.full((components,), -math.log(components)))
        # Identical components would never separate under EM.
        self.register_buffer("means", 0.1 * torch.randn(components, latent_dim))
        self.register_buffer("factors", torch.eye(latent_dim).repeat(components, 1, 1))
        self.log_weights: Tensor  # [components]
        self.means: Tensor  # [components, latent_dim]
        self.factors: Tensor  # [components, latent_dim, latent_dim]

    @torch.no_grad()
    def refit(self, posteriors: Iterable[DiagonalGaussian]) -> None:
        """A step of expectation maximisation, which never raises the mean divergence of posteriors [B, latent_dim].

        A posterior q belongs to each component by weight exp(-KL(q || component)), the shares at which the bound of
        `divergence` is tight; given them, the best weights, means and covariances are those of the posteriors. A
        component with less than one posterior, or whose covariance has no Cholesky factor, stays as it is.
        """
        device = self.means.device
        exact = torch.device("cpu") if device.type == "mps" else device  # Apple's GPUs have no float64
        counts, sums, squares = (
            torch.zeros(like.shape, dtype=torch.float64, device=exact)
            for like in (self.log_weights, self.means, self.factors)
        )
        for posterior in posteriors:
            shares = self._log_shares(posterior).softmax(0)  # [components, B]
            offsets = posterior.mean - self.means.unsqueeze(1)  # [components, B, latent_dim]
            weighted = shares.unsqueeze(2) * offsets
            counts += shares.sum(1).to(exact)
            sums += weighted.sum(1).to(exact)
            squares += (weighted.mT @ offsets + torch.diag_embed(shares @ (2 * posterior.log_std).exp())).to(exact)
        shifts = sums / counts.unsqueeze(1)  # [components, latent_dim]
        covariances = squares / counts.view(-1, 1, 1) - shifts.unsqueeze(2) * shifts.unsqueeze(1)
        scales, failed = torch.linalg.cholesky_ex(covariances)
        identity = torch.eye(shifts.shape[1], dtype=shifts.dtype, device=exact)
        factors = torch.linalg.solve_triangular(scales, identity, upper=False).contiguous()
        used = ((counts >= 1) & (failed == 0)).to(device).unsqueeze(1)
        # In place: a recorded step reads this memory.
        self.log_weights.copy_((counts / counts.sum()).log().to(self.log_weights))
        self.means.copy_(torch.where(used, self.means + shifts.to(self.means), self.means))
        self.factors.copy_(torch.where(used.unsqueeze(1), factors.to(self.factors), self.factors))

    def log_prob(self, latents: Tensor) -> Tensor:
        """Log p(z) of latents [B, latent_dim], nats, [B]."""
        noise = (latents - self.means.unsqueeze(1)) @ self.factors.mT  # [components, B, latent_dim]
        log_densities = self._log_determinants() - 0.5 * (noise**2 + LOG_2_PI).sum(2)
        return torch.logsumexp(self.log_weights.unsqueeze(1) + log_densities, dim=0)

    def divergence(self, posterior: DiagonalGaussian) -> Tensor:
        """An upper bound of KL(q(z|x) || p(z)), nats, [B], exact for one component.

        The KL from a mixture has no closed form, that from each component does; -log sum_k weight_k exp(-KL_k) is never
        below the KL (Hershey & Olsen 2007, their variational approximation) and needs no draw.
        """
        return -torch.logsumexp(self._log_shares(posterior), dim=0)

    def sample(self, noise: Tensor, shares: Tensor) -> Tensor:
        """Latents [N, latent_dim] of noise [N, latent_dim] from N(0, I); shares [N] from 0..1 choose components."""
        chosen = torch.searchsorted(self.log_weights.exp().cumsum(0)[:-1], shares, right=True)
        latents = torch.empty_like(noise)
        for component, factor in enumerate(self.factors):
            drawn = torch.linalg.solve_triangular(factor, noise[chosen == component].mT, upper=False).mT
            latents[chosen == component] = self.means[component] + drawn
        return latents

    def marginals(self) -> DiagonalGaussian:
        """Mean and log standard deviation of each dimension over the whole mixture; both [latent_dim]."""
        weights = self.log_weights.exp().unsqueeze(1)
        variances = torch.linalg.inv(self.factors).square().sum(2)  # [components, latent_dim]
        mean = (weights * self.means).sum(0)
        variance = (weights * (variances + (self.means - mean) ** 2)).sum(0)
        return DiagonalGaussian(mean, 0.5 * variance.log())

    def _log_shares(self, posterior: DiagonalGaussian) -> Tensor:
        """Log weight - KL(q(z|x) || component) of posteriors [B, latent_dim], nats, [components, B]."""
        offsets = (posterior.mean - self.means.unsqueeze(1)) @ self.factors.mT  # [components, B, latent_dim]
        variances = self.factors.square().sum(1) @ (2 * posterior.log_std).exp().T  # [components, B], in prior's units
        log_ratios = self._log_determinants() + posterior.log_std.sum(1)  # [components, B]
        divergences = 0.5 * (offsets.square().sum(2) + variances - posterior.mean.shape[1]) - log_ratios
        return self.log_weights.unsqueeze(1) - divergences

    def _log_determinants(self) -> Tensor:
        """Of the factors, [components, 1]."""
        return self.factors.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)


Prior = StandardNormal | GaussianMixture


def build_prior(components: int, latent_dim: int) -> Prior:
    """N(0, I) for no components, else a mixture of as many Gaussians."""
    return GaussianMixture(components, latent_dim) if components else StandardNormal(latent_dim)
