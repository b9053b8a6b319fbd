"""What does the same network learn without noise and KL term? A deterministic autoencoder, trained as one."""

from __future__ import annotations

import torch
from tqdm import tqdm

from pipeline import lineage, storage, tracking
from pipeline.hardware import place, prepare
from pipeline.params import Model, load_params, used_parameters
from pipeline.records import Record
from pipeline.vae.autoencoder import as_autoencoder
from pipeline.vae.fitting import Training
from pipeline.vae.plain import plain_vae
from pipeline.weights import save_trained

HISTORY = ("epoch", "train/distortion", "validation/distortion", "train/learning_rate")  # the rest is about noise


def main(model: Model) -> None:
    params = load_params()
    device = prepare(params.run.threads)
    arrays, data = storage.load_tensors(storage.IMAGES, ("train_images", "validation_images"))
    train, validation = (place(torch.from_numpy(array), device) for array in arrays.values())
    parameters = used_parameters(params, "autoencoder", model) | {"recipe": "autoencoder", "kl_weight": 0.0}
    data_md5 = lineage.md5(storage.IMAGES)
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
    record.weights_md5 = {model: lineage.md5(weights)}
    record.save([storage.IMAGES], [weights, curves])
    tracking.sync()
