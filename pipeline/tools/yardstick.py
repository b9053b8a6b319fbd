"""What are distances between images measured with? Train the classifier whose features do it, and calibrate it."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur
from tqdm import tqdm

from pipeline import storage
from pipeline.errors import InputError
from pipeline.figures import plots
from pipeline.metrics.distances import measure_distances, over_sets
from pipeline.metrics.features import (
    Classifier,
    build_classifier,
    features_of,
    fit_classifier,
    logits_of,
    restore_classifier,
)
from pipeline.params import load_params, used_parameters
from pipeline.storage.weights import YARDSTICK, load_images, load_yardstick, save_yardstick
from pipeline.tracking import lineage
from pipeline.tracking.records import Record
from pipeline.vae.device import prepare
from pipeline.vae.images import generator, to_float, to_uint8

METRICS = storage.METRICS / "yardstick.json"
FIGURE = storage.FIGURES / "yardstick.png"
PAIRWISE = 5000  # images in the distances that compare all pairs
LADDERS: Mapping[str, tuple[float, ...]] = {
    "noise": (8, 16, 32, 64),  # standard deviation, grey levels of 255
    "blur": (0.5, 1, 2),  # standard deviation, pixels
    "dropped classes": (2, 5, 7),  # of ten
}


class Rung(NamedTuple):
    """Training images, uint8 [N, 3, 32, 32], with a damage of some strength; floor 0, 1, ... have none."""

    kind: str
    strength: float
    images: Tensor


def main() -> None:
    """Train the classifier and calibrate its distances on damaged images."""
    params = load_params()
    device = prepare(params.run.threads)
    (train, labels, test, test_labels), data = load_images("train_images", "train_labels", "test_images", "test_labels")
    record = Record("yardstick", used_parameters(params, "yardstick"), data.name, data.md5, data.test_md5)

    count = min(len(test), int((labels >= max(LADDERS["dropped classes"])).sum()))
    if count < 2:
        raise InputError(f"{storage.TRAIN_IMAGES}: found {len(data.classes)} classes, expected ten, to calibrate with")

    settings = params.yardstick
    classifier = build_classifier(len(data.classes), params.seed).to(device)
    with tqdm(total=settings.epochs * len(train), desc="yardstick", unit=" images", disable=None) as bar:
        fit_classifier(classifier, train.to(device), labels.to(device), settings, params.seed, bar.update)
    save_yardstick(classifier, data.classes, {"name": data.name, "md5": data.md5})

    classifier = restore_classifier(*load_yardstick(), device)  # rounded to float16, as everyone will use it
    features = features_of(classifier, test)
    accuracy = (logits_of(classifier, features).argmax(1) == test_labels).double().mean().item()
    ladders = calibrate(classifier, rungs(train, labels, count, params.seed), features)
    storage.save_json(METRICS, {"test_accuracy": accuracy, **ladders})
    title = f"The yardstick on damaged pictures: {data.name}, training against test pictures"
    text = lineage.figure_text(data.md5, {}, record.parameters, lineage.code_hash("yardstick"), data.test_md5)
    storage.save_figure(FIGURE, plots.calibration(title, ladders), text)
    record.metrics = {"test/accuracy": accuracy}
    record.save(storage.IMAGES, [YARDSTICK, METRICS, FIGURE])
    print(f"{YARDSTICK}: {accuracy:.2%} of the test images right")


def calibrate(classifier: Classifier, steps: Iterable[Rung], reference: Tensor) -> dict[str, dict[str, Any]]:
    """All distances by kind and strength of damage; of the floor the mean, with 95% interval as "frechet_low", ...."""
    found: dict[str, dict[str, Any]] = {}
    for kind, strength, images in steps:
        measured = measure_distances(features_of(classifier, images), reference, PAIRWISE)
        found.setdefault(kind, {})[f"{strength:g}"] = measured
    draws = list(found["floor"].values())
    floor: dict[str, float] = draws[0]
    if len(draws) > 1:
        floor = {}
        for name in draws[0]:
            estimate = over_sets(name, [draw[name] for draw in draws], PAIRWISE)
            floor |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
    return found | {"floor": floor}


def rungs(images: Tensor, labels: Tensor, count: int, seed: int) -> Iterator[Rung]:
    """`count` images for each rung of uint8 images [N, 3, 32, 32] in random order, with labels [N].

    The floor are whole sets of other images each; every damage is done to the first of them.
    """
    for number, undamaged in enumerate(images.split(count)):
        if len(undamaged) == count:
            yield Rung("floor", number, undamaged)
    rng = generator(seed, "calibration noise")
    first = to_float(images[:count])
    for strength in LADDERS["noise"]:
        noise = torch.randn(first.shape, generator=rng)
        yield Rung("noise", strength, to_uint8(first + noise * strength / 255))
    for strength in LADDERS["blur"]:
        yield Rung("blur", strength, to_uint8(gaussian_blur(first, kernel_size=13, sigma=strength)))
    for strength in LADDERS["dropped classes"]:
        kept = images[labels >= strength]
        yield Rung("dropped classes", strength, kept[:count])
