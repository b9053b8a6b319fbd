"""How does a model come to be? Train one VAE on the prepared pictures, watched live in MLflow."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torchvision.utils import make_grid
from tqdm import tqdm

from pipeline import lineage, storage, tracking
from pipeline.command import model_command
from pipeline.errors import InputError
from pipeline.hardware import prepare
from pipeline.params import Model, Params, load_params, used_parameters
from pipeline.records import Record
from pipeline.vae.fitting import fit
from pipeline.vae.images import generator, to_float, to_uint8
from pipeline.vae.networks import VAE, Architecture, build_vae
from pipeline.weights import save_trained

if TYPE_CHECKING:
    import numpy as np

PREVIEW_SIDE = 6  # pictures along a side of the grids that MLflow shows with a slider over epochs


def main(model: Model) -> None:
    params = load_params()
    device = prepare(params.run.threads)
    arrays, data = storage.load_tensors(storage.IMAGES, ("train_images", "validation_images"))
    train, validation = (torch.from_numpy(arrays[name]).to(device) for name in ("train_images", "validation_images"))
    if len(train) < params.train.batch_size:
        raise InputError(
            f"{storage.IMAGES}: found {len(train)} training pictures, expected at least one batch of "
            f"{params.train.batch_size} (train.batch_size)"
        )
    data_md5 = lineage.md5(storage.IMAGES)
    record = Record(f"train@{model}", used_parameters(params, "train", model), data["name"], data_md5)
    record.environment = {"device": device.type, "threads": str(torch.get_num_threads())}
    vae = build_vae(architecture(params, model), params.seed).to(device)

    steps = params.train.epochs * len(train)
    with tracking.live_run(record) as run, tqdm(total=steps, desc=model, unit=" pictures", disable=None) as bar:
        for metrics in fit(vae, train, validation, params.train, params.kl_weight, params.seed, bar.update):
            if not math.isfinite(metrics["train/elbo"] + metrics["validation/elbo"]):
                raise InputError(
                    f"epoch {metrics['epoch']}: the elbo is {metrics['train/elbo']:g} on train, "
                    f"{metrics['validation/elbo']:g} on validation, expected finite numbers; lower train.learning_rate "
                    f"({params.train.learning_rate:g}) or train.max_grad_norm ({params.train.max_grad_norm:g})"
                )
            record.history.append(metrics)
            run.log_epoch(metrics, previews(vae, validation))
            bar.set_postfix(epoch=metrics["epoch"], elbo=f"{metrics['validation/elbo']:.1f}")

        save_trained(vae, data["name"], data_md5, record.parameters)
        weights, curves = storage.weights_path(model), storage.CURVES / f"{model}.csv"
        storage.save_table(curves, record.history)
        record.weights_md5 = {model: lineage.md5(weights)}
        record.trained_with = record.parameters
        record.save(inputs=[storage.IMAGES], outputs=[weights, curves])
    tracking.sync()


def architecture(params: Params, model: Model) -> Architecture:
    sizes = params.networks.fc.hidden if model == "fc" else params.networks.conv.channels
    return Architecture(model, tuple(sizes), params.latent_dim, params.likelihood, params.prior_components)


@torch.no_grad()
def previews(vae: VAE, validation: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """Grids [H, W, 3] uint8: prior draws of the same noise every epoch; rows of pictures, each above its decoding."""
    vae.eval()
    pictures = to_float(validation[: PREVIEW_SIDE**2 // 2])
    rng, count = generator(0, "previews"), PREVIEW_SIDE**2
    noise = torch.randn(count, vae.architecture.latent_dim, generator=rng).to(pictures.device)
    samples = vae.decode(vae.prior.sample(noise, torch.rand(count, generator=rng).to(pictures.device))).mean
    decoded = vae.decode(vae.encode(pictures).mean).mean
    reconstructions = torch.cat(
        [row for pair in zip(pictures.split(PREVIEW_SIDE), decoded.split(PREVIEW_SIDE), strict=True) for row in pair]
    )
    return {
        name: make_grid(to_uint8(images).cpu(), nrow=PREVIEW_SIDE, padding=1).permute(1, 2, 0).numpy()
        for name, images in (("samples", samples), ("reconstructions", reconstructions))
    }


if __name__ == "__main__":
    model_command(main)
