"""How do gradients get through a random draw? An estimator of them, in a known model and in a training of a VAE."""

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pipeline import storage
from pipeline.params import Estimator, Gradients, Model, Params, load_params, used_parameters
from pipeline.storage.weights import load_images, save_trained
from pipeline.tracking import sync
from pipeline.tracking.records import Record
from pipeline.vae.device import place, prepare
from pipeline.vae.distributions import LOG_2_PI, DiagonalGaussian
from pipeline.vae.images import generator, to_float
from pipeline.vae.networks import VAE, architecture, build_vae
from pipeline.vae.objective import Terms, rate
from pipeline.vae.training import EpochMetrics, NonFiniteError, Training, validate

LogLikelihood = Callable[[Tensor], Tensor]  # log p(x|z) of latents [B, latent_dim], nats, [B]


def main(model: Model) -> None:
    """Train with the estimator and measure it; both stages of a cell, with a record each."""
    params = load_params()
    device = prepare(params.run.threads)
    images, data = load_images("train_images", "validation_images")
    train, validation = (place(part, device) for part in images)
    used = used_parameters(params, "gradients", model)
    record = Record(f"train@{model}", used, data.name, data.md5)
    vae = build_vae(architecture(params, model), params.seed).to(device)
    found = trained(vae, train, validation, params, record.history)
    save_trained(vae, data.name, data.md5, used)
    weights, metrics = storage.weights_path(model), storage.METRICS / f"{model}_gradients.json"
    record.weights_md5 = {model: storage.md5(weights)}
    record.save([storage.TRAIN_IMAGES], [weights])

    measured = Record(f"gradients@{model}", used, data.name, data.md5, weights_md5=record.weights_md5)
    storage.save_json(metrics, {"known_model": in_a_known_model(params.gradients, params.seed), "vae": found})
    measured.save([storage.TRAIN_IMAGES, weights], [metrics])
    sync.update_store()


def in_a_known_model(settings: Gradients, seed: int) -> list[dict[str, float]]:
    """Relative variance of the estimator in a linear Gaussian model, by latent size."""
    rows = []
    for latent_dim in (2**power for power in range(int(math.log2(settings.largest_latent_dim)) + 1)):
        rng = generator(seed, f"linear Gaussian model of {latent_dim}")
        model = linear_gaussian(settings.pixels, latent_dim, rng)
        noise = torch.randn(settings.draws, settings.estimates, latent_dim, generator=rng).double()
        posterior = DiagonalGaussian(*torch.zeros(2, settings.estimates, latent_dim, dtype=torch.float64))
        exact = model.gradient(posterior.mean[0], posterior.log_std[0])
        found = posterior_gradients(settings.estimator, posterior, model.log_likelihood, noise)
        rows.append({"latent_dim": latent_dim, "variance": relative_variance(found, exact)})
    return rows


def trained(vae: VAE, train: Tensor, validation: Tensor, params: Params, history: list[EpochMetrics]) -> dict[str, Any]:
    """A training with the estimator: elbo of its steps, relative variance before and after, validation at its end.

    It ends before a step that is not finite; each epoch's metrics go into `history`.
    """
    settings, seed, elbos = params.gradients, params.seed, list[float]()
    estimator = settings.estimator

    def bound(vae: VAE, images: Tensor, noise: Tensor) -> Terms:
        posterior, by_draw = vae.encode(images), noise.unflatten(0, (settings.draws, -1))
        log_likelihood = expected_log_likelihood(estimator, posterior, _likelihood_of(images, vae), by_draw)
        terms = Terms(rate(posterior, vae.prior), -log_likelihood)
        elbos.append(terms.elbo.detach().mean().item())
        return terms

    images = to_float(validation[: settings.variance_images].to(vae.device))
    before = variance_in(vae, estimator, images, settings, seed)
    training = Training(vae, train, validation, params.train, params.kl_weight, seed, bound, settings.draws)
    with suppress(NonFiniteError):
        history.extend(training.epochs())
    after = variance_in(vae, estimator, images, settings, seed)
    held_out = validate(vae, validation, params.train.batch_size, generator(seed, "validation noise"))
    return {"variance_before": before, "variance_after": after, "elbo": elbos[: training.step]} | held_out


def variance_in(vae: VAE, estimator: Estimator, images: Tensor, settings: Gradients, seed: int) -> float:
    """Relative variance of a VAE's gradients; the mean over many reparameterized draws stands for the exact ones."""
    rng = generator(seed, "gradient noise")
    shape = (settings.draws, len(images), vae.architecture.latent_dim)
    vae.eval()

    def estimates(name: Estimator, count: int) -> list[Tensor]:
        noises = (torch.randn(shape, generator=rng).to(vae.device) for _ in range(count))
        return [posterior_gradients(name, vae.encode(images), _likelihood_of(images, vae), noise) for noise in noises]

    exact = torch.stack(estimates("reparameterized", settings.reference_estimates)).mean(0)
    found = estimates(estimator, settings.variance_estimates)
    return sum(relative_variance(estimate, exact) for estimate in found) / len(found)


def posterior_gradients(
    estimator: Estimator, posteriors: DiagonalGaussian, log_likelihood: LogLikelihood, noise: Tensor
) -> Tensor:
    """Estimates of the gradient of E_q[log p(x|z)] with respect to each of B posteriors' (mean, log_std).

    [B, 2 latent_dim], from noise [K, B, latent_dim].
    """
    mean, log_std = (value.detach().requires_grad_() for value in (posteriors.mean, posteriors.log_std))
    total = expected_log_likelihood(estimator, DiagonalGaussian(mean, log_std), log_likelihood, noise).sum()
    return torch.cat(torch.autograd.grad(total, (mean, log_std)), dim=1)


def expected_log_likelihood(
    estimator: Estimator, posterior: DiagonalGaussian, log_likelihood: LogLikelihood, noise: Tensor
) -> Tensor:
    """E_q[log p(x|z)] of each image, nats, [B], estimated by K draws with noise [K, B, latent_dim] from N(0, I).

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
    return posterior.log_prob_of((latents - posterior.mean) * (-posterior.log_std).exp())


@dataclass(frozen=True)
class LinearGaussian:
    """p(x|z) = N(weight z, I), `weight` [pixels, latent_dim], and one image [pixels]."""

    weight: Tensor
    image: Tensor

    def log_likelihood(self, latents: Tensor) -> Tensor:
        """Log p(x|z) of latents [B, latent_dim], nats, [B]."""
        return -0.5 * ((self.image - latents @ self.weight.T) ** 2 + LOG_2_PI).sum(1)

    def gradient(self, mean: Tensor, log_std: Tensor) -> Tensor:
        """Of E_q[log p(x|z)] with respect to (mean, log_std), both [latent_dim], exactly: [2 latent_dim]."""
        of_mean = self.weight.T @ (self.image - self.weight @ mean)
        of_log_std = -((2 * log_std).exp()) * (self.weight**2).sum(0)
        return torch.cat([of_mean, of_log_std])


def linear_gaussian(pixels: int, latent_dim: int, rng: torch.Generator) -> LinearGaussian:
    """Columns of `weight` about as long as 1, and an image that the model itself makes."""
    weight = torch.randn(pixels, latent_dim, generator=rng).double() / pixels**0.5
    image = weight @ torch.randn(latent_dim, generator=rng).double() + torch.randn(pixels, generator=rng).double()
    return LinearGaussian(weight, image)


def relative_variance(estimates: Tensor, gradient: Tensor) -> float:
    """Mean squared error of estimates [B, D] over the squared length of what they estimate, [D] or [B, D]."""
    errors = ((estimates - gradient) ** 2).sum()
    return float(errors / (gradient**2).expand_as(estimates).sum())


def _likelihood_of(images: Tensor, vae: VAE) -> LogLikelihood:
    """Log p(x|z) of images [B, 3, 32, 32] as a function of latents [B, latent_dim]."""
    return lambda latents: vae.decode(latents).log_prob(images)
