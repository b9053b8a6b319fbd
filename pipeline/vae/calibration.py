"""Do the distances order what they should? Real pictures, damaged more and more, against other real pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from pipeline.vae.images import generator, to_float, to_uint8

LADDERS: Mapping[str, tuple[float, ...]] = {
    "noise": (8, 16, 32, 64),  # standard deviation, grey levels of 255
    "blur": (0.5, 1, 2),  # standard deviation, pixels
    "dropped classes": (2, 5, 7),  # of ten
}


@dataclass(frozen=True)
class Rung:
    """Training pictures, uint8 [N, 3, 32, 32], with a damage of some strength; floor 0, 1, ... have none."""

    kind: str
    strength: float
    pictures: Tensor


def rungs(images: Tensor, labels: Tensor, count: int, seed: int) -> Iterator[Rung]:
    """`count` pictures for each rung of uint8 images [N, 3, 32, 32] in random order, with labels [N].

    The floor are whole sets of other pictures each; every damage is done to the first of them.
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
