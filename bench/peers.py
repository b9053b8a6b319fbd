"""How does this laboratory compare with pythae? The same layers, images and time, measured by the same evaluation.

Ours trains first, as params.yaml says but for its epochs; each pythae training gets as many seconds. Its optimizer,
batches, loop and prior are those it comes with: once with its own likelihood (a Gaussian of deviation 1), once with
ours. Then all three are models of this laboratory, their deviation fitted to validation images.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE as Theirs  # noqa: N811
from pythae.models import VAEConfig
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.pipelines import TrainingPipeline
from pythae.trainers import BaseTrainerConfig
from pythae.trainers.training_callbacks import TrainingCallback
from torch import Tensor, nn

from pipeline import storage
from pipeline.command import run_command
from pipeline.evaluate import measure
from pipeline.metrics.bound import evaluate_images
from pipeline.metrics.features import EfficientNetLite0
from pipeline.metrics.intervals import over_draws
from pipeline.params import Model, Params, load_params
from pipeline.storage.weights import load_feature_network, load_images
from pipeline.tools import tables
from pipeline.tracking.records import Record
from pipeline.vae.device import prepare
from pipeline.vae.distributions import DiscretizedGaussian
from pipeline.vae.images import CHANNELS, SIDE, batches, generator, to_float
from pipeline.vae.networks import VAE, architecture, build_vae, multiply_adds
from pipeline.vae.sampling import decode, prior_latents
from pipeline.vae.training import Training

MODEL: Model = "conv"
EPOCHS = 4  # of ours


def main() -> None:
    params = load_params()
    settings = params.train.model_copy(update={"epochs": EPOCHS})
    device = prepare(params.run.threads)
    images, data = load_images("train_images", "validation_images", "test_images")
    train, validation, test = (part.to(device) for part in images)
    used = {"seed": params.seed, "train.epochs": EPOCHS}
    record = Record("peers", used, data.name, data.md5, data.test_md5)
    ours = build_vae(architecture(params, MODEL), params.seed).to(device)
    began = time.monotonic()
    for epoch in Training(ours, train, validation, settings, params.kl_weight, params.seed).epochs():
        print(f"ours: epoch {epoch['epoch']} of {EPOCHS}")
    seconds = time.monotonic() - began
    contenders = {"ours": ours}
    for name, likelihood in (("pythae as it comes", "its own"), ("pythae with our likelihood", "ours")):
        vae = build_vae(replace(ours.architecture, prior_components=0), params.seed).to(device)
        train_theirs(Peer(vae, likelihood == "ours"), train, validation, seconds, params.seed)
        contenders[name] = vae

    rows = {}
    for name, vae in contenders.items():
        fit_deviation(vae, validation)
        rows[name] = measured(vae, test, validation, params)
        print(f"{name}: " + ", ".join(f"{key} {value:.2f}" for key, value in rows[name].items()))
    numbers = tables.COMPARISONS / "peers.json"
    content = {
        "data_md5": record.data_md5, "pythae": version("pythae"), "multiply_adds": multiply_adds(ours),
        "epochs": EPOCHS, "models": rows,
    }  # fmt: skip
    storage.save_json(numbers, content)
    record.environment = {"seconds of each training": f"{seconds:.0f}", "threads": str(torch.get_num_threads())}
    record.save(storage.IMAGES, [numbers])
    tables.main()


class Peer(Theirs):
    """pythae's VAE around the layers of one of ours."""

    def __init__(self, vae: VAE, with_our_likelihood: bool) -> None:
        config = VAEConfig(input_dim=(CHANNELS, SIDE, SIDE), latent_dim=vae.architecture.latent_dim)
        super().__init__(config, encoder=Encoder(vae), decoder=Decoder(vae.decoder))
        self.with_our_likelihood = with_our_likelihood
        if with_our_likelihood:
            self.likelihood_log_std = vae.likelihood_log_std

    def loss_function(
        self, recon_x: Tensor, x: Tensor, mu: Tensor, log_var: Tensor, z: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        loss, distortion, rate = super().loss_function(recon_x, x, mu, log_var, z)
        if self.with_our_likelihood:
            distortion = -DiscretizedGaussian(recon_x, self.likelihood_log_std).log_prob(x).mean()
            loss = distortion + rate
        return loss, distortion, rate


class Encoder(BaseEncoder):
    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.layers = vae.encoder
        self.encode = vae.encode

    def forward(self, x: Tensor) -> ModelOutput:
        posterior = self.encode(x)
        return ModelOutput(embedding=posterior.mean, log_covariance=2 * posterior.log_std)


class Decoder(BaseDecoder):
    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, z: Tensor) -> ModelOutput:
        return ModelOutput(reconstruction=0.5 + self.layers(z))


class TimeIsUpError(Exception):
    pass


class Deadline(TrainingCallback):
    """Ends a training after some seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_begin(self, *_: object, **__: object) -> None:
        self.end = time.monotonic() + self.seconds

    def on_train_step_end(self, *_: object, **__: object) -> None:
        if time.monotonic() > self.end:
            raise TimeIsUpError


def train_theirs(peer: Peer, train: Tensor, validation: Tensor, seconds: float, seed: int) -> None:
    """Train the layers in place with everything else as pythae comes."""
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(output_dir=folder, num_epochs=10_000, seed=seed)
        try:
            TrainingPipeline(peer, config)(
                *(BaseDataset(to_float(images), torch.zeros(len(images))) for images in (train, validation)),
                callbacks=[Deadline(seconds)],
            )
        except TimeIsUpError:
            peer.eval()


@torch.no_grad()
def fit_deviation(vae: VAE, validation: Tensor) -> None:
    """The deviation under which validation images are likeliest: the root of their mean squared error."""
    device = validation.device
    noise = torch.randn(len(validation), vae.architecture.latent_dim, generator=generator(0, "deviation")).split(500)
    errors = [
        (vae.decoder(vae.encode(batch).sample(eps.to(device))) + 0.5 - batch).square().mean((1, 2, 3))
        for batch, eps in zip(batches(validation, 500), noise, strict=True)
    ]
    vae.likelihood_log_std.copy_(torch.cat(errors).mean().sqrt().log())


def measured(vae: VAE, test: Tensor, validation: Tensor, params: Params) -> dict[str, float]:
    """elbo, nats per test image, and the distance of prior samples from validation images with half its interval."""
    vae.eval()

    def sets() -> Iterator[tuple[str, Tensor]]:
        count = len(validation)
        for latents in prior_latents(vae, params.evaluate.draws * count, params.seed).split(count):
            yield "samples", decode(vae, latents)

    featurize = EfficientNetLite0(load_feature_network()).to(test.device).featurize
    found = measure(sets(), validation, featurize, None, params.evaluate.pairwise_images)
    frechet = over_draws(found["samples_frechet"], least=0.0)
    elbo = evaluate_images(vae, test, params.evaluate.batch_size, params.seed).per_image["elbo"].mean().item()
    return {"elbo": elbo, "samples_frechet": frechet.value, "half_interval": (frechet.high - frechet.low) / 2}


if __name__ == "__main__":
    run_command(main)
