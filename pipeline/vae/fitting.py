"""How is a VAE trained? A generator that yields one record per epoch; the caller decides what to do with it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from pipeline.params import Train
from pipeline.vae.images import batches, generator
from pipeline.vae.networks import VAE
from pipeline.vae.objective import Terms, bound_terms
from pipeline.vae.priors import GaussianMixture

REFIT_BATCH_SIZE = 1000  # pictures at a time; fewer are slower
EpochMetrics = dict[str, float]  # "epoch", "train/elbo", "validation/rate", ...: nats per image


def fit(
    vae: VAE,
    train: Tensor,
    validation: Tensor,
    settings: Train,
    kl_weight: float,
    seed: int,
    on_batch: Callable[[int], object] = lambda images: None,
) -> Iterator[EpochMetrics]:
    """Train `vae` in place on uint8 images [N, 3, 32, 32], all on one device, and yield the metrics of each epoch.

    `train/*` are means over the epoch while the weights move, `validation/*` are measured at its end. Between two
    epochs the caller may use `vae`. `on_batch` is told the number of images after each step. As an epoch ends, a
    mixture prior is refitted to the posteriors: trained by gradients, all components but two or three died.
    """
    optimizer = torch.optim.AdamW(
        vae.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    shuffle, noise = generator(seed, "shuffle"), generator(seed, "training noise")
    steps_per_epoch = math.ceil(len(train) / settings.batch_size)
    step = 0
    for epoch in range(1, settings.epochs + 1):
        vae.train()
        sums = TermSums()
        for images in batches(train, settings.batch_size, shuffle, settings.horizontal_flips):
            progress = step / steps_per_epoch  # in epochs
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, progress)
            terms = bound_terms(vae, images, _noise(len(images), vae, noise))
            terms.loss(kl_weight * warm_up(progress, settings.kl_warmup_epochs)).backward()
            torch.nn.utils.clip_grad_norm_(vae.parameters(), settings.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            sums.add(terms)
            step += 1
            on_batch(len(images))
        if isinstance(vae.prior, GaussianMixture):
            vae.eval()
            vae.prior.refit(vae.encode(images) for images in batches(train, REFIT_BATCH_SIZE))
        yield {
            "epoch": epoch,
            **sums.means("train"),
            **validate(vae, validation, settings.batch_size, generator(seed, "validation noise")),
            "train/learning_rate": learning_rate(settings, step / steps_per_epoch),
        }


def warm_up(progress: float, epochs: float) -> float:
    """Factor that grows linearly from just above 0 to 1 within the first `epochs`; `progress` in epochs."""
    return min(1.0, progress / epochs) if epochs > 0 else 1.0


def learning_rate(settings: Train, progress: float) -> float:
    """Linear warm-up to the peak, then half a cosine down to zero at the last epoch (Loshchilov & Hutter 2017)."""
    if progress < settings.warmup_epochs:
        return settings.learning_rate * warm_up(progress, settings.warmup_epochs)
    rest = max(settings.epochs - settings.warmup_epochs, 1e-9)
    share = min(1.0, (progress - settings.warmup_epochs) / rest)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


@torch.no_grad()
def validate(vae: VAE, images: Tensor, batch_size: int, noise: torch.Generator) -> dict[str, float]:
    """Means of the bound's terms over all `images`, one posterior draw each, as `validation/*`."""
    vae.eval()
    sums = TermSums()
    eps = _noise(len(images), vae, noise).split(batch_size)  # drawn at once: smaller draws would give other numbers
    for batch, batch_noise in zip(batches(images, batch_size), eps, strict=True):
        sums.add(bound_terms(vae, batch, batch_noise))
    return sums.means("validation")


class TermSums:
    """Sums and counts, so that any batching gives the same mean; read from the device once, at the end."""

    def __init__(self) -> None:
        self.rates: list[Tensor] = []
        self.distortions: list[Tensor] = []
        self.images = 0

    def add(self, terms: Terms) -> None:
        self.rates.append(terms.rate.detach().sum())
        self.distortions.append(terms.distortion.detach().sum())
        self.images += len(terms.rate)

    def means(self, split: str) -> dict[str, float]:
        rate, distortion = (
            torch.stack(sums).cpu().double().sum().item() / self.images for sums in (self.rates, self.distortions)
        )
        return {f"{split}/elbo": -(rate + distortion), f"{split}/rate": rate, f"{split}/distortion": distortion}


def _noise(count: int, vae: VAE, rng: torch.Generator) -> Tensor:
    device = next(vae.parameters()).device
    return torch.randn(count, vae.architecture.latent_dim, generator=rng).to(device)
