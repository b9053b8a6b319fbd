"""Where do images come from, and how are they split? CIFAR-10, a user's own folder, or shapes drawn on the spot.

The given test split stays whole, validation comes out of train, and each split is shuffled once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.storage import spool
from pipeline.vae.images import generator

COPIED_AT_ONCE = 1000  # images


@dataclass(frozen=True)
class Split:
    """uint8 images [N, 3, 32, 32] and int64 labels [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> Split:
        """The images of `indices` [M], copied to the disk, since they may need more memory than there is."""
        images = spool(self.images[rows].numpy() for rows in indices.split(COPIED_AT_ONCE))
        return Split(torch.from_numpy(images), self.labels[indices])


class Source(NamedTuple):
    """What a source gives: both splits, the names of the classes, and how many files were passed over or doubtful."""

    train: Split
    test: Split
    classes: list[str]
    notes: Counter[str] = Counter()  # noqa: RUF012


def make_splits(train: Split, test: Split, validation: int, seed: int) -> dict[str, Split]:
    """Train, validation and test, each shuffled once; `validation` images come out of train, test stays whole."""
    order = torch.randperm(len(train), generator=generator(seed, "train order"))
    test_order = torch.randperm(len(test), generator=generator(seed, "test order"))
    return {
        "train": train.take(order[validation:]),
        "validation": train.take(order[:validation]),
        "test": test.take(test_order),
    }
