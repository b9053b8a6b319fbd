"""Which images need no download? Shapes drawn on the spot, with known position, size, hue and background."""

import torch
from torch import Tensor

from pipeline.sources import Split
from pipeline.vae.images import CHANNELS, SIDE, to_uint8

SHAPE_CLASSES = ("disc", "square", "diamond", "ring", "cross", "bar", "column", "triangle", "checker", "stripes")
SHAPES_TRAIN, SHAPES_TEST = 12_000, 2_000


def draw_shapes(count: int, rng: torch.Generator) -> Split:
    """`count` images of the ten SHAPE_CLASSES with random position, size, hue and background brightness."""
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
