"""What does the assignment's own recipe reach? Train it on the same pictures and measure it with the same yardstick."""

from __future__ import annotations

import torch
from tqdm import tqdm

from pipeline import lineage, storage, tracking
from pipeline.features import YARDSTICK, load_yardstick
from pipeline.hardware import prepare
from pipeline.params import Model, load_params
from pipeline.records import Record
from pipeline.vae.assignment import (
    BATCH_SIZE,
    EPOCHS,
    LATENT_DIM,
    LEARNING_RATE,
    assignment_losses,
    decode_assignment,
    train_assignment,
)
from pipeline.vae.classifier import features_of
from pipeline.vae.distances import distances
from pipeline.vae.images import generator

SPLITS = ("train_images", "validation_images", "test_images")


def main(model: Model) -> None:
    params = load_params()
    device = prepare(params.run.threads)
    yardstick = load_yardstick(device)
    arrays, data = storage.load_tensors(storage.IMAGES, SPLITS)
    train, validation, test = (torch.from_numpy(array).to(device) for array in arrays.values())
    parameters = {
        "recipe": "assignment", "kl_weight": 1.0, "likelihood": "bernoulli", "latent_dim": LATENT_DIM,
        "seed": params.seed, "train.epochs": EPOCHS[model], "train.batch_size": BATCH_SIZE,
        "train.learning_rate": LEARNING_RATE,
    }  # fmt: skip
    data_md5 = lineage.md5(storage.IMAGES)
    record = Record(f"train@{model}", parameters, data["name"], data_md5, trained_with=parameters)

    pictures = torch.cat([train, validation])  # the assignment held none out
    with tqdm(total=EPOCHS[model], desc=f"assignment {model}", unit=" epochs", disable=None) as bar:
        network = train_assignment(model, pictures, EPOCHS[model], params.seed, lambda _: bar.update())
    weights = storage.weights_path("assignment").with_name(f"{model}.safetensors")
    arrays = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
    storage.save_tensors(weights, arrays, {"data": {"name": data["name"], "md5": data_md5}})
    weights_md5: dict[str, str] = {model: lineage.md5(weights)}
    record.weights_md5 = weights_md5
    record.save([storage.IMAGES], [weights])

    settings = params.evaluate
    used = {"seed": params.seed, "evaluate.pairwise_images": settings.pairwise_images}
    record = Record(f"evaluate@{model}", used, data["name"], data_md5, weights_md5=weights_md5, trained_with=parameters)
    noise = torch.randn(len(test), LATENT_DIM, generator=generator(params.seed, "prior samples"))
    features = features_of(yardstick, decode_assignment(network, noise))
    found = distances(features, features_of(yardstick, test), settings.pairwise_images)
    loss = assignment_losses(network, test, params.seed).mean().item()
    metrics = storage.METRICS / f"{model}.json"
    storage.save_json(metrics, {"assignment_loss": loss} | {f"samples_{name}": value for name, value in found.items()})
    record.metrics = {f"test/{name}": value for name, value in storage.load_json(metrics).items()}
    record.save([storage.IMAGES, YARDSTICK, weights], [metrics])
    tracking.sync()
