"""How do pictures become tensors, splits and batches? And what are the built-in shapes?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

CHANNELS, SIDE = 3, 32
DIMENSIONS = CHANNELS * SIDE * SIDE

ROWS = 1000  # pictures that are copied at a time

SHAPE_CLASSES = ("disc", "square", "diamond", "ring", "cross", "bar", "column", "triangle", "checker", "stripes")
SHAPES_TRAIN, SHAPES_TEST = 12_000, 2_000


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator of its own for each purpose, so that drawing more for one never shifts another."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))


def to_float(images: Tensor) -> Tensor:
    """uint8 0..255 to float32 0..1.

    >>> to_float(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    return images.float().div_(255)


def to_uint8(images: Tensor) -> Tensor:
    """Float 0..1 to uint8 0..255, rounded to the nearest level (truncation would darken every picture)."""
    return images.mul(255).round().clamp(0, 255).to(torch.uint8)


def batches(
    images: Tensor,
    batch_size: int,
    shuffle: torch.Generator | None = None,
    flips: bool = False,
    device: torch.device | None = None,
) -> Iterator[Tensor]:
    """Float batches [<=batch_size, 3, 32, 32] in 0..1 that show each uint8 image once, the last one ragged.

    They are on `device`, by default that of the images.

    With `shuffle` the order is drawn from it and, with `flips`, half the pictures are mirrored left to right; the
    permutation is drawn on the CPU, so the order does not depend on the device.
    """
    count = len(images)
    order = torch.arange(count) if shuffle is None else torch.randperm(count, generator=shuffle)
    for indices in order.split(batch_size):
        batch = images[indices.to(images.device)].to(device or images.device)  # [B, 3, 32, 32] uint8
        if flips and shuffle is not None:
            mirrored = (torch.rand(len(indices), generator=shuffle) < 0.5).to(batch.device)
            batch = torch.where(mirrored.view(-1, 1, 1, 1), batch.flip(-1), batch)
        yield to_float(batch)


@dataclass(frozen=True)
class Split:
    """uint8 images [N, 3, 32, 32] and int64 labels [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor, join: Callable[[Iterable[Tensor]], Tensor]) -> Split:
        return Split(join(self.images[rows] for rows in indices.split(ROWS)), self.labels[indices])


def make_splits(
    train: Split, test: Split, validation: int, seed: int, join: Callable[[Iterable[Tensor]], Tensor]
) -> dict[str, Split]:
    """Train, validation and test, each shuffled once; `validation` pictures come out of train, test stays whole.

    `join` makes one tensor of images out of parts, where they may need more memory than there is.
    """
    order = torch.randperm(len(train), generator=generator(seed, "train order"))
    test_order = torch.randperm(len(test), generator=generator(seed, "test order"))
    return {
        "train": train.take(order[validation:], join),
        "validation": train.take(order[:validation], join),
        "test": test.take(test_order, join),
    }


def draw_shapes(count: int, rng: torch.Generator) -> Split:
    """`count` pictures of the ten SHAPE_CLASSES with random position, size, hue and background brightness."""
    labels = torch.arange(count) % len(SHAPE_CLASSES)
    center_x, center_y, size, hue, background = torch.rand(5, count, 1, 1, generator=rng)
    radius = 5 + 6 * size  # pixels
    grid = torch.arange(SIDE, dtype=torch.float32)
    x = (grid.view(1, 1, -1) - (10 + 12 * center_x)) / radius  # [N, 1, 32], 1 at the shape's right edge
    y = (grid.view(1, -1, 1) - (10 + 12 * center_y)) / radius  # [N, 32, 1]
    inside = torch.empty(count, SIDE, SIDE)
    for label in range(len(SHAPE_CLASSES)):
        of_class = labels == label
        inside[of_class] = _coverage(label, x[of_class], y[of_class], radius[of_class])
    # The hue's saturated colour (HSV to RGB), kept off black and white.
    phase = (hue + torch.tensor([0, 2 / 3, 1 / 3])).view(count, CHANNELS, 1, 1) * 6
    color = 0.1 + 0.8 * ((phase % 6 - 3).abs() - 1).clamp(0, 1)  # [N, 3, 1, 1]
    brightness = (0.1 + 0.8 * background).unsqueeze(1)  # [N, 1, 1, 1]
    inside = inside.unsqueeze(1)
    return Split(to_uint8(brightness + inside * (color - brightness)), labels)


def _coverage(label: int, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Share of each pixel that the shape covers, [N, 32, 32], from a signed distance in units of its radius."""
    length = (x * x + y * y).sqrt()
    box = torch.maximum(x.abs(), y.abs())
    distance = (
        length - 1,
        box - 0.85,
        x.abs() + y.abs() - 1.1,
        (length - 0.75).abs() - 0.25,
        torch.maximum(torch.minimum(x.abs(), y.abs()) - 0.3, box - 1),
        torch.maximum(x.abs() - 1, y.abs() - 0.35),
        torch.maximum(x.abs() - 0.35, y.abs() - 1),
        torch.maximum(1.8 * x.abs() - (y + 0.9), y - 0.8),
        torch.maximum(box - 0.9, 0.15 * torch.sign(x * y)),
        torch.maximum(box - 0.9, torch.cos(y * 3 * torch.pi) * 0.3),
    )[label]
    return (0.5 - distance * radius).clamp(0, 1)
