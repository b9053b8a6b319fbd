"""How do images become tensors and batches, and how does each purpose get random numbers of its own?"""

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

CHANNELS, SIDE = 3, 32
DIMENSIONS = CHANNELS * SIDE * SIDE


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
    """Float 0..1 to uint8 0..255, rounded to the nearest level (truncation would darken every image)."""
    return images.mul(255).round().clamp(0, 255).to(torch.uint8)


def send(values: Tensor, device: torch.device) -> Tensor:
    """`values` on the device; a GPU fetches them when their turn comes, and nobody waits for that."""
    if device.type == "cuda" and values.device.type == "cpu":
        return values.pin_memory().to(device, non_blocking=True)
    return values.to(device)


def batches(
    images: Tensor,
    batch_size: int,
    shuffle: torch.Generator | None = None,
    flips: bool = False,
    device: torch.device | None = None,
) -> Iterator[Tensor]:
    """Float batches [<=batch_size, 3, 32, 32] in 0..1 that show each uint8 image once, the last one ragged.

    They are on `device`, by default that of the images.

    With `shuffle` the order is drawn from it and, with `flips`, half the images are mirrored left to right; both are
    drawn on the CPU, so neither depends on the device, and at once, so that a GPU is sent them once.
    """
    count, device = len(images), device or images.device
    order = torch.arange(count) if shuffle is None else torch.randperm(count, generator=shuffle)
    mirrored: Sequence[Tensor] = ()  # [B, 1, 1, 1] each
    if flips and shuffle is not None:
        mirrored = send(torch.rand(count, 1, 1, 1, generator=shuffle) < 0.5, device).split(batch_size)
    for i, indices in enumerate(send(order, images.device).split(batch_size)):
        batch = send(images[indices], device)  # [B, 3, 32, 32] uint8
        if mirrored:
            batch = torch.where(mirrored[i], batch.flip(-1), batch)
        yield to_float(batch)
