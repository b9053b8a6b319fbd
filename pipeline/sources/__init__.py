"""Where do images come from, and how are they split? CIFAR-10, a user's own folder, or shapes drawn on the spot.

The given test split stays whole, validation comes out of train, and each split is shuffled once, from an order that the
images themselves have, so that the same images give the same splits, whatever they come in.
"""

from __future__ import annotations

import hashlib
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
    order = by_content(train)[torch.randperm(len(train), generator=generator(seed, "train order"))]
    test_order = by_content(test)[torch.randperm(len(test), generator=generator(seed, "test order"))]
    return {
        "train": train.take(order[validation:]),
        "validation": train.take(order[:validation]),
        "test": test.take(test_order),
    }


def by_content(split: Split) -> Tensor:
    """Indices [N] of the images in order of content, which is the same in whatever order they came."""
    keys = _keys(split)
    return torch.tensor(sorted(range(len(keys)), key=keys.__getitem__))


def content_sha256(split: Split) -> str:
    """A hash of all images and labels that is the same in whatever order they came, hexadecimal."""
    return hashlib.sha256(b"".join(digest + label.to_bytes(8) for digest, label in sorted(_keys(split)))).hexdigest()


def _keys(split: Split) -> list[tuple[bytes, int]]:
    """The sha256 of each image's pixels, and its label."""
    digests = (hashlib.sha256(image.tobytes()).digest() for image in split.images.numpy())
    return list(zip(digests, split.labels.tolist(), strict=True))
