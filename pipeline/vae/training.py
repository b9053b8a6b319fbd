"""How is a VAE trained? Epoch by epoch, from a state that can be kept after any step and gone on from, bit for bit."""

import math
from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import torch
from torch import Tensor

from pipeline.params import Train
from pipeline.vae.device import runs_ahead
from pipeline.vae.graph import Replayed, Step, is_recording
from pipeline.vae.images import batches, generator, send, to_float
from pipeline.vae.networks import VAE
from pipeline.vae.objective import Terms, active_units, bound_terms
from pipeline.vae.priors import GaussianMixture

REFIT_BATCH_SIZE = 1000  # images at a time; fewer are slower
COLLAPSED = 0.1  # share of active units below which latents tell next to nothing of an image
READ_EVERY = 100  # steps of a device that runs ahead: whoever reads a number waits for all of them
NUMBERS = ("rate", "distortion", "norm of the gradient")  # of a step, the first two summed over its images
STDS = (1e-4, 0.5)  # of the likelihood, in pixel values from 0 to 1: far below a grey level, and all that pixels differ

EpochMetrics = dict[str, float]  # "epoch", "train/elbo", "validation/rate", ...: nats per image
Bound = Callable[[VAE, Tensor, Tensor], Terms]  # of a batch in 0..1, with noise [draws * B, latent_dim] from N(0, I)


class NonFiniteError(ArithmeticError):
    """A term of the loss, or its gradient, is not finite; the step that would have spread it was not taken."""


class Training:
    """Trains `vae` in place on uint8 images [N, 3, 32, 32], wherever they are, for the epochs that `settings` state.

    `bound` gives the terms that a step's loss is made of, from so many `draws` for each image. A GPU takes no step from
    the first on whose numbers are not finite; that is read every READ_EVERY steps, before a state is given, and as an
    epoch ends.
    """

    def __init__(
        self,
        vae: VAE,
        train: Tensor,
        validation: Tensor,
        settings: Train,
        kl_weight: float,
        seed: int,
        bound: Bound = bound_terms,
        draws: int = 1,
    ) -> None:
        self.vae, self.train, self.validation = vae, train, validation
        vae.precision = settings.precision
        self.settings, self.kl_weight, self.seed, self.bound, self.draws = settings, kl_weight, seed, bound, draws
        self.ahead = runs_ahead(vae.device)
        # Of the step under way, where a recorded step finds them; CUDA's optimizer wants float32.
        where = vae.device if self.ahead else torch.device("cpu")
        self.step_kl_weight = torch.zeros((), dtype=torch.float64, device=where)
        rate_dtype = torch.float32 if where.type == "cuda" else torch.float64
        self.step_learning_rate = torch.zeros((), dtype=rate_dtype, device=where)
        self.optimizer = torch.optim.AdamW(
            vae.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        (self.group,) = self.optimizer.param_groups
        self.group["lr"] = self.step_learning_rate
        self.broken = torch.zeros((), device=vae.device)  # 1 from the first number on that is not finite
        if self.ahead:
            self.optimizer.found_inf = self.broken  # type: ignore[attr-defined]  # where it is 1 no step is taken
        self.steps_per_epoch = math.ceil(len(train) / settings.batch_size)
        self.step = self.finished_epochs = 0
        self.shuffle, self.noise = generator(seed, "shuffle"), generator(seed, "training noise")
        self.shuffled = self.shuffle.get_state()  # as the epoch under way began
        # Of the epoch under way; at once, since small tensors kept between batches would cut freed memory into pieces.
        self.sums = torch.zeros(len(NUMBERS), self.steps_per_epoch, device=vae.device)

    @property
    def images_seen(self) -> int:
        """How many images it was trained on so far, each epoch's anew."""
        return self.finished_epochs * len(self.train) + min(self.taken * self.settings.batch_size, len(self.train))

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
        recorded = self.ahead and self.bound is bound_terms  # another may do more than compute
        update = Replayed(self._update) if recorded else self._update
        while self.finished_epochs < settings.epochs:
            vae.train()
            self.shuffle.set_state(self.shuffled)
            order = batches(self.train, settings.batch_size, self.shuffle, settings.horizontal_flips, vae.device)
            for images in islice(order, self.taken, None):  # but for those before it was resumed
                self._take_step(images, update)
                after_step(len(images))
            self._check()
            if isinstance(vae.prior, GaussianMixture):
                vae.eval()
                again = batches(self.train, REFIT_BATCH_SIZE, device=vae.device)
                vae.prior.refit(vae.encode(images) for images in again)
            metrics = {
                "epoch": self.finished_epochs + 1,
                **_means(self.sums, len(self.train), "train"),
                **validate(vae, self.validation, settings.batch_size, generator(self.seed, "validation noise")),
                "train/learning_rate": learning_rate(settings, self.step / self.steps_per_epoch),
            }
            self.finished_epochs += 1
            self.shuffled = self.shuffle.get_state()
            self.sums.zero_()
            yield metrics

    def _take_step(self, images: Tensor, update: Step) -> None:
        progress = self.step / self.steps_per_epoch  # in epochs
        self.step_learning_rate.fill_(learning_rate(self.settings, progress))
        self.step_kl_weight.fill_(self.kl_weight * warm_up(progress, self.settings.kl_warmup_epochs))
        self.sums[:, self.taken] = update(images, _noise(self.draws * len(images), self.vae, self.noise))
        self.step += 1
        if not self.ahead or self.step % READ_EVERY == 0:
            self._check()

    def _update(self, images: Tensor, noise: Tensor) -> Tensor:
        """Take a step unless a number is not finite; NUMBERS of the batch. Where it runs ahead, it reads none."""
        terms = self.bound(self.vae, images, noise)
        terms.loss(self.step_kl_weight).backward()
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.vae.parameters() if p.grad is not None])
        numbers = torch.stack([*terms.sums(), norm])
        self.broken.masked_fill_(~numbers.isfinite().all(), 1)
        if self.ahead or norm > self.settings.max_grad_norm:
            torch.nn.utils.clip_grads_with_norm_(self.vae.parameters(), self.settings.max_grad_norm, norm)
        if self.ahead or not self.broken:
            self.group["capturable"] = self.ahead and is_recording()  # else AdamW warns of it
            self.optimizer.step()
        self.optimizer.zero_grad()
        return numbers

    def _check(self) -> None:
        """Go back to the first step whose numbers are not finite, which none was taken after, and tell of it."""
        if not self.broken:
            return
        finite = self.sums.isfinite()  # [NUMBERS, steps]
        broken = int(finite.all(0).int().argmin())
        self.step = self.finished_epochs * self.steps_per_epoch + broken
        told = ", ".join(
            f"{name} {number:g}"
            for name, number in zip(NUMBERS, self.sums[:, broken].tolist(), strict=True)
            if not math.isfinite(number)
        )
        rate = learning_rate(self.settings, self.step / self.steps_per_epoch)
        where = f"epoch {self.finished_epochs + 1}, step {self.taken + 1} of {self.steps_per_epoch}"
        raise NonFiniteError(f"{where}: {told} at a learning rate of {rate:g}")

    def state(self) -> dict[str, Tensor]:
        """All that the rest of the training depends on, between two steps: a flat view, which further steps change."""
        self._check()
        state = {f"vae.{name}": value for name, value in self.vae.state_dict().items()}
        for name, parameter in self.vae.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                state[f"optimizer.{name}.{key}"] = value
        state |= {"shuffled": self.shuffled, "noise": self.noise.get_state(), "sums": self.sums}
        return state | {"progress": torch.tensor([self.finished_epochs, self.step])}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` gave for an equal training, in this process or another."""
        self.vae.load_state_dict(_below("vae.", state))
        for name, parameter in self.vae.named_parameters():
            for key, value in _below(f"optimizer.{name}.", state).items():
                like = parameter if value.shape == parameter.shape else value  # channels last, as the optimizer wants
                self.optimizer.state[parameter][key] = torch.empty_like(like, device=parameter.device).copy_(value)
        self.shuffled = state["shuffled"]
        self.noise.set_state(state["noise"])
        self.finished_epochs, self.step = state["progress"].tolist()
        self.sums.copy_(state["sums"])


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
    sums = torch.zeros(2, len(eps), device=vae.device)
    for i, batch in enumerate(batches(images, batch_size, device=vae.device)):
        sums[:, i] = torch.stack(bound_terms(vae, batch, eps[i]).sums())
    return _means(sums, len(images), "validation")


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


def _means(sums: Tensor, images: int, split: str) -> dict[str, float]:
    """Means over all `images` of sums over batches, [2 or more, batches], as `<split>/elbo` and so on."""
    rate, distortion = (row.double().sum().item() / images for row in sums[:2].cpu())
    return {f"{split}/elbo": -(rate + distortion), f"{split}/rate": rate, f"{split}/distortion": distortion}


def _noise(count: int, vae: VAE, rng: torch.Generator) -> Tensor:
    return send(torch.randn(count, vae.architecture.latent_dim, generator=rng), vae.device)


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
