"""How does a model come to be? Train one VAE on the prepared images, watched live in MLflow."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import torch
from torchvision.utils import make_grid
from tqdm import tqdm

from pipeline import storage
from pipeline.command import Interruption
from pipeline.errors import InputError
from pipeline.params import Model, Precision, load_params, used_parameters
from pipeline.storage.weights import load_images, save_trained
from pipeline.tracking import lineage, sync
from pipeline.tracking.checkpoints import Checkpoints
from pipeline.tracking.records import Record
from pipeline.tracking.runs import LiveRun
from pipeline.vae.device import describe, has_bfloat16, place, prepare
from pipeline.vae.images import generator, to_float, to_uint8
from pipeline.vae.networks import VAE, architecture, build_vae
from pipeline.vae.training import NonFiniteError, Training, symptoms

if TYPE_CHECKING:
    import numpy as np

PREVIEW_SIDE = 6  # images along a side of the grids that MLflow shows with a slider over epochs
LARGE_KL_WEIGHT = 1000.0  # beyond what anybody compares; a suspect where numbers are not finite
SYMPTOM_IMAGES = 500  # validation images that show whether a training is ill


def main(model: Model) -> None:
    """Train one model to the end, from its last checkpoint if it was interrupted."""
    params = load_params()
    device = prepare(params.run.threads)
    images, data = load_images("train_images", "validation_images")
    train, validation = (place(part, device) for part in images)
    if len(train) < params.train.batch_size:
        print(f"note: a batch has all {len(train)} training images, not train.batch_size ({params.train.batch_size})")
    if params.kl_weight > LARGE_KL_WEIGHT:
        print(f"warning: kl_weight {params.kl_weight:g} leaves reconstructions next to no weight", file=sys.stderr)
    record = Record(f"train@{model}", used_parameters(params, "train", model), data.name, data.md5)
    record.environment = {"device": describe(device), "threads": str(torch.get_num_threads())}
    vae = build_vae(architecture(params, model), params.seed).to(device)
    tell_of_precision(params.train.precision, device)
    training = Training(vae, train, validation, params.train, params.kl_weight, params.seed)

    code = {"code": lineage.code_hash("train"), "torch": torch.__version__}
    identity = {"data": data.md5, "parameters": record.parameters, **record.environment, **code}
    checkpoints = Checkpoints(record.stage, identity, params.run.checkpoint_seconds)
    with checkpoints.lock():
        resume(training, record, checkpoints)
        with LiveRun(record, checkpoints.lock_path) as run:
            run_epochs(training, record, checkpoints, run)
            save_trained(vae, data.name, data.md5, record.parameters)
            weights, curves = storage.weights_path(model), storage.CURVES / f"{model}.csv"
            storage.save_table(curves, record.history)
            record.weights_md5 = {model: storage.md5(weights)}
            record.save(inputs=[storage.TRAIN_IMAGES], outputs=[weights, curves])
        sync.update_store()
        checkpoints.remove()


def tell_of_precision(precision: Precision, device: torch.device) -> None:
    """Say when bfloat16 is asked for and would be emulated, or is at hand and not used."""
    if precision == "bfloat16" and not has_bfloat16(device):
        print("warning: train.precision: bfloat16 is emulated here and many times slower than float32", file=sys.stderr)
    if precision == "float32" and device.type == "cpu" and has_bfloat16(device):
        print("note: train.precision: bfloat16 was 1.1 to 1.4 times as fast on such a processor; docs/performance.md")


def resume(training: Training, record: Record, checkpoints: Checkpoints) -> None:
    """Go on from the last checkpoint, if there is one."""
    if kept := checkpoints.load():
        arrays, progress = kept
        training.load_state({name: torch.from_numpy(array) for name, array in arrays.items()})
        record.resume(progress)
        print(f"{record.stage}: going on {training.position}")
    elif aside := checkpoints.left_aside():
        print(
            f"note: {record.stage} begins anew; a checkpoint of other data, parameters or code is left aside: "
            f"{aside[-1]}; delete it unless you go back to them"
        )


def run_epochs(training: Training, record: Record, checkpoints: Checkpoints, run: LiveRun) -> None:
    """Train to the end; a checkpoint is kept when one is due, and before SIGINT or SIGTERM end the stage."""
    images, known = training.settings.epochs * len(training.train), set[str]()
    bar = tqdm(total=images, initial=training.images_seen, desc=record.model, unit=" images", disable=None)

    def save() -> None:
        arrays = {name: value.cpu().numpy() for name, value in training.state().items()}
        checkpoints.save(training.step, arrays, record.progress())

    def after_step(images: int) -> None:
        bar.update(images)
        if interruption.asked or checkpoints.due():
            save()
        if interruption.asked:
            tqdm.write(f"{record.stage}: saved {training.position}; the same command goes on from there", sys.stderr)
            interruption.obey()

    with bar, Interruption() as interruption:
        try:
            for metrics in training.epochs(after_step):
                if not math.isfinite(metrics["validation/elbo"]):
                    raise NonFiniteError(f"epoch {metrics['epoch']}: elbo {metrics['validation/elbo']:g} on validation")
                record.history.append(metrics)
                run.log_epoch(metrics, previews(training.vae, training.validation))
                bar.set_postfix(epoch=metrics["epoch"], elbo=f"{metrics['validation/elbo']:.1f}")
                if metrics["epoch"] > training.settings.kl_warmup_epochs:
                    warn(training, known)
                after_step(0)
        except NonFiniteError as error:
            raise InputError(
                f"{error}, expected finite numbers; lower "
                + (f"kl_weight ({training.kl_weight:g}), " if training.kl_weight > LARGE_KL_WEIGHT else "")
                + f"train.learning_rate ({training.settings.learning_rate:g}) or "
                f"train.max_grad_norm ({training.settings.max_grad_norm:g})"
            ) from None


def warn(training: Training, known: set[str]) -> None:
    """Tell of each symptom once."""
    for name, description in symptoms(training.vae, training.validation[:SYMPTOM_IMAGES]).items():
        if name not in known:
            tqdm.write(f"warning: {name} in epoch {training.finished_epochs}: {description}", sys.stderr)
            known.add(name)


@torch.no_grad()
def previews(vae: VAE, validation: torch.Tensor) -> dict[str, np.ndarray[Any, Any]]:
    """Grids [H, W, 3] uint8: prior draws of the same noise every epoch; rows of images, each above its decoding."""
    vae.eval()
    shown = to_float(validation[: PREVIEW_SIDE**2 // 2].to(vae.device))
    rng, count = generator(0, "previews"), PREVIEW_SIDE**2
    noise = torch.randn(count, vae.architecture.latent_dim, generator=rng).to(vae.device)
    samples = vae.decode(vae.prior.sample(noise, torch.rand(count, generator=rng).to(vae.device))).mean
    decoded = vae.decode(vae.encode(shown).mean).mean
    reconstructions = torch.cat(
        [row for pair in zip(shown.split(PREVIEW_SIDE), decoded.split(PREVIEW_SIDE), strict=True) for row in pair]
    )
    return {
        name: make_grid(to_uint8(images).cpu(), nrow=PREVIEW_SIDE, padding=1).permute(1, 2, 0).numpy()
        for name, images in (("samples", samples), ("reconstructions", reconstructions))
    }
