"""How do gradients get through a random draw? Estimators of them, and a model whose gradients are known exactly."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from pipeline.params import Train
from pipeline.vae.distributions import LOG_2_PI, DiagonalGaussian
from pipeline.vae.fitting import learning_rate, warm_up
from pipeline.vae.images import batches, generator
from pipeline.vae.networks import VAE
from pipeline.vae.objective import Terms, rate

Estimator = Literal["reparameterized", "score_function", "leave_one_out"]
ESTIMATORS: tuple[Estimator, ...] = get_args(Estimator)


def expected_log_likelihood(
    estimator: Estimator, posterior: DiagonalGaussian, log_likelihood: Callable[[Tensor], Tensor], noise: Tensor
) -> Tensor:
    """E_q[log p(x|z)] of each picture, nats, [B], estimated by K draws with noise [K, B, latent_dim] from N(0, I).

    The value is the same under every estimator. Its gradient with respect to the posterior is the estimator's, each
    unbiased: reparameterized goes through z = mean + std * noise (Kingma & Welling 2014); score_function is
    log p(x|z) grad log q(z) (Williams 1992), leave_one_out the same less the mean of the other draws as a baseline,
    which needs K >= 2 (Mnih & Rezende 2016).
    """
    draws = [posterior.sample(eps) for eps in noise]
    if estimator == "reparameterized":
        return torch.stack([log_likelihood(latents) for latents in draws]).mean(0)
    fixed = [latents.detach() for latents in draws]
    values = torch.stack([log_likelihood(latents) for latents in fixed])  # [K, B]
    gains = values.detach()
    if estimator == "leave_one_out":
        gains = gains - (gains.sum(0) - gains) / (len(gains) - 1)
    score = gains * torch.stack([log_density(posterior, latents) for latents in fixed])
    return (values + score - score.detach()).mean(0)


def log_density(posterior: DiagonalGaussian, latents: Tensor) -> Tensor:
    """Log q(z) of latents [B, latent_dim], nats, [B]."""
    noise = (latents - posterior.mean) * (-posterior.log_std).exp()
    return -(0.5 * (noise**2 + LOG_2_PI) + posterior.log_std).sum(1)


@dataclass(frozen=True)
class LinearGaussian:
    """p(x|z) = N(weight z, I), `weight` [pixels, latent_dim], and one picture [pixels]."""

    weight: Tensor
    picture: Tensor

    def log_likelihood(self, latents: Tensor) -> Tensor:
        """Log p(x|z) of latents [B, latent_dim], nats, [B]."""
        return -0.5 * ((self.picture - latents @ self.weight.T) ** 2 + LOG_2_PI).sum(1)

    def gradient(self, mean: Tensor, log_std: Tensor) -> Tensor:
        """Of E_q[log p(x|z)] with respect to (mean, log_std), both [latent_dim], exactly: [2 latent_dim]."""
        of_mean = self.weight.T @ (self.picture - self.weight @ mean)
        of_log_std = -((2 * log_std).exp()) * (self.weight**2).sum(0)
        return torch.cat([of_mean, of_log_std])


def linear_gaussian(pixels: int, latent_dim: int, rng: torch.Generator) -> LinearGaussian:
    """Columns of `weight` about as long as 1, and a picture that the model itself makes."""
    weight = torch.randn(pixels, latent_dim, generator=rng).double() / pixels**0.5
    picture = weight @ torch.randn(latent_dim, generator=rng).double() + torch.randn(pixels, generator=rng).double()
    return LinearGaussian(weight, picture)


def gradient_estimates(
    estimator: Estimator, model: LinearGaussian, mean: Tensor, log_std: Tensor, noise: Tensor
) -> Tensor:
    """Independent estimates of `model.gradient`, [B, 2 latent_dim], from noise [K, B, latent_dim]."""
    means, log_stds = (value.expand(noise.shape[1:]).clone().requires_grad_() for value in (mean, log_std))
    posterior = DiagonalGaussian(means, log_stds)
    total = expected_log_likelihood(estimator, posterior, model.log_likelihood, noise).sum()
    return torch.cat(torch.autograd.grad(total, (means, log_stds)), dim=1)


def relative_variance(estimates: Tensor, gradient: Tensor) -> float:
    """Mean squared error of estimates [B, D] over the squared length of what they estimate, [D] or [B, D]."""
    errors = ((estimates - gradient) ** 2).sum()
    return float(errors / (gradient**2).expand_as(estimates).sum())


def posterior_gradients(estimator: Estimator, vae: VAE, images: Tensor, noise: Tensor) -> Tensor:
    """Gradients of E_q[log p(x|z)] with respect to each picture's (mean, log_std), [B, 2 latent_dim].

    Of images [B, 3, 32, 32] in 0..1, from noise [K, B, latent_dim].
    """
    encoded = vae.encode(images)
    mean, log_std = (value.detach().requires_grad_() for value in (encoded.mean, encoded.log_std))

    posterior = DiagonalGaussian(mean, log_std)
    total = expected_log_likelihood(estimator, posterior, _likelihood_of(images, vae), noise).sum()
    return torch.cat(torch.autograd.grad(total, (mean, log_std)), dim=1)


def train_with(
    estimator: Estimator, vae: VAE, images: Tensor, settings: Train, kl_weight: float, draws: int, seed: int
) -> list[float]:
    """Train `vae` in place on uint8 images [N, 3, 32, 32]; elbo of each step taken, nats per image.

    As fitting.Training does it, but for the estimator and the number of draws; the decoder's gradients are the same.
    It ends before a step that is not finite.
    """
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    shuffle, rng = generator(seed, "shuffle"), generator(seed, "training noise")
    steps_per_epoch = math.ceil(len(images) / settings.batch_size)
    elbos: list[float] = []
    vae.train()
    for _ in range(settings.epochs):
        for batch in batches(images, settings.batch_size, shuffle, settings.horizontal_flips, vae.device):
            progress = len(elbos) / steps_per_epoch  # in epochs
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, progress)
            noise = torch.randn(draws, len(batch), vae.architecture.latent_dim, generator=rng).to(vae.device)
            posterior = vae.encode(batch)
            log_likelihood = expected_log_likelihood(estimator, posterior, _likelihood_of(batch, vae), noise)
            terms = Terms(rate(posterior, vae.prior), -log_likelihood)
            terms.loss(kl_weight * warm_up(progress, settings.kl_warmup_epochs)).backward()
            norm = torch.nn.utils.clip_grad_norm_(vae.parameters(), settings.max_grad_norm)
            if not torch.isfinite(norm + terms.elbo.detach().mean()):
                return elbos
            optimizer.step()
            optimizer.zero_grad()
            elbos.append(terms.elbo.detach().mean().item())
    return elbos


def _likelihood_of(images: Tensor, vae: VAE) -> Callable[[Tensor], Tensor]:
    """Log p(x|z) of images [B, 3, 32, 32] as a function of latents [B, latent_dim]."""
    return lambda latents: vae.decode(latents).log_prob(images)
