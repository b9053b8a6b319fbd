"""How are results drawn? Arrays in, a matplotlib Figure out, readable at the width of a README; saving is for others.

Here are grids of uint8 images [N, 3, 32, 32]; plots of numbers are next door.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

WIDTH = 8.0  # inches
DPI = 130
BORDER = 2  # pixels around each image of a grid
PITCH = 32 + BORDER


def samples(title: str, images: Tensor) -> Figure:
    """Prior samples in a square grid."""
    columns = max(1, round(len(images) ** 0.5))
    figure = Figure(figsize=(0.75 * WIDTH, 0.75 * WIDTH + 0.3), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    _show(figure.subplots(), images, columns)
    return figure


def rows_of_images(title: str, panels: Mapping[Any, Sequence[tuple[str, Tensor]]]) -> Figure:
    """Panels side by side, each of labelled rows of equally many images; labels that the panels share stand once."""
    rows, columns = (len(first := next(iter(panels.values()))), len(first[0][1]))
    width = 11.0 if len(panels) > 1 else WIDTH
    height = 0.6 + 0.2 * title.count("\n") + (width - 1.3 * len(panels)) / (len(panels) * columns) * rows
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    figure.suptitle(title, fontsize="medium")
    shared = len({tuple(label for label, _ in panel) for panel in panels.values()}) == 1
    places = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, panel) in zip(places, panels.items(), strict=True):
        _show(axes, torch.cat([images for _, images in panel]), columns)
        axes.set_title(name, fontsize="small")
        if axes is places[0] or not shared:
            centers = [PITCH // 2 + 1 + PITCH * row for row in range(rows)]
            axes.set_yticks(centers, [label for label, _ in panel], fontsize="x-small")
            axes.tick_params(length=0)
    return figure


def _show(axes: Axes, images: Tensor, columns: int) -> None:
    from torchvision.utils import make_grid  # which takes seconds, and plots do without it

    grid = make_grid(torch.as_tensor(images), nrow=columns, padding=BORDER, pad_value=255)  # [3, H, W]
    axes.imshow(grid.permute(1, 2, 0).numpy(), interpolation="nearest")
    axes.set(xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
