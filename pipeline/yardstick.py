"""What are distances between pictures measured with? Train the classifier whose features do it, and calibrate it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from tqdm import tqdm

from pipeline import lineage, storage
from pipeline.errors import InputError
from pipeline.features import YARDSTICK, load_yardstick, save_yardstick
from pipeline.hardware import prepare
from pipeline.params import load_params, used_parameters
from pipeline.records import Record
from pipeline.vae import figures
from pipeline.vae.calibration import LADDERS, Rung, rungs
from pipeline.vae.classifier import Classifier, build_classifier, features_of, fit_classifier, logits_of
from pipeline.vae.distances import distances
from pipeline.vae.estimates import over_draws

METRICS = storage.METRICS / "yardstick.json"
FIGURE = storage.FIGURES / "yardstick.png"
PAIRWISE = 5000  # pictures in the distances that compare all pairs


def main() -> None:
    params = load_params()
    device = prepare(params.run.threads)
    arrays, data = storage.load_tensors(storage.IMAGES, ("train_images", "train_labels", "test_images", "test_labels"))
    train, labels, test, test_labels = (torch.from_numpy(array) for array in arrays.values())
    used = used_parameters(params, "yardstick")
    record = Record("yardstick", used, data["name"], lineage.md5(storage.IMAGES))

    count = min(len(test), int((labels >= max(LADDERS["dropped classes"])).sum()))
    if count < 2:
        raise InputError(f"{storage.IMAGES}: found {len(data['classes'])} classes, expected ten, to calibrate with")

    settings = params.yardstick
    classifier = build_classifier(len(data["classes"]), params.seed).to(device)
    with tqdm(total=settings.epochs * len(train), desc="yardstick", unit=" pictures", disable=None) as bar:
        fit_classifier(classifier, train.to(device), labels.to(device), settings, params.seed, bar.update)
    save_yardstick(classifier, data["classes"], {"name": data["name"], "md5": record.data_md5})

    classifier = load_yardstick(device)  # rounded to float16, as everyone will use it
    features = features_of(classifier, test)
    accuracy = (logits_of(classifier, features).argmax(1) == test_labels).double().mean().item()
    ladders = calibrate(classifier, rungs(train, labels, count, params.seed), features)
    storage.save_json(METRICS, {"test_accuracy": accuracy, **ladders})
    title = f"The yardstick on damaged pictures: {data['name']}, training against test pictures"
    text = lineage.figure_text(record.data_md5 or "", {}, used, lineage.drawing_code("yardstick"))
    storage.save_figure(FIGURE, figures.calibration(title, ladders), text)
    record.metrics = {"test/accuracy": accuracy}
    record.save([storage.IMAGES], [YARDSTICK, METRICS, FIGURE])
    print(f"{YARDSTICK}: {accuracy:.2%} of the test pictures right")


def calibrate(classifier: Classifier, steps: Iterable[Rung], reference: torch.Tensor) -> dict[str, dict[str, Any]]:
    """All distances by kind and strength of damage; of the floor the mean, with 95% interval as "frechet_low", ...."""
    found: dict[str, dict[str, Any]] = {}
    for rung in steps:
        measured = distances(features_of(classifier, rung.pictures), reference, PAIRWISE)
        found.setdefault(rung.kind, {})[f"{rung.strength:g}"] = measured
    draws = list(found["floor"].values())
    floor: dict[str, float] = {}
    for name in draws[0]:
        if len(draws) > 1:
            estimate = over_draws([draw[name] for draw in draws])
            floor |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        else:
            floor[name] = draws[0][name]
    return found | {"floor": floor}
