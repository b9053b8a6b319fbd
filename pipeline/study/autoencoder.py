"""What does the same network learn without noise and KL term? A deterministic autoencoder, trained as one."""

from __future__ import annotations

import torch
from tqdm import tqdm

from pipeline import storage
from pipeline.params import Model, load_params, used_parameters
from pipeline.storage.weights import save_trained
from pipeline.study.points import as_autoencoder
from pipeline.tracking import sync
from pipeline.tracking.records import Record
from pipeline.vae.device import place, prepare
from pipeline.vae.plain import plain_vae
from pipeline.vae.training import Training

HISTORY = ("epoch", "train/distortion", "validation/distortion", "train/learning_rate")  # the rest is about noise


def main(model: Model) -> None:
    params = load_params()
    device = prepare(params.run.threads)
    arrays, data = storage.load_tensors(storage.IMAGES, ("train_images", "validation_images"))
    train, validation = (place(torch.from_numpy(array), device) for array in arrays.values())
    parameters = used_parameters(params, "autoencoder", model) | {"recipe": "autoencoder", "kl_weight": 0.0}
    data_md5 = storage.md5(storage.IMAGES)
    record = Record(f"train@{model}", parameters, data["name"], data_md5, trained_with=parameters)

    network = as_autoencoder(plain_vae(params, model)).to(device)
    training = Training(network, train, validation, params.train, kl_weight=0.0, seed=params.seed)
    with tqdm(total=params.train.epochs, desc=f"autoencoder {model}", unit=" epochs", disable=None) as bar:
        for metrics in training.epochs():
            record.history.append({name: metrics[name] for name in HISTORY})
            bar.update()

    save_trained(network, data["name"], data_md5, parameters)
    weights, curves = storage.weights_path(model), storage.CURVES / f"{model}.csv"
    storage.save_table(curves, record.history)
    record.weights_md5 = {model: storage.md5(weights)}
    record.save([storage.IMAGES], [weights, curves])
    sync.update_store()
