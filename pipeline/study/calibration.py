"""Do distances order images as the eye does? Those of damaged images, and of what VAEs make of their latent space."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from pipeline import storage
from pipeline.errors import InputError
from pipeline.figures import plots
from pipeline.metrics.distances import measure_distances, over_sets
from pipeline.metrics.features import EfficientNetLite0, Featurize
from pipeline.params import load_params, used_parameters
from pipeline.storage.weights import load_feature_network, load_images, load_weights
from pipeline.tracking import lineage
from pipeline.tracking.records import CELLS, Record
from pipeline.vae.device import prepare
from pipeline.vae.images import generator, to_float, to_uint8
from pipeline.vae.sampling import decode, prior_latents

METRICS = storage.REPORTS / "calibration.json"
FIGURE = storage.FIGURES / "calibration.png"
LADDERS: Mapping[str, tuple[float, ...]] = {
    "noise": (8, 16, 32),  # standard deviation, grey levels of 255
    "blur": (0.5, 1, 2),  # standard deviation, pixels
    "dropped classes": (2, 5, 7),  # of ten
}
SAMPLED = {  # the weights of cells, by kl_weight
    kl_weight: CELLS / cell / storage.weights_path("conv")
    for kl_weight, cell in ((16, "kl-16-0"), (1, "conv-0"), (0, "kl-0-0"))
}


class Rung(NamedTuple):
    """uint8 images [N, 3, 32, 32] with a damage of some strength; floor 0, 1, ... are training images as they are."""

    kind: str
    strength: float
    images: Tensor


def main() -> None:
    """Write reports/calibration.json and its figure."""
    params = load_params()
    device = prepare(params.run.threads)
    (train, labels, validation), data = load_images("train_images", "train_labels", "validation_images")
    used = used_parameters(params, "calibration")
    record = Record("calibration", used, data.name, data.md5)
    record.weights_md5 = {path.parts[-4]: storage.md5(path) for path in SAMPLED.values()}

    count = min(len(validation), int((labels >= max(LADDERS["dropped classes"])).sum()))
    if count < 2:
        raise InputError(f"{storage.TRAIN_IMAGES}: found {len(data.classes)} classes, expected ten, to calibrate with")
    steps = list(rungs(train, labels, count, params.seed))
    for weight, path in SAMPLED.items():
        vae = load_weights(path, device).vae
        samples = decode(vae, prior_latents(vae, count, params.seed))
        steps.append(Rung("prior samples by kl_weight", weight, samples))
    featurize = EfficientNetLite0(load_feature_network()).to(device).featurize
    ladders = calibrate(featurize, steps, validation[:count], params.evaluate.pairwise_images)
    storage.save_json(METRICS, {"data": {"name": data.name, "md5": data.md5}, "images": count, **ladders})
    title = f"Distances of damaged and of generated images from validation images: {data.name}"
    text = lineage.figure_text(data.md5, record.weights_md5, used, lineage.code_hash("calibration"))
    storage.save_figure(FIGURE, plots.damages(title, ladders), text)
    record.save([storage.TRAIN_IMAGES, *SAMPLED.values()], [METRICS, FIGURE])


def calibrate(
    featurize: Featurize, steps: Iterable[Rung], reference: Tensor, pairwise: int
) -> dict[str, dict[str, Any]]:
    """All distances by kind and strength of damage; of the floor the mean, with 95% interval as "frechet_low", ...."""
    real = featurize(reference)
    found: dict[str, dict[str, Any]] = {}
    for kind, strength, images in steps:
        measured = measure_distances(featurize(images), real, pairwise)
        found.setdefault(kind, {})[f"{strength:g}"] = measured
    draws = list(found["floor"].values())
    floor: dict[str, float] = draws[0]
    if len(draws) > 1:
        floor = {}
        for name in draws[0]:
            estimate = over_sets(name, [draw[name] for draw in draws], pairwise)
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
