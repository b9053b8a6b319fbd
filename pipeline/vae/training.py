"""How is a VAE trained? Epoch by epoch, from a state that can be kept after any step and gone on from, bit for bit."""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor

from pipeline.params import Train
from pipeline.vae.images import batches, generator, to_float
from pipeline.vae.networks import VAE
from pipeline.vae.objective import Terms, active_units, bound_terms
from pipeline.vae.priors import GaussianMixture

REFIT_BATCH_SIZE = 1000  # images at a time; fewer are slower
COLLAPSED = 0.1  # share of active units below which latents tell next to nothing of an image
STDS = (1e-4, 0.5)  # of the likelihood, in pixel values from 0 to 1: far below a grey level, and all that pixels differ

EpochMetrics = dict[str, float]  # "epoch", "train/elbo", "validation/rate", ...: nats per image
Bound = Callable[[VAE, Tensor, torch.Generator], Terms]  # of a batch in 0..1, with noise from a generator


class NonFiniteError(ArithmeticError):
    """A term of the loss, or its gradient, is not finite; the step that would have spread it was not taken."""


def one_draw(vae: VAE, images: Tensor, noise: torch.Generator) -> Terms:
    """The bound's terms for images [B, 3, 32, 32] in 0..1, one posterior draw each."""
    return bound_terms(vae, images, _noise(len(images), vae, noise))


class Training:
    """Trains `vae` in place on uint8 images [N, 3, 32, 32], wherever they are, for the epochs that `settings` state.

    `bound` gives the terms that a step's loss is made of.
    """

    def __init__(
        self,
        vae: VAE,
        train: Tensor,
        validation: Tensor,
        settings: Train,
        kl_weight: float,
        seed: int,
        bound: Bound = one_draw,
    ) -> None:
        self.vae, self.train, self.validation = vae, train, validation
        vae.precision = settings.precision
        self.settings, self.kl_weight, self.seed, self.bound = settings, kl_weight, seed, bound
        self.optimizer = torch.optim.AdamW(
            vae.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.steps_per_epoch = math.ceil(len(train) / settings.batch_size)
        self.step = self.finished_epochs = 0
        self.shuffle, self.noise = generator(seed, "shuffle"), generator(seed, "training noise")
        self.shuffled = self.shuffle.get_state()  # as the epoch under way began
        self.sums = TermSums(self.steps_per_epoch, vae.device)  # of the epoch under way

    @property
    def images_seen(self) -> int:
        """How many images it was trained on so far, each epoch's anew."""
        return self.finished_epochs * len(self.train) + self.sums.images

    @property
    def taken(self) -> int:
        """Steps of the epoch under way."""
        return self.step - self.finished_epochs * self.steps_per_epoch

    @property
    def position(self) -> str:
        """Where it stands, in words."""
        return f"after step {self.taken} of {self.steps_per_epoch} in epoch {self.finished_epochs + 1}"

    def epochs(self, after_step: Callable[[int], object] = lambda images: None) -> Iterator[EpochMetrics]:
        """Train and yield the metrics of each epoch as it ends; NonFiniteError when a number is not finite.

        `train/*` are means over the epoch while the weights move, `validation/*` are measured at its end. Between two
        epochs, and in `after_step`, which is told the number of images, the caller may use `vae`. As an epoch ends, a
        mixture prior is refitted to the posteriors: trained by gradients, all components but two or three died.
        """
        vae, settings = self.vae, self.settings
        while self.finished_epochs < settings.epochs:
            vae.train()
            self.shuffle.set_state(self.shuffled)
            order = batches(self.train, settings.batch_size, self.shuffle, settings.horizontal_flips, vae.device)
            for images in islice(order, self.taken, None):  # but for those before it was resumed
                self._take_step(images)
                after_step(len(images))
            if isinstance(vae.prior, GaussianMixture):
                vae.eval()
                again = batches(self.train, REFIT_BATCH_SIZE, device=vae.device)
                vae.prior.refit(vae.encode(images) for images in again)
            metrics = {
                "epoch": self.finished_epochs + 1,
                **self.sums.means("train"),
                **validate(vae, self.validation, settings.batch_size, generator(self.seed, "validation noise")),
                "train/learning_rate": learning_rate(settings, self.step / self.steps_per_epoch),
            }
            self.finished_epochs += 1
            self.shuffled = self.shuffle.get_state()
            self.sums = TermSums(self.steps_per_epoch, vae.device)
            yield metrics

    def _take_step(self, images: Tensor) -> None:
        progress = self.step / self.steps_per_epoch  # in epochs
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.settings, progress)
        terms = self.bound(self.vae, images, self.noise)
        terms.loss(self.kl_weight * warm_up(progress, self.settings.kl_warmup_epochs)).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.vae.parameters() if p.grad is not None])
        if not torch.isfinite(norm + terms.elbo.detach().mean()):
            raise NonFiniteError(self._what_broke(terms, norm))
        if norm > self.settings.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(self.vae.parameters(), self.settings.max_grad_norm, norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.sums.add(terms)
        self.step += 1

    def _what_broke(self, terms: Terms, norm: Tensor) -> str:
        means = {"rate": terms.rate.mean(), "distortion": terms.distortion.mean(), "norm of the gradient": norm}
        broken = ", ".join(f"{name} {mean.item():g}" for name, mean in means.items() if not torch.isfinite(mean))
        where = f"epoch {self.finished_epochs + 1}, step {self.taken + 1} of {self.steps_per_epoch}"
        return f"{where}: {broken} at a learning rate of {self.optimizer.param_groups[0]['lr']:g}"

    def state(self) -> dict[str, Tensor]:
        """All that the rest of the training depends on, between two steps: a flat view, which further steps change."""
        state = {f"vae.{name}": value for name, value in self.vae.state_dict().items()}
        for name, parameter in self.vae.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                state[f"optimizer.{name}.{key}"] = value
        state |= {"shuffled": self.shuffled, "noise": self.noise.get_state(), "sums": self.sums.rows}
        return state | {"progress": torch.tensor([self.finished_epochs, self.step, self.sums.images])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave for an equal training, in this process or another."""
        self.vae.load_state_dict(_below("vae.", state))
        for name, parameter in self.vae.named_parameters():
            for key, value in _below(f"optimizer.{name}.", state).items():
                like = parameter if value.shape == parameter.shape else value  # channels last, as the optimizer wants
                self.optimizer.state[parameter][key] = torch.empty_like(like, device=parameter.device).copy_(value)
        self.shuffled = state["shuffled"]
        self.noise.set_state(state["noise"])
        self.finished_epochs, self.step, images = state["progress"].tolist()
        self.sums.load(state["sums"], self.taken, images)


def warm_up(progress: float, epochs: float) -> float:
    """Factor that grows linearly from 0 to 1 within the first `epochs`; `progress` in epochs."""
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
    eps = _noise(len(images), vae, noise).split(batch_size)  # drawn at once: smaller draws would give other numbers
    sums = TermSums(len(eps), vae.device)
    for batch, batch_noise in zip(batches(images, batch_size, device=vae.device), eps, strict=True):
        sums.add(bound_terms(vae, batch, batch_noise))
    return sums.means("validation")


class TermSums:
    """Sums and counts, so that any batching gives the same mean; read from the device once, at the end.

    All rows are allocated at once: small tensors kept between batches would cut freed memory into pieces.
    """

    def __init__(self, batches: int, device: torch.device) -> None:
        self.rows = torch.zeros(2, batches, device=device)  # of rates and of distortions, for each batch
        self.batches = self.images = 0

    def add(self, terms: Terms) -> None:
        """Count a batch."""
        self.rows[0, self.batches] = terms.rate.detach().sum()
        self.rows[1, self.batches] = terms.distortion.detach().sum()
        self.batches += 1
        self.images += len(terms.rate)

    def load(self, rows: Tensor, batches: int, images: int) -> None:
        """Go on from the rows of another."""
        self.rows.copy_(rows)
        self.batches, self.images = batches, images

    def means(self, split: str) -> dict[str, float]:
        """Means over all images so far, as `<split>/elbo` and so on."""
        rate, distortion = (row[: self.batches].double().sum().item() / self.images for row in self.rows.cpu())
        return {f"{split}/elbo": -(rate + distortion), f"{split}/rate": rate, f"{split}/distortion": distortion}


@torch.no_grad()
def symptoms(vae: VAE, images: Tensor) -> dict[str, str]:
    """What is wrong, in a line each, by what it is called, as uint8 images [N, 3, 32, 32] show it."""
    vae.eval()
    found = {}
    means = vae.encode(to_float(images.to(vae.device))).mean  # [N, latent_dim]
    active, units = active_units(means), means.shape[1]
    if active < COLLAPSED * units:
        found["posterior collapse"] = (
            f"{active} of {units} latent units are active, fewer than {COLLAPSED:.0%}; lower kl_weight or raise "
            "train.kl_warmup_epochs"
        )
    if vae.architecture.likelihood == "gaussian":
        deviation = vae.likelihood_log_std.exp().item()
        if not STDS[0] <= deviation <= STDS[1]:
            found["runaway deviation"] = (
                f"the likelihood's deviation is {deviation:.3g}, outside {STDS[0]:g} to {STDS[1]:g}; "
                "lower train.learning_rate"
            )
    return found


def _noise(count: int, vae: VAE, rng: torch.Generator) -> Tensor:
    return torch.randn(count, vae.architecture.latent_dim, generator=rng).to(vae.device)


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
