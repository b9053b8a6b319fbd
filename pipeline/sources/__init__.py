"""Where do images come from, and how are they split? CIFAR-10, a user's own folder, or shapes drawn on the spot.

The given test split stays whole, validation comes out of train, and each split is shuffled once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.vae.images import generator

ROWS = 1000  # images that are copied at a time


@dataclass(frozen=True)
class Split:
    """uint8 images [N, 3, 32, 32] and int64 labels [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor, join: Callable[[Iterable[Tensor]], Tensor]) -> Split:
        """The rows of `indices` [M]; `join` makes one tensor of parts."""
        return Split(join(self.images[rows] for rows in indices.split(ROWS)), self.labels[indices])


class Source(NamedTuple):
    """What a source gives: both splits, the names of the classes, and how many files were passed over or doubtful."""

    train: Split
    test: Split
    classes: list[str]
    notes: Counter[str] = Counter()  # noqa: RUF012


def make_splits(
    train: Split, test: Split, validation: int, seed: int, join: Callable[[Iterable[Tensor]], Tensor]
) -> dict[str, Split]:
    """Train, validation and test, each shuffled once; `validation` images come out of train, test stays whole.

    `join` makes one tensor of images out of parts, where they may need more memory than there is.
    """
    order = torch.randperm(len(train), generator=generator(seed, "train order"))
    test_order = torch.randperm(len(test), generator=generator(seed, "test order"))
    return {
        "train": train.take(order[validation:], join),
        "validation": train.take(order[:validation], join),
        "test": test.take(test_order, join),
    }
